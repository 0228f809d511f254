"""Planted classifiers for shift_consistency: one that no crop moves, one that tells places, one that sees nothing."""

from __future__ import annotations

from torch import nn

from cuescope.core.findings import About, Conclusion
from cuescope.instruments.shift_consistency import MARGIN, ShiftConsistency
from toys import COLORS, Constant, MeanColor, OnePixel, boards_or_colors, toy
from truth.table import breaks, planted, sayable


def conclude(module: nn.Module, count: int, kind: str, pairs: int = 1) -> Conclusion:
    tool, classifier, images = ShiftConsistency(pairs=pairs), toy(module), boards_or_colors(count, kind)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images, [image.label or 0 for image in images]))
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name, observer.facts))


@planted(
    "shift_consistency",
    "truth",
    "goes by the mean color, which is the same in every crop, and is right",
    "consistent: in more than 95 % of cases",
    holds=lambda said: said.verdict.names == ("consistent",),
    broken=breaks("cuescope.core.stats.wilson", lambda k, n: (0.0, 1.0)),
    shows=("consistency", "accuracy"),
)
def goes_by_color() -> Conclusion:
    return conclude(MeanColor(), 120, "colors")


@planted(
    "shift_consistency",
    "truth",
    "answers by the middle pixel of fine checkerboards",
    "not consistent: two crops differ in about half of all cases",
    holds=lambda said: said.verdict.names == ("not",) and 0.3 < said["consistency"].value < 0.7,
    broken=breaks("cuescope.instruments.shift_consistency.ShiftConsistency.offsets", lambda self, *_: [0] * 4),
    shows=("consistency",),
)
def tells_places() -> Conclusion:
    return conclude(OnePixel(20.0), 80, "boards")


@planted(
    "shift_consistency",
    "absence",
    "always gives the same answer",
    "not 'consistent': it may see nothing",
    holds=lambda said: said.verdict.names == ("blind",),
    broken=breaks("cuescope.instruments.shift_consistency.agreement_by_chance", lambda labels, answers: 0.0),
    shows=("consistency", "accuracy"),
)
def sees_nothing() -> Conclusion:
    return conclude(Constant(), 120, "colors")


@planted(
    "shift_consistency",
    "absence",
    "12 images with five pairs of crops each, all alike",
    "cannot tell from 12 images",
    holds=lambda said: said.verdict.said == "cannot tell" and said["consistency"].interval[0] < 0.9,
    broken=breaks("cuescope.core.intervals._score", lambda *_: (1.0, 1.0)),
    shows=("consistency",),
)
def few_images() -> Conclusion:
    return conclude(MeanColor(), 12, "colors", pairs=5)


def bounds(said: Conclusion) -> tuple[float, float]:
    return said["consistency"].interval or (0.0, 1.0)


def knows(said: Conclusion) -> bool:
    """Whether it is right more often than by chance."""
    accuracy = said["accuracy"]
    return accuracy.interval is not None and accuracy.chance is not None and accuracy.interval[0] > accuracy.chance


ENOUGH = 1 - MARGIN
sayable(
    "shift_consistency",
    "nothing",
    lambda said: said["consistency"].value is None,
    lambda: conclude(OnePixel(20.0), 0, ""),
)
sayable("shift_consistency", "consistent", lambda said: bounds(said)[0] > ENOUGH and knows(said), goes_by_color)
sayable("shift_consistency", "blind", lambda said: bounds(said)[0] > ENOUGH and not knows(said), sees_nothing)
sayable("shift_consistency", "not", lambda said: bounds(said)[1] < ENOUGH, tells_places)
sayable("shift_consistency", "cannot_tell", lambda said: bounds(said)[0] <= ENOUGH <= bounds(said)[1], few_images)
