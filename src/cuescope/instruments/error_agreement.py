"""Do two classifiers err on the same images, and are the same classes hard for both?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Finding, Measure, Panel, about_two
from cuescope.data.images import Batch
from cuescope.instruments.base import Rows

TOP5_CLASSES = 10
"""With no more classes than these, the label is among the first five of nearly every answer."""


@dataclass(frozen=True)
class ErrorAgreement:
    """How right answers spread over the classes; of two classifiers, whether they err on the same images.

    Error consistency is Cohen's kappa of being right: how much more often two classifiers are both right or both
    wrong than two independent ones of the same accuracies would be (Geirhos et al. 2020, section 2). It has no value
    where either is right on all images or on none. Beside it stands the correlation of the accuracies per class
    (Brendel & Bethge 2019: top-5 accuracy, one point a class). An image is right where the first logit is that of
    its label: cue-conflict images count by their label too, where they have one.

    >>> ErrorAgreement(class_images=5).class_images
    5
    """

    class_images: int = 2
    """Images that a class must have for an accuracy of its own to be counted; with one it is 0 or 1."""
    hardest: int = 12
    """Classes to list, the least often recognized first."""

    question: ClassVar[str] = "Do they err on the same images?"
    reference: ClassVar[str] = (
        "Geirhos et al. 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans, section 2; "
        "Brendel & Bethge 2019 (accuracy per class)"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "label"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.class_images < 1 or self.hardest < 0:
            raise ValueError("class_images must be at least 1, hardest at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its label, the answer, and whether the label is the first (`right`) or among the first five."""
        known = batch.labels >= 0
        label, predicted = batch.labels, batch.logits.argmax(1)
        # The rank counts only what beats the label, so a tie does not push it out of the top 5.
        rank = (batch.logits > batch.logits.gather(1, label.clamp(min=0)[:, None])).sum(1)
        top5 = known & (batch.logits.shape[1] > TOP5_CLASSES)
        return pl.DataFrame(
            {
                "id": batch.ids,
                "label": [int(k) if ok else None for k, ok in zip(label, known, strict=True)],
                "predicted": predicted.numpy(),
                "right": [bool(r) if ok else None for r, ok in zip(predicted == label, known, strict=True)],
                "right5": [bool(r) if ok else None for r, ok in zip(rank < 5, top5, strict=True)],
            },
            schema=_SCHEMA,
        )

    def conclude(self, rows: Rows, about: About) -> Finding:
        labeled = _labeled(rows)
        classes = labeled.group_by("label").agg(pl.len().alias("n"), pl.col("right").sum().alias("k")).sort("label")
        several = classes.filter(pl.col("n") >= self.class_images)
        measures = (_mean(classes, labeled), self._never(several, classes))
        return Finding(
            instrument="error_agreement",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(self._spread(several, about)),
            sentence=_sentence_of_one(measures),
            caveats=_caveats(rows.height - labeled.height, several.height, classes.height, self.class_images),
            references=(self.reference,),
        )

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Finding:
        """Kappa, agreement, and accuracy per class, over the images of which both know the label."""
        known = _labeled(first).join(_labeled(second), on="id", suffix="_2", maintain_order="left")
        a, b = known["right"].to_numpy().astype(bool), known["right_2"].to_numpy().astype(bool)
        classes = self._by_class(known)
        title = _titles(about)
        measures = (
            *_agreement(a, b, title),
            _same_mistake(known, about),
            *self._class_correlations(classes),
        )
        lost = len(set(first["id"]) & set(second["id"])) - known.height
        every = known["label"].n_unique() if known.height else 0
        return Finding(
            instrument="error_agreement",
            version=self.version,
            params=asdict(self),
            classifier=about_two(about),
            images=about[0].images,
            measures=measures,
            panels=(*_scatter(classes, about, title), *_four(a, b, title)),
            sentence=_sentence_of_two(measures, title),
            caveats=_caveats(lost, classes.height, every, self.class_images),
            references=(self.reference,),
        )

    def _never(self, several: pl.DataFrame, classes: pl.DataFrame) -> Measure:
        title, n = "classes never right", several.height
        if not n:
            why = _too_few(self.class_images) if classes.height else "no image has a label"
            return Measure("never_right", None, "share", 0, title=title, why=why)
        k = int((several["k"] == 0).sum())
        return Measure("never_right", k / n, "share", n, stats.wilson(k, n), title=title, count=k, better="lower")

    def _spread(self, several: pl.DataFrame, about: About) -> Iterable[Panel]:
        if not several.height:
            return
        share = several["k"] / several["n"]
        counts, edges = np.histogram(share.to_numpy(), 10, (0, 1))
        data = {"x": "accuracy of a class", "y": "classes", "edges": edges.tolist(), "values": counts.tolist()}
        yield Panel("class_accuracy", "bars", "How accuracy spreads over the classes", "", data)
        hard = several.with_columns(share.alias("share")).sort("share", "n", "label", descending=[False, True, False])
        wrong = hard.filter(pl.col("k") < pl.col("n")).head(self.hardest)
        cells = [[about.classes[c], k, n] for c, n, k, _ in wrong.iter_rows()]
        if cells:
            caption = "The classes that are recognized least often."
            yield Panel(
                "hardest", "table", "Hardest classes", caption, {"columns": ["class", "right", "of"], "rows": cells}
            )

    def _by_class(self, known: pl.DataFrame) -> pl.DataFrame:
        """Accuracy per class of both, of the classes with enough images."""
        wanted = ("right", "right_2", "right5", "right5_2")
        table = known.group_by("label").agg(pl.len().alias("n"), *(pl.col(c).mean() for c in wanted))
        return table.filter(pl.col("n") >= self.class_images).sort("label")

    def _class_correlations(self, classes: pl.DataFrame) -> Iterable[Measure]:
        for name, column, order in (("class_top5", "right5", "top-5"), ("class_top1", "right", "top-1")):
            title = f"correlation of {order} accuracy per class"
            both = classes.drop_nulls([column, f"{column}_2"])
            if column == "right5" and both.height < classes.height:
                yield Measure(
                    name, None, "correlation", 0, title=title, why=f"one of them has {TOP5_CLASSES} classes or fewer"
                )
                continue
            value, interval, why = stats.pearson(both[column].to_numpy(), both[f"{column}_2"].to_numpy())
            if both.height < 3:
                why = _too_few(self.class_images)
            yield Measure(name, value, "correlation", both.height, interval, title=title, why=why)


