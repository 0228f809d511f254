"""The averaging of a map or of patch tokens that a head begins with: found in a run, and replaced in others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cuescope.network.batchnorm_folding import tensor_of
from cuescope.network.receptive import Tracker
from cuescope.network.receptive.spans import State

POOLINGS = ("adaptive_avg_pool2d", "avg_pool2d", "adaptive_avg_pool1d", "mean")


@dataclass(frozen=True)
class Pooling:
    """One averaging in a run of a network, over rows and columns or over tokens."""

    number: int
    """Among the operations that may be one."""
    axes: tuple[int, ...]
    """Rows and columns, or that of tokens, from the end."""
    keepdim: bool
    positions: int
    grid: tuple[int, int] | None = None
    """(h, w) of tokens, row by row, in an image of the usual size."""

    def dense(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, K, h, w): the logits of each position of the map that the network averages."""
        return folded(*self.replaced(network, images, self.singled))

    def replaced(
        self, network: nn.Module, images: Tensor, instead: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, tuple[int, int, int]]:
        """The network's output with something else in place of the averaging, and (B, h, w) of the averaged map."""
        mode = _Replacer(self, instead, images.shape[2] / images.shape[3])
        with mode:
            output = tensor_of(network(images))
        if mode.grid is None:
            raise RuntimeError(f"the averaging was not met in images of {images.shape[2]} x {images.shape[3]} px")
        return output, mode.grid

    def singled(self, x: Tensor) -> Tensor:
        """The positions of a map, row by row, each as the mean of a map that has no other."""
        count = len(self.axes)
        single = x.movedim(self.axes, tuple(range(1, count + 1))).flatten(0, count)
        for axis in sorted(self.axes) if self.keepdim else ():
            single = single.unsqueeze(axis + x.ndim)
        return single


def _averaged_axes(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[int, ...], bool]:
    """Which axes an operation averages as a whole, from the end, and whether they stay with length 1; none if none."""
    x = args[0] if args else kwargs["input"]
    if x.ndim not in (3, 4):
        return (), False
    if name == "mean":
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        axes = tuple(axes) if isinstance(axes, Sequence) else (axes,)
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        return tuple(axis if axis < 0 else axis - x.ndim for axis in axes if type(axis) is int), bool(keepdim)
    if name == "adaptive_avg_pool1d":
        size = args[1] if len(args) > 1 else kwargs["output_size"]
        return ((-1,) if size in (1, (1,), [1]) else ()), True
    if x.ndim == 3:
        return (), False
    if name == "adaptive_avg_pool2d":
        size, whole = args[1] if len(args) > 1 else kwargs["output_size"], (1, 1)
    else:
        size, whole = args[1] if len(args) > 1 else kwargs["kernel_size"], tuple(x.shape[2:])
        padding = args[3] if len(args) > 3 else kwargs.get("padding", 0)
        divisor = args[6] if len(args) > 6 else kwargs.get("divisor_override")
        if padding not in (0, (0, 0), [0, 0]) or divisor is not None:
            return (), False
    return ((-2, -1) if ((size, size) if isinstance(size, int) else tuple(size)) == whole else ()), True


class _Counter(TorchFunctionMode):
    """Meets every operation that may be the averaging of a head."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ not in POOLINGS:
            result = func(*args, **kwargs)
            if func.__name__ in ("__getitem__", "select") and isinstance(result, Tensor):
                self.taken(args[0], result)
            return result
        self.number += 1
        axes, keepdim = _averaged_axes(func.__name__, args, kwargs)
        instead = None
        x = args[0] if args else kwargs["input"]
        if axes and len(axes) == x.ndim - 2 and -x.ndim not in axes:
            positions = math.prod(x.shape[axis] for axis in axes)
            instead = self.meet(Pooling(self.number, axes, keepdim, positions), x)
        return func(*args, **kwargs) if instead is None else instead

    def meet(self, pooling: Pooling, x: Tensor) -> Tensor | None:
        """What to give instead of the mean of `x`, if anything."""
        raise NotImplementedError

    def taken(self, x: Tensor, part: Tensor) -> None:
        """A part of `x` is taken out of it."""


class Finder(_Counter):
    """Notes every averaging of a map that depends on the image, with what is known of the map."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker
        self.found: list[tuple[Pooling, State]] = []
        self.single: list[int] = []
        """Where one token was taken out of all, as a class token: how many averagings came before."""

    def meet(self, pooling: Pooling, x: Tensor) -> None:
        state = self.tracker.state(x)
        if state is not None:
            self.found.append((pooling, state))

    def taken(self, x: Tensor, part: Tensor) -> None:
        # One that some images have and others have not is a token; a query, key or value has more axes.
        if x.ndim == 3 and part.shape == (len(x), x.shape[2]) and self.tracker.state(x) is not None:
            self.single.append(len(self.found))


class _Replacer(_Counter):
    """Gives something else for one averaging."""

    def __init__(self, pooling: Pooling, instead: Callable[[Tensor], Tensor], aspect: float) -> None:
        super().__init__()
        self.pooling, self.instead, self.aspect = pooling, instead, aspect
        self.grid: tuple[int, int, int] | None = None

    def meet(self, pooling: Pooling, x: Tensor) -> Tensor | None:
        if pooling.number != self.pooling.number:
            return None
        h, *w = (x.shape[axis] for axis in self.pooling.axes)
        if self.pooling.grid and h == self.pooling.positions:
            h, w = self.pooling.grid[0], [self.pooling.grid[1]]
        elif self.pooling.grid:
            # Of an image of another size: as many rows and columns as its sides are to each other.
            tokens, h = h, max(1, round(math.sqrt(h * self.aspect)))
            w = [tokens // h]
            if h * w[0] != tokens:
                raise RuntimeError(f"{tokens} tokens are no grid")
        self.grid = (len(x), h, w[0])
        return self.instead(x)


def folded(logits: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B * h * w, K) as (B, K, h, w)."""
    return logits.unflatten(0, grid).movedim(-1, 1)
