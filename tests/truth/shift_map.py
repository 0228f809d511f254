"""Planted classifiers for shift_map: one that hangs on a pixel, one that no offset moves, and too few images."""

from __future__ import annotations

import torch
from torch import nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.shift_map import MARGIN, ShiftMap
from toys import COLORS, Constant, MeanColor, OnePixel, toy
from truth.table import breaks, planted, sayable


def conclude(module: nn.Module, count: int, kind: str) -> Conclusion:
    board = (torch.arange(20)[:, None] + torch.arange(20)[None]) % 2 * 255
    images = []
    for i in range(count):
        pixels = board.byte().expand(3, 20, 20).clone()
        if kind == "colors":
            pixels = torch.zeros_like(pixels)
            pixels[i % 3] = 200
        images.append(Sample(f"{i:03d}", pixels, label=i % 3))
    tool, classifier = ShiftMap(range_px=28), toy(module)
    rows = tool.observe(classifier, classifier.see(images, [image.label or 0 for image in images]))
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name))


@planted(
    "shift_map",
    "truth",
    "answers by the middle pixel of fine checkerboards",
    "its answer moves: half of the offsets have another",
    holds=lambda said: said.verdict.names == ("moves",) and said["other_answers"].value == 0.5,
    broken=breaks("cuescope.instruments.shift_map.MARGIN", 0.6),
    shows=("other_answers", "answers"),
)
def hangs_on_a_pixel() -> Conclusion:
    return conclude(OnePixel(20.0), 20, "boards")


@planted(
    "shift_map",
    "truth",
    "goes by the mean color, which is the same at every offset, and is right",
    "its answer stays",
    holds=lambda said: said.verdict.names == ("stays",),
    broken=breaks("cuescope.core.stats.wilson", lambda k, n: (0.0, 1.0)),
    shows=("other_answers", "accuracy"),
)
def goes_by_color() -> Conclusion:
    return conclude(MeanColor(), 200, "colors")


@planted(
    "shift_map",
    "absence",
    "hangs on a pixel, but 3 images are all that is seen",
    "examples, and nothing of images in general: no interval",
    holds=lambda said: said.verdict.names == ("few",) and all(m.interval is None for m in said.measures),
    broken=breaks("cuescope.core.stats.UNITS", 2),
    shows=("other_answers",),
)
def three_images() -> Conclusion:
    return conclude(OnePixel(20.0), 3, "boards")


@planted(
    "shift_map",
    "absence",
    "always gives the same answer",
    "not 'it stays': it may see nothing",
    holds=lambda said: said.verdict.names == ("blind",),
    broken=breaks("cuescope.instruments.shift_map.agreement_by_chance", lambda labels, answers: 0.0),
    shows=("other_answers", "accuracy"),
)
def sees_nothing() -> Conclusion:
    return conclude(Constant(), 200, "colors")


def bounds(said: Conclusion) -> tuple[float, float]:
    return said["other_answers"].interval or (0.0, 1.0)


def knows(said: Conclusion) -> bool:
    """Whether it is right more often than by chance."""
    accuracy = said["accuracy"]
    return accuracy.interval is not None and accuracy.chance is not None and accuracy.interval[0] > accuracy.chance


def seen(said: Conclusion) -> int:
    return said["other_answers"].n


sayable("shift_map", "nothing", lambda said: seen(said) == 0, lambda: conclude(OnePixel(20.0), 0, ""))
sayable("shift_map", "few", lambda said: 0 < seen(said) < 5, three_images)
sayable("shift_map", "moves", lambda said: bounds(said)[0] > MARGIN, hangs_on_a_pixel)
sayable("shift_map", "stays", lambda said: bounds(said)[1] < MARGIN and knows(said), goes_by_color)
sayable("shift_map", "blind", lambda said: bounds(said)[1] < MARGIN and not knows(said), sees_nothing)
sayable(
    "shift_map",
    "cannot_tell",
    lambda said: seen(said) >= 5 and bounds(said)[0] <= MARGIN <= bounds(said)[1],
    lambda: conclude(MeanColor(), 6, "colors"),
)
