"""How a module takes images that does not take them as others do: one channel, channels last, whole numbers, halves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cuescope.core.errors import RAISED
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import outputs

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in a gray value (ITU-R BT.601)."""


class Way(NamedTuple):
    """What makes a module's input of normalized images (B, 3, H, W), and what is said of it."""

    change: Callable[[Tensor], Tensor]
    note: str
    differentiable: bool = True


def found(run: Callable[[Tensor], Any], images: Tensor, how: Preprocessing, classes: int | None) -> Way | None:
    """The first way in which a module takes the normalized images and gives logits; None where there is none.

    To be asked for a module that does not take them as they are: one that takes several ways is run the usual one.
    """
    for way in _ways(how):
        try:
            given = run(way.change(images))
            outputs.read(given, len(images), classes, lambda _: None)
        except RAISED:  # a module's own code: this way is none
            continue
        return way
    return None


def _ways(how: Preprocessing) -> Iterator[Way]:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (how.mean, how.std))
    if how.channels == "BGR":
        mean, std = mean.flip(0), std.flip(0)

    def pixels(x: Tensor) -> Tensor:
        return x.float() * std.to(x.device) + mean.to(x.device)

    def luma(x: Tensor) -> Tensor:
        weights = torch.tensor(LUMA[::-1] if how.channels == "BGR" else LUMA)
        return torch.sum(x * weights.view(3, 1, 1).to(x), 1, keepdim=True)

    def same(x: Tensor) -> Tensor:
        return x

    def whole(x: Tensor) -> Tensor:
        return x.mul(255).round().clamp(0, 255).to(torch.uint8)

    half = "takes float16: it is given the normalized image in half precision"
    numbers = "takes uint8: it is given pixels as whole numbers, not normalized"
    # What takes colors is given them. Whole numbers last: what casts its input takes them too.
    for color, sides, one in ((same, 3, ""), (luma, 1, "takes one channel: it is given the luma of the image")):
        for start, end, kind in ((same, same, ""), (same, Tensor.half, half), (pixels, whole, numbers)):
            for order, last in ((same, ""), (_last, f"takes (B, H, W, {sides}): it is given channels last")):
                if notes := [note for note in (one, last, kind) if note]:
                    yield Way(_chain(start, color, end, order), ", and ".join(notes), kind != numbers)


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _chain(*steps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """All steps in turn."""
    return lambda x: functools.reduce(lambda value, step: step(value), steps, x)
