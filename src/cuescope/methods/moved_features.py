"""How far features move when the image does, in distances between two images, whatever their scale and offset.

Features too many to be kept are compared between images by a short sketch of them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core import stats
from cuescope.core.findings import Measure

SIDES = ("low", "high")

LENGTH = 256
"""Numbers of a sketch; fewer features are kept as they are."""


@dataclass(frozen=True, eq=False)
class MovedFeatures:
    """Stored rows of images that were moved step by step.

    Of each image and kind, the columns {kind}_low and {kind}_high are the distances of its features to those of the
    image as it is, and low_own and high_own are sketches of the latter; null where a layer cannot be read. `facts` say
    why it cannot ("low_why"), and which steps there are ("vertical_at").
    """

    rows: pl.DataFrame
    facts: Mapping[str, Any]

    @property
    def nothing(self) -> str:
        return "" if self.rows.height else "no image was seen"

    @cached_property
    def apart(self) -> Mapping[str, NDArray[np.float64]]:
        """Of each side, the mean distance of each image to the others."""
        return {side: distance_to_others(self.rows[f"{side}_own"].to_list()) for side in SIDES}

    def lacking(self, side: str) -> str:
        """Why distances are not known; "" where they are."""
        few = "one image has no other one to be compared with" if self.rows.height < 2 else ""
        same = "" if self.apart[side].any() else "its features are the same for all images"
        return self.nothing or self.facts[f"{side}_why"] or few or same

    def curves(self, kind: str, what: str) -> NDArray[np.float64]:
        """(images, steps) of a kind; no images where there are none."""
        known = self.rows[f"{kind}_{what}"].drop_nulls().to_list()
        return np.array(known, float).reshape(-1, len(self.facts[f"{kind}_at"]))

    def distance(self, side: str, kind: str, steps: Sequence[int], name: str = "", **more: Any) -> Measure:
        """The mean distance after these steps, over that between two images."""
        if lacking := self.lacking(side):
            return Measure(name, None, why=lacking, **more)
        return stats.ratio(name, self.curves(kind, side)[:, steps].mean(1), self.apart[side], "", **more)


def sketch(features: Tensor, length: int = LENGTH) -> Tensor:
    """(N, D) to (N, length) float32 on the CPU, in which squared distances are right on average.

    A count sketch: each feature is added, with a random sign, to a random place (Charikar et al. 2002). The error of a
    squared distance is about sqrt(2 / length) of it, for features of which no few make up the whole.

    >>> features = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0))
    >>> a, b = ((x[0] - x[1]).norm().item() for x in (features, sketch(features)))
    >>> abs(a - b) < 0.15 * a
    True
    """
    features = features.float().cpu()
    if features.shape[1] <= length:
        return features
    place, sign = _places(features.shape[1], length)
    return torch.zeros(len(features), length).index_add_(1, place, features * sign)


@functools.lru_cache(maxsize=4)
def _places(count: int, length: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    place = torch.randint(length, (count,), generator=random)
    return place, torch.randint(2, (count,), generator=random).float() * 2 - 1


def distance_to_others(sketches: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """(n,): the mean distance of each sketch to the others; 0 where all are the same but for rounding, or alone.

    >>> distance_to_others([[0.0], [1.0], [3.0]]).tolist()
    [2.0, 1.5, 2.5]
    """
    known = np.array([s for s in sketches if s is not None], np.float64)
    if len(known) < 2:
        return np.zeros(len(known))
    centered = known - known.mean(0)
    squares = (centered**2).sum(1)
    between = np.sqrt(np.clip(squares[:, None] + squares - 2 * centered @ centered.T, 0, None))
    apart = between.sum(1) / (len(known) - 1)
    return apart if apart.max() > 1e-5 * np.sqrt((known**2).sum(1).max()) else np.zeros(len(known))


def same_answer(answers: Sequence[int]) -> float | None:
    """How often do two different images have the same answer? None for fewer than two.

    >>> same_answer([1, 1, 2]) == 1 / 3
    True
    """
    n = len(answers)
    return sum(k * (k - 1) for k in Counter(answers).values()) / (n * (n - 1)) if n > 1 else None
