"""How often would answers be right if they had nothing to do with the images?"""

from collections.abc import Sequence

import numpy as np
import polars as pl


def agreement_by_chance(labels: Sequence[int] | pl.Series, answers: Sequence[int] | pl.Series) -> float | None:
    """The share of right answers expected of the same answers dealt out to the images at random; None without any.

    It is what kappa calls the expected agreement. A classifier that always gives the same answer is right as often as
    that, whatever share of the images has this label.

    >>> agreement_by_chance([0, 0, 0, 1], [0, 0, 0, 0]), agreement_by_chance([0, 1, 0, 1], [0, 1, 1, 0])
    (0.75, 0.5)
    """
    a, b = np.asarray(labels), np.asarray(answers)
    if not len(a):
        return None
    size = int(max(a.max(), b.max())) + 1
    return float(np.bincount(a, minlength=size) @ np.bincount(b, minlength=size)) / len(a) ** 2
