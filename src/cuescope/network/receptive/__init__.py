"""Which pixels can reach one position of a layer's output? A network is run once and watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cuescope.network import hooks
from cuescope.network.receptive.spans import Map, Span, State
from cuescope.network.receptive.tracker import Tracker


@dataclass(frozen=True)
class Extent:
    """Along one side of the image: position p sees pixels start_px + p * stride_px and the size_px - 1 after it."""

    start_px: int
    stride_px: int
    size_px: int

    def seen(self, position: int, length: int) -> tuple[int, int]:
        """The first pixel that a position sees of a side of this length, and the one after the last."""
        start = self.start_px + position * self.stride_px
        return min(max(start, 0), length), min(max(start + self.size_px, 0), length)


@dataclass(frozen=True)
class Field:
    """What the positions of a map see: rows and columns, or None where they cannot be laid on the image (tokens).

    `everywhere`: each position sees the whole image, by squeeze-and-excitation, say; the extents are what it sees
    without that. `padded`: fields at the border stick out of the image.

    >>> Field(Extent(-1, 2, 3), Extent(-1, 2, 3)).window(0, 5, (16, 16))
    (0, 9, 2, 12)
    """

    rows: Extent | None
    columns: Extent | None
    everywhere: bool = False
    padded: bool = False

    @property
    def size_px(self) -> int | None:
        """The longer side of what a position sees; None for the whole image."""
        if self.everywhere or self.rows is None or self.columns is None:
            return None
        return max(self.rows.size_px, self.columns.size_px)

    @property
    def stride_px(self) -> int | None:
        """The distance of neighboring positions, the longer one; None where the positions lie on no grid."""
        return None if self.rows is None or self.columns is None else max(self.rows.stride_px, self.columns.stride_px)

    @property
    def start_px(self) -> int | None:
        """Where the field of position (0, 0) starts, negative with padding; None where the positions lie on no grid."""
        return None if self.rows is None or self.columns is None else min(self.rows.start_px, self.columns.start_px)

    def window(self, row: int, column: int, image: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in px of what a position sees of an image (height, width), ends exclusive."""
        if self.everywhere or self.rows is None or self.columns is None:
            return 0, 0, *image
        (top, bottom), (left, right) = self.rows.seen(row, image[0]), self.columns.seen(column, image[1])
        return top, left, bottom, right


WHOLE = Field(None, None, everywhere=True)
"""Of positions that see the whole image, or of which nothing is known."""


def fields(network: nn.Module, pixels: Tensor) -> Mapping[str, Field]:
    """Which pixels can reach one position of each layer's output? By the names of `network.named_modules()`.

    Never too small: an operation without a rule counts as one that sees the whole image; a dilated convolution's
    holes count as seen. `pixels` are normalized images (B, 3, H, W), of which only the shape matters. Layers that are
    called more than once, or give no tensor, are left out.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
    >>> found = fields(net, torch.rand(1, 3, 16, 16))
    >>> found["1"].size_px, found["1"].stride_px, found["1"].start_px, found["2"].size_px
    (4, 2, 0, None)
    """
    found: dict[str, list[Field]] = {}
    tracker = Tracker(network)

    def note(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            found.setdefault(name, []).append(field_of(tracker.state(output)))

    with hooks.evaluating(network), hooks.hooked(hooks.named(network), note):
        tracker.run(network, pixels)
    return {name: calls[0] for name, calls in found.items() if len(calls) == 1}


def field_of(state: State) -> Field:
    """The field that follows from a tensor's state."""
    if not isinstance(state, Map):
        return WHOLE
    rows, columns = (Extent(span.start, span.stride, span.size) for span in map(Span.settled, state.spans))
    return Field(rows, columns, state.everywhere, state.padded)
