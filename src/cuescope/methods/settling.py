"""When do units become what they stay? Correlations over images with themselves at the last checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import draws, stats
from cuescope.core.findings import Measure

MOST = 300
"""Resamples of images at a time."""


@dataclass(frozen=True, eq=False)
class Settling:
    """How strongly the images excite some units of a layer at each checkpoint: (units, checkpoints, images).

    A unit has settled from the first checkpoint on at which its correlation over the images with itself at the last
    one is never again below `mark`. Units that are the same for all images in the end are left out.
    """

    values: NDArray[np.float64]
    mark: float

    @classmethod
    def of(cls, rows: pl.DataFrame, mark: float) -> "Settling":
        """Of rows of one layer with the columns id, step, channel and value, one for each image, step and channel."""
        shape = [rows[key].n_unique() for key in ("channel", "step", "id")]
        values = rows.sort("channel", "step", "id")["value"].to_numpy().astype(float).reshape(shape)
        varies = np.ptp(values[:, -1], axis=1) > 1e-9 * np.abs(values).max(axis=(1, 2), initial=0)
        # Less their means, which lie far from 0 for some: the moments below are then exact enough.
        return cls((values - values.mean(2, keepdims=True))[varies], mark)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def images(self) -> int:
        return self.values.shape[2]

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """(images, 5 * units * checkpoints): each value, that at the last checkpoint, their squares and product.

        That at the last checkpoint is the unit's own in the first half, and another unit's in the second.
        """
        parts = []
        for last in (self.values[:, -1:], np.roll(self.values, 1, 0)[:, -1:]):
            last = np.broadcast_to(last, self.values.shape)
            parts.append(np.stack([self.values, last, self.values**2, last**2, self.values * last]))
        return np.stack(parts).reshape(-1, self.images).T

    def correlations(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2, units, checkpoints) of means of `moments` (..., k): with itself at the last one, with another."""
        x, y, xx, yy, xy = np.moveaxis(means.reshape(*means.shape[:-1], 2, 5, *self.values.shape[:2]), -3, 0)
        spread = np.sqrt(np.clip(xx - x * x, 0, None) * np.clip(yy - y * y, 0, None))
        return np.divide(xy - x * y, spread, out=np.zeros_like(spread), where=spread > 1e-12)

    def shares(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., checkpoints) of means of `moments`: which share of the units has settled by each checkpoint."""
        return self._stay(self.correlations(means)[..., 0, :, :]).mean(-2)

    def _stay(self, curve: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a curve (..., checkpoints) is never again below the mark."""
        return np.logical_and.accumulate((curve >= self.mark)[..., ::-1], -1)[..., ::-1]

    def before_last(self, name: str, **more: Any) -> Measure:
        """Which share of the units has settled before the last checkpoint?

        Its interval is over images, which all units share, and over units, which are some of the layer's; it holds that
        of as many units by themselves, of which all may agree in every resample (Wilson). The chance is
        how often a unit agrees as much with another one at the last checkpoint: units that all see the same agree too.
        """
        own, other = self._stay(self.correlations(self.moments.mean(0)))[..., -2]
        units, random = len(self), np.random.default_rng(0)

        def resampled(means: NDArray[np.float64]) -> NDArray[np.float64]:
            settled = np.concatenate(
                [
                    self._stay(self.correlations(part)[:, 0])[..., -2]
                    for part in np.array_split(means, -(-len(means) // MOST))
                ]
            )
            drawn = random.multinomial(units, np.full(units, 1 / units), len(means))
            return (settled * drawn).sum(1) / units

        interval, why = None, f"an interval needs at least 5 images and 5 units, not {self.images} and {units}"
        if min(self.images, units) >= 5:
            # As clusters of one image each, which are drawn by their weights: many columns are resampled at once.
            both = draws.bootstrap_of_means(self.moments, resampled, clusters=[range(self.images)])
            alone = stats.wilson(int(own.sum()), units)
            interval, why = both and (min(both[0], alone[0]), max(both[1], alone[1])), ""
        return Measure(name, float(own.mean()), "share", units, interval, why, chance=float(other.mean()), **more)

    def curve(self) -> Mapping[str, list[float]]:
        """The data of a line: by each checkpoint, counted from 1, the share of the units that has settled."""
        shares = self.shares(self.moments.mean(0))
        return {"x": list(range(1, len(shares) + 1)), "y": shares.tolist()}
