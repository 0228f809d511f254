"""What each operation of a network does to a patch. An operation without a rule is given whole feature maps instead."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.methods.incremental.patch import Clean, Patch, Reach, Region
from cuescope.network.hooks import pair


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of the network: what is called, on what, and what it gave for the unchanged image."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    clean: Any
    maps: dict[bool, Clean]
    """Kept from one group of images to the next, with what was padded for it."""

    def clean_map(self, last: bool = False) -> Clean:
        """The outcome for the unchanged image as a feature map, whichever order of axes it comes in."""
        if last not in self.maps:
            self.maps[last] = Clean(self.clean.permute(0, 3, 1, 2) if last else self.clean)
        return self.maps[last]

    def settings(self, *names: str, **defaults: Any) -> dict[str, Any]:
        """The parameters of a layer, be it a module or a function whose first parameter is the feature map."""
        if isinstance(self.function, nn.Module):
            return {name: getattr(self.function, name) for name in names}
        return {**dict.fromkeys(names), **defaults, **dict(zip(names, self.args[1:], strict=False)), **self.kwargs}


class Step(NamedTuple):
    """Where the outcome of an operation can differ from the clean one, and how to compute it there."""

    region: Region
    values: Callable[[], Tensor]
    macs: int = 0
    """Multiplications and additions for the whole of one feature map; 0 where they hardly count."""


Rule = Callable[[Call], Any]
"""Gives a Step (or the answer to a question of shape), or None where only whole feature maps will do: which of these
may depend on the regions of the arguments, never on their values."""


def rule_of(function: Callable[..., Any], method: str = "") -> Rule | None:
    """The rule for a module, a function or a method of a tensor; None where there is none."""
    if method:
        return METHODS.get(method)
    if isinstance(function, nn.Module):
        return MODULES.get(type(function))
    if getattr(function, "__name__", "") == "stochastic_depth":  # torchvision's; the identity outside training
        return pointwise
    return FUNCTIONS.get(function)


def takes(rule: Rule, args: tuple[Any, ...]) -> bool:
    """Whether a rule knows what to do where these arguments are regions: the first is one, as a rule."""
    first = args[0] if args else None
    return isinstance(first, Region | list | tuple) or (rule is combine and isinstance(args[1], Region))


def _slide(call: Call, settings: dict[str, Any], kernel: Any, run: Callable[[Tensor], Tensor], pad_value: float) -> Any:
    """Run a sliding operation, padded already, on just the inputs that the changed outputs read."""
    patch: Patch = call.args[0]
    if patch.last or isinstance(settings["padding"], str):
        return None
    step, pad, dilation = (pair(settings[name]) for name in ("stride", "padding", "dilation"))
    reach_y, reach_x = (Reach(*axis) for axis in zip(pair(kernel), step, pad, dilation, strict=True))
    height, width = call.clean.shape[-2:]
    rows, cols = patch.rows.through(reach_y, height), patch.cols.through(reach_x, width)
    region = Region(call.clean_map(), rows, cols)
    if reach_y == reach_x == Reach(1, 1, 0):
        return Step(region, lambda: run(patch.values))
    padding = reach_x.padding(patch.cols.size, width) + reach_y.padding(patch.rows.size, height)
    windows = reach_y.window(rows.window), reach_x.window(cols.window), padding, pad_value
    return Step(region, lambda: run(patch.cut(*windows)))


def convolution(call: Call) -> Any:
    """A 2-D convolution with zero padding given in cells."""
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    s = call.settings(*names, stride=1, padding=0, dilation=1, groups=1)
    if getattr(call.function, "padding_mode", "zeros") != "zeros" or not isinstance(s["weight"], Tensor):
        return None

    def run(window: Tensor) -> Tensor:
        return F.conv2d(window, s["weight"], s["bias"], s["stride"], 0, s["dilation"], s["groups"])

    _, *inputs = s["weight"].shape
    step = _slide(call, s, inputs[1:], run, 0.0)
    return step and step._replace(macs=call.clean.numel() * math.prod(inputs))


def max_pool(call: Call) -> Any:
    """Max pooling; the windows that ceil_mode lets stand out are padded with minus infinity."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    s = call.settings(*names, padding=0, dilation=1)
    s["stride"] = s["stride"] or s["kernel_size"]
    if s["return_indices"]:
        return None

    kernel = s["kernel_size"]
    return _slide(call, s, kernel, lambda x: F.max_pool2d(x, kernel, s["stride"], 0, s["dilation"]), float("-inf"))


def average_pool(call: Call) -> Any:
    """Average pooling, where every window has the same number of cells."""
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    s = call.settings(*names, padding=0, count_include_pad=True)
    s["stride"] = s["stride"] or s["kernel_size"]
    s["dilation"] = 1
    pads, sizes = pair(s["padding"]), call.args[0].clean.values.shape[-2:]
    axes = zip(pair(s["kernel_size"]), pair(s["stride"]), pads, sizes, call.clean.shape[-2:], strict=True)
    stands_out = any(Reach(k, step, pad).padding(size, out)[1] > pad for k, step, pad, size, out in axes)
    if stands_out or (any(pads) and not s["count_include_pad"]):
        return None

    kernel, divisor = s["kernel_size"], s["divisor_override"]
    return _slide(call, s, kernel, lambda x: F.avg_pool2d(x, kernel, s["stride"], 0, divisor_override=divisor), 0.0)


def pointwise(call: Call) -> Any:
    """An operation that treats every cell alike and alone: activations, batch norm, scaling by channel."""
    patch: Patch = call.args[0]
    others = [*call.args[1:], *call.kwargs.values()]
    if any(isinstance(other, Tensor) and not _same_everywhere(other, patch) for other in others):
        return None
    return _cellwise(call)


