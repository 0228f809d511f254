"""How well a cue is read at each of some layers, and at which of them best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuescope.core import draws, stats
from cuescope.core.findings import Measure
from cuescope.methods.crossed_readout import Crossed, answers, permuted

CUES = ("shape", "texture")
PERMUTATIONS = 50
Features = NDArray[Any]
"""Of the images of a design, (n, d)."""


@dataclass(frozen=True, eq=False)
class CueReadout:
    """Whether the category of one cue is told, by a linear read-out at each layer."""

    cue: str
    design: Crossed
    hits: NDArray[np.bool_]
    """(n, layers)."""
    control: NDArray[np.bool_]
    """The same of a control, (n, layers), or (n, 0)."""
    chance: float
    """With permuted labels, or by knowing the other cue: no image shows one category twice."""
    highest: float
    """What the best layer reaches with permuted labels in 95 % of all cases, at most."""

    @classmethod
    def of(
        cls,
        cue: str,
        features: Sequence[Features],
        control: Sequence[Features],
        design: Crossed,
        seed: int = 0,
    ) -> CueReadout:
        """From the features of each layer, and of the same layers of a control (or none)."""
        true, source = design.of(cue)
        labels = np.concatenate([true[:, None], permuted(true, source, PERMUTATIONS, seed)], 1)
        told = np.stack([answers(x, design, labels) == labels for x in features], 1)
        by_chance = told[:, :, 1:].mean(0)
        chance = max(float(by_chance.mean()), 1 / (len(np.unique(true)) - 1))
        beside = [(answers(x, design, labels[:, :1]) == labels[:, :1])[:, 0] for x in control]
        highest = float(np.quantile(by_chance.max(0), 0.95))
        hits = told[:, :, 0], np.array(beside, bool).reshape(len(beside), len(true)).T
        return cls(cue, design, *hits, chance, highest)

    @cached_property
    def at(self) -> tuple[Measure, ...]:
        """Of each layer how often it is told."""
        return self._each(self.hits)

    @cached_property
    def at_control(self) -> tuple[Measure, ...]:
        """The same of the control; none without one."""
        return self._each(self.control)

    def _each(self, hits: NDArray[np.bool_]) -> tuple[Measure, ...]:
        more = {"chance": self.chance, "clusters": self.design.clusters}
        return tuple(stats.share(self.cue, mine, **more) for mine in hits.T)

    @property
    def best(self) -> int:
        """The layer where it is told most often, the first of equals."""
        return int(self.hits.mean(0).argmax())

    @property
    def told(self) -> list[bool]:
        """Whether a layer surely tells it: the interval lies above chance, and the value is rare without any cue."""
        return [m.above(self.chance) and (m.value or 0.0) > self.highest for m in self.at]

    @property
    def readable(self) -> bool:
        return self.told[self.best]

    def absent(self, margin: float) -> bool:
        """Whether every layer surely tells it less than a margin more often than by chance."""
        return all(measure.below(self.chance + margin) for measure in self.at)

    @cached_property
    def learned(self) -> Measure | None:
        """How much more often than of the control, at the best layer; None without one."""
        if not self.control.shape[1]:
            return None
        title = f"{self.cue} read there more often than with shuffled weights"
        pair = self.hits[:, self.best], self.control[:, self.best]
        return stats.difference(f"{self.cue}_learned", *pair, title=title, clusters=self.design.clusters)

    @property
    def headlines(self) -> tuple[Measure, ...]:
        title = f"{self.cue} read from its best layer"
        best = replace(self.at[self.best], title=title, headline=True)
        return (best, self.learned) if self.learned else (best,)


def depths_of(shape: CueReadout, texture: CueReadout, layers: Sequence[Mapping[str, Any]]) -> list[Measure]:
    """At which depth each cue is read best, and how much deeper shape is; each resample has its own best layers."""
    hits = np.concatenate([shape.hits, texture.hits], 1).astype(float)
    places = np.array([layer["depth"] for layer in layers])

    def depth(means: NDArray[Any]) -> NDArray[Any]:
        """(..., 2): of shape, and of texture."""
        return places[means.reshape(*means.shape[:-1], 2, len(places)).argmax(-1)]

    ways = {"shape_depth": lambda m: depth(m)[..., 0], "texture_depth": lambda m: depth(m)[..., 1]}
    ways["deeper"] = lambda m: depth(m)[..., 0] - depth(m)[..., 1]
    titles = [f"depth at which {cue} is read best" for cue in CUES] + ["depth of shape less that of texture"]
    found = []
    for (name, of), title in zip(ways.items(), titles, strict=True):
        unread = [one.cue for one in (shape, texture) if not one.readable and name in (f"{one.cue}_depth", "deeper")]
        if unread:
            found.append(Measure(name, None, why=f"no layer surely tells {' and '.join(unread)}", title=title))
            continue
        interval = draws.bootstrap_of_means(hits, of, clusters=shape.design.clusters)
        why = "" if interval else "too few images, objects or texture images for an interval"
        value, headline = float(of(hits.mean(0))), name == "deeper"
        found.append(Measure(name, value, "", len(hits), interval, why, title, headline=headline))
    return found
