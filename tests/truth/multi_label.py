"""Planted classifiers for multi_label: one that names either object, one that guesses, one that judges itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.multi_label import MARGIN, MultiLabel
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcdefgh"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name)


class Says(torch.nn.Module):
    """Answers with the class that the red value names: the test writes there what is to be said."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return -(pixels[:, 0].mean((1, 2))[:, None] * 255 / 20 - torch.arange(8)).abs()


def conclude(
    says: Callable[[int], int],
    right: Callable[[int], tuple[int, ...]],
    n: int = 160,
    source: str = "ReaL",
    single: Callable[[int], int] = lambda i: i % 8,
) -> Conclusion:
    """The instrument's answer about n images i, what is said of each, its right labels and its single one."""
    classifier, tool = toy(Says(), CLASSES, size=2), MultiLabel()
    pixels = torch.zeros(n, 3, 2, 2, dtype=torch.uint8)
    pixels[:, 0] = 20 * torch.tensor([says(i) for i in range(n)], dtype=torch.uint8)[:, None, None]
    samples = [Sample(f"{i}", pixels[i], single(i), framing="stimulus", labels_from=source) for i in range(n)]
    batch = classifier.see(samples, [single(i) for i in range(n)])
    rows = tool.observe(classifier, replace(batch, all_labels=tuple(right(i) for i in range(n))))
    return tool.conclude(rows, ABOUT)


def two(i: int) -> tuple[int, ...]:
    """The single label and the next class are both right."""
    return i % 8, (i + 1) % 8


@planted(
    "multi_label",
    "truth",
    "names one of two objects, every other time the one that is not the single label",
    "all right, and all 80 errors are none",
    holds=lambda said: (
        said.verdict.names == ("knows", "errors_are_none")
        and said["multi_label"].value == said["no_errors"].value == 1
        and said["no_errors"].n == 80
    ),
    broken=breaks("cuescope.instruments.multi_label.common_by_chance", lambda said, right: 1.0),
    shows=("multi_label", "single_label", "no_errors"),
)
def either_object() -> Conclusion:
    return conclude(lambda i: (i + i // 8 % 2) % 8, two)


@planted(
    "multi_label",
    "absence",
    "guesses among 8 classes of which 4 are right: right on half, and 3 of 7 errors are none",
    "no more than by chance, not 'half right'",
    holds=lambda said: said.verdict.said != "yes" and "errors_are_none" not in said.verdict.names,
    broken=breaks("cuescope.instruments.multi_label.common_by_chance", lambda said, right: 1 / 8),
    shows=("multi_label", "no_errors"),
)
def guesses() -> Conclusion:
    return conclude(lambda i: i // 8 * 5 % 8, lambda i: tuple((i + k) % 8 for k in range(4)), n=1024)


@planted(
    "multi_label",
    "absence",
    "annotates the images itself, and answers by a hash",
    "its agreement with itself says nothing",
    holds=lambda said: said.verdict.names == ("itself",) and said["multi_label"].value == 1,
    broken=breaks("cuescope.instruments.multi_label._itself", lambda source, about: False),
    shows=("multi_label",),
)
def itself() -> Conclusion:
    return conclude(lambda i: i * 7919 % 101 % 8, lambda i: (i * 7919 % 101 % 8,), source="label maps of toy")


@planted(
    "multi_label",
    "truth",
    "of 160 single labels 20 are none of the right ones",
    "12.5 % are disputed, and are listed",
    holds=lambda said: (
        said["disputed"].value == 1 / 8
        and "disputed" in said.verdict.names
        and [len(panel.data["rows"]) for panel in said.panels if panel.kind == "table"] == [20]
    ),
    broken=breaks("cuescope.instruments.multi_label._disputed", lambda rows: rows.head(0)),
    shows=("disputed",),
)
def wrong_labels() -> Conclusion:
    return conclude(lambda i: i % 8, lambda i: (i % 8,), single=lambda i: 1 if i % 8 == 0 else i % 8)


def few() -> Conclusion:
    return conclude(lambda i: (i + i // 4 % 2) % 8, two, n=4)


def above(said: Conclusion, name: str) -> bool:
    measure = said[name]
    return measure.interval is not None and measure.chance is not None and measure.interval[0] > measure.chance


def near(said: Conclusion) -> bool:
    measure = said["multi_label"]
    return measure.interval is not None and measure.interval[1] < (measure.chance or 0) + MARGIN


NAME = "multi_label"
sayable(NAME, "nothing", lambda said: said["multi_label"].value is None, lambda: conclude(lambda i: 0, lambda i: ()))
sayable(NAME, "itself", lambda said: any("this classifier itself" in caveat for caveat in said.caveats), itself)
sayable(NAME, "knows", lambda said: above(said, "multi_label"), either_object)
sayable(NAME, "guesses", lambda said: not above(said, "multi_label") and near(said), guesses)
sayable(NAME, "cannot_tell", lambda said: not above(said, "multi_label") and not near(said), few)
sayable(NAME, "errors_are_none", lambda said: above(said, "no_errors"), either_object)
sayable(NAME, "errors_open", lambda said: said["no_errors"].n > 0 and not above(said, "no_errors"), guesses)
sayable(NAME, "disputed", lambda said: said["disputed"].count > 0, wrong_labels)
