"""What fine-tuned detectors come to: precision with intervals, of each class too, and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuescope.core.called import apart
from cuescope.core.findings import Measure, Published, dot
from cuescope.core.intervals import holm
from cuescope.core.progress import Say
from cuescope.methods import mean_precision as mp

if TYPE_CHECKING:
    from cuescope.training.detect import Detected

SURE = 0.05
TITLES = {
    "map50": "mAP at an IoU of .5",
    "map": "mAP over IoUs of .5 to .95",
    "map75": "mAP at an IoU of .75",
    "map50_eleven": "VOC07's mAP, of 11 points",
    "map50_area": "VOC12's mAP, of the whole area",
}


class Measured(NamedTuple):
    """Of one detector its measures, and a row of a dot plot for each class that has objects."""

    measures: tuple[Measure, ...]
    classes: tuple[dict[str, Any], ...]


class Difference(NamedTuple):
    """By how much one model's precision is above another's, over the same images."""

    a: str
    b: str
    measure: Measure
    p: float
    """Corrected for all pairs (Holm)."""

    @property
    def sure(self) -> bool:
        return self.p < SURE


def measured(
    made: Mapping[str, Detected],
    names: tuple[str, ...],
    masks: bool,
    ranks: str,
    published: Mapping[str, tuple[Published, ...]],
    say: Say,
) -> tuple[dict[str, Measured], tuple[Difference, ...]]:
    """Measures of each model, and their differences in the measure `ranks`, over the images that all could read.

    `published` are values by measure, those of masks under mask_NAME.
    """
    common = set.intersection(*({one[0] for one in of.tried} for of in made.values()))
    weights = mp.drawn_weights(len(common))
    numbers: dict[str, dict[str, tuple[float, NDArray[np.float64]]]] = {}
    found: dict[str, Measured] = {}
    called = dict(zip(made, apart(list(made)), strict=True))
    for model, of in made.items():
        say(f"the intervals of {model}")
        tried = [one for one in of.tried if one[0] in common]
        numbers[model], classes = _numbers([one[1] for one in tried], [one[2] for one in tried], names, masks, weights)
        measures = []
        for name, (value, drawn) in numbers[model].items():
            title = TITLES[name] + (", of masks" if masks else "")
            beside = published.get(f"mask_{name}" if masks else name, ())
            more: dict[str, Any] = {"title": title, "better": "higher", "published": beside}
            more["headline"] = name in ("map50", "map", ranks)
            span, why = mp.interval(value, drawn, len(tried))
            measures.append(Measure(name, value, "share", len(tried), span, why, **more))
        found[model] = Measured(tuple(measures), tuple(classes))
    pairs = []
    for a, b in combinations(made, 2):
        (one, first), (two, second) = numbers[a][ranks], numbers[b][ranks]
        drawn = first - second
        span, why = mp.interval(one - two, drawn, len(common))
        p = min(1.0, 2 * min(((drawn <= 0).sum() + 1), ((drawn >= 0).sum() + 1)) / (len(drawn) + 1))
        p = max(p, 2.0 ** (1 - len(common)))  # Of so few images all may lie on one side by chance.
        title = f"{TITLES[ranks]}: {called[a]} less {called[b]}"
        pairs.append((a, b, Measure(ranks, one - two, "difference", len(common), span, why, title=title), float(p)))
    corrected = holm([pair[3] for pair in pairs])
    differences = tuple(Difference(a, b, m, p) for (a, b, m, _), p in zip(pairs, corrected, strict=True))
    return found, differences


def _numbers(
    truth: Sequence[mp.Truth],
    found: Sequence[mp.Found],
    names: tuple[str, ...],
    masks: bool,
    weights: NDArray[np.float64],
) -> tuple[dict[str, tuple[float, NDArray[np.float64]]], list[dict[str, Any]]]:
    """Each measure's value and its values over the images drawn anew; and of each class its row of a dot plot."""
    kind: mp.Kind = "segm" if masks else "bbox"
    values = mp.coco_precision(truth, found, kind)
    matches = mp.coco_matches(truth, found, len(names), kind)
    drawn = mp.precisions(matches, weights)
    numbers: dict[str, tuple[float, NDArray[np.float64]]] = {}
    for name, part in (("map50", slice(0, 1)), ("map", slice(None)), ("map75", slice(5, 6))):
        numbers[name] = values[name], mp.mean_of(drawn[:, part])
    if not masks:
        of_voc = mp.voc_matches(truth, found, len(names))
        rules: tuple[tuple[str, mp.Rule], ...] = (("map50_eleven", "eleven"), ("map50_area", "area"))
        for name, rule in rules:
            value = float(mp.mean_of(mp.precisions(of_voc, None, rule)))
            numbers[name] = value, mp.mean_of(mp.precisions(of_voc, weights, rule))
    each = mp.precisions(matches)[0]
    rows = []
    for k, name in enumerate(names):
        if not np.isnan(each[k]):
            objects = int(matches[k].wanted.sum())
            rows.append(dot(name, float(each[k]), mp.interval(float(each[k]), drawn[:, 0, k], len(truth))[0], objects))
    return numbers, rows
