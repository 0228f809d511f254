"""The curves of two classifiers side by side: differences, corruption errors, and what may be said of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuescope.core import stats
from cuescope.core.findings import Measure, Panel, dot
from cuescope.core.verdicts import Sentence
from cuescope.core.wording import counted
from cuescope.instruments.severity_curves import (
    MARGIN,
    Array,
    Curve,
    area_weights,
    bounded,
    by_image,
    loss_weights,
    points,
    several_of,
)

OF_TWO = {
    "not_compared": Sentence("cannot tell", "no scored image is shared", "Their curves cannot be compared: {why}."),
    "more_accurate": Sentence(
        "yes",
        "the interval of the difference of the areas does not hold 0",
        "On distorted images {better} is right more often than {worse}, by {points} points.",
    ),
    "as_accurate": Sentence(
        "no",
        "the whole interval of the difference of the areas lies within MARGIN of 0",
        "On distorted images both are right alike, within {margin:.0f} points: {points} for {first}.",
    ),
    "accuracy_open": Sentence(
        "cannot tell",
        "the interval of the difference of the areas holds 0 and reaches beyond MARGIN, or there is none",
        "Which of them is right more often on distorted images cannot be told from {images}: {points} points for "
        "{first}.",
    ),
    "loses_less": Sentence(
        "yes",
        "the interval of the difference of what is lost leaves out 0, both areas lie above chance, no loss below 0",
        "Against the mildest levels {better} loses {points} points less than {worse}.",
    ),
    "loses_alike": Sentence(
        "no",
        "that interval lies within MARGIN of 0, both areas lie above chance, and neither loss below 0",
        "Both lose as much as the images get harder, within {margin:.0f} points.",
    ),
    "loss_open": Sentence(
        "cannot tell",
        "neither of the two",
        "Which of them loses less as images get harder cannot be told.",
    ),
}
"""Sentences about two classifiers."""

_AREA = "area under the curves, first less second"


def nothing_shared() -> Measure:
    """The difference where there is none."""
    return Measure("difference", None, "difference", title=_AREA, why="no scored image is shared")


def compared(
    first: Sequence[Curve], second: Sequence[Curve], names: tuple[str, str]
) -> tuple[tuple[Measure, ...], Panel]:
    """All measures of two classifiers' curves of the same images and levels, and a panel of the areas' differences.

    The first two measures are the difference of the areas, and that of what is lost.
    """
    both = list(zip(first, second, strict=True))
    each = [difference(f"difference_{a.key}", [a], [b], f"{a.title}, first less second") for a, b in both]
    rows = [dot(a.title, m.value, m.interval, m.n) for (a, _), m in zip(both, each, strict=True)]
    caption, data = f"First and second: {' and '.join(names)}.", {"unit": "difference", "rows": rows}
    panel = Panel("difference", "dots", "Area of the first less that of the second", caption, data)
    measures = (
        difference("difference", first, second, _AREA),
        difference_lost("difference_lost", first, second, "accuracy lost, first less second"),
        corruption_error("mce", first, second, "mean corruption error, first by second"),
        *each,
        *(corruption_error(f"ce_{a.key}", [a], [b], f"{a.title}, errors of first by second") for a, b in both),
    )
    return measures, panel


def relative_to(reference: str) -> str:
    """What must be known of the corruption errors."""
    return (
        f"Corruption errors are relative to those of {reference} on these images. Published ones of ImageNet-C are "
        "relative to an AlexNet's on 50,000 images: for these, make AlexNet the second."
    )


def sayings_of_two(
    area: Measure, loss: Measure, knows: bool, names: tuple[str, str]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Which two of `OF_TWO` may be said, each with its values. `knows`: the areas of both lie above
    chance, and neither is right more often at the harder levels.
    """
    margin = 100 * MARGIN
    if area.above(0) or area.below(0):
        better, worse = names if area.above(0) else names[::-1]
        found = ("more_accurate", {"better": better, "worse": worse, "points": points(area, absolute=True)})
    elif area.within(-MARGIN, MARGIN):
        found = ("as_accurate", {"margin": margin, "points": points(area), "first": names[0]})
    else:
        found = ("accuracy_open", {"images": counted(area.n, "image"), "points": points(area), "first": names[0]})
    if knows and (loss.above(0) or loss.below(0)):
        better, worse = names if loss.below(0) else names[::-1]
        return [found, ("loses_less", {"better": better, "worse": worse, "points": points(loss, absolute=True)})]
    alike = knows and loss.within(-MARGIN, MARGIN)
    return [found, ("loses_alike", {"margin": margin}) if alike else ("loss_open", {})]


def difference(name: str, first: Sequence[Curve], second: Sequence[Curve], title: str) -> Measure:
    """The mean area of the first curves less that of the second, of the same images and levels, paired by image."""
    gap = by_image(first, area_weights) - by_image(second, area_weights)
    return bounded(stats.mean(name, gap, "difference", title=title), -1.0)


def difference_lost(name: str, first: Sequence[Curve], second: Sequence[Curve], title: str) -> Measure:
    """What the first loses against the mildest level, less what the second does, paired by image."""
    first, second = several_of(first), several_of(second)
    if not first:
        return Measure(name, None, "difference", title=title, why="no distortion has several levels")
    gap = by_image(first, loss_weights) - by_image(second, loss_weights)
    return bounded(stats.mean(name, gap, "difference", title=title), -2.0)


def corruption_error(name: str, first: Sequence[Curve], second: Sequence[Curve], title: str) -> Measure:
    """The errors of the first summed over the levels, by those of the second: the mean over the distortions.

    Hendrycks and Dietterich 2019, section 4.1, with the second in the place of AlexNet. 1: as many errors as it makes.
    """

    def wrong(curve: Curve) -> Array:
        return 1 - by_image([curve], area_weights, every=len(first) > 1)

    errors = [(wrong(a), wrong(b)) for a, b in zip(first, second, strict=True)]
    if not all(b.mean() > 0 for _, b in errors):
        return Measure(name, None, "", title=title, why="the second makes no error on one of the distortions")
    ratios = [(a.mean() / b.mean(), a, b) for a, b in errors]
    # Each image's part in the mean of the ratios, to first order; their mean is that mean.
    values = np.mean([ratio + (a - ratio * b) / b.mean() for ratio, a, b in ratios], 0)
    return stats.mean(name, values, "", title=title)
