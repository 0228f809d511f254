"""How alike are the logits of two classifiers, class by class?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Measure, Panel, Published
from cuescope.core.naming import short_name
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Rows, histogram, where_labeled
from cuescope.methods.logit_correlations import Array, against_mean, correlations, intervals

MARGIN = 0.1
"""Logits that surely correlate by more than this are alike, and by less they are not."""


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
            f"the whole interval of the mean correlation of a class's logits lies above {MARGIN}",
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
            f"the interval of the mean correlation of a class's logits holds {MARGIN}, or there is none",
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
        data = histogram(margins, 12, (0, max(float(margins.max()), 1e-9)), "lead of the first logit over the second")
        panel = Panel("margins", "bars", "By how much the answer leads", "", data)
        values = {
            "margin": margin.value,
            "interval": interval_text(margin, ".2f"),
            "images": counted(margin.n, "image"),
        }
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
        images, interval = counted(averaged.n, "image"), interval_text(averaged, ".2f")
        if averaged.above(MARGIN):
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


def _measures(x: Array, y: Array, by_class: Array, published: tuple[Published, ...]) -> tuple[Measure, Measure]:
    n, known = len(x), np.isfinite(by_class)
    mean, flat, found, why = None, None, (None, None), ""
    if known.any():
        x, y = x[:, known], y[:, known]
        mean, flat = float(by_class[known].mean()), float(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        found = intervals(x, y)
        why = "" if found[0] else f"too few images, {n}, or a class that only one of them changes"
    else:
        why = "fewer than three images" if n < 3 else "no class has logits that change in both"
        n, published = 0, ()
    title = "correlation of a class's logits, mean over the classes"
    return (
        Measure("averaged", mean, "correlation", n, found[0], why, title, published=published, headline=True),
        Measure(
            "flattened",
            flat,
            "correlation",
            n,
            found[1],
            "" if found[1] else why,
            "correlation of all logits at once",
        ),
    )


def _published(about: tuple[About, About]) -> tuple[Published, ...]:
    """The paper's value, only beside the very networks it is of."""
    bag, vgg = sorted(short_name(a.classifier).lower() for a in about)
    found = re.match(r"bagnet(9|17|33)(?!\d)", bag)
    if not found or not re.match(r"vgg16(?!\d|_bn)", vgg) or any(a.space != IMAGENET for a in about):
        return ()
    who, value = f"BagNet-{found[1]} against VGG-16", {"9": 0.70, "17": 0.79, "33": 0.88}[found[1]]
    return (Published(who, value, "Brendel & Bethge 2019 (which way of averaging is not printed)"),)
