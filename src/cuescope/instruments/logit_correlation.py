"""How alike are the logits of two classifiers, class by class?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Measure, Panel, Published
from cuescope.core.naming import short_name
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import interval_of, several
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Rows, histogram, where_labeled

RESAMPLES = 1000
LEAST = 5
"""Images, below which a correlation has no interval."""
MARGIN = 0.1
"""Logits whose correlation is surely within this of 0 have nothing to do with each other."""
FLAT = 1e-6
"""A logit whose standard deviation over images is below this share of its size says nothing of the image."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LogitCorrelation(Instrument, version=2, order=220, needs={"logits"}):
    """Of two classifiers, Pearson's correlation of their logits of a class over the images, mean over the classes.

    Of each image's logits the mean over all classes is subtracted first: it changes no answer, and where it varies with
    the image, as brightness does, raw logits correlate by it alone. Beside it one correlation over all images and
    classes at once, which the classes' own levels raise. Brendel & Bethge 2019 compare raw logits of BagNets with those
    of VGG-16 so; which of the two ways they used is not printed. Of one classifier: the margin, by which the first
    logit leads the second.

    >>> LogitCorrelation(images=500).images
    500
    """

    images: int = 2000
    """Images to look at, spread evenly over the set."""
    raw: bool = False
    """Whether logits are correlated as they are, as in the paper, not against the mean of all classes."""
    listed: int = 6
    """Classes to list, of the most and of the least alike each."""

    question = "How alike are their logits?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models (BagNets against VGG-16)"
    columns = {"id": pl.String, "label": pl.Int32, "logits": pl.List(pl.Float32)}
    compares = True
    sentences = {
        "nothing": Sentence(
            "cannot tell", "nothing is measured, for the reason given", "Its logits cannot be described: {why}."
        ),
        "leads": Sentence(
            "yes",
            "the margin is measured, of one classifier",
            "Its answer leads the next class by {margin:.2f} logits on average ({interval}; {images}).",
        ),
        "not_measured": Sentence(
            "cannot tell",
            "of two classifiers, no correlation is measured, for the reason given",
            "How alike their logits are is not measured: {why}.",
        ),
        "alike": Sentence(
            "yes",
            "the whole interval of the mean correlation of a class's logits lies above 0",
            "Over {images} the two logits of a class correlate at {r:.2f} on average ({interval}); all logits at once "
            "at {flat:.2f}.",
        ),
        "unlike": Sentence(
            "no",
            f"the whole interval of the mean correlation of a class's logits lies below {MARGIN}",
            "Their logits are not alike: over {images} the two logits of a class correlate at {r:.2f} on average "
            "({interval}).",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            f"the interval of the mean correlation of a class's logits holds 0 and reaches {MARGIN}, or there is none",
            "Whether their logits are alike cannot be said from {images}: the two logits of a class correlate at "
            "{r:.2f} on average ({interval}).",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.listed < 0:
            raise ValueError("images must be at least 1, listed at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its label, where it is known, and the logits of all classes."""
        labels = where_labeled(batch, batch.labels)
        return self.table({"id": batch.ids, "label": labels, "logits": batch.logits.tolist()})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        logits, title = _logits(rows), "lead of the first logit over the second"
        first_two = np.partition(logits, -2, axis=1)[:, -2:] if logits.shape[1] > 1 else np.zeros((0, 2))
        margins = first_two[:, 1] - first_two[:, 0]
        why = "there is only one class" if rows.height else "no image was seen"
        margin = stats.mean("margin", margins, "", why=why, title=title, headline=True)
        caveat = "Networks scale their logits differently: margins of two networks cannot be compared."
        if margin.value is None:
            return Conclusion((margin,), (), self.say("nothing", why=why), (caveat,))
        data = histogram(margins, 12, (0, max(float(margins.max()), 1e-9)), "first logit less second")
        panel = Panel("margins", "bars", "By how much the answer leads", "", data)
        values = {"margin": margin.value, "interval": interval_of(margin, ".2f"), "images": several(margin.n, "image")}
        return Conclusion((margin,), (panel,), self.say("leads", **values), (caveat,))

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """Correlation per class, then averaged, and of all logits at once; on the images that both were shown.

        Raises Misfit where the logits of one are not those of the other.
        """
        ids = first.select("id").join(second.select("id"), on="id", maintain_order="left")
        both = (_logits(ids.join(rows, on="id", maintain_order="left")) for rows in (first, second))
        x, y = (logits if self.raw else against_mean(logits) for logits in both)
        one, other = about
        if (one.space, one.classes) != (other.space, other.classes) or x.shape[1] != y.shape[1]:
            spaces = f"{one.space or 'unnamed'} and {other.space or 'unnamed'}"
            raise Misfit(f"the two have different classes ({spaces})")
        by_class, caveats = correlations(x, y), []
        averaged, flat = _measures(x, y, by_class, _published(about) if self.raw else ())
        if unknown := int(np.isnan(by_class).sum()):
            caveats.append(f"{unknown:,} of {len(by_class):,} classes have a logit that never changes.")
        if one.space == "numbered":
            caveats.append("Neither classifier names its classes: those of the same number are taken for the same.")
        if averaged.published:
            caveats.append("The published value is of the authors' own weights, over the ImageNet validation images.")
        panels = tuple(self._panels(by_class, one.classes))
        return Conclusion((averaged, flat), panels, self._verdict(averaged, flat), tuple(caveats))

    def _verdict(self, averaged: Measure, flat: Measure) -> Verdict:
        if averaged.value is None:
            return self.say("not_measured", why=averaged.why)
        images, interval = several(averaged.n, "image"), interval_of(averaged, ".2f")
        if averaged.above(0):
            return self.say("alike", images=images, r=averaged.value, interval=interval, flat=flat.value)
        name = "unlike" if averaged.below(MARGIN) else "cannot_tell"
        return self.say(name, images=images, r=averaged.value, interval=interval)

    def _panels(self, by_class: Array, names: tuple[str, ...]) -> Iterable[Panel]:
        known = np.flatnonzero(np.isfinite(by_class))
        if not len(known):
            return
        data = histogram(by_class[known], 40, (-1, 1), "correlation of a class", "classes")
        data["edges"] = [round(edge, 3) for edge in data["edges"]]
        yield Panel("by_class", "bars", "How alike each class's logits are", "", data)
        order = known[np.argsort(-by_class[known], kind="stable")]
        count = min(self.listed, len(order) // 2)
        chosen = [("most alike", c) for c in order[:count]] + [("least alike", c) for c in order[len(order) - count :]]
        if chosen:
            rows = [[which, names[c], round(float(by_class[c]), 3)] for which, c in chosen]
            data = {"columns": ["", "class", "correlation"], "rows": rows}
            yield Panel("classes", "table", "Most and least alike classes", "", data)


def _logits(rows: Rows) -> Array:
    """(N, K) float64."""
    return rows["logits"].explode().to_numpy().reshape(rows.height, -1 if rows.height else 0).astype(np.float64)


def against_mean(logits: Array) -> Array:
    """(N, K) logits less their mean over the classes; those of a single class as they are.

    >>> against_mean(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """
    return logits - logits.mean(1, keepdims=True) if logits.shape[1] > 1 else logits


def correlations(x: Array, y: Array) -> Array:
    """Pearson's correlation of each column of x with that of y, (N, K) each to (K,); NaN where one never changes.

    >>> correlations(np.array([[1.0, 5], [2, 5], [3, 5]]), np.array([[3.0, 1], [2, 2], [1, 3]])).round(6).tolist()
    [-1.0, nan]
    """
    if len(x) < 3:
        return np.full(x.shape[1], np.nan)
    return np.where(_varies(x) & _varies(y), np.clip((_scaled(x) * _scaled(y)).mean(0), -1, 1), np.nan)


def _varies(x: Array) -> Array:
    return x.std(0) > FLAT * np.maximum(np.abs(x).max(0), 1e-12)


def _scaled(x: Array) -> Array:
    """Each column with mean 0 and standard deviation 1; what never changes becomes 0."""
    return np.where(_varies(x), (x - x.mean(0)) / np.where(_varies(x), x.std(0), 1), 0)


def _measures(x: Array, y: Array, by_class: Array, published: tuple[Published, ...]) -> tuple[Measure, Measure]:
    n, known = len(x), np.isfinite(by_class)
    mean, flat, intervals, why = None, None, (None, None), ""
    if known.any():
        x, y = x[:, known], y[:, known]
        mean, flat = float(by_class[known].mean()), float(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        intervals = _intervals(x, y) if n >= LEAST else intervals
    else:
        why = "fewer than three images" if n < 3 else "no class has logits that change in both"
        n, published = 0, ()
    title = "correlation of a class's logits, mean over the classes"
    return (
        Measure("averaged", mean, "correlation", n, intervals[0], why, title, published=published, headline=True),
        Measure("flattened", flat, "correlation", n, intervals[1], why, "correlation of all logits at once"),
    )


def _intervals(x: Array, y: Array, seed: int = 0) -> tuple[tuple[float, float] | None, ...]:
    """Percentile bootstrap intervals over images of both correlations; None where too few resamples have one.

    Images count by how often they are drawn, so all moments of all resamples are one matrix product; in single
    precision, which after scaling loses nothing that an interval shows.
    """
    n, classes = x.shape
    whole = [part - part.mean() for part in (x, y)]
    found = []
    for block in stats.Draws(np.zeros(n), seed, RESAMPLES):
        drawn = block.astype(np.float32) / n
        total, varies = np.zeros(len(drawn)), np.ones(len(drawn), bool)
        for start in range(0, classes, 256):
            a, b = (_scaled(part[:, start : start + 256]).astype(np.float32) for part in (x, y))
            ma, mb, aa, bb, ab = (drawn @ part for part in (a, b, a * a, b * b, a * b))
            va, vb = aa - ma * ma, bb - mb * mb
            total += ((ab - ma * mb) / np.sqrt(np.maximum(va * vb, 1e-9))).clip(-1, 1).sum(1)
            varies &= (np.minimum(va, vb) > 1e-4).all(1)
        a, b = whole
        ma, mb, aa, bb, ab = (drawn @ part.mean(1) for part in (a, b, a * a, b * b, a * b))
        flat = (ab - ma * mb) / np.sqrt(np.maximum((aa - ma * ma) * (bb - mb * mb), 1e-300))
        found.append(np.where(varies, [total / classes, flat], np.nan))
    return tuple(map(stats.interval_of, np.concatenate(found, 1)))


def _published(about: tuple[About, About]) -> tuple[Published, ...]:
    """The paper's value, only beside the very networks it is of."""
    bag, vgg = sorted(short_name(a.classifier).lower() for a in about)
    found = re.match(r"bagnet(9|17|33)(?!\d)", bag)
    if not found or not re.match(r"vgg16(?!\d|_bn)", vgg) or any(a.space != IMAGENET for a in about):
        return ()
    who, value = f"BagNet-{found[1]} against VGG-16", {"9": 0.70, "17": 0.79, "33": 0.88}[found[1]]
    return (Published(who, value, "Brendel & Bethge 2019 (which way of averaging is not printed)"),)
