"""Weights that a module computes anew in each pass, from others: replaced by what comes out."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves


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
        if isinstance(hook, BasePruningMethod):
            prune.remove(part, hook._tensor_name)
        else:
            (remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm)(part, hook.name)
    network.requires_grad_(False)
    if not kinds:
        return []
    what = "parametrized weight replaced by its value" if len(kinds) == 1 else "parametrized weights replaced by values"
    return [f"{len(kinds)} {what} ({', '.join(sorted(set(kinds)))})"]


def computed(module: nn.Module) -> dict[int, Any]:
    """Copies of what a module has kept of its last pass, for copy.deepcopy, which copies no results of computations.

    Those are pruned weights, those of weight norm and spectral norm by hooks, and features that are held.
    """
    found: dict[int, Any] = {}
    for part in module.modules():
        for value in tree_leaves(list(vars(part).values())):
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                found[id(value)] = value.detach().clone()
    return found


def _hooks(module: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    for part in module.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                yield part, hook
