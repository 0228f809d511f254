"""What confident learning flags at one temperature, beside what it would flag where no label is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cuescope.core import draws, stats
from cuescope.core.findings import Measure
from cuescope.methods.confident_learning import Array, Learned, Probabilities, expected, learn, resampled_noise


class Flagged(NamedTuple):
    """Probabilities, what confident learning says of the labels, and the flagged shares of labels that are drawn."""

    p: Probabilities
    learned: Learned
    by_chance: Array

    @classmethod
    def of(cls, p: Probabilities, labels: Array) -> Flagged:
        return cls(p, learn(p, labels), expected(p))

    def measures(self, temperature: str = "") -> Iterator[Measure]:
        """The share that is flagged, what is expected without any error, and the difference.

        `temperature` says which one, as in "double"; "" is the calibrated one. The ranges of the last two are those of
        95 % of the draws: an observed share beyond them is none that overlapping classes make.
        """
        ending, at = (f"_{temperature}", f", {temperature} the temperature") if temperature else ("", "")
        flagged, headline = self.learned.flagged >= 0, not temperature
        share = stats.share(f"flagged{ending}", flagged, title=f"labels that are flagged{at}", headline=headline)
        yield share
        value, (low, high) = float(self.by_chance.mean()), draws.interval_of(self.by_chance) or (0.0, 1.0)
        title = f"flagged without any error{at} (range of 95 % of draws)"
        yield Measure(f"expected{ending}", value, "share", len(flagged), (low, high), title=title, headline=headline)
        title, seen = f"flagged beyond that{at} (range of 95 % of draws)", share.value or 0.0
        span = (seen - high, seen - low)
        yield Measure(f"excess{ending}", seen - value, "difference", len(flagged), span, title=title)

    def noise(self, labels: Array) -> Measure:
        """The estimated label noise of confident learning, which overlapping classes raise."""
        title = "label noise by confident learning, overlap of classes included"
        span = draws.interval_of(resampled_noise(self.p, labels))
        return Measure("noise", self.learned.noise, "share", len(labels), span, title=title)