def batch_norm(call: Call) -> Any:
    """Batch norm by stored statistics; by those of the batch it is no function of one image."""
    s = call.settings("running_mean", "running_var", "weight", "bias", "training", training=False)
    return None if s["training"] or s["running_mean"] is None else _cellwise(call)


def linear(call: Call) -> Any:
    """A linear layer on the channels of each cell, where the network holds them last."""
    return _cellwise(call) if call.args[0].last else None


def layer_norm(call: Call) -> Any:
    """Layer norm over the channels of each cell, where the network holds them last."""
    shape = call.settings("normalized_shape")["normalized_shape"]
    return _cellwise(call) if call.args[0].last and len(shape) == 1 else None


def combine(call: Call) -> Any:
    """A sum or product of two feature maps, or of one and something the same in every cell."""
    a, b = call.args[0], call.args[1]
    if not isinstance(b, Region):
        return pointwise(call)
    if not isinstance(a, Region):
        return _cellwise(call, 1) if not isinstance(a, Tensor) or _same_everywhere(a, b) else None
    if a.clean.values.shape[-2:] != b.clean.values.shape[-2:] or a.last != b.last:
        return None
    region = Region(call.clean_map(a.last), a.rows.hull(b.rows), a.cols.hull(b.cols), a.last)

    def run() -> Tensor:
        grown = [Patch.of(region, part.grow(region)).seen for part in call.args[:2]]
        return _kept(call.function(*grown, *call.args[2:], **call.kwargs), region)

    return Step(region, run)


def concatenate(call: Call) -> Any:
    """Feature maps joined along the channels."""
    settings = call.settings("dim", "axis", dim=0)
    parts: list[Any] = call.args[0]
    same = {None if not isinstance(p, Region) or p.last else p.clean.values.shape[-2:] for p in parts}
    if len(same) > 1 or None in same or settings["axis"] is not None or settings["dim"] not in (1, -3):
        return None
    rows, cols = parts[0].rows, parts[0].cols
    for part in parts[1:]:
        rows, cols = rows.hull(part.rows), cols.hull(part.cols)
    region = Region(call.clean_map(), rows, cols)
    return Step(region, lambda: torch.cat([part.grow(region) for part in parts], 1))


def permute(call: Call) -> Any:
    """Channels moved to the last axis or back."""
    patch: Patch = call.args[0]
    dims = call.kwargs.get("dims", call.args[1] if len(call.args) == 2 else call.args[1:])
    if list(dims) != ([0, 3, 1, 2] if patch.last else [0, 2, 3, 1]):
        return None
    return Step(Region(patch.clean, patch.rows, patch.cols, not patch.last), lambda: patch.values)


def shape(call: Call) -> Any:
    """`x.shape`, or None for another attribute."""
    return call.args[0].shape if call.args[1] == "shape" else None


def size(call: Call) -> Any:
    """`x.size()` and `x.size(dim)`."""
    dim = call.settings("dim")["dim"]
    return call.args[0].shape if dim is None else call.args[0].shape[dim]


def _same_everywhere(other: Tensor, patch: Region) -> bool:
    """Whether a tensor that does not depend on the image has one value a channel at most."""
    if other.ndim > 4 or (other.ndim == 4 and other.shape[0] != 1):
        return False
    aligned = (1,) * (4 - other.ndim) + tuple(other.shape)
    return all(aligned[axis] == 1 for axis in ((1, 2) if patch.last else (2, 3)))


def _cellwise(call: Call, position: int = 0) -> Step:
    """The operation on each cell of the patch that is its argument at this position."""
    patch, before, after = call.args[position], call.args[:position], call.args[position + 1 :]
    region = Region(call.clean_map(patch.last), patch.rows, patch.cols, patch.last)
    return Step(region, lambda: _kept(call.function(*before, patch.seen, *after, **call.kwargs), region))


def _kept(seen: Tensor, region: Region) -> Tensor:
    """Patches from the network's own order of axes to ours."""
    return seen.permute(0, 3, 1, 2) if region.last else seen


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(nn.Identity, nn.Dropout, nn.Dropout2d),
)

MODULES: dict[type[nn.Module], Rule] = {
    **{nn.Conv2d: convolution, nn.MaxPool2d: max_pool, nn.AvgPool2d: average_pool},
    **{nn.BatchNorm2d: batch_norm, nn.Linear: linear, nn.LayerNorm: layer_norm},
    **dict.fromkeys(_ACTIVATIONS, pointwise),
}

_CELLWISE = (
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid),
    *(F.hardtanh, F.sigmoid, F.tanh, F.softplus, F.dropout, F.dropout2d),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.clamp, torch.square, torch.sqrt, torch.exp, torch.abs, operator.neg),
)
_COMBINING = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, operator.isub, operator.imul),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.minimum),
)

FUNCTIONS: dict[Callable[..., Any], Rule] = {
    **{F.conv2d: convolution, F.max_pool2d: max_pool, F.avg_pool2d: average_pool},
    **{F.linear: linear, F.layer_norm: layer_norm, F.batch_norm: batch_norm},
    **{torch.cat: concatenate, torch.concat: concatenate, torch.permute: permute, getattr: shape},
    **dict.fromkeys(_CELLWISE, pointwise),
    **dict.fromkeys(_COMBINING, combine),
}

METHODS: dict[str, Rule] = {
    **{"permute": permute, "size": size},
    **dict.fromkeys(("relu", "relu_", "sigmoid", "tanh", "clamp", "square", "sqrt", "contiguous"), pointwise),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"), combine),
}
