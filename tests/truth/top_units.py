"""Planted classifiers for top_units: units of one class each, constant units, units that have nothing to do with it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from torch import nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.top_units import MARGIN, TopUnits
from toys import plain
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("colors", ("red", "green", "blue"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name)


def net(filters: Sequence[Sequence[float]], biases: Sequence[float]) -> Classifier:
    """Units that see one pixel at a time: each weighs red, green and blue, and adds its bias."""
    conv = nn.Conv2d(3, len(filters), 1)
    conv.weight.data, conv.bias.data = torch.tensor(filters)[:, :, None, None], torch.tensor(biases)
    head = nn.Linear(len(filters), 3, bias=False)
    head.weight.data = torch.eye(3, len(filters))
    body = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return Classifier(body, classes=CLASSES, preprocessing=plain(4), name="toy")


RED, GREEN, BLUE, NOTHING = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)


def samples(count: int, colors: Sequence[int], labels: Sequence[int | None]) -> list[Sample]:
    """One color each, brighter from image to image."""
    found = []
    for i in range(count):
        pixels = torch.zeros(3, 4, 4, dtype=torch.uint8)
        pixels[colors[i]] = 10 + i
        found.append(Sample(f"{i:03}", pixels, labels[i], framing="stimulus"))
    return found


def asked(classifier: Classifier, images: list[Sample], best: int = 9) -> Conclusion:
    tool = TopUnits(layers=("1",), best=best)
    seen = classifier.see(images, [-1 if s.label is None else s.label for s in images])
    return tool.conclude(tool.start(classifier).observe(seen), ABOUT)


IN_TURN = [i % 3 for i in range(90)]


@planted(
    "top_units",
    "truth",
    "a unit for each of three colors, which are the classes",
    "all of a unit's nine images share a class, half of them by chance",
    holds=lambda said: (
        said.verdict.names == ("classes",) and said["purity"].value == 1 and said["one_class"].count == 3
    ),
    broken=breaks("cuescope.methods.strongest.Chance.of", lambda _, sizes: (1.0, 1.0)),
)
def a_unit_a_class() -> Conclusion:
    return asked(net([RED, GREEN, BLUE], [0.0] * 3), samples(90, IN_TURN, IN_TURN))


def arbitrary(rows: pl.DataFrame, best: int) -> pl.DataFrame:
    return rows.filter(pl.col("order") >= 0).group_by("order", "channel", maintain_order=True).head(best)


@planted(
    "top_units",
    "absence",
    "four constant units, whose nine of equal strength come first in the folder and are of one class",
    "four dead units; none of them is of one class",
    holds=lambda said: (said["dead"].count, said["one_class"].count, said["one_class"].n) == (4, 0, 1),
    broken=breaks("cuescope.instruments.top_units.strongest_of", arbitrary),
    shows=("one_class", "dead"),
)
def constant_units() -> Conclusion:
    first = [0] * 30 + [1] * 30 + [2] * 30
    scattered = [IN_TURN[89 - i] for i in range(90)]
    labels = [*first[:60], *scattered[:30]]
    return asked(net([RED, *[NOTHING] * 4], [0.0, 1.0, 2.0, 3.0, 0.5]), samples(90, [0] * 90, labels))


@planted(
    "top_units",
    "absence",
    "a unit that three images of one class excite, and the others not at all: nine by taking zeros",
    "of one class by three images, not by zeros, which are of another class",
    holds=lambda said: said["purity"].value == 1 and said["one_class"].count == 1,
    broken=breaks("cuescope.instruments.top_units.strongest_of", arbitrary),
    shows=("purity", "one_class"),
)
def three_images() -> Conclusion:
    colors = [1] * 57 + [0] * 3
    return asked(net([RED], [0.0]), samples(60, colors, colors))


@planted(
    "top_units",
    "absence",
    "units for colors that have nothing to do with the labels",
    "not that a unit's images share a class",
    holds=lambda said: "classes" not in said.verdict.names and said["purity"].chance > 0.45,
    broken=breaks("cuescope.methods.strongest.Chance.of", lambda _, sizes: (1 / 3, 0.0)),
)
def other_labels() -> Conclusion:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (90,), generator=generator).tolist()
    return asked(net([RED, GREEN, BLUE], [0.0] * 3), samples(90, IN_TURN, labels))


@planted(
    "top_units",
    "absence",
    "the units of the answer, and images without labels: they share an answer by construction",
    "cannot tell without labels",
    holds=lambda said: said.verdict.names == ("answers",),
    broken=breaks("cuescope.instruments.top_units.TopUnits._verdict", lambda self, last, *_: self.say("nothing")),
    shows=("purity",),
)
def without_labels() -> Conclusion:
    return asked(net([RED, GREEN, BLUE], [0.0] * 3), samples(90, IN_TURN, [None] * 90))


def no_class() -> Conclusion:
    """Nearly all images are of one class, and what excites a unit most is too: as much as by chance."""
    return asked(net([RED, GREEN, BLUE], [0.0] * 3), samples(90, IN_TURN, [0] * 90))


def two_of(said: Conclusion) -> tuple[float, float]:
    return said["purity"].interval or (-1.0, 2.0)


def known(said: Conclusion) -> bool:
    return said["purity"].value is not None


sayable("top_units", "nothing", lambda said: not said.panels, lambda: TopUnits().conclude(TopUnits().empty, ABOUT))
sayable(
    "top_units", "unknown", lambda said: not known(said), lambda: asked(net([RED], [0.0]), samples(2, [0, 0], [0, 1]))
)
sayable("top_units", "answers", known, without_labels)
sayable("top_units", "classes", lambda said: two_of(said)[0] > said["purity"].chance, a_unit_a_class)
sayable(
    "top_units",
    "no_classes",
    lambda said: two_of(said)[0] <= said["purity"].chance and two_of(said)[1] < said["purity"].chance + MARGIN,
    no_class,
)
sayable(
    "top_units",
    "cannot_tell",
    lambda said: known(said) and two_of(said)[0] <= said["purity"].chance <= two_of(said)[1] - MARGIN,
    lambda: asked(net([RED], [0.0]), samples(6, [0] * 6, [0, 1, 0, 1, 2, 0])),
)
sayable("top_units", "dead", lambda said: said["dead"].count > 0, constant_units)
