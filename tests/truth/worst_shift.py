"""Planted classifiers for worst_shift: one shift in eight changes an answer, cyclic shifts change nothing, blind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.worst_shift import MARGIN, WorstShift
from toys import COLORS, Constant, MeanColor, toy
from truth.table import breaks, planted, sayable


class Bright(nn.Module):
    """Class 1 where the pixel below and to the right of the middle is bright, else class 0."""

    def forward(self, pixels: Tensor) -> Tensor:
        p = pixels[:, :, 5, 5].mean(1)
        return torch.stack([1 - p, p, torch.zeros_like(p)], 1) * 8


class Edge(nn.Module):
    """Counts bright pixels: cyclic shifts change nothing, and a window that moves sees more or fewer of them."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright = pixels.sum((1, 2, 3)) / 3
        return torch.stack([20.5 - bright, bright - 20.5, torch.zeros_like(bright)], 1)


def conclude(module: nn.Module, count: int, kind: str = "dots", cyclic: bool = True) -> Conclusion:
    """One bright dot; a bright edge just outside of what is seen; or one color of three."""
    images = []
    for i in range(count):
        pixels = torch.zeros(3, 10, 10, dtype=torch.uint8)
        if kind == "dots":
            pixels[:, 7, 7 - 4 * (i % 2)] = 255
        elif kind == "edges":
            pixels[:, :, : 2 + (i % 2)] = 255
        else:
            pixels[i % 3] = 200
        images.append(Sample(f"{i:03d}", pixels, label=i % (3 if kind == "colors" else 2)))
    tool, classifier = WorstShift(cyclic=cyclic), toy(module, size=8)
    classifier.preprocessing = type(classifier.preprocessing)((8, 8), 10, "bilinear", (0, 0, 0), (1, 1, 1), "toy")
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images, [image.label or 0 for image in images]))
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name, observer.facts))


def value(said: Conclusion, name: str) -> float:
    return said[name].value or 0.0


@planted(
    "worst_shift",
    "truth",
    "one of the eight shifts of every second image brings a dot to the pixel that counts",
    "half of the images are changed, though only one shift in 16 changes an answer",
    holds=lambda said: said.verdict.names[0] == "found" and value(said, "changed_cyclic") == 0.5,
    broken=breaks("cuescope.data.ops.grids.ring", lambda level: [(0, 1), (0, -1), (1, 0), (-1, 0)]),
    shows=("changed_window", "changed_cyclic"),
)
def one_of_eight() -> Conclusion:
    return conclude(Bright(), 40)


@planted(
    "worst_shift",
    "absence",
    "counts bright pixels, which no cyclic shift changes and a moving window does",
    "no cyclic shift changes an answer; windows do",
    holds=lambda said: (
        said.verdict.names[0] == "found"
        and all(said[f"changed_{kind}"].value == 0 for kind in ("cyclic", "half", "fraction"))
    ),
    broken=breaks("cuescope.data.ops.grids.cyclic", lambda images, shift: images * (1 + sum(shift))),
    shows=("changed_window", "changed_cyclic", "changed_half", "changed_fraction"),
)
def counts() -> Conclusion:
    return conclude(Edge(), 40, "edges")


@planted(
    "worst_shift",
    "truth",
    "goes by the mean color, which no shift changes, and is right",
    "none: on less than 2 % of images",
    holds=lambda said: said.verdict.names[0] == "none" and value(said, "robust_window") == 1,
    broken=breaks("cuescope.core.stats.wilson", lambda k, n: (0.0, 1.0)),
    shows=("changed_window", "robust_window"),
)
def goes_by_color() -> Conclusion:
    return conclude(MeanColor(), 240, "colors")


@planted(
    "worst_shift",
    "absence",
    "always gives the same answer",
    "not 'no shift changes its answer': it may see nothing",
    holds=lambda said: said.verdict.names[0] == "blind",
    broken=breaks("cuescope.instruments.worst_shift.agreement_by_chance", lambda labels, answers: 0.0),
    shows=("changed_window", "accuracy"),
)
def sees_nothing() -> Conclusion:
    return conclude(Constant(), 240, "colors")


class Linear(nn.Sequential):
    """The embedding is the mean color: no shift takes it farther off than an image of another color is."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
        for part in (self[0], self[3]):
            part.weight.data = torch.eye(3).reshape(part.weight.shape)
            if part.bias is not None:
                part.bias.data.zero_()


class Places(Linear):
    """The embedding is each pixel: a shift takes it farther off than another image of the same board is."""

    def __init__(self) -> None:
        super().__init__()
        self[1], self[3] = nn.Identity(), nn.Linear(192, 3)


@planted(
    "worst_shift",
    "truth",
    "an embedding of single pixels, of images with a dot here or there, many of them alike",
    "every embedding is lost by a shift of one pixel",
    holds=lambda said: value(said, "embedding_lost") == 1,
    broken=breaks("cuescope.data.ops.grids.windows", lambda images, size, margin, shift: images[..., 1:9, 1:9]),
    shows=("embedding_lost", "embedding_cosine"),
)
def lost() -> Conclusion:
    return conclude(Places(), 12)


@planted(
    "worst_shift",
    "absence",
    "an embedding of the mean color, of images of other colors",
    "no embedding is lost",
    holds=lambda said: said["embedding_lost"].value == 0,
    broken=breaks("cuescope.instruments.worst_shift.F.cosine_similarity", lambda a, b, eps: a[:, 0] * 0 - 1),
    shows=("embedding_lost", "embedding_cosine"),
)
def kept() -> Conclusion:
    return conclude(Linear(), 3, "colors")


def bounds(said: Conclusion) -> tuple[float, float]:
    return said["changed_window"].interval or (0.0, 1.0)


def knows(said: Conclusion) -> bool:
    """Whether it is right more often than by chance."""
    accuracy = said["accuracy"]
    return accuracy.interval is not None and accuracy.chance is not None and accuracy.interval[0] > accuracy.chance


def seen(said: Conclusion) -> bool:
    return said["changed_window"].n > 0


def few() -> Conclusion:
    return conclude(MeanColor(), 8, "colors", cyclic=False)


sayable("worst_shift", "nothing", lambda said: not seen(said), lambda: conclude(Bright(), 0))
sayable("worst_shift", "found", lambda said: bounds(said)[0] > MARGIN, one_of_eight)
sayable("worst_shift", "none", lambda said: bounds(said)[1] < MARGIN and knows(said), goes_by_color)
sayable("worst_shift", "blind", lambda said: bounds(said)[1] < MARGIN and not knows(said), sees_nothing)
sayable("worst_shift", "cannot_tell", lambda said: seen(said) and bounds(said)[0] <= MARGIN <= bounds(said)[1], few)
sayable("worst_shift", "cyclic", lambda said: seen(said) and said["changed_cyclic"].value is not None, counts)
sayable("worst_shift", "embedding", lambda said: said["embedding_lost"].value is not None, lost)
