"""Batch norm folded into the convolution before it: fewer passes over memory, the same function."""

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.network.flow import record
from cuescope.network.hooks import named

TOLERANCE = 1e-4
"""Of the largest output: the most by which folding may change any output."""


def fold(
    network: nn.Module, pixels: Tensor, logits: Callable[[Any], Tensor] | None = None
) -> tuple[Any, frozenset[str], str]:
    """Fold every batch norm that is all that reads a convolution, in place, where that is exact.

    Pairs are found by running on `pixels` (normalized, (B, 3, H, W)), and taken back where the result differs from
    that run in what `logits` reads from its output. The batch norm becomes an identity (or its activation). Returns the
    unfolded network's output, the names of the convolutions that were changed, and a note.
    """
    logits = logits or tensor_of
    plain, flow = record(network, pixels)
    wanted = logits(plain)
    pairs = flow.sole_consumers(_convolutions(network), norms(network))
    undo: dict[str, nn.Module] = {}
    for conv_name, norm_name in pairs.items():
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        undo |= {conv_name: conv, norm_name: norm}
        network.set_submodule(conv_name, folded(conv, norm))
        network.set_submodule(norm_name, _rest(norm))
    if not pairs:
        return plain, frozenset(), ""
    gap = difference(logits(network(pixels)), wanted)
    if gap <= TOLERANCE:
        return plain, frozenset(pairs), f"{len(pairs)} batch norms folded into convolutions (checked: within {gap:.0e})"
    for name, module in undo.items():
        network.set_submodule(name, module)
    return plain, frozenset(), f"batch norm is not folded: that changed the logits by {gap:.0e} of the largest"


def folded(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """A convolution that does what `conv` and then `norm` do; in float64 on the CPU, since not all devices have it."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    mean, variance, gain, bias, shift = (
        None if tensor is None else tensor.detach().cpu().double()
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias, conv.bias)
    )
    assert mean is not None
    assert variance is not None
    scale = (variance + norm.eps).rsqrt()
    if gain is not None:
        scale = scale * gain
    total = -mean * scale
    if bias is not None:
        total = total + bias
    if shift is not None:
        total = total + shift * scale
    weight = conv.weight.detach().cpu().double() * scale[:, None, None, None]
    # A shallow copy keeps class and settings (timm pads in a subclass) and leaves the original's tables alone.
    new = copy.copy(conv)
    new._parameters = {
        name: nn.Parameter(tensor.to(conv.weight.device, conv.weight.dtype), False)
        for name, tensor in (("weight", weight), ("bias", total))
    }
    return new


def tensor_of(output: Any) -> Tensor:
    """The logits in what a module returns: a tensor, the first of several, or the field `logits`."""
    if not isinstance(output, Tensor):
        logits = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
        first = next(iter(output), None) if isinstance(output, Iterable) and not isinstance(output, dict) else None
        output = logits if logits is not None else first
    if not isinstance(output, Tensor):
        raise TypeError("the output holds no tensor of logits")
    return output


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two outputs as a share of the largest value wanted; infinite where not comparable."""
    if found.shape != wanted.shape:
        return float("inf")
    a, b = found.detach().cpu().double(), wanted.detach().cpu().double()
    gap = (a - b).abs().max() / b.abs().max().clamp_min(1e-12)
    return float(gap) if torch.isfinite(gap) else float("inf")


def _rest(norm: nn.Module) -> nn.Module:
    """What a batch norm module does after the norm: timm's hold their activation."""
    rest = OrderedDict((name, module) for name, module in norm.named_children())
    return nn.Sequential(rest) if rest else nn.Identity()


def _convolutions(network: nn.Module) -> dict[str, nn.Module]:
    timm_layers = sys.modules.get("timm.layers")
    # Subclasses may change the weight on the way (weight standardization); timm's Same only pads.
    kinds = {nn.Conv2d, getattr(timm_layers, "Conv2dSame", nn.Conv2d)}
    # A blur before or after a convolution changes no channel's scale: it is the plain layer that counts.
    return _unhooked(network, lambda module: getattr(module, "plain", type(module)) in kinds)


def norms(network: nn.Module) -> dict[str, nn.Module]:
    """The batch norms that keep statistics, by name."""
    kinds = nn.BatchNorm2d | nn.SyncBatchNorm
    return _unhooked(network, lambda module: isinstance(module, kinds) and module.running_mean is not None)


def _unhooked(network: nn.Module, is_one: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in named(network).items()
        if is_one(module) and not module._forward_hooks and not module._forward_pre_hooks
    }
