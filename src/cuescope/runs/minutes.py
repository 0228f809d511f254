"""How many images can be looked at in so many minutes? The fewest cuts that fit, those of headline questions last."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cuescope.core.intervals import UNITS
from cuescope.core.progress import duration
from cuescope.data.derived import root
from cuescope.instruments.base import Instrument, name_of
from cuescope.runs.estimate import Estimate, Forecast, Work
from cuescope.runs.plan import Plan

STEPS = 30
"""Halvings of the search for the largest share that fits."""


@dataclass(frozen=True)
class Chosen:
    """Numbers of images that were chosen; a run that goes on takes them as they are recorded."""

    key: str
    """A hash of all that was asked: the choice holds for that alone."""
    minutes: float
    seconds: float
    """What the audit was estimated to take with them."""
    images: Mapping[str, int]
    """The field `images` of instruments that were cut."""
    limits: Mapping[str, int]
    """Images of sets that were cut, by role."""
    said: Sequence[str]
    """What was cut and what that costs, or that it cannot fit."""

    def instruments(self, asked: Sequence[Instrument]) -> list[Instrument]:
        """The instruments with the images that were chosen."""
        found = {name_of(tool): tool for tool in asked}
        cut = {name: replace(found[name], images=n) for name, n in self.images.items()}  # type: ignore[call-arg]
        return list((found | cut).values())

    def recorded(self) -> dict[str, Any]:
        return asdict(self) | {"said": list(self.said)}


def key_of(plan: Plan, minutes: float) -> str:
    """A hash of what is asked in so many minutes."""
    told = [minutes, sorted(json.dumps(task.identity, sort_keys=True) for task in plan.all_tasks)]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def earlier(recorded: Any, key: str) -> Chosen | None:
    """The choice that a run's manifest records, where it was made for this."""
    return Chosen(**recorded) if isinstance(recorded, dict) and recorded.get("key") == key else None


def choose(estimate: Estimate, plan: Plan, minutes: float) -> Chosen:
    """The most images that fit into so many minutes, the trial and the report among them.

    First fewer for instruments with a field `images` that answer no headline question, then for those that do and for
    the sets together. Never fewer than give an interval: where that does not fit, it says so.
    """
    size = _Size(estimate, plan)
    room = 60 * minutes - estimate.took
    others, headlines = 1.0, 1.0
    if size.seconds(1, 1) > room:
        others = _largest(lambda share: size.seconds(share, 1) <= room)
        if not others:
            headlines = _largest(lambda share: size.seconds(0, share) <= room)
    seconds = size.seconds(others, headlines)
    said = size.said(others, headlines)
    if seconds > room:
        most = duration(seconds + estimate.took)
        said.insert(0, f"{minutes:g} min are too few: with the fewest images that give intervals it takes {most}")
    return Chosen(
        key_of(plan, minutes), minutes, round(seconds, 1), size.images(others, headlines), size.limits(headlines), said
    )


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest share from 0 to 1 that fits; 0 where none does."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if fits(low) and low > 2.0 ** (1 - STEPS) else 0.0


class _Size:
    """What the tasks of a plan cost with shares of their images."""

    def __init__(self, estimate: Estimate, plan: Plan) -> None:
        self.estimate, self.plan = estimate, plan
        self.bounded = {
            name_of(tool): (tool.images, tool.headline is not None)  # type: ignore[attr-defined]
            for tool in (task.instrument for task in plan.tasks)
            if getattr(tool, "images", None) is not None
        }

    def images(self, others: float, headlines: float) -> dict[str, int]:
        """Images of the instruments that are cut."""
        found = {}
        for name, (images, headline) in self.bounded.items():
            most = min(images, self._most(name))  # More than the set has are no cut.
            if (count := _cut(most, headlines if headline else others)) < most:
                found[name] = count
        return found

    def limits(self, headlines: float) -> dict[str, int]:
        """Images of the sets that are cut, by role."""
        cut = {role: _cut(len(images), headlines) for role, images in self.plan.sets}
        return {role: cut[role] for role, images in self.plan.sets if cut[role] < len(images)}

    def seconds(self, others: float, headlines: float) -> float:
        """How long all of it takes."""
        cut = self.images(others, headlines)
        works, reads, passes = [], defaultdict(list), defaultdict(list)
        for task in self.plan.tasks:
            name, whole = name_of(task.instrument), _cut(len(task.images), headlines)
            images = min(whole, cut.get(name, len(task.wanted)))
            key = task.classifier.name, name
            works.append(Work(key, self.estimate.cost(*key), images, images))
            of = root(task.images)
            reads[of.name].append((images, _cut(len(of), headlines)))
            passes[task.classifier.name, of.name].append((images, _cut(len(of), headlines)))
        shared = sum(self.estimate.decode.get(name, 0.0) * _union(found) for name, found in reads.items())
        shared += sum(self.estimate.clean.get(key, 0.0) * _union(found) for key, found in passes.items())
        return Forecast.of(works, shared, self.estimate.finish).total

    def said(self, others: float, headlines: float) -> list[str]:
        """What is cut, in words, and how much wider intervals become."""
        sizes = {role: (images.name, len(images)) for role, images in self.plan.sets}
        cuts = [(*sizes[role], count) for role, count in self.limits(headlines).items()]
        cuts += [
            (name, min(self.bounded[name][0], self._most(name)), n)
            for name, n in self.images(others, headlines).items()
        ]
        return [
            f"{name} {was:,} -> {count:,} images: intervals about {(was / count) ** 0.5:.1f} times as wide"
            for name, was, count in cuts
        ]

    def _most(self, name: str) -> int:
        return max(len(task.images) for task in self.plan.tasks if name_of(task.instrument) == name)


def _cut(images: int, share: float) -> int:
    """So large a share of the images, and not fewer than give an interval."""
    return min(images, max(UNITS, int(images * share)))


def _union(found: Sequence[tuple[int, int]]) -> int:
    """About how many images are seen by any of several tasks, each of so many of a set of so many."""
    missed = 1.0
    for images, whole in found:
        missed *= 1 - min(images / whole, 1.0)
    return round(max(whole for _, whole in found) * (1 - missed))
