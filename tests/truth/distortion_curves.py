"""Planted classifiers for distortion_curves: fragile, robust, blind, and the same one with other logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Batch, Condition, Sample
from cuescope.instruments.base import Rows
from cuescope.instruments.distortion_curves import DistortionCurves
from cuescope.instruments.severity_curves import MARGIN, area_weights
from toys import COLORS, MeanColor, toy
from truth.table import breaks, planted, sayable

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)
TWO = About("x/first", "toys", COLORS.names), About("x/second", "toys", COLORS.names)


class Scaled(torch.nn.Module):
    """Names the color, with logits of another size."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return MeanColor()(pixels) / 8


def shown(right: Callable[[int, int], bool], n: int, kinds: Iterable[str], levels: int) -> list[Sample]:
    """Images i at levels k of each of these kinds, green where the classifier is to be right, which the label is."""
    colors = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    colors[0, 2], colors[1, 1], samples = 200, 200, []
    for kind in kinds:
        for i in range(n):
            for k in range(levels):
                where = Condition(kind, 90.0 * k, str(i))
                samples.append(
                    Sample(f"{kind}/{k}/{i}", colors[int(right(i, k))], 1, condition=where, framing="stimulus")
                )
    return samples


def rows(
    right: Callable[[int, int], bool],
    n: int = 40,
    kinds: Iterable[str] = ("rotation",),
    levels: int = 2,
    module: torch.nn.Module | None = None,
) -> Rows:
    samples, classifier = shown(right, n, kinds, levels), toy(module or MeanColor(), size=4)
    batch = classifier.see(samples, [1] * len(samples))
    return DistortionCurves().observe(classifier, batch)


def alone(found: Rows) -> Conclusion:
    return DistortionCurves().conclude(found, ABOUT)


@planted(
    "distortion_curves",
    "truth",
    "names what stands upright, and of turned images one in four",
    "loses 75 points",
    holds=lambda said: said.verdict.names == ("falls",) and abs(said["lost"].value - 0.75) < 1e-9,
    broken=breaks("cuescope.instruments.severity_curves.loss_weights", area_weights),
    shows=("area", "lost"),
)
def fragile() -> Conclusion:
    return alone(rows(lambda i, k: k == 0 or i % 4 == 0))


@planted(
    "distortion_curves",
    "absence",
    "guesses among three colors, upright or turned",
    "no more than chance, not 'it loses nothing'",
    holds=lambda said: said.verdict.names == ("chance",) and said.verdict.said == "no",
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: measure.value >= bound),
    shows=("area", "lost"),
)
def guesses() -> Conclusion:
    return alone(rows(lambda i, k: i % 3 == 0, n=450))


@planted(
    "distortion_curves",
    "truth",
    "names 80 % of the images, turned or not",
    "loses nothing",
    holds=lambda said: said.verdict.names == ("holds",) and said["lost"].value == 0,
    broken=breaks("cuescope.instruments.severity_curves.loss_weights", area_weights),
    shows=("area", "lost"),
)
def robust() -> Conclusion:
    return alone(rows(lambda i, k: i % 5 > 0, n=80))


@planted(
    "distortion_curves",
    "absence",
    "names what was stored at high quality, where the levels of the user's own distortion are qualities",
    "the levels may be the other way round, not 'it loses nothing'",
    holds=lambda said: said.verdict.names == ("rises",) and said.verdict.said == "cannot tell",
    broken=breaks("cuescope.core.findings.Measure.within", lambda measure, low, high: True),
    shows=("area", "lost"),
)
def levels_the_other_way() -> Conclusion:
    return alone(rows(lambda i, k: k == 1 or i % 4 == 0, kinds=("quality",)))


@planted(
    "distortion_curves",
    "absence",
    "names half the images whatever is done to them in fifteen ways",
    "no way is told apart from another",
    holds=lambda said: "apart" not in said.verdict.names,
    broken=breaks("cuescope.core.draws.bootstrap_of_means", lambda values, of: (0.0, 0.05)),
    shows=("area", "area_way_0", "area_way_1"),
)
def fifteen_alike() -> Conclusion:
    random = np.random.default_rng(2)
    return alone(rows(lambda i, k: random.random() < 0.5, 60, [f"way-{j}" for j in range(15)], 1))


@planted(
    "distortion_curves",
    "absence",
    "the first names all images upright and 80 % turned, the second 70 % always",
    "the first is right more often, the second loses less",
    holds=lambda said: (
        said.verdict.names == ("more_accurate", "loses_less") and "levels second loses 20.0" in said.sentence
    ),
    broken=breaks("cuescope.instruments.severity_pairs.loss_weights", lambda levels: -area_weights(levels)),
    shows=("difference", "difference_lost"),
)
def accurate_is_not_robust() -> Conclusion:
    first, second = rows(lambda i, k: k == 0 or i % 5 > 0, 60), rows(lambda i, k: i % 10 > 2, 60)
    return DistortionCurves().compare(first, second, TWO)


observe = DistortionCurves.observe