_SCHEMA = {
    "id": pl.String,
    "label": pl.Int32,
    "predicted": pl.Int32,
    "right": pl.Boolean,
    "right5": pl.Boolean,
}


def _labeled(rows: Rows) -> pl.DataFrame:
    return rows.drop_nulls("label") if rows.height else pl.DataFrame(schema=_SCHEMA)


def _titles(about: tuple[About, About]) -> tuple[str, str]:
    """Short names, unless both would be called the same."""
    first, second = (a.classifier.partition("@")[0].rpartition("/")[2] for a in about)
    return (first, second) if first != second else (about[0].classifier, about[1].classifier)


def _too_few(images: int) -> str:
    return f"fewer than three classes have {images} labeled images or more"


def _mean(classes: pl.DataFrame, labeled: pl.DataFrame) -> Measure:
    name, title = "class_mean", "mean accuracy over the classes"
    if not classes.height:
        return Measure(name, None, "share", 0, title=title, why="no image has a label", headline=True)
    shares = (classes["k"] / classes["n"]).to_numpy()
    # Classes that are all alike would give a bootstrap no width, so then the images are counted.
    alike = shares.std() == 0 or labeled.height == classes.height
    interval = stats.wilson(int(classes["k"].sum()), labeled.height) if alike else stats.bootstrap_mean(shares)
    n = classes.height
    return Measure(name, float(shares.mean()), "share", n, interval, title=title, better="higher", headline=True)


def _agreement(a: np.ndarray, b: np.ndarray, title: tuple[str, str]) -> Iterable[Measure]:
    n = len(a)
    kappa, observed, expected = "error consistency (kappa)", "both right or both wrong", "the same by chance alone"
    if not n:
        why = "no image has a label that both know"
        yield Measure("kappa", None, "kappa", 0, title=kappa, why=why, headline=True)
        yield Measure("observed", None, "share", 0, title=observed, why=why)
        yield Measure("expected", None, "share", 0, title=expected, why=why)
        return
    value = stats.kappa(a.tolist(), b.tolist())
    around, expecting = stats.kappa_intervals(a.tolist(), b.tolist())
    p, q, same = float(a.mean()), float(b.mean()), int((a == b).sum())
    why = _degenerate(p, q, title) if value is None else ""
    around = None if value is None else around
    yield Measure("kappa", value, "kappa", n, around, why, title=kappa, chance=0.0, headline=True)
    yield Measure("observed", same / n, "share", n, stats.wilson(same, n), title=observed, count=same)
    yield Measure("expected", p * q + (1 - p) * (1 - q), "share", n, expecting, title=expected)


