"""Where a network bends its maps: activations and max pools, and what each makes of a map that was blurred."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.spectrum import low_passed, share_beyond
from cuescope.models.blurpool import MaxBlurPool2d, Surrounded
from cuescope.network import hooks
from cuescope.network.executor import trial
from cuescope.network.hooks import pair

NOT_POINTWISE = ("Softmax", "Softmax2d", "LogSoftmax", "MultiheadAttention", "GLU")
LEAST_SIDE = 4
"""Maps whose shorter side is less hold no frequencies to speak of."""


class Shares(NamedTuple):
    """Of one layer, (B,) each: the share of the energy beyond the limit, NaN where a map does not vary."""

    made: Tensor
    """In what the nonlinearity makes of its input without all that lies beyond the limit."""
    before: Tensor
    """In its input as it is."""
    after: Tensor
    """In its output as it is, at every position."""


def nonlinearities(classifier: Classifier) -> list[str]:
    """The activations and max pools that run as modules on maps over the image, in the order of their first call."""
    network, found = classifier.torch_network("layers"), dict[str, None]()

    def entered(name: str, inputs: tuple[Any, ...]) -> None:
        part, x = network.get_submodule(name), inputs[0] if inputs else None
        if _bends(part) and isinstance(x, Tensor) and x.ndim == 4 and min(x.shape[2:]) >= LEAST_SIDE:
            found.setdefault(name)

    hooks.watched_pass(network, classifier.normalize(trial(classifier.preprocessing)), lambda *_: None, entered)
    return list(found)


def shares(classifier: Classifier, pixels: Tensor, names: list[str], factor: int) -> dict[str, Shares]:
    """What each of these layers makes, at its first call, for pixels (B, 3, H, W) in [0, 1]."""
    network, found = classifier.torch_network("layers"), dict[str, Shares]()

    def entered(name: str, inputs: tuple[Any, ...]) -> None:
        if name not in found and name in names:
            part, x = network.get_submodule(name), inputs[0]
            blurred = _bent(part, low_passed(x, factor).to(x.dtype))
            found[name] = Shares(*(share_beyond(y, factor).cpu() for y in (blurred, x, _bent(part, x))))

    kinds = tuple({type(network.get_submodule(name)) for name in names})
    with torch.inference_mode():
        hooks.watched_pass(network, classifier.normalize(pixels), lambda *_: None, entered, kinds)
    return found


def _bends(part: nn.Module) -> bool:
    """Whether it is an activation, which works on each value alone, or a max pool."""
    if isinstance(part, nn.MaxPool2d | MaxBlurPool2d):
        return True
    return "activation" in _plain(part).__module__ and type(part).__name__ not in NOT_POINTWISE


def _bent(part: Any, x: Tensor) -> Tensor:
    """What the layer makes of a map at every position; a max pool of the periodic map, without its stride."""
    if isinstance(part, nn.MaxPool2d | MaxBlurPool2d):
        rows, columns = ((k - 1) * d for k, d in zip(pair(part.kernel_size), pair(part.dilation), strict=True))
        wide = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), "circular")
        return F.max_pool2d(wide, part.kernel_size, 1, 0, part.dilation)
    # Its own function: a call of the module would come back to its hooks, and one that works in place needs a copy.
    return _plain(part).forward(part, x.clone())


def _plain(part: nn.Module) -> Any:
    """Its class, without the blur that may run after it."""
    return part.plain if isinstance(part, Surrounded) else type(part)
