"""Planted classifiers for occlusion: one that reads the object, one that reads nothing, one that looks at the middle,
and one whose cue has the color of the square."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.instruments.occlusion import MARGIN, Occlusion
from toys import Constant, toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("two", ("spot", "nothing"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name)
SIDE = 16


class Reads(nn.Module):
    """Class 0 where more than so many pixels have a property."""

    def __init__(self, counts: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.counts = counts

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.counts(pixels).float().sum((1, 2))
        return torch.stack([found - 8.0, torch.zeros_like(found)], 1)


def white(pixels: Tensor) -> Tensor:
    return (pixels > 0.9).all(1)


def gray(pixels: Tensor) -> Tensor:
    return ((pixels - 0.5).abs() < 0.01).all(1)


def samples(count: int, level: int = 255, middle: bool = False) -> list[Sample]:
    """Wide black photographs with a square of 4 x 4 px anywhere, or in the middle; its box is known, as is another's,
    of another class and as large as the image."""
    found, generator = [], torch.Generator().manual_seed(0)
    for i in range(count):
        top, left = (6, 6) if middle else (int(k) for k in torch.randint(0, 12, (2,), generator=generator))
        pixels = torch.zeros(3, SIDE, SIDE + 8, dtype=torch.uint8)
        pixels[:, top : top + 4, left + 4 : left + 8] = level
        boxes = (Box(left + 4, top, left + 8, top + 4, "spot"), Box(0, 0, SIDE + 8, SIDE, "ground"))
        found.append(Sample(f"{i:02}", pixels, 0, boxes=boxes))
    return found


def asked(module: nn.Module, images: Sequence[Sample], **settings: Any) -> Conclusion:
    tool, classifier = (
        Occlusion(**{"size_share": 0.25, "stride_share": 0.25, **settings}),
        toy(module, CLASSES, size=SIDE),
    )
    seen = classifier.see(images, [s.label for s in images])
    return tool.conclude(tool.start(classifier).observe(seen), ABOUT)


def by_hand(hits: Sequence[float], chance: float, turned: float = 0.0) -> Conclusion:
    """Images of which some place changes the answer, hit so."""
    tool, n = Occlusion(), len(hits)
    columns = {"id": list(map(str, range(n))), "flips": [0.1] * n, "largest_drop": [0.5] * n, "hit": list(hits)}
    return tool.conclude(tool.table({**columns, "hit_by_chance": [chance] * n, "hit_turned": [turned] * n}), ABOUT)


@planted(
    "occlusion",
    "truth",
    "reads a white square, whose box is known in photographs that are cropped",
    "the worst place lies on it in every image, by chance in few",
    holds=lambda said: said.verdict.names == ("flips", "object") and said["pointing_game"].value == 1,
    broken=breaks("cuescope.data.ops.objects.locate", lambda box, *_: box),
    shows=("pointing_game", "above_chance"),
)
def reads_the_object() -> Conclusion:
    return asked(Reads(white), samples(8), fill="black", stride_share=0.125)


@planted(
    "occlusion",
    "absence",
    "always the same answer",
    "no place changes it; no image counts for the pointing game",
    holds=lambda said: said.verdict.names == ("never",) and said["pointing_game"].value is None,
    broken=breaks("cuescope.methods.occlusion.ROUNDING", -1.0),
    shows=("label_flips", "pointing_game"),
)
def constant() -> Conclusion:
    return asked(Constant(2), samples(6))


class Middle(nn.Module):
    """Looks at the four pixels in the middle."""

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:, :, 7:9, 7:9].mean((1, 2, 3))
        return torch.stack([20 * seen - 10, torch.zeros_like(seen)], 1)


@planted(
    "occlusion",
    "absence",
    "looks at the middle of the image, where the objects are",
    "not that the object matters: so it is with the image turned",
    holds=lambda said: said.verdict.names == ("flips", "middle") and said["pointing_game"].value == 1,
    broken=breaks(
        "cuescope.instruments.occlusion.pointing", lambda *_: {"hit": 1.0, "hit_turned": 0.0, "hit_by_chance": 0.1}
    ),
    shows=("pointing_game", "beyond_middle"),
)
def the_middle() -> Conclusion:
    return asked(Middle(), samples(6, middle=True), fill="black", stride_share=0.125)


@planted(
    "occlusion",
    "absence",
    "reads a gray square, and the square that hides is gray too",
    "no place changes the answer; all places where the cue is have the color of the square",
    holds=lambda said: (
        said.verdict.names == ("never",) and "100% of the places" in said.sentence and said["unseen"].value == 1
    ),
    broken=breaks("cuescope.instruments.occlusion.unseen", lambda *_: 0.0),
    shows=("label_flips", "unseen"),
)
def of_the_color_of_the_square() -> Conclusion:
    plain = [Sample(f"{i}", torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8), 0) for i in range(6)]
    return asked(Reads(gray), plain, fill="gray")


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-2.0, 2.0)


def pointed(said: Conclusion) -> bool:
    return said["pointing_game"].value is not None


sayable(
    "occlusion",
    "nothing",
    lambda said: said["label_flips"].value is None,
    lambda: Occlusion().conclude(Occlusion().empty, ABOUT),
)
sayable("occlusion", "flips", lambda said: said["label_flips"].value > 0, reads_the_object)
sayable("occlusion", "never", lambda said: said["label_flips"].value == 0, constant)
sayable(
    "occlusion",
    "object",
    lambda said: span(said, "above_chance")[0] > 0 and span(said, "beyond_middle")[0] > 0,
    reads_the_object,
)
sayable(
    "occlusion", "middle", lambda said: span(said, "above_chance")[0] > 0 >= span(said, "beyond_middle")[0], the_middle
)
sayable(
    "occlusion",
    "beside",
    lambda said: span(said, "above_chance")[0] <= 0 and span(said, "above_chance")[1] < MARGIN,
    lambda: by_hand([0.0] * 12, 0.25),
)
sayable(
    "occlusion",
    "cannot_tell",
    lambda said: pointed(said) and span(said, "above_chance")[0] <= 0 < MARGIN <= span(said, "above_chance")[1],
    lambda: by_hand([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 0.25),
)
