"""Blur before subsampling (Zhang 2019, Making convolutional networks shift-invariant again), as layers."""

import functools
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.network.hooks import pair

FILTERS = range(1, 8)
"""Sizes of the binomial filters: 1 only subsamples, 2 is [1 1], 3 is [1 2 1], 4 is [1 3 3 1]."""


def binomial(size: int) -> Tensor:
    """The row of Pascal's triangle with `size` entries, (size,) float32 with the sum 1. Raises ValueError.

    >>> binomial(4).tolist()
    [0.125, 0.375, 0.375, 0.125]
    """
    if size not in FILTERS:
        raise ValueError(f"a filter of size {size}; there are {FILTERS[0]} to {FILTERS[-1]}")
    row = torch.tensor([math.comb(size - 1, i) for i in range(size)], dtype=torch.float32)
    return row / row.sum()


class BlurPool2d(nn.Module):
    """What is left of a map (B, C, H, W) when it is blurred by a binomial filter and then subsampled by `stride`?

    (B, C, ceil(H / stride), ceil(W / stride)), with nothing learned and nothing in the state dict. The border is
    reflected: (size - 1) / 2 cells to the left and the top, rounded down, and as many rounded up to the right and the
    bottom; in too small a map the last cell is repeated. `border` is how torch calls another way to pad. Raises
    ValueError for a filter size other than 1 to 7. Zhang 2019, section 3.2.

    >>> BlurPool2d(2)(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])).tolist()
    [[[[3.0]]]]
    """

    kernel: Tensor
    traced_whole: ClassVar[bool] = True
    """torch.fx cannot go through code that asks for the size of a map."""

    def __init__(self, filter_size: int = 4, stride: int = 2) -> None:
        super().__init__()
        self.filter_size, self.stride, self.border = filter_size, stride, "reflect"
        row = binomial(filter_size)
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.filter_size == 1:
            return x[:, :, :: self.stride, :: self.stride]
        before, after = (self.filter_size - 1) // 2, self.filter_size // 2
        mode = self.border if min(x.shape[2:]) > after else "replicate"
        x = F.pad(x, (before, after, before, after), mode)
        channels = x.shape[1]
        # A kernel that is only expanded, one for all channels in memory, is six times slower.
        kernel = self.kernel.expand(channels, -1, -1, -1).contiguous()
        return F.conv2d(x, kernel, stride=self.stride, groups=channels)

    def extra_repr(self) -> str:
        return f"filter_size={self.filter_size}, stride={self.stride}"


class MaxBlurPool2d(nn.Module):
    """A max pool without its stride, and a blur that subsamples. Zhang 2019, section 3.2.

    Windows lie where those of `pool` lie, so that with a filter of size 1 it gives what `pool` gives. `kernel_size`
    replaces the pool's kernel by one without padding.

    >>> pool, x = nn.MaxPool2d(3, 2, ceil_mode=True), torch.rand(1, 2, 8, 8)
    >>> bool((MaxBlurPool2d(pool, 1)(x) == pool(x)).all())
    True
    """

    traced_whole: ClassVar[bool] = True

    def __init__(self, pool: nn.MaxPool2d, filter_size: int = 4, kernel_size: int | None = None) -> None:
        super().__init__()
        self.stride, self.dilation = pair(pool.stride), pair(pool.dilation)
        self.kernel_size = pair(pool.kernel_size if kernel_size is None else kernel_size)
        self.same = is_same(pool) and kernel_size is None
        self.padding = pair(0 if self.same or kernel_size else pool.padding)
        self.ceil_mode = pool.ceil_mode and kernel_size is None
        self.blur = BlurPool2d(filter_size, self.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        more = *self._more(x.shape[3], 1), *self._more(x.shape[2], 0)
        if any(more):
            x = F.pad(x, more, value=-math.inf)
        return self.blur(F.max_pool2d(x, self.kernel_size, 1, self.padding, self.dilation))

    def _more(self, size: int, axis: int) -> tuple[int, int]:
        """Cells to be padded before and after, beyond the padding that is always there."""
        stride, pad = self.stride[axis], self.padding[axis]
        extent = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        if self.same:
            return same_padding(size, extent, stride)
        if not self.ceil_mode:
            return 0, 0
        last = math.ceil((size + 2 * pad - extent) / stride)
        # A window that would begin beyond the map and its padding on the left is none.
        last -= last * stride >= size + pad
        return 0, max(0, last * stride + extent - size - 2 * pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, padding={self.padding}, ceil_mode={self.ceil_mode}"


class AvgBlurPool2d(nn.Module):
    """A blur in the place of an average pool with a stride, of the same output size. Zhang 2019, section 3.2."""

    traced_whole: ClassVar[bool] = True

    def __init__(self, pool: nn.AvgPool2d, filter_size: int = 4) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)
        self.ceil_mode = pool.ceil_mode
        self.blur = BlurPool2d(filter_size, self.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        to_whole = math.ceil if self.ceil_mode else math.floor
        settings = zip(x.shape[2:], self.kernel_size, self.stride, self.padding, strict=True)
        height, width = (to_whole((size + 2 * pad - kernel) / step) + 1 for size, kernel, step, pad in settings)
        return self.blur(x)[:, :, :height, :width]


class SamePad2d(nn.Module):
    """The zeros that timm's "same" convolutions put at the border of a map: as many as their stride asks for."""

    traced_whole: ClassVar[bool] = True

    def __init__(self, extent: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.extent, self.stride = extent, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = map(same_padding, x.shape[2:], self.extent, self.stride)
        return F.pad(x, (*width, *height))


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Cells before and after so that there are ceil(size / stride) windows of `extent` cells.

    >>> same_padding(224, 3, 2), same_padding(7, 3, 2)
    ((0, 1), (1, 1))
    """
    total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


def is_same(module: nn.Module) -> bool:
    """Whether it is one of timm's layers that pad by their stride, as TensorFlow's do."""
    return type(module).__name__.endswith("2dSame")


class Surrounded(nn.Module):
    """A layer with another one run before or after it, whose parameters keep their names.

    `surround` turns a layer into one by giving it a subclass of its own class: it can be trained, copied and pickled
    like any layer, and is still an instance of what it was.
    """

    plain: ClassVar[type[nn.Module]]
    blur_before: nn.Module
    blur_after: nn.Module

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if "blur_before" in self._modules:
            x = self.blur_before(x)
        out = self.plain.forward(self, x, *args, **kwargs)
        return self.blur_after(out) if "blur_after" in self._modules else out

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, (self.plain,), self.__dict__


def surround(layer: nn.Module, before: nn.Module | None = None, after: nn.Module | None = None) -> None:
    """Run another layer before or after this one, in place. What surrounds it already comes nearer to it."""
    if not isinstance(layer, Surrounded):
        layer.__class__ = _surrounded(type(layer))
    for name, new, order in (("blur_before", before, -1), ("blur_after", after, 1)):
        if new is not None:
            steps = [step for step in (layer._modules.get(name), new) if step is not None]
            layer.add_module(name, nn.Sequential(*steps[::order]) if len(steps) > 1 else new)


@functools.cache
def _surrounded(kind: type[nn.Module]) -> type[nn.Module]:
    # torch.fx goes into a layer unless it says that it is torch's own; the source of a user's is looked for at home.
    home = __name__ if kind.__module__.startswith("torch.nn") else kind.__module__
    return type(
        kind.__name__, (Surrounded, kind), {"plain": kind, "__module__": home, "__qualname__": kind.__qualname__}
    )


def _blank(kind: type[nn.Module]) -> nn.Module:
    surrounded = _surrounded(kind)
    return surrounded.__new__(surrounded)