def _degenerate(p: float, q: float, title: tuple[str, str]) -> str:
    who, share = (title[0], p) if p in (0, 1) else (title[1], q)
    return f"{who} is {'right' if share else 'wrong'} on every image, so its accuracy alone fixes the agreement"


def _same_mistake(known: pl.DataFrame, about: tuple[About, About]) -> Measure:
    """Of the images that both get wrong, the share with the same wrong answer."""
    name, title = "same_mistake", "the same wrong answer where both are wrong"
    wrong = known.filter(~pl.col("right") & ~pl.col("right_2"))
    n = wrong.height
    if (about[0].space, about[0].classes) != (about[1].space, about[1].classes):
        return Measure(name, None, "share", 0, title=title, why="the two have different classes")
    if not n:
        return Measure(name, None, "share", 0, title=title, why="no image is wrong for both")
    k = int((wrong["predicted"] == wrong["predicted_2"]).sum())
    return Measure(name, k / n, "share", n, stats.wilson(k, n), title=title, count=k)


def _scatter(classes: pl.DataFrame, about: tuple[About, About], title: tuple[str, str]) -> Iterable[Panel]:
    if classes.height < 3:
        return
    full = not classes["right5"].null_count() and not classes["right5_2"].null_count()
    column, order = ("right5", "top-5") if full else ("right", "top-1")
    names = about[0].classes
    points = [
        {"x": row[column], "y": row[f"{column}_2"], "label": names[row["label"]], "n": row["n"]}
        for row in classes.iter_rows(named=True)
    ]
    data = {"x": f"{title[0]}: {order} accuracy", "y": f"{title[1]}: {order} accuracy"}
    caption = f"A point a class: its {order} accuracy for both. On the diagonal it is as hard for one as for the other."
    yield Panel("per_class", "points", "Which classes are hard", caption, {**data, "points": points, "diagonal": True})


def _four(a: np.ndarray, b: np.ndarray, title: tuple[str, str]) -> Iterable[Panel]:
    """The 2 x 2 table of who is right."""
    if not len(a):
        return
    rows = [
        [f"{title[0]} right", int((a & b).sum()), int((a & ~b).sum())],
        [f"{title[0]} wrong", int((~a & b).sum()), int((~a & ~b).sum())],
    ]
    data = {"columns": ["images", f"{title[1]} right", f"{title[1]} wrong"], "rows": rows}
    yield Panel("four", "table", "Who is right on which images", "", data)


def _caveats(lost: int, several: int, classes: int, images: int) -> tuple[str, ...]:
    caveats = []
    if lost:
        caveats.append(f"{lost:,} images without a usable label are left out.")
    if classes and not several:
        caveats.append(f"No class has {images} labeled images, so nothing is said of single classes.")
    elif several < classes:
        lacking = f"{classes - several:,} of {classes:,} classes"
        caveats.append(f"{lacking} have fewer than {images} images and no accuracy of their own.")
    return tuple(caveats)


def _sentence_of_one(measures: tuple[Measure, ...]) -> str:
    mean, never = measures
    if mean.value is None:
        return f"Nothing can be said of its errors: {mean.why}."
    text = f"Its accuracy is {mean.value:.1%} on average over {mean.n:,} classes"
    if never.value is None:
        return text + "."
    if not never.count:
        return f"{text}; each of the {never.n:,} with several images is right at least once."
    return f"{text}; {never.count:,} of the {never.n:,} with several images are never right."


def _sentence_of_two(measures: tuple[Measure, ...], title: tuple[str, str]) -> str:
    kappa, observed, expected = measures[:3]
    if observed.value is None or expected.value is None:
        return f"Nothing can be said of their agreement: {observed.why}."
    text = f"They are both right or both wrong on {observed.value:.1%} of {observed.n:,} images; "
    text += f"their accuracies alone would give {expected.value:.1%}"
    if kappa.value is None:
        return f"{text}. Kappa is not measured: {kappa.why}."
    low, high = kappa.interval or (kappa.value, kappa.value)
    number = f"kappa {round(kappa.value, 2) + 0:.2f}"  # never -0.00
    side = "They err on the same images" if low > 0 else "They err on different images" if high < 0 else ""
    if not side or not kappa.interval:
        return f"{text} ({number}): no clear agreement beyond chance."
    return f"{side} more often than chance would have it: {number}. {text}."
