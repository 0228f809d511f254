"""What replaces an operation's gradient on the way down, and which operations may stand on that way at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cuescope.network.hooks import pair

Variant = Literal["deconvnet", "guided", "gradient"]
VARIANTS: tuple[Variant, ...] = ("deconvnet", "guided", "gradient")


class Backward(TorchFunctionMode):
    """Runs a network's own code, with the rules of a variant in place of the gradients of some operations."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.rectify = {"deconvnet": _Deconvolved, "guided": _Guided, "gradient": None}[variant]
        self.pass_normalization = variant == "deconvnet"

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func in _POOLS:
            return _pooled(*args, **kwargs)
        if self.pass_normalization and func in _NORMALIZATIONS:
            with torch.no_grad():
                normalized = func(*args, **kwargs)
            return _Passed.apply(args[0], normalized, _scale(func, args, kwargs))
        if self.rectify is not None and (ceiling := _ceiling(func, args, kwargs)) is not None:
            return self._rectified(func, args, kwargs, ceiling)
        return func(*args, **kwargs)

    def _rectified(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], ceiling: float) -> Tensor:
        x = args[0] if args else kwargs["input"]
        if func in _IN_PLACE or kwargs.get("inplace") or any(arg is True for arg in args[1:]):
            # Who reads x later is to read the rectified one, as in the network's own pass.
            return x.copy_(self.rectify.apply(x.clone(), ceiling))  # type: ignore[union-attr]
        return self.rectify.apply(x, ceiling)  # type: ignore[union-attr,return-value]


class _Deconvolved(torch.autograd.Function):
    """A rectifier whose way down rectifies the signal itself, whatever the unit did on the way up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float) -> Tensor:
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        return signals[0].clamp(min=0), None


class _Guided(torch.autograd.Function):
    """A rectifier that passes a positive signal down to units that were active (Springenberg et al. 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < ceiling))
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        (active,) = ctx.saved_tensors
        return signals[0].clamp(min=0) * active, None


class _Passed(torch.autograd.Function):
    """A normalization that the signal passes unchanged but for its learned scale: the paper gives no inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, normalized: Tensor, scale: Tensor | None) -> Tensor:
        ctx.scale = scale
        return normalized.clone()

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None]:
        return (signals[0] if ctx.scale is None else signals[0] * ctx.scale), None, None


class _Unpooled(torch.autograd.Function):
    """Max pooling whose way down is the paper's unpooling: each value goes back to where its maximum was.

    Where windows overlap, several maxima can be of one place; what they bring is added, always in the same order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sides: tuple[Sides, Sides, Sides, Sides], ceil_mode: bool) -> Tensor:
        pooled, switches = F.max_pool2d(x, *sides, ceil_mode, return_indices=True)
        ctx.save_for_backward(switches)
        ctx.geometry = x.shape, *sides
        return pooled

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None]:
        return unpool(signals[0], *ctx.saved_tensors, *ctx.geometry), None, None


Sides = tuple[int, int]


def unpool(
    signal: Tensor, switches: Tensor, shape: torch.Size, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides
) -> Tensor:
    """Values (B, C, h, w) back to the places (B, C, H, W) that `switches`, max_pool2d's indices, name; zero elsewhere.

    One offset inside the window after another, where no two windows share a place: the sum is the same on any device.

    >>> pooled, switches = F.max_pool2d(torch.tensor([[[[1.0, 5.0, 2.0]]]]), (1, 2), 1, return_indices=True)
    >>> unpool(pooled, switches, torch.Size((1, 1, 1, 3)), (1, 2), (1, 1), (0, 0), (1, 1)).flatten().tolist()
    [0.0, 10.0, 0.0]
    """
    height, width = shape[-2:]
    below = signal.new_zeros(shape)
    for a in range(kernel[0]):
        rows, ys = _inside(a * dilation[0] - padding[0], stride[0], signal.shape[-2], height)
        for b in range(kernel[1]):
            columns, xs = _inside(b * dilation[1] - padding[1], stride[1], signal.shape[-1], width)
            if rows.start == rows.stop or columns.start == columns.stop:
                continue
            y, x = (torch.arange(part.start, part.stop, part.step, device=signal.device) for part in (ys, xs))
            chosen = switches[..., rows, columns] == y[:, None] * width + x
            below[..., ys, xs] += torch.where(chosen, signal[..., rows, columns], 0)
    return below


