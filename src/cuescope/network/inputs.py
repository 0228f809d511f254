"""How a module takes images that does not take them as others do: channels last, whole numbers, half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cuescope.data.preprocessing import Preprocessing
from cuescope.network import outputs


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
        except Exception:  # a module's own code: this way is none
            continue
        return way
    return None


def _ways(how: Preprocessing) -> Iterator[Way]:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (how.mean, how.std))
    if how.channels == "BGR":
        mean, std = mean.flip(0), std.flip(0)

    def whole(x: Tensor) -> Tensor:
        pixels = x.float() * std.to(x.device) + mean.to(x.device)
        return pixels.mul(255).round().clamp(0, 255).to(torch.uint8)

    def last(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    shape, numbers = "takes (B, H, W, 3)", "takes uint8: it is given pixels as whole numbers, not normalized"
    # Whole numbers last: what casts its input takes them too.
    yield Way(last, f"{shape}: it is given channels last")
    yield Way(lambda x: x.half(), "takes float16: it is given the normalized image in half precision")
    yield Way(lambda x: last(x).half(), f"{shape}, and takes float16: it is given both")
    yield Way(whole, numbers, differentiable=False)
    yield Way(lambda x: last(whole(x)), f"{shape}, and {numbers}", differentiable=False)
