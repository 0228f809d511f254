"""The part of a feature map that a changed rectangle of pixels can reach, one patch an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class Window(NamedTuple):
    """Along one axis: where the window of each image starts, and the length that they share."""

    starts: list[int]
    length: int


class Reach(NamedTuple):
    """Of a sliding operation along one axis: output o reads the inputs o * step - pad + i * dilation, i < kernel."""

    kernel: int
    step: int
    pad: int
    dilation: int = 1

    @property
    def extent(self) -> int:
        """How many inputs lie between the first and the last that one output reads, both included."""
        return (self.kernel - 1) * self.dilation + 1

    def window(self, out: Window) -> Window:
        """The inputs that a window of outputs reads; it can begin before 0, in the padding."""
        starts = [start * self.step - self.pad for start in out.starts]
        return Window(starts, (out.length - 1) * self.step + self.extent)

    def padding(self, size: int, out_size: int) -> tuple[int, int]:
        """How far the windows of all outputs stand out before the first and after the last input."""
        return self.pad, max(0, (out_size - 1) * self.step - self.pad + self.extent - size)


@dataclass(frozen=True, eq=False)
class Spans:
    """Along one axis of `size` cells: the cells from `low` to `high`, excluded, may have changed, for each image."""

    low: NDArray[Any]
    high: NDArray[Any]
    size: int

    def through(self, reach: Reach, out_size: int) -> Spans:
        """What has changed after a sliding operation. A span is never empty: a needless cell does no harm."""
        last = out_size - 1
        first_reading = -((reach.extent - 1 - reach.pad - self.low) // reach.step)
        last_reading = (self.high - 1 + reach.pad) // reach.step
        low = np.clip(first_reading, 0, last)
        return Spans(low, np.clip(last_reading, low, last) + 1, out_size)

    def hull(self, other: Spans) -> Spans:
        return Spans(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.size)

    @cached_property
    def window(self) -> Window:
        """The shortest common length that holds every span, moved inward where it would stand out."""
        length = int((self.high - self.low).max())
        return Window(np.minimum(self.low, self.size - length).tolist(), length)


Padding = tuple[int, int, int, int]
"""Cells of padding: left, right, top, bottom."""


class Clean:
    """A feature map of the unchanged image, (1, C, H, W), with the padded copies of it that were asked for."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._padded: dict[tuple[Padding, float], Tensor] = {}

    def windows(self, rows: Window, cols: Window, padding: Padding = (0, 0, 0, 0), value: float = 0.0) -> Tensor:
        """Windows of the map, (P, C, rows.length, cols.length); beyond its border stands `value`."""
        if any(padding) and (padding, value) not in self._padded:
            self._padded[padding, value] = F.pad(self.values, padding, value=value)
        padded = self._padded.get((padding, value), self.values)[0]
        shape = (len(rows.starts), padded.shape[0], rows.length, cols.length)
        out = torch.empty(shape, dtype=padded.dtype, device=padded.device, memory_format=torch.channels_last)
        for p, (top, left) in enumerate(zip(rows.starts, cols.starts, strict=True)):
            y, x = top + padding[2], left + padding[0]
            out[p].copy_(padded[:, y : y + rows.length, x : x + cols.length])
        return out


@dataclass(frozen=True, eq=False)
class Region:
    """Where the feature maps of P images differ from the clean one: inside a window of one size for all."""

    clean: Clean
    rows: Spans
    cols: Spans
    last: bool = False
    """Whether the network at this point holds the map as (P, H, W, C); patches are kept (P, C, h, w)."""

    def __len__(self) -> int:
        return len(self.rows.low)

    @property
    def shape(self) -> torch.Size:
        """The shape that the whole feature maps have where the network asks for it."""
        _, c, h, w = self.clean.values.shape
        return torch.Size((len(self), h, w, c) if self.last else (len(self), c, h, w))

    @property
    def share(self) -> float:
        """The part of the feature map that the window covers."""
        return self.rows.window.length * self.cols.window.length / (self.rows.size * self.cols.size)


@dataclass(frozen=True, eq=False)
class Patch(Region):
    """The feature maps of P images inside their region; outside it they equal the clean one."""

    values: Tensor = field(kw_only=True)
    """(P, C, h, w): image p from row `rows.window.starts[p]` and column `cols.window.starts[p]` on."""

    @classmethod
    def of(cls, region: Region, values: Tensor) -> Patch:
        return cls(region.clean, region.rows, region.cols, region.last, values=values)

    @property
    def seen(self) -> Tensor:
        """The patches in the network's own order of axes."""
        return self.values.permute(0, 2, 3, 1) if self.last else self.values

    def cut(self, rows: Window, cols: Window, padding: Padding = (0, 0, 0, 0), value: float = 0.0) -> Tensor:
        """Other windows of the same maps: clean values with the patches laid over."""
        out = self.clean.windows(rows, cols, padding, value)
        own_rows, own_cols = self.rows.window, self.cols.window
        for p in range(len(self)):
            to_y, from_y = _overlap(rows.starts[p], rows.length, own_rows.starts[p], own_rows.length)
            to_x, from_x = _overlap(cols.starts[p], cols.length, own_cols.starts[p], own_cols.length)
            out[p, :, to_y, to_x].copy_(self.values[p, :, from_y, from_x])
        return out

    def grow(self, region: Region) -> Tensor:
        """The patches in the windows of a larger region; the patches themselves where nothing grows."""
        if (region.rows.window, region.cols.window) == (self.rows.window, self.cols.window):
            return self.values
        return self.cut(region.rows.window, region.cols.window)

    def whole(self) -> Tensor:
        """The whole feature maps, (P, C, H, W), or (P, H, W, C) where the network holds them so."""
        origin = [0] * len(self)
        windows = Window(origin, self.rows.size), Window(origin, self.cols.size)
        full = self.cut(*windows) if self.share < 1 else self.values
        return full.permute(0, 2, 3, 1) if self.last else full


def _overlap(start: int, length: int, other: int, other_length: int) -> tuple[slice, slice]:
    """The common part of two windows, as a slice of the first and of the second."""
    low, high = max(start, other), min(start + length, other + other_length)
    high = max(low, high)
    return slice(low - start, high - start), slice(low - other, high - other)
