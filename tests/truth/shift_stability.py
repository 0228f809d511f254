"""Planted classifiers for shift_stability: one that hangs on a pixel, one no shift moves, one that sees nothing."""

from __future__ import annotations

from torch import nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.ops.shift import ShiftedCrop
from cuescope.instruments.shift_stability import MARGIN, ShiftStability
from toys import COLORS, Constant, MeanColor, OnePixel, boards_or_colors, toy
from truth.table import breaks, planted, sayable


def conclude(module: nn.Module, count: int, kind: str, pairs: int = 1, protocols: tuple = ("crop",)) -> Conclusion:
    tool, classifier = ShiftStability(protocols=protocols, pairs=pairs), toy(module)
    images = boards_or_colors(count, kind, 2)
    seen = classifier.see(images, [image.label or 0 for image in images])
    rows = tool.observe(classifier, seen) if count else tool.empty
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name))


@planted(
    "shift_stability",
    "truth",
    "answers by the middle pixel of fine checkerboards",
    "a pixel of shift changes its answer",
    holds=lambda said: said.verdict.names == ("changes",) and said["top1_change"].value > 0.2,
    broken=breaks(
        "cuescope.instruments.shift_stability.ShiftedCrop", lambda low, high, _, *more: ShiftedCrop(low, high, 0, *more)
    ),
    shows=("top1_change",),
)
def hangs_on_a_pixel() -> Conclusion:
    return conclude(OnePixel(20.0), 40, "boards")


@planted(
    "shift_stability",
    "truth",
    "goes by the mean color, which no shift changes, and is right",
    "stable: on less than 2 % of images",
    holds=lambda said: said.verdict.names == ("stable",),
    broken=breaks("cuescope.core.stats.wilson", lambda k, n: (0.0, 1.0)),
    shows=("top1_change", "accuracy_crop"),
)
def goes_by_color() -> Conclusion:
    return conclude(MeanColor(), 240, "colors")


@planted(
    "shift_stability",
    "absence",
    "always gives the same answer",
    "not 'stable': it may see nothing",
    holds=lambda said: said.verdict.names == ("blind",),
    broken=breaks("cuescope.instruments.shift_stability.agreement_by_chance", lambda labels, answers: 0.0),
    shows=("top1_change", "accuracy_crop"),
)
def sees_nothing() -> Conclusion:
    return conclude(Constant(), 240, "colors")


@planted(
    "shift_stability",
    "absence",
    "12 stable images with 8 pairs each",
    "cannot tell from 12 images: an upper limit well above 0",
    holds=lambda said: said.verdict.said == "cannot tell" and said["top1_change"].interval[1] > 0.1,
    broken=breaks("cuescope.core.stats.mean_share", lambda name, values, **more: _zero(name, values, **more)),
    shows=("top1_change",),
)
def twelve_stable_images() -> Conclusion:
    return conclude(MeanColor(), 12, "colors", pairs=8)


@planted(
    "shift_stability",
    "absence",
    "the same network with logits / 8",
    "better by no measure, and the same verdict",
    holds=lambda said: no_better(said, hangs_on_a_pixel()),
    broken=breaks(
        "cuescope.instruments.shift_stability._more",
        lambda title, why, per_image="", headline=False: {
            **{"title": title, "why": why, "per_image": per_image, "headline": headline},
            **({"better": "lower"} if "MAC" in title else {}),
        },
    ),
    shows=("top1_change", "mac"),
)
def another_temperature() -> Conclusion:
    return conclude(OnePixel(20.0 / 8), 40, "boards")


def no_better(said: Conclusion, other: Conclusion) -> bool:
    ranked = [m.name for m in said.measures if m.better]
    same = all(said[name].value == other[name].value for name in ranked)
    return same and said["mac"].value < other["mac"].value and said.verdict.names == other.verdict.names


def _zero(name: str, values: object, **more: object) -> object:
    from cuescope.core.findings import Measure

    return Measure(name, 0.0, "share", 12, (0.0, 0.0), **more)  # type: ignore[arg-type]


def bounds(said: Conclusion) -> tuple[float, float]:
    return said["top1_change"].interval or (0.0, 1.0)


def knows(said: Conclusion) -> bool:
    """Whether it is right more often than by chance."""
    accuracy = said["accuracy_crop"]
    return accuracy.interval is not None and accuracy.chance is not None and accuracy.interval[0] > accuracy.chance


def few() -> Conclusion:
    return conclude(MeanColor(), 9, "colors", protocols=("crop", "source"))


sayable(
    "shift_stability",
    "nothing",
    lambda said: said["top1_change"].value is None,
    lambda: conclude(OnePixel(20.0), 0, ""),
)
sayable("shift_stability", "changes", lambda said: bounds(said)[0] > MARGIN, hangs_on_a_pixel)
sayable("shift_stability", "stable", lambda said: bounds(said)[1] < MARGIN and knows(said), goes_by_color)
sayable("shift_stability", "blind", lambda said: bounds(said)[1] < MARGIN and not knows(said), sees_nothing)
sayable("shift_stability", "cannot_tell", lambda said: bounds(said)[0] <= MARGIN <= bounds(said)[1], few)
sayable("shift_stability", "others", lambda said: said["top1_change_source"].value is not None, few)
