"""A bank of filters as a table: what each filter is, and how it responds to images."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from cuescope.core import stats
from cuescope.core.findings import Measure

_FACTS = {**dict.fromkeys(("rms", "low", "high", "frequency"), pl.Float32), "repeats": pl.Int32}
"""What is known of each filter by its weights alone; `repeats` is the filter that it repeats, itself where none."""


def bank_of(facts: Mapping[str, Any], rows: pl.DataFrame, negligible: float, extreme: float) -> pl.DataFrame:
    """A row a filter: what it is, its responses to the images, and what that makes it.

    `facts` has the lists rms, low, high (shares of energy), frequency and repeats, and whether the layer is
    "nonlinear"; `rows` has the columns peak and folded, a value a filter in each row. A filter is weak where its RMS is
    at most the share `negligible` of the strongest one's, inactive where it was never above 0 behind a nonlinearity,
    slow or fast where `extreme` of its energy lies in the lowest or the highest frequencies.

    >>> facts = {"rms": [1, 0], "low": [0.9, 0], "high": [0, 0], "frequency": [0, 0], "repeats": [0, 1]}
    >>> rows = pl.DataFrame({"peak": [[1.0, 0.0]], "folded": [[0.0, 0.0]]})
    >>> bank_of({**facts, "nonlinear": True}, rows, 0.001, 0.75).select("weak", "inactive", "slow").row(1)
    (True, True, False)
    """
    number = pl.int_ranges(pl.col("peak").list.len(), dtype=pl.UInt32)
    responses = rows.select("peak", "folded", filter=number).explode("filter", "peak", "folded")
    both = responses.group_by("filter", maintain_order=True).agg(pl.col("peak").max(), pl.col("folded").mean())
    bank = pl.DataFrame({name: facts[name] for name in _FACTS}, schema=_FACTS).with_row_index("filter")
    weak = pl.col("rms") <= negligible * pl.col("rms").max()
    return bank.join(both, on="filter", how="left", maintain_order="left").with_columns(
        weak=weak,
        inactive=(pl.col("peak") <= 0) & pl.lit(facts["nonlinear"]),
        repeated=pl.col("repeats") != pl.col("filter"),
        slow=~weak & (pl.col("low") >= extreme),
        fast=~weak & (pl.col("high") >= extreme),
    )


def has_pattern(facts: Mapping[str, Any]) -> bool:
    """Whether the kernel is large enough to hold one."""
    return max(facts["kernel"][1:]) > 1


def measures_of(facts: Mapping[str, Any], bank: pl.DataFrame, rows: pl.DataFrame) -> Iterable[Measure]:
    """Of a bank as `bank_of` gives it, and the rows of `aliasing_1` and `aliasing_2`: what there is to say of it."""
    why = "" if rows.height else "no image was seen"
    off = why or ("" if facts["nonlinear"] else "no nonlinearity follows before the next layer")
    for name, title, which, reason in (
        ("silent", "filters that never respond to any image seen", bank["inactive"], off),
        ("weak", "filters of negligible weights", bank["weak"], why),
    ):
        if reason:
            yield Measure(f"{name}_filters", None, "share", why=reason, title=title, headline=name == "silent")
        else:
            k, n, all_of_them = int(which.sum()), bank.height, "these are all the filters there are, and no sample"
            yield Measure(f"{name}_filters", k / n, "share", n, None, all_of_them, title, k, headline=name == "silent")
    flat = why or ("" if has_pattern(facts) else "a kernel of a single pixel holds no pattern")
    for name, title, which in (
        ("saturated", "filters of extreme frequency", bank["slow"] | bank["fast"]),
        ("low", "filters of the lowest frequencies alone", bank["slow"]),
        ("high", "filters of the highest frequencies alone", bank["fast"]),
        ("repeated", "filters that repeat another", bank["repeated"]),
    ):
        more = {"title": title, "headline": name == "saturated", "chance": facts["random"][name]}
        yield stats.share(f"{name}_filters", [] if flat else which, why=flat, units="filters", **more)
    middle = bank.filter(~pl.col("weak")).select(1 - pl.col("low") - pl.col("high")).to_series()
    empty, title = "all its weights are 0", "energy of the filters in the middle frequencies"
    more = {"title": title, "chance": facts["random"]["middle"], "units": "filters"}
    yield stats.mean("mid_coverage", [] if flat else middle, why=flat or empty, **more)
    energy = np.sort(bank["rms"].cast(pl.Float64).to_numpy() ** 2)[::-1]
    title = "energy of the weights in the strongest tenth of the filters"
    if why or not energy.any():
        yield Measure("strongest_tenth", None, "share", title=title, why=why or empty)
    else:
        # Of all the filters there are, not of a sample of them: no interval.
        inside = np.clip(len(energy) / 10 - np.arange(len(energy)), 0, 1) * energy
        value = float(inside.sum() / energy.sum())
        yield Measure("strongest_tenth", value, "share", len(energy), title=title, chance=0.1)
    lacking = "its responses do not vary"
    coarser = lacking if facts["second"] else "no later convolution works on a coarser map"
    for number, reason, steps in ((1, lacking, facts["stride"]), (2, coarser, facts["steps"] or (1, 1))):
        values, title = rows[f"aliasing_{number}"].drop_nulls(), f"what folds back in layer {number} (aliasing)"
        # What a stride lets through is a matter of the architecture, so no direction is given; chance is white noise.
        more = {"headline": number == 1, "per_image": f"aliasing_{number}", "chance": 1 - 1 / (steps[0] * steps[1])}
        yield stats.mean(f"aliasing_layer{number}", values, why=why or reason, title=title, **more)
