"""Planted features for label_issues: 30 labels flipped on purpose, classes that overlap, and noise."""

from __future__ import annotations

import numpy as np

from cuescope.core.findings import About, Conclusion
from cuescope.instruments.label_issues import MARGIN, LabelIssues
from cuescope.methods.confident_learning import learn
from truth.table import breaks, planted, sayable

NAMES = ("a", "b", "c", "d")
CORNERS = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
FLIPPED = 30


def of(apart: float, n: int = 600, flipped: int = 0, seed: int = 0) -> Conclusion:
    """Features of clouds about the corners of a square, so far apart; so many labels, the first ones, are others."""
    random, classes = np.random.default_rng(seed), np.arange(n) % 4
    features = apart * CORNERS[classes] + random.normal(size=(n, 2))
    labels = np.where(np.arange(n) < flipped, (classes + random.integers(1, 4, n)) % 4, classes)
    tool = LabelIssues()
    rows = tool.table({"id": [f"{i:04d}" for i in range(n)], "label": labels, "features": features})
    facts = {"layers": [{"name": "last", "depth": 1.0, "features": 2, "kept": 2}]}
    return tool.conclude(rows, About("toy", "toys", NAMES, facts=facts))


def found(said: Conclusion) -> set[int]:
    """The images whose labels are doubted."""
    each = said.each
    return {int(name) for name, k in zip(each["id"], each["suspected"], strict=True) if k is not None}


@planted(
    "label_issues",
    "truth",
    "knows the classes; 30 labels of 600 are another one",
    "all 30 are found, and of what is found nine tenths are wrong (recall 1, precision .9 or more)",
    holds=lambda said: (
        said.verdict.names == ("more",)
        and len(found(said) & set(range(FLIPPED))) == FLIPPED
        and FLIPPED / len(found(said)) >= 0.9
    ),
    broken=breaks("cuescope.methods.flagged_labels.learn", lambda p, labels: learn(p, (labels + 1) % 4)),
    shows=("flagged", "expected", "noise"),
)
def thirty_flipped() -> Conclusion:
    return of(3.5, flipped=FLIPPED)


@planted(
    "label_issues",
    "absence",
    "knows classes that overlap; no label is wrong",
    "no wrong labels are reported",
    holds=lambda said: said.verdict.said != "yes" and said["flagged"].value > 0.02,
    broken=breaks("cuescope.methods.flagged_labels.expected", lambda p: np.zeros(40)),
    shows=("flagged", "expected"),
)
def overlap() -> Conclusion:
    return of(1.4)


def told(said: Conclusion) -> bool:
    return (said["agreement"].interval or (0, 1))[0] > (said["agreement"].chance or 1)


def beyond(said: Conclusion, name: str) -> bool:
    return (said[name].interval or (-1.0, 1.0))[0] > 0


def inside(said: Conclusion) -> bool:
    low, high = said["excess"].interval or (-1.0, 1.0)
    return low >= -MARGIN and high <= MARGIN


EVERY = ("excess", "excess_half", "excess_double")
sayable("label_issues", "nothing", lambda said: said["flagged"].value is None, lambda: of(3, n=8))
sayable("label_issues", "chance", lambda said: not told(said), lambda: of(0, n=80))
sayable("label_issues", "more", lambda said: told(said) and all(beyond(said, name) for name in EVERY), thirty_flipped)
sayable(
    "label_issues",
    "if_sure",
    lambda said: told(said) and beyond(said, "excess") and not all(beyond(said, name) for name in EVERY),
    lambda: of(1.4, n=400, flipped=30),
)
sayable(
    "label_issues",
    "expected",
    lambda said: told(said) and not beyond(said, "excess") and inside(said),
    lambda: of(3.5, n=1200),
)
sayable(
    "label_issues",
    "cannot_tell",
    lambda said: told(said) and not beyond(said, "excess") and not inside(said),
    overlap,
)
