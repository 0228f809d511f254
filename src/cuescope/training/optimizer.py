"""What a step does to the weights: the learning rate, the optimizer, limits, averages."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from cuescope.training.settings import Settings


def learning_rate_at(step: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0.

    >>> s = Settings(steps=10, learning_rate=1.0, warmup_steps=2)
    >>> [round(learning_rate_at(k, s), 2) for k in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    >>> s = Settings(steps=9, learning_rate=1.0, schedule="step", drop_every=3)
    >>> [round(learning_rate_at(k, s), 2) for k in (0, 2, 3, 6)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "step":
        return settings.learning_rate * 0.1 ** (step // settings.drop_every)
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD, AdamW or AdamP; biases and norms, which have one dimension, decay only where `decay_all` says so."""
    matrices = [p for p in model.parameters() if p.requires_grad and (p.ndim > 1 or settings.decay_all)]
    vectors = [p for p in model.parameters() if p.requires_grad and not (p.ndim > 1 or settings.decay_all)]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    if settings.optimizer == "adamp":
        from timm.optim.adamp import AdamP

        adamp = AdamP(groups, lr=settings.learning_rate, nesterov=settings.nesterov)
        for parameter in matrices + vectors:
            # As it would begin by itself, but with a tensor for the count of steps: a checkpoint keeps tensors.
            first = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
            adamp.state[parameter] = {"step": torch.zeros((), dtype=torch.float64), **first}
        return adamp
    how = {"momentum": settings.momentum, "nesterov": settings.nesterov}
    return torch.optim.SGD(groups, lr=settings.learning_rate, **how)


@torch.no_grad()
def limit_filters(model: nn.Module, radius: float, std: Sequence[float]) -> None:
    """Rescale each filter of a convolution whose root mean square exceeds `radius` to just that, in place.

    Zeiler and Fergus 2014, section 3, where the radius is .1 and the network reads pixels of 0 to 255 less their mean.
    To do the same, what reads pixels in [0, 1] divided by `std` needs filters 255 * std times as large: the first
    convolution with a weight for each channel is measured in the paper's units, so that .1 means the same whatever the
    normalization. The other convolutions read no pixels.

    >>> conv = nn.Conv2d(3, 2, 5)
    >>> conv.weight.data[0], conv.weight.data[1] = 7.0, 0.05
    >>> limit_filters(conv, 0.1, std=(1 / 255, 1 / 255, 1 / 255))
    >>> conv.weight.data.mean((1, 2, 3))
    tensor([0.1000, 0.0500])
    """
    reads_pixels = True
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        units = torch.ones((), device=conv.weight.device)
        if reads_pixels and conv.weight.shape[1] == len(std):
            units, reads_pixels = 255 * torch.tensor(std, device=conv.weight.device)[:, None, None], False
        rms = (conv.weight / units).square().mean((1, 2, 3), keepdim=True).sqrt()
        conv.weight.mul_((radius / rms).clamp(max=1))


class Average:
    """The moving average of a network's weights: what is evaluated where a decay is set.

    The decay rises to its value, (1 + t) / (10 + t) after t steps, so that the first weights are soon forgotten. Of
    whole numbers, such as a batch norm's count of batches, the last ones are taken.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = copy.deepcopy(network).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for held, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if held.is_floating_point():
                held.lerp_(new, 1 - decay)
            else:
                held.copy_(new)
