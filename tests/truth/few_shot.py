"""Planted features for few_shot: a number that is the class, with so much noise, beside one of shuffled weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cuescope.core.findings import About, Conclusion
from cuescope.instruments.few_shot import MARGIN, FewShot
from cuescope.methods.few_shot import told as honest
from truth.layer_probe import NOISE, PACE, span
from truth.layer_probe import told as over_chance
from truth.table import breaks, planted, sayable


def of(noise: float, shuffled: float | None = None, n: int = 120, **how: Any) -> Conclusion:
    """Features of one number each, the class, 0 or 1, and so much noise; with control or without."""
    random, labels = np.random.default_rng(1), np.arange(n) % 2
    numbers = [labels + s * random.normal(size=n) for s in (noise, *([] if shuffled is None else [shuffled]))]
    tool = FewShot(**{"counts": (1, 5, 10), "control": shuffled is not None, **how})
    names = ("features", "shuffled")
    found = {name: values[:, None] for name, values in zip(names, numbers, strict=False)}
    rows = tool.table({"id": [str(i) for i in range(n)], "label": labels, **found})
    facts = {"layers": [{"name": "last", "depth": 1.0, "features": 1, "kept": 1}], "pace": PACE}
    return tool.conclude(rows, About("toy", "toys", ("a", "b"), facts=facts))


@planted(
    "few_shot",
    "truth",
    "its features are the class; with shuffled weights they are noise",
    "one image of each class is enough, and tells more than ten do with shuffled weights",
    holds=lambda said: (
        said["at_1"].value == said["accuracy"].value == 1
        and said.verdict.names == ("told", "ahead")
        and "1 tell more than 10" in said.sentence
    ),
    broken=breaks(
        "cuescope.instruments.few_shot.told",
        lambda x, classes, *how: honest(
            x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))], classes, *how
        ),
    ),
    shows=("at_1", "accuracy", "shuffled_10"),
)
def one_is_enough() -> Conclusion:
    return of(0, NOISE)


@planted(
    "few_shot",
    "absence",
    "its features are noise",
    "nothing is told, and chance lies in the interval",
    holds=lambda said: (
        "told" not in said.verdict.names and said["accuracy"].interval[0] < 0.5 < said["accuracy"].interval[1]
    ),
    broken=breaks(
        "cuescope.instruments.few_shot.told", lambda x, classes, count, draws, seed: np.ones((draws, len(x)))
    ),
    shows=("at_1", "accuracy"),
)
def noise_alone() -> Conclusion:
    return of(NOISE, n=600)


def ahead(condition: Any) -> Any:
    return over_chance(lambda said: condition(*span(said, "ahead_10")))


CHANCE = 0.5
sayable("few_shot", "nothing", lambda said: said["accuracy"].value is None, lambda: of(0, n=2))
sayable("few_shot", "told", over_chance(lambda _: True), one_is_enough)
sayable(
    "few_shot",
    "untold",
    lambda said: span(said, "accuracy")[0] <= CHANCE and span(said, "accuracy")[1] < CHANCE + MARGIN,
    lambda: of(NOISE, n=8000, counts=(1,), draws=200),
)
sayable(
    "few_shot",
    "unsure",
    lambda said: span(said, "accuracy")[0] <= CHANCE <= span(said, "accuracy")[1] - MARGIN,
    noise_alone,
)
sayable("few_shot", "ahead", ahead(lambda low, _: low > 0), one_is_enough)
sayable("few_shot", "not_ahead", ahead(lambda low, high: low <= 0 and high < MARGIN), lambda: of(0, 0, 600))
sayable("few_shot", "ahead_unsure", ahead(lambda low, high: low <= 0 and high >= MARGIN), lambda: of(0.5, 0.5))
