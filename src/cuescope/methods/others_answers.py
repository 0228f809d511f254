"""How others answered to the images that a classifier was asked about: their kappas, accuracies and shape biases."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from cuescope.core import stats
from cuescope.core.error_consistency import Array, Asked, Kappas, interval_of, mean_over
from cuescope.core.findings import Measure, Panel, dot
from cuescope.methods.cue_conflict import INSTANCES, labels_of

PEOPLE = "people"


def means(values: Array) -> Array:
    """(n, s) to the mean of what is known of each row, NaN where nothing is."""
    n = np.isfinite(values).sum(1)
    return np.divide(np.nansum(values, 1), n, out=np.full(len(values), np.nan), where=n > 0)


def shape_biases(asked: Asked) -> dict[str, Measure]:
    """The shape bias of people together and of each network, on these images, by the rule of shape_bias."""
    long = asked.rows.filter("conflict").explode("who", "human", "answer")
    long = long.with_columns(
        pl.when("human").then(pl.lit(PEOPLE)).otherwise("who").alias("who"),
        *((pl.col("answer") == pl.col(cue)).fill_null(False).alias(f"for_{cue}") for cue in ("shape", "texture")),
    )
    sums = [pl.col(f"for_{cue}").sum() for cue in ("shape", "texture")]
    images = long.group_by("who", "id", *INSTANCES, maintain_order=True).agg(sums)
    found = {}
    for (who,), part in images.partition_by("who", as_dict=True, maintain_order=True).items():
        both = part["for_shape"] + part["for_texture"]
        more: dict[str, Any] = {
            "clusters": labels_of(part),
            "title": "shape bias of people",
            "why": "no answer was for either cue",
        }
        found[str(who)] = stats.ratio("shape_bias_people", part["for_shape"], both, **more)
    return found


def panels(asked: Asked, kappas: Kappas) -> Iterable[Panel]:
    """Whose errors are like its own, how often each names the shape, and who goes by shape."""
    human, own = asked.human, kappas.table[:, 0]
    networks = [(asked.who[k], own[:, k], kappas.people[0, k]) for k in np.flatnonzero(~human)]
    people = [("people", mean_over(own[:, human]), kappas.people[0, human])] if human.any() else []
    rows = [dot(who, _finite(values[0]), interval_of(values[1:])) for who, values, _ in people + networks]
    caption = "Error consistency (kappa); 0 is chance."
    if people:
        yield _accuracies(asked)
        caption += " Bands: from the person who agrees least with them to the one who agrees most."
    marks = [_band("their own kappa with people", [group for *_, group in people + networks])] if people else []
    data = {"unit": "kappa", "rows": rows, "marks": marks}
    yield Panel("with_whom", "dots", "Whose errors are like its own", caption, data)
    numbers = zip(asked.who, means(asked.others.T), means(asked.same.T), own[0], strict=True)
    cells = [[who, *(value and round(value, 3) for value in map(_finite, each))] for who, *each in numbers]
    caption = "Shares of the images, and kappa with the classifier."
    data = {"columns": ["who", "shape named", "same answer", "kappa"], "rows": cells}
    yield Panel("everybody", "table", "Every person and network", caption, data)
    yield from _biases(asked)


def _biases(asked: Asked) -> Iterable[Panel]:
    found = shape_biases(asked)
    known = {who: found[who] for who in (PEOPLE, *asked.who) if who in found}
    if known:
        # They are others', so they have the marks of others.
        spans = [m.interval or (None, None) for m in known.values()]
        marks = {"who": "on the same images", "values": [m.value for m in known.values()]}
        marks |= {"low": [low for low, _ in spans], "high": [high for _, high in spans]}
        rows = [dot(who, None) for who in known]
        data = {"unit": "share", "rows": rows, "marks": [marks], "ends": ["all texture", "all shape"]}
        yield Panel("biases", "dots", "Who else goes by shape", "With 95% intervals; people together.", data)


def _accuracies(asked: Asked) -> Panel:
    """How often the shape is named, by condition, with people's spread."""
    conflict = asked.rows["conflict"].to_numpy().astype(bool)
    parts = ("all images", conflict | True), ("cues in conflict", conflict), ("cues agree", ~conflict)
    rows, people = [], []
    for label, part in parts:
        if n := int(part.sum()):
            labels = [series.to_numpy()[part] for series in labels_of(asked.rows)]
            named = stats.share("named", asked.right[part], clusters=labels)
            rows.append(dot(label, named.value, named.interval, n))
            people.append(means(asked.others[part][:, asked.human].T))
    caption = "Bands: from the least to the most successful person."
    data = {"unit": "share", "rows": rows, "marks": [_band("people", people)]}
    return Panel("accuracy", "dots", "How often the shape is named", caption, data)


def _band(who: str, groups: Iterable[Array]) -> dict[str, Any]:
    """Marks of a dot plot: of each group the mean, and a band from its least value to its largest."""
    found = [[float(value) for value in group.ravel() if np.isfinite(value)] for group in groups]
    values, low, high = ([float(f(group)) if group else None for group in found] for f in (np.mean, min, max))
    return {"who": who, "values": values, "low": low, "high": high}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
