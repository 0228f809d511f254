"""The averaging of a feature map, found in a run of a network and put aside in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cuescope.network.batchnorm_folding import tensor_of
from cuescope.network.receptive.spans import State
from cuescope.network.receptive.tracker import Tracker

POOLINGS = ("adaptive_avg_pool2d", "avg_pool2d", "mean")


@dataclass(frozen=True)
class Pooling:
    """One averaging in a run of a network: the `number`-th operation that may be one, over the axes (rows, columns)."""

    number: int
    axes: tuple[int, int]
    keepdim: bool
    positions: int

    def dense(self, network: nn.Module, images: Tensor) -> Tensor:
        """(B, K, h, w): the logits of each position of the map that the network averages."""
        return folded(*self.replaced(network, images, self.singled))

    def replaced(
        self, network: nn.Module, images: Tensor, instead: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, tuple[int, int, int]]:
        """The network's output with something else in place of the averaging, and (B, h, w) of the averaged map."""
        mode = _Replacer(self, instead)
        with mode:
            output = tensor_of(network(images))
        if mode.grid is None:
            raise RuntimeError(f"the averaging was not met in images of {images.shape[2]} x {images.shape[3]} px")
        return output, mode.grid

    def singled(self, x: Tensor) -> Tensor:
        """The positions of a map, row by row, each as the mean of a map that has no other."""
        single = x.movedim(self.axes, (1, 2)).flatten(0, 2)
        for axis in sorted(self.axes) if self.keepdim else ():
            single = single.unsqueeze(axis + x.ndim)
        return single


def _averaged_axes(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[int, ...], bool]:
    """Which axes an operation averages as a whole, from the end, and whether they stay with length 1; none if none."""
    x = args[0] if args else kwargs["input"]
    if x.ndim != 4:
        return (), False
    if name == "mean":
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        axes = tuple(axes) if isinstance(axes, Sequence) else ()
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        return tuple(axis if axis < 0 else axis - 4 for axis in axes if type(axis) is int), bool(keepdim)
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
            return func(*args, **kwargs)
        self.number += 1
        axes, keepdim = _averaged_axes(func.__name__, args, kwargs)
        instead = None
        if len(axes) == 2 and -4 not in axes:
            x = args[0] if args else kwargs["input"]
            positions = x.shape[axes[0]] * x.shape[axes[1]]
            instead = self.meet(Pooling(self.number, (axes[0], axes[1]), keepdim, positions), x)
        return func(*args, **kwargs) if instead is None else instead

    def meet(self, pooling: Pooling, x: Tensor) -> Tensor | None:
        """What to give instead of the mean of `x`, if anything."""
        raise NotImplementedError


class Finder(_Counter):
    """Notes every averaging of a map that depends on the image, with what is known of the map."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker
        self.found: list[tuple[Pooling, State]] = []

    def meet(self, pooling: Pooling, x: Tensor) -> None:
        state = self.tracker.state(x)
        if state is not None:
            self.found.append((pooling, state))


class _Replacer(_Counter):
    """Gives something else for one averaging."""

    def __init__(self, pooling: Pooling, instead: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pooling, self.instead = pooling, instead
        self.grid: tuple[int, int, int] | None = None

    def meet(self, pooling: Pooling, x: Tensor) -> Tensor | None:
        if pooling.number != self.pooling.number:
            return None
        rows, columns = self.pooling.axes
        self.grid = (len(x), x.shape[rows], x.shape[columns])
        return self.instead(x)


def folded(logits: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B * h * w, K) as (B, K, h, w)."""
    return logits.unflatten(0, grid).movedim(-1, 1)
