"""Planted logits for class_subset: right among the classes that there are, wrong among all, and by chance."""

from __future__ import annotations

import numpy as np

from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion
from cuescope.instruments.class_subset import MARGIN, ClassSubset
from truth.table import breaks, planted, sayable

CLASSES = 10
PRESENT = np.array([1, 4, 7])


def of(right: float, n: int = 150, beyond: float = 0.0, seed: int = 0, subset: str = "present") -> Conclusion:
    """Images of three of ten classes, told right by so many among the three; a class of none is preferred beyond."""
    random, labels = np.random.default_rng(seed), PRESENT[np.arange(n) % 3]
    logits = np.zeros((n, CLASSES), np.float32)
    answers = np.where(random.random(n) < right, labels, PRESENT[(np.arange(n) + random.integers(1, 3, n)) % 3])
    logits[np.arange(n), answers] = 2
    logits[:, 9] = 5 * beyond
    tool = ClassSubset(subset=subset)  # type: ignore[arg-type]
    rows = tool.table({"id": [str(i) for i in range(n)], "label": labels, "answers": labels[:, None], "logits": logits})
    space = IMAGENET if subset != "present" else "letters"
    return tool.conclude(rows, About("toy", "toys", tuple("abcdefghij"), space))


@planted(
    "class_subset",
    "truth",
    "prefers a class that no image has, and tells nine of ten apart besides",
    "right on nine of ten among the classes of the images, on none among all",
    holds=lambda said: (
        0.8 < said["accuracy"].value < 0.97 and said["whole"].value == 0 and said["accuracy"].chance == 1 / 3
    ),
    broken=breaks("cuescope.instruments.class_subset.ClassSubset._members", lambda self, known: np.arange(CLASSES)),
    shows=("accuracy", "whole"),
)
def right_among_those() -> Conclusion:
    return of(0.9, beyond=1)


@planted(
    "class_subset",
    "absence",
    "guesses among the classes of the images",
    "no more than by chance, of one in three",
    holds=lambda said: said.verdict.said != "yes",
    broken=breaks("cuescope.core.findings.Measure.above", lambda self, bound: True),
    shows=("accuracy",),
)
def guesses() -> Conclusion:
    return of(1 / 3)


def span(said: Conclusion) -> tuple[float, float]:
    return said["accuracy"].interval or (-1.0, 2.0)


sayable("class_subset", "nothing", lambda said: said["accuracy"].value is None, lambda: of(1, n=0))
sayable("class_subset", "right", lambda said: span(said)[0] > 1 / 3, right_among_those)
sayable(
    "class_subset",
    "wrong",
    lambda said: said["accuracy"].value is not None and span(said)[0] <= 1 / 3 and span(said)[1] < 1 / 3 + MARGIN,
    lambda: of(0.1),
)
sayable(
    "class_subset",
    "unsure",
    lambda said: span(said)[0] <= 1 / 3 and span(said)[1] >= 1 / 3 + MARGIN,
    lambda: of(1 / 3, n=30),
)
