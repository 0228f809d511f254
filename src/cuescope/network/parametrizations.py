"""Weights that a module computes anew in each pass, from others: replaced by what comes out."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def removed(network: nn.Module) -> list[str]:
    """Put the effective weights in place of parametrizations, in place; what was done, for the notes.

    So that folding and pictures of filters see the weights that are used.

    >>> network = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> removed(network), network
    (['1 parametrized weight replaced by its value (_WeightNorm)'], Linear(in_features=3, out_features=2, bias=True))
    """
    kinds: list[str] = []
    for part in list(network.modules()):
        if parametrize.is_parametrized(part):
            lists: Any = part._modules["parametrizations"]
            with torch.no_grad():
                values = {name: getattr(part, name) for name in lists}
            kinds += [type(each[0]).__name__ for each in lists.values()]
            # torch's own function takes the property off the class, which the module that this is a copy of has too.
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part._modules["parametrizations"]
            for name, value in values.items():
                part.register_parameter(name, nn.Parameter(value, value.is_floating_point()))
    for part, hook in list(_hooks(network)):
        kinds.append(type(hook).__name__)
        (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(part, hook.name)
    network.requires_grad_(False)
    if not kinds:
        return []
    what = "parametrized weight replaced by its value" if len(kinds) == 1 else "parametrized weights replaced by values"
    return [f"{len(kinds)} {what} ({', '.join(sorted(set(kinds)))})"]


def detach(module: nn.Module) -> None:
    """Make a module with weight norm or spectral norm by hooks one that can be copied: its next pass computes anew."""
    for part, hook in _hooks(module):
        setattr(part, hook.name, getattr(part, hook.name).detach())


def _hooks(module: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    for part in module.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                yield part, hook
