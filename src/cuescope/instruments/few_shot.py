"""How many images of each class do its features need?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import log2
from typing import Any

import numpy as np
import polars as pl

from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.published.caltech import Dataset, curves, known_at
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.instruments.base import Rows
from cuescope.instruments.featured import Controlled
from cuescope.methods.few_shot import LIMIT, Right, accuracy, told, usable
from cuescope.methods.pace import against, costs
from cuescope.methods.probing import Labeled

MARGIN = 0.02
"""Accuracies that surely differ by less than this are the same."""


@dataclass(frozen=True)
class FewShot(Controlled, version=1, order=47, needs={"features", "label"}):
    """How much do the features tell of classes of which few images were seen?

    From the last layer before the answer, averaged over the map, multinomial logistic regression learns so many images
    of each class and tells others, at most 50 of a class, in several draws; the penalty is chosen by a fifth of the
    images to learn from. The protocol of Zeiler and Fergus's figure 9, whose classes and draws were others; the same
    network with its weights shuffled stands beside it.

    >>> FewShot(counts=(1, 5, 10)).draws
    10
    """

    counts: tuple[int, ...] = (1, 2, 5, 6, 10, 15, 30, 60)
    """Images of each class to learn from; those that leave none of some class to be told are left out."""
    draws: int = 10
    """How often images to learn from are drawn; two at least are needed to say how much that matters."""
    least_images: int = 2
    """Images that a class must have; the others are left out. The smallest class that stays ends the curve."""
    layer: str = ""
    """Which layer; by default the last before the answer."""
    beside: Dataset = "none"
    """caltech101, caltech256: where the images are these, what was published stands beside."""

    question = "How many images of each class do its features need?"
    reference = "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, figure 9"
    concluded = {"right": pl.Float64}
    sentences = {
        "nothing": Sentence("cannot tell", "no two classes can be learned", "Nothing can be told: {why}."),
        "told": Sentence(
            "yes",
            "at the most images a class the whole interval of the accuracy lies above chance",
            "From {fewest} of each class its features tell {first:.1%} of images that it has not seen, from {most} "
            "{value:.1%} ({chance:.1%} by chance).",
            clause="tells {value:.0%} of images from {most} of each class",
        ),
        "untold": Sentence(
            "no",
            "that interval lies less than MARGIN above chance",
            "Its features do not tell these classes: {value:.1%} right from {most} of each, {chance:.1%} by chance.",
        ),
        "unsure": Sentence(
            "cannot tell",
            "that interval is neither",
            "Whether its features tell these classes cannot be said: {value:.1%} right from {most} of each, "
            "{chance:.1%} by chance.",
        ),
        "ahead": Sentence(
            "yes",
            "told, and from so many images a class upwards the interval of the difference to shuffled weights with the "
            "most images lies above 0",
            "{few} tell more than {most} do with shuffled weights ({control:.1%}).",
        ),
        "not_ahead": Sentence(
            "no",
            "told, and with the most images of either that interval lies below MARGIN",
            "With shuffled weights {most} tell as much ({control:.1%}).",
        ),
        "ahead_unsure": Sentence(
            "cannot tell",
            "told, and that interval is neither",
            "With shuffled weights {most} tell {control:.1%}, perhaps as much.",
        ),
    }

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1 or list(self.counts) != sorted(set(self.counts)):
            raise ValueError("counts must be numbers of images from 1, in increasing order")
        if self.draws < 1 or self.least_images < 2:
            raise ValueError("draws must be at least 1, least_images at least 2")
        super().__post_init__()

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = Labeled.of(rows["label"].to_list(), self.least_images)
        counts = [] if labeled.why else usable(labeled.classes, self.counts)
        if not counts:
            why = labeled.why or f"{self.counts[0]} of the smallest class leave none to be told"
            empty = (Measure("accuracy", None, "share", why=why, title="images told right", headline=True),)
            return Conclusion(empty, verdict=self.say("nothing", why=why))
        right: dict[str, dict[int, Right]] = {}
        for key in self.large:
            for x in self.standard(rows, about, labeled.images, key):
                right[key] = {n: told(x, labeled.classes, n, self.draws, self.seed) for n in counts}
        found = {m.name: m for m in self._measures(right, labeled)}
        found |= {m.name: m for m in costs(about.facts["pace"], len(labeled.images))}
        asked = np.count_nonzero(~np.isnan(right["features"][counts[-1]]), 0)
        hits = np.nansum(right["features"][counts[-1]], 0)
        shares = [float(h / a) if a else None for h, a in zip(hits, asked, strict=True)]
        each = {"id": rows["id"].gather(labeled.images), "right": shares}
        panels = (*_panels(found, counts, self.beside), against(about.facts["pace"], [found["accuracy"]]))
        lost = labeled.left_out(rows["label"].to_list(), about.classes, self.least_images)
        caveats = (*self._caveats(labeled, counts, about), *lost)
        return Conclusion(tuple(found.values()), panels, self._verdict(found, counts), caveats, each)

    def _measures(self, right: Mapping[str, dict[int, Right]], labeled: Labeled) -> Iterator[Measure]:
        classes, own = labeled.classes, right["features"]
        counts, chance = list(own), 1 / len(labeled.labels)
        more: dict[str, Any] = {"chance": chance, "better": "higher"}
        title = f"told right from {counted(counts[-1], 'image')} a class"
        yield accuracy(
            "accuracy",
            own[counts[-1]],
            classes,
            title=title,
            headline=True,
            per_image="right",
            **self._known(counts[-1]),
            **more,
        )
        for n in counts[:-1]:
            named = {"title": f"told right from {counted(n, 'image')} a class", "headline": n == counts[0]}
            yield accuracy(f"at_{n}", own[n], classes, **named, **self._known(n), **more)
        if control := right.get("shuffled"):
            for n in counts:
                title = f"the same from {n} with shuffled weights"
                yield accuracy(f"shuffled_{n}", control[n], classes, title=title, chance=chance)
            for n in counts:
                title = f"from {n} a class beyond shuffled weights from {counts[-1]}"
                values, unit = own[n] - control[counts[-1]], {"unit": "difference"}
                yield accuracy(f"ahead_{n}", values, classes, title=title, better="higher", **unit)

    def _known(self, count: int) -> dict[str, Any]:
        return {"published": known_at(self.beside, count)}

    def _verdict(self, found: Mapping[str, Measure], counts: Sequence[int]) -> Verdict:
        last, most = found["accuracy"], counted(counts[-1], "image")
        chance, value = last.chance or 0.0, last.value
        if not last.above(chance):
            name = "untold" if last.below(chance + MARGIN) else "unsure"
            return self.say(name, value=value, chance=chance, most=most)
        first = found.get(f"at_{counts[0]}", last).value
        fewest = counted(counts[0], "image")
        said = [self.say("told", fewest=fewest, first=first, most=counts[-1], value=value, chance=chance)]
        if control := found.get(f"shuffled_{counts[-1]}"):
            sure = list(takewhile(lambda n: found[f"ahead_{n}"].above(0), reversed(counts)))
            how = {"most": counts[-1], "control": control.value}
            if sure:
                said.append(self.say("ahead", few=sure[-1], **how))
            else:
                level = found[f"ahead_{counts[-1]}"].below(MARGIN)
                said.append(self.say("not_ahead" if level else "ahead_unsure", **how))
        return sum(said, UNSAID)

    def _caveats(self, labeled: Labeled, counts: Sequence[int], about: About) -> Iterator[str]:
        yield (
            f"{self.draws} draws; of a class at most {LIMIT} images are told in each, and classes count alike. "
            "Intervals hold the spread of images and of draws; classifiers are compared on the same draws, by image."
        )
        yield "Features are averaged over the map and standardized over all images, without labels."
        sizes = np.bincount(labeled.classes)
        if len(counts) < len(self.counts):
            name = about.classes[labeled.labels[int(sizes.argmin())]]
            yield f"The smallest class, {name}, has {sizes.min()} images: so the curve ends at {counts[-1]}."


def _panels(found: Mapping[str, Measure], counts: Sequence[int], beside: Dataset) -> Iterator[Panel]:
    own = [found.get(f"at_{n}", found["accuracy"]) for n in counts]
    shown = {"as it is": own}
    if f"shuffled_{counts[0]}" in found:
        shown["shuffled weights"] = [found[f"shuffled_{n}"] for n in counts]
    x, series, table = [log2(n) for n in counts], [], {"images a class": list(counts)}
    for name, at in shown.items():
        low, high = zip(*(m.interval or (m.value, m.value) for m in at), strict=True)
        series.append({"name": name, "x": x, "y": [m.value for m in at], "low": list(low), "high": list(high)})
        table[name] = [f"{m.value:.1%} ({a:.1%} to {b:.1%})" for m, a, b in zip(at, low, high, strict=True)]  # type: ignore[assignment]
    data = {"x": "images of each class", "y": "told right", "series": series, "y_ends": [0, 1]}
    data["ticks"] = [[place, str(n)] for place, n in zip(x, counts, strict=True)]
    known = {who: {n: of[n] for n in counts if n in of} for who, of in curves(beside).items()}
    data["marks"] = [
        {"who": who, "x": [log2(n) for n in of], "y": list(of.values())} for who, of in known.items() if of
    ]
    caption = "How often images are told right that were not learned from."
    yield Panel("by_count", "lines", "From how many images", caption, data | {"chance": own[0].chance})
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    yield Panel("counts", "table", "Count by count", caption, {"columns": list(table), "rows": rows})
