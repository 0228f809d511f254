"""A bank of filters as a table: what each filter is, and how it responds to images."""

from collections.abc import Mapping
from typing import Any

import polars as pl

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
