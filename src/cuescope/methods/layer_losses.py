"""What becomes of the answers when each layer in turn is left out: arithmetic of stored answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.findings import Measure
from cuescope.core.intervals import holm, sign_test


@dataclass(frozen=True, eq=False)
class LayerLosses:
    """What became of the images: of the labeled ones whether the answer is right, of all whether it stays.

    Without any label, the network's own answers take the place of labels.
    """

    names: Sequence[str]
    """Of the layers that were left out, in turn."""
    intact: NDArray[np.float64]
    """(n,): whether the whole network is right; all 1 without labels."""
    without: NDArray[np.float64]
    """(n, layers): the same without each layer."""
    kept: NDArray[np.float64]
    """(images, layers): whether the answer stays, of all images."""
    labeled: bool
    chance: float | None
    """What the whole network's answers would get if the labels were dealt out at random; None without images."""

    @classmethod
    def of(cls, rows: pl.DataFrame, names: Sequence[str]) -> LayerLosses:
        """Of rows with the columns id, label (may be null), predicted and without, a list of answers.

        >>> rows = pl.DataFrame({"id": ["a", "b"], "label": [0, 1], "predicted": [0, 1], "without": [[0], [0]]})
        >>> losses = LayerLosses.of(rows, ["conv"])
        >>> losses.falls.ravel().tolist(), losses.chance
        ([0.0, 1.0], 0.5)
        """
        rows = rows.sort("id")
        predicted = rows["predicted"].to_numpy()
        without = np.array(rows["without"].to_list(), int).reshape(rows.height, len(names))
        kept = (without == predicted[:, None]).astype(float)
        known = rows["label"].is_not_null().to_numpy()
        labeled = bool(known.any())
        target = rows["label"].fill_null(0).to_numpy()[known] if labeled else predicted
        if labeled:
            predicted, without = predicted[known], without[known]
        intact, right = (predicted == target).astype(float), (without == target[:, None]).astype(float)
        return cls(names, intact, right, kept, labeled, agreement_by_chance(target.tolist(), predicted.tolist()))

    @property
    def falls(self) -> NDArray[np.float64]:
        """(n, layers): 1 where an image is lost without the layer, -1 where it is won."""
        return self.intact[:, None] - self.without

    @cached_property
    def whole(self) -> Measure:
        """How often the whole network is right, beside chance."""
        title = "accuracy of the whole network"
        return stats.share("accuracy", self.intact, title=title, chance=self.chance)

    @property
    def above_chance(self) -> bool:
        """Whether the whole network is surely right more often than its favorite answers are by chance."""
        return self.whole.above(self.chance)

    @cached_property
    def each(self) -> tuple[Measure, ...]:
        """Of each layer by how much the accuracy falls without it."""
        return tuple(
            stats.difference(name, self.intact, right, title=name)
            for name, right in zip(self.names, self.without.T, strict=True)
        )

    @cached_property
    def lost(self) -> list[bool]:
        """Whether without a layer surely more images are lost than won: exact sign tests, corrected for all (Holm)."""
        p = holm([sign_test(int((fall > 0).sum()), int((fall != 0).sum())) for fall in self.falls.T])
        return [rarely <= 0.05 and fall.above(0) for rarely, fall in zip(p, self.each, strict=True)]

    def extreme(self, which: str) -> Measure:
        """The "largest" or the "smallest" fall; its layer is picked on one half of the images, and met on the other."""
        title = f"{which} fall of {'accuracy' if self.labeled else 'the answers kept'} without one layer"
        half = np.arange(len(self.intact)) % 2
        if len(half) < 2:
            why = "its layer is picked on other images than it is measured on, so that takes two"
            return Measure(f"{which}_fall", None, "difference", why=why if len(half) else stats.NOTHING, title=title)
        without = self.intact.copy()
        for mine in (0, 1):
            others = self.falls[half != mine].mean(0)
            layer = int(others.argmax() if which == "largest" else others.argmin())
            without[half == mine] = self.without[half == mine, layer]
        return stats.difference(f"{which}_fall", self.intact, without, title=title)