def surely_right(tool: DistortionCurves, classifier: Classifier, batch: Batch) -> Rows:
    """Right only with a probability above .6, which depends on the size of logits."""
    sure = (batch.logits.softmax(1).amax(1) > 0.6).numpy()
    return observe(tool, classifier, batch).with_columns(right=pl.col("right") & pl.Series(sure))


@planted(
    "distortion_curves",
    "absence",
    "one network twice, the second time with its logits divided by 8",
    "both alike: the areas do not depend on the temperature",
    holds=lambda said: said.verdict.names == ("as_accurate", "loses_alike") and said["mce"].value == 1,
    broken=breaks("cuescope.instruments.distortion_curves.DistortionCurves.observe", surely_right),
    shows=("difference", "mce"),
)
def other_temperature() -> Conclusion:
    pair = [rows(lambda i, k: i % 4 > k, n=80, module=module) for module in (MeanColor(), Scaled())]
    return DistortionCurves().compare(pair[0], pair[1], TWO)


@planted(
    "distortion_curves",
    "truth",
    "the first makes twice the errors of the second",
    "a mean corruption error of 2",
    holds=lambda said: abs(said["mce"].value - 2) < 1e-9,
    broken=breaks("cuescope.instruments.severity_pairs.by_image", lambda *_, every=False: np.full(40, 0.5)),
    shows=("mce",),
)
def twice_the_errors() -> Conclusion:
    return DistortionCurves().compare(rows(lambda i, k: i % 2 > 0), rows(lambda i, k: i % 4 > 0), TWO)


def few() -> Conclusion:
    return alone(rows(lambda i, k: k == 0 or i < 4, 6))


def one_level() -> Conclusion:
    return alone(rows(lambda i, k: True, 20, levels=1))


def two_ways() -> Conclusion:
    upside, wrong = rows(lambda i, k: True, 20, ["way-0"]), rows(lambda i, k: i == 0, 20, ["way-1"])
    return alone(upside.vstack(wrong))


def open_pair() -> Conclusion:
    return DistortionCurves().compare(rows(lambda i, k: i < 5, 9), rows(lambda i, k: i > 4 - k, 9), TWO)


def nothing_shared() -> Conclusion:
    return DistortionCurves().compare(rows(lambda i, k: True).clear(), rows(lambda i, k: True), TWO)


def with_people() -> Conclusion:
    return alone(rows(lambda i, k: True, 20).with_columns(right_category=True, category=pl.lit("cat")))


CHANCE = 1 / 3


def knows(said: Conclusion) -> bool:
    return (said["area"].interval or (0.0, 1.0))[0] > said["area"].chance


def loss(said: Conclusion, name: str = "lost") -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def holds(said: Conclusion) -> bool:
    low, high = loss(said)
    return -MARGIN <= low <= 0 and high <= MARGIN


NAME = "distortion_curves"
sayable(NAME, "nothing", lambda said: said["area"].value is None, lambda: alone(DistortionCurves().empty))
sayable(NAME, "falls", lambda said: knows(said) and loss(said)[0] > 0, fragile)
sayable(NAME, "holds", lambda said: knows(said) and holds(said), robust)
sayable(NAME, "rises", lambda said: knows(said) and loss(said)[1] < 0 and not holds(said), levels_the_other_way)
sayable(
    NAME,
    "chance",
    lambda said: not knows(said) and said["area"].interval[1] < said["area"].chance + MARGIN,
    guesses,
)
sayable(NAME, "one_level", lambda said: said["lost"].value is None, one_level)
sayable(
    NAME,
    "cannot_tell",
    lambda said: (
        said["lost"].value is not None and not (knows(said) and (loss(said)[0] > 0 or loss(said)[1] < 0 or holds(said)))
    ),
    few,
)
sayable(NAME, "people", lambda said: said["area"].published[0].who == "people", with_people)
sayable(
    NAME,
    "apart",
    lambda said: (
        max(m.interval[0] for m in said.measures if m.name.startswith("area_"))
        > min(m.interval[1] for m in said.measures if m.name.startswith("area_"))
    ),
    two_ways,
)
sayable(NAME, "not_compared", lambda said: said["difference"].value is None, nothing_shared)
sayable(NAME, "more_accurate", lambda said: np.prod(said["difference"].interval) > 0, accurate_is_not_robust)
sayable(NAME, "as_accurate", lambda said: max(map(abs, said["difference"].interval)) <= MARGIN, other_temperature)
sayable(NAME, "accuracy_open", lambda said: np.prod(said["difference"].interval or (-1, 1)) <= 0, open_pair)
sayable(NAME, "loses_less", lambda said: np.prod(said["difference_lost"].interval) > 0, accurate_is_not_robust)
sayable(NAME, "loses_alike", lambda said: max(map(abs, said["difference_lost"].interval)) <= MARGIN, other_temperature)
sayable(
    NAME,
    "loss_open",
    lambda said: max(map(abs, loss(said, "difference_lost"))) > MARGIN,
    open_pair,
)