def _inside(offset: int, stride: int, windows: int, length: int) -> tuple[slice, slice]:
    """Which windows have this offset inside the map, and where on the map it lies."""
    first = max(0, -(offset // stride))
    last = min(windows, -((offset - length) // stride))
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = offset + first * stride
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


def foreign(output: Tensor) -> list[str]:
    """The operations between an output and the image that no variant but the plain gradient has a rule for.

    Read off autograd's own record of what was computed, so that nothing can pass unseen.

    >>> foreign(F.gelu(torch.ones(1, requires_grad=True)) * 2), foreign(torch.ones(2, requires_grad=True).mean())
    (['gelu'], [])
    """
    found: dict[str, None] = {}
    for node in _history(output):
        name = node.name().rpartition("::")[2].rstrip("01").removesuffix("Backward").removesuffix("Backwards")
        moving = sum(source is not None for source, _ in node.next_functions)
        if name not in _LINEAR and not (name in _BILINEAR and moving < 2):
            found[_spoken(name)] = None
    return list(found)


def _history(output: Tensor) -> Iterator[Any]:
    waiting: list[Any] = [output.grad_fn]
    seen: set[Any] = {None}
    while waiting:
        if (node := waiting.pop()) not in seen:
            seen.add(node)
            yield node
            waiting += [source for source, _ in node.next_functions]


def _spoken(name: str) -> str:
    """An operation of autograd's record as a reader would say it."""
    if "Attention" in name:
        return "attention"
    own = {"Mul": "a product of two maps", "Bmm": "a matrix product of two maps", "Div": "a quotient of two maps"}
    return own.get(name) or name.strip("_").removeprefix("Native").lower()


def _pooled(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices or input.ndim != 4:
        return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    sides = tuple(pair(v) for v in (kernel_size, stride or kernel_size, padding, dilation))
    return _Unpooled.apply(input, sides, ceil_mode)


def _ceiling(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Where a rectifier stops to grow, infinity for a ReLU; None for what is no rectifier."""
    if func in _RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in _LIMITED:
        low, high = ([*args[1:3], None, None])[:2]
        low = kwargs.get("min_val", kwargs.get("min", low))
        high = kwargs.get("max_val", kwargs.get("max", high))
        if isinstance(low, int | float) and low == 0 and not isinstance(high, Tensor):
            return float("inf") if high is None else float(high)
    return None


def _scale(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """A normalization's learned scale, shaped to multiply its output; None where it has none."""
    position = _NORMALIZATIONS[func]
    weight = kwargs.get("weight", args[position] if position is not None and len(args) > position else None)
    if weight is None or func in (F.layer_norm, torch.layer_norm):
        return weight
    return weight.view(-1, *[1] * (args[0].ndim - 2))


_POOLS = {F.max_pool2d, torch.max_pool2d}
_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_LIMITED = {
    *(F.hardtanh, F.hardtanh_, torch.clamp, torch.clamp_, torch.clip, torch.clip_, torch.clamp_min, torch.clamp_min_),
    *(Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.clip_, Tensor.clamp_min, Tensor.clamp_min_),
}
_IN_PLACE = {
    *(F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_, torch.clamp_, torch.clip_, torch.clamp_min_),
    *(Tensor.clamp_, Tensor.clip_, Tensor.clamp_min_),
}
_NORMALIZATIONS: dict[Any, int | None] = {
    **{F.local_response_norm: None, F.instance_norm: 3},
    **dict.fromkeys((F.layer_norm, torch.layer_norm, F.group_norm, torch.group_norm), 2),
}
"""Those that divide by what they find in the image, not by what they learned as a batch norm does, with the place of
their scale among the arguments."""

_LINEAR = {
    *("AccumulateGrad", "_Deconvolved", "_Guided", "_Passed", "_Unpooled", "AdaptiveMaxPool2D"),
    *("Convolution", "MkldnnConvolution", "CudnnConvolution", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"),
    *("Add", "Sub", "Rsub", "Neg", "Sum", "Mean", "Cat", "Stack", "Split", "SplitWithSizes", "Chunk", "Unbind"),
    *("View", "ViewAs", "Reshape", "ReshapeAlias", "UnsafeView", "Alias", "AsStrided", "Permute", "Transpose", "T"),
    *("Squeeze", "Unsqueeze", "Expand", "Repeat", "Slice", "Select", "Narrow", "Index", "IndexSelect", "Gather"),
    *("Clone", "ToCopy", "Copy", "CopySlices", "Flip", "Roll", "PixelShuffle", "PixelUnshuffle"),
    *("ConstantPadNd", "ReflectionPad2D", "ReplicationPad2D", "AvgPool2D", "AdaptiveAvgPool2D"),
    *("MkldnnAdaptiveAvgPool2D", "UpsampleNearest2D", "UpsampleBilinear2D", "UpsampleBicubic2D", "Im2Col"),
}
_BILINEAR = {"Mul", "Div", "Mm", "Bmm", "Addmm", "Baddbmm", "Linear", "MkldnnLinear", "Mv", "Dot", "Convolution"}
