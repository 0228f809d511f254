"""What the positions of a tensor see of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor


class Lost(Enum):
    """Depends on the image, in a way that is not followed."""

    LOST = "lost"


LOST = Lost.LOST


@dataclass(frozen=True)
class Span:
    """Position p along `axis` (negative, from the end) sees pixels start + p * stride to that + size - 1."""

    axis: int
    start: int = 0
    stride: int = 1
    size: int = 1
    mirror: int = 0
    """So many positions at each end repeat positions as far inside: what they see is not in the interval yet."""

    def settled(self) -> Span:
        """With an interval wide enough for mirrored positions too."""
        far = 2 * self.mirror * self.stride
        return replace(self, start=self.start - far, size=self.size + 2 * far, mirror=0)

    def windowed(self, kernel: int, stride: int, padding: int, dilation: int) -> Span:
        """After something that takes windows of positions."""
        reach = (kernel - 1) * dilation
        # A window that holds a mirrored position and the border holds what it repeats, if it is as long as this.
        span = self if reach < 2 * self.mirror else replace(self, mirror=0)
        span = span.settled()
        start, size = span.start - padding * span.stride, span.size + reach * span.stride
        return Span(span.axis, start, span.stride * stride, size)


@dataclass(frozen=True)
class Map:
    """A tensor whose positions lie on a grid over the image."""

    rows: Span
    columns: Span
    everywhere: bool = False
    """Each position depends on the whole image too."""
    padded: bool = False
    grid: tuple[int, int] | None = None
    """(h, w) of patch tokens: rows and columns lie along one axis, row by row. None where each has its own."""
    before: int = 0
    """Tokens before those of the patches that belong to no place: class and register tokens."""

    @property
    def spans(self) -> tuple[Span, Span]:
        return self.rows, self.columns

    @property
    def axes(self) -> tuple[int, int]:
        """Of rows and columns, from the end: the same one for tokens."""
        return self.rows.axis, self.columns.axis

    @property
    def layout(self) -> tuple[object, ...]:
        """What two maps share whose positions are the same."""
        return self.axes, self.grid, self.before

    def changed(self, change: Callable[[Span], Span], padded: bool = False) -> Map:
        return replace(self, rows=change(self.rows), columns=change(self.columns), padded=self.padded or padded)


State = Map | Lost | None
"""Of a tensor: a map over the image, something that depends on the image in unknown ways, or nothing of it (None)."""


@dataclass(frozen=True)
class Call:
    """One operation, done: what went in and came out, and what is known of what went in."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    states: list[State]

    @property
    def map(self) -> Map:
        """The state of the first input; nothing else may be asked of a call whose first input is no map."""
        if not self.inputs or not isinstance(self.states[0], Map):
            raise UnknownError
        return self.states[0]

    @property
    def shape(self) -> torch.Size:
        """Of the first output."""
        return self.outputs[0].shape

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


class UnknownError(Exception):
    """There is no rule for an operation, used in this way."""


def union(spans: Iterable[Span]) -> Span:
    spans = list(spans)
    if all(span == spans[0] for span in spans):
        return spans[0]
    spans = [span.settled() for span in spans]
    if any(span.stride != spans[0].stride for span in spans):
        raise UnknownError
    start = min(span.start for span in spans)
    return replace(spans[0], start=start, size=max(span.start + span.size for span in spans) - start)
