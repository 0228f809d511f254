"""Planted classifiers for typicality: unstable off the middle, stable wherever the object is in view, blind."""

from __future__ import annotations

import random
from functools import cache

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.data.preprocessing import Preprocessing
from cuescope.instruments.typicality import MARGIN, SeenBox, Typicality
from toys import COLORS, Constant
from truth.table import breaks, planted, sayable

SIDE, OBJECT = 16, 3


class InView(nn.Module):
    """The color of the object, wherever it is in view; where it is not, or in parts, one pixel of the ground decides.

    With `outer` also where the object is not near the middle.
    """

    def __init__(self, outer: bool = False) -> None:
        super().__init__()
        self.outer = outer

    def forward(self, pixels: Tensor) -> Tensor:
        color = pixels[:, :2].sum((2, 3)) if not self.outer else pixels[:, :2, 4:12, 4:12].sum((2, 3))
        ground = pixels[:, 2, 8, 8, None]
        whole = (color.sum(1, keepdim=True) > OBJECT**2 * 0.95).float()
        noise = torch.cat([ground, 1 - ground], 1)
        return torch.cat([whole * color + (1 - whole) * noise, torch.zeros_like(ground)], 1)


@cache
def samples(count: int, width: int = 24) -> tuple[Sample, ...]:
    """A red or green square anywhere on a blue checkerboard, of which the network sees the middle."""
    board = ((torch.arange(SIDE)[:, None] + torch.arange(width)[None]) % 2 * 255).byte()
    chance, found = random.Random(0), []
    for i in range(count):
        pixels = torch.stack([torch.zeros_like(board), torch.zeros_like(board), board])
        top, left = chance.randint(0, SIDE - OBJECT), chance.randint(0, width - OBJECT)
        pixels[:, top : top + OBJECT, left : left + OBJECT] = 0
        pixels[i % 2, top : top + OBJECT, left : left + OBJECT] = 255
        found.append(Sample(f"{i:04d}", pixels, i % 2, boxes=(Box(left, top, left + OBJECT, top + OBJECT),)))
    return tuple(found)


def conclude(module: nn.Module, count: int) -> Conclusion:
    how = Preprocessing((SIDE, SIDE), SIDE, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "toy")
    tool, images = Typicality(), samples(count)
    classifier = Classifier(module.eval(), classes=COLORS, preprocessing=how, name="toy")
    labels = [image.label or 0 for image in images]
    rows = tool.observe(classifier, classifier.see(images, labels))
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name))


def of_the_file(sample: Sample, *_: object) -> SeenBox:
    """The box of the file, whatever is seen of it."""
    (box,), (_, height, width) = sample.boxes, sample.pixels.shape
    x, y = (box.x0 + box.x1) / 2 / width, (box.y0 + box.y1) / 2 / height
    return SeenBox(x, y, OBJECT / width, OBJECT / height, True)


@planted(
    "typicality",
    "truth",
    "names the object only near the middle, elsewhere one pixel of the ground decides",
    "untypical places make it less stable",
    holds=lambda said: said.verdict.names[0] == "less" and said["excess"].value > 0.3,
    broken=breaks("cuescope.instruments.typicality.largest_seen", lambda *_: SeenBox(0.5, 0.5, 0.2, 0.2, True)),
    shows=("excess", "change_typical", "change_untypical"),
)
def near_the_middle() -> Conclusion:
    return conclude(InView(outer=True), 300)


@planted(
    "typicality",
    "absence",
    "stable wherever the object is in view; the frame cuts some and leaves out others",
    "untypical places change nothing; what is cut is told apart",
    holds=lambda said: said.verdict.names[0] == "alike" and said["change_cut"].value > 0.1,
    broken=breaks("cuescope.instruments.typicality.largest_seen", of_the_file),
    shows=("excess", "change_cut"),
)
def in_view() -> Conclusion:
    return conclude(InView(), 900)


@planted(
    "typicality",
    "absence",
    "always gives the same answer",
    "cannot tell: it may see nothing",
    holds=lambda said: said.verdict.said == "cannot tell",
    broken=breaks("cuescope.instruments.typicality.agreement_by_chance", lambda labels, answers: 0.0),
    shows=("excess", "accuracy"),
)
def sees_nothing() -> Conclusion:
    return conclude(Constant(), 900)


def bounds(said: Conclusion, name: str = "excess") -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def small(said: Conclusion) -> bool:
    """Whether the difference is none within the margin, of a classifier that is right more often than by chance."""
    accuracy = said["accuracy"]
    knows = accuracy.interval is not None and accuracy.chance is not None and accuracy.interval[0] > accuracy.chance
    return knows and -MARGIN <= bounds(said)[0] <= 0 <= bounds(said)[1] <= MARGIN


def measured(said: Conclusion) -> bool:
    return said["excess"].value is not None


def right_too(said: Conclusion) -> bool:
    return bounds(said, "excess_right")[0] > 0


class Off(InView):
    """The other way round: stable off the middle, where it is always wrong, and not in the middle."""

    def forward(self, pixels: Tensor) -> Tensor:
        near = (pixels[:, :2, 4:12, 4:12].sum((1, 2, 3)) > OBJECT**2 * 0.95)[:, None]
        ground = pixels[:, 2, 8, 8, None]
        fixed = torch.tensor([0.0, 0.0, 1.0], device=pixels.device)
        return torch.where(near, torch.cat([ground, 1 - ground, 0 * ground], 1), fixed)


class WrongOff(InView):
    """Right near the middle; elsewhere one pixel of the ground decides which wrong answer it gives."""

    def forward(self, pixels: Tensor) -> Tensor:
        near = (pixels[:, :2, 4:12, 4:12].sum((1, 2, 3)) > OBJECT**2 * 0.95)[:, None]
        ground, color = pixels[:, 2, 8, 8, None], pixels[:, :2].sum((2, 3))
        wrong = torch.cat([color.flip(1) * ground, 1 - ground], 1)
        return torch.where(near, torch.cat([color, 0 * ground], 1), wrong)


sayable("typicality", "nothing", lambda said: not measured(said), lambda: conclude(InView(), 6))


sayable("typicality", "less", lambda said: bounds(said)[0] > 0 and right_too(said), near_the_middle)
sayable(
    "typicality",
    "wrong",
    lambda said: bounds(said)[0] > 0 and not right_too(said),
    lambda: conclude(WrongOff(), 300),
)
sayable("typicality", "more", lambda said: bounds(said)[1] < 0, lambda: conclude(Off(), 300))
sayable("typicality", "alike", small, in_view)
sayable(
    "typicality",
    "cannot_tell",
    lambda said: measured(said) and bounds(said)[0] <= 0 <= bounds(said)[1] and not small(said),
    sees_nothing,
)
sayable("typicality", "places", lambda said: said["middle"].value is not None, in_view)
