"""The last layer of a classifier: found, and replaced by one for other classes."""

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.network import hooks


def outputs_of(network: nn.Module, size: tuple[int, int]) -> int:
    """How many logits the network gives for an image of this (H, W). Raises CueError where it gives none."""
    with torch.no_grad(), hooks.evaluating(network):
        output = network(torch.zeros(1, 3, *size))
    output = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if output is None or output.ndim != 2:
        raise CueError(f"{type(network).__name__} gives no logits (B, K)", wanted="a classifier", do="choose another")
    return output.shape[1]


def with_outputs(network: nn.Module, outputs: int, classes: int) -> nn.Module:
    """The network, whose last layer of so many outputs is replaced, in place, by a new one for so many classes.

    timm's networks do it themselves, which know of second heads. Raises CueError where no layer has these outputs.

    >>> with_outputs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), 5, 2)[1]
    Linear(in_features=12, out_features=2, bias=True)
    """
    if callable(reset := getattr(network, "reset_classifier", None)):
        reset(classes)
        return network
    for name, layer in reversed(list(network.named_modules())):
        if isinstance(layer, nn.Linear) and layer.out_features == outputs:
            new: nn.Module = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
        elif isinstance(layer, nn.Conv2d) and layer.out_channels == outputs and layer.kernel_size == (1, 1):
            new = nn.Conv2d(layer.in_channels, classes, 1, bias=layer.bias is not None)
        else:
            continue
        network.set_submodule(name, new)
        return network
    found = f"{type(network).__name__} has no last layer of {outputs} outputs"
    raise CueError(found, wanted="a linear layer or a 1 x 1 convolution that gives the logits", do="choose another")
