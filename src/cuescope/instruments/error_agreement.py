"""Do two classifiers err on the same images, and are the same classes hard for both?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.error_consistency import kappa, kappa_intervals
from cuescope.core.findings import About, Conclusion, Measure, Panel, short_names
from cuescope.core.intervals import UNITS, over_classes
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, answered, label_ranks, typed, where_labeled

TOP5_CLASSES = 10
"""With no more classes than these, the label is among the first five of nearly every answer."""

MARGIN = 0.1
"""Two err independently where kappa surely lies this close to 0."""


@dataclass(frozen=True)
class ErrorAgreement(Instrument, version=2, order=60, needs={"logits", "label"}):
    """How right answers spread over the classes; of two classifiers, whether they err on the same images.

    Error consistency is Cohen's kappa of being right: how much more often two classifiers are both right or both
    wrong than two independent ones of the same accuracies would be (Geirhos et al. 2020, section 2). It has no value
    where either is right on all images or on none. Beside it stands the correlation of the accuracies per class
    (Brendel & Bethge 2019: top-5 accuracy, one point a class). Cue-conflict images count by their label too.

    >>> ErrorAgreement(class_images=5).class_images
    5
    """

    class_images: int = 2
    """Images that a class must have for an accuracy of its own to be counted; with one it is 0 or 1."""
    hardest: int = 12
    """Classes to list, the least often recognized first."""

    question = "Do they err on the same images?"
    reference = (
        "Geirhos et al. 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans, section 2; "
        "Brendel & Bethge 2019 (accuracy per class)"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        "right": pl.Boolean,
        "right5": pl.Float64,
    }
    compares = True
    sentences = {
        "no_labels": Sentence(
            "cannot tell", "no image has a label", "Nothing can be said of its errors: no image has a label."
        ),
        "mean": Sentence(
            "cannot tell",
            "an image has a label; of one classifier alone",
            "Its accuracy is {share:.1%} on average over {classes}.",
        ),
        "never": Sentence(
            "yes",
            "a class with several images is never right",
            "Of {classes} with several images, {never} {are} never right.",
        ),
        "each": Sentence(
            "yes",
            "three classes or more have several images, and each of them is right once",
            "Each of the {classes} with several images is right at least once.",
        ),
        "nothing": Sentence(
            "cannot tell", "of two: no image has a label that both know", "Their agreement is not measured: {why}."
        ),
        "no_kappa": Sentence(
            "cannot tell",
            "of two: either is right on all images or on none",
            "They are both right or both wrong on {observed:.1%} of {images}, and kappa has no value: {why}.",
        ),
        "few": Sentence(
            "cannot tell",
            f"of two: either is right, or wrong, on fewer than {UNITS} images",
            "Whether they err on the same images cannot be said from {few}: {who}.",
        ),
        "same": Sentence(
            "yes",
            "of two: the whole interval of kappa lies above 0",
            "They err on the same images more often than by chance: kappa {kappa:.2f} ({low:.2f} to {high:.2f}). Both "
            "are right or both wrong on {observed:.1%} of {images}; their accuracies alone would give {expected:.1%}.",
        ),
        "different": Sentence(
            "no",
            "of two: the whole interval of kappa lies below 0",
            "They err on different images more often than by chance: kappa {kappa:.2f} ({low:.2f} to {high:.2f}). Both "
            "are right or both wrong on {observed:.1%} of {images}; their accuracies alone would give {expected:.1%}.",
        ),
        "by_chance": Sentence(
            "no",
            f"of two: the whole interval of kappa lies within {MARGIN} of 0, and holds it",
            f"They err on the same images as often as by chance: kappa {{kappa:.2f}}, surely within {MARGIN} of 0.",
        ),
        "unclear": Sentence(
            "cannot tell",
            f"of two: the interval of kappa holds 0 and reaches {MARGIN} away from it or further",
            "Whether they err on the same images cannot be said from {images}: kappa {kappa:.2f} ({low:.2f} to "
            "{high:.2f}).",
        ),
    }

    def __post_init__(self) -> None:
        if self.class_images < 1 or self.hardest < 0:
            raise ValueError("class_images must be at least 1, hardest at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its label, the answer, whether it is the label, and how likely that is among five."""
        rows = {**answered(batch), "right": where_labeled(batch, batch.logits.argmax(1) == batch.labels)}
        if batch.logits.shape[1] > TOP5_CLASSES:
            rows["right5"] = where_labeled(batch, label_ranks(batch).among_first(5)[:, 0])
        return self.table(rows)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = rows.drop_nulls("label")
        classes = labeled.group_by("label").agg(pl.len().alias("n"), pl.col("right").sum().alias("k")).sort("label")
        several = classes.filter(pl.col("n") >= self.class_images)
        why = _too_few(self.class_images) if classes.height else "no image has a label"
        missed = several["k"] == 0
        never = stats.share(
            "never_right", missed, units="classes", why=why, title="classes never right", better="lower"
        )
        mean, caveats = _mean(classes), self._caveats(rows.height - labeled.height, classes["n"])
        return Conclusion((mean, never), tuple(self._spread(several, about)), self._of_one(mean, never), caveats)

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """Kappa, agreement, and accuracy per class, over the images of which both know the label."""
        one, other = first.drop_nulls("label"), second.drop_nulls("label")
        known = one.join(other, on="id", suffix="_2", maintain_order="left")
        a, b = known["right"].to_numpy().astype(bool), known["right_2"].to_numpy().astype(bool)
        wanted, names = ("right", "right_2", "right5", "right5_2"), short_names(about)
        table = known.group_by("label").agg(pl.len().alias("n"), *(pl.col(c).mean() for c in wanted))
        classes = table.filter(pl.col("n") >= self.class_images).sort("label")
        kappa, observed, expected = _agreement(a, b, names)
        lost = len(set(first["id"]) & set(second["id"])) - known.height
        measures = (kappa, observed, expected, _same_mistake(known, about), *self._class_correlations(classes))
        panels = (*_scatter(classes, about, names), *_four(a, b, names))
        verdict = self._of_two(kappa, observed, expected, _few(a, b))
        return Conclusion(measures, panels, verdict, self._caveats(lost, table["n"]))

    def _of_one(self, mean: Measure, never: Measure) -> Verdict:
        if mean.value is None:
            return self.say("no_labels")
        said = self.say("mean", share=mean.value, classes="1 class" if mean.n == 1 else f"{mean.n:,} classes")
        if never.value is None:
            return said
        if never.count:
            are = "is" if never.count == 1 else "are"
            return said + self.say("never", classes=f"{never.n:,} classes", never=f"{never.count:,}", are=are)
        return said + self.say("each", classes=f"{never.n:,} classes")

    def _of_two(self, kappa: Measure, observed: Measure, expected: Measure, few: str) -> Verdict:
        if observed.value is None or expected.value is None:
            return self.say("nothing", why=observed.why)
        images = counted(observed.n, "image")
        if kappa.value is None:
            return self.say("no_kappa", observed=observed.value, images=images, why=kappa.why)
        if kappa.interval is None:
            return self.say("few", few=few, who=kappa.why)
        low, high = kappa.interval
        number = round(kappa.value, 2) + 0  # never -0.00
        if low <= 0 <= high and kappa.within(-MARGIN, MARGIN):
            return self.say("by_chance", kappa=number)
        told: dict[str, Any] = {"kappa": number, "images": images, "low": low, "high": high}
        if low <= 0 <= high:
            return self.say("unclear", **told)
        told |= {"observed": observed.value, "expected": expected.value}
        return self.say("same" if low > 0 else "different", **told)

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
        data = {"columns": ["class", "right", "of"], "rows": cells}
        if cells:
            yield Panel("hardest", "table", "Hardest classes", "The classes that are recognized least often.", data)

    def _class_correlations(self, classes: pl.DataFrame) -> Iterable[Measure]:
        for name, column, order in (("class_top5", "right5", "top-5"), ("class_top1", "right", "top-1")):
            title, lacking = f"correlation of {order} accuracy per class", _too_few(self.class_images)
            both = classes.drop_nulls([column, f"{column}_2"])
            if column == "right5" and both.height < classes.height:
                both, lacking = both.clear(), f"one of them has {TOP5_CLASSES} classes or fewer"
            value, interval, why = stats.pearson(both[column], both[f"{column}_2"], "classes")
            why = lacking if both.height < 3 else why
            yield Measure(name, value, "correlation", both.height, interval, title=title, why=why)

    def _caveats(self, lost: int, images: pl.Series) -> tuple[str, ...]:
        """`images` are those of each class."""
        classes, several = len(images), int((images >= self.class_images).sum())
        caveats = [f"{lost:,} images without a usable label are left out."] if lost else []
        if classes and not several:
            caveats.append(f"No class has {self.class_images} labeled images, so nothing is said of single classes.")
        elif several < classes:
            lacking = f"{classes - several:,} of {classes:,} classes"
            caveats.append(f"{lacking} have fewer than {self.class_images} images and no accuracy of their own.")
        return tuple(caveats)


def _too_few(images: int) -> str:
    return f"fewer than three classes have {images} labeled images or more"


def _few(a: np.ndarray, b: np.ndarray) -> str:
    """What kappa rests on: the fewer of errors and right answers, of the one who has fewer."""
    errors, rights = (min(int(side.sum()) for side in pair) for pair in ((~a, ~b), (a, b)))
    return counted(errors, "error") if errors <= rights else counted(rights, "right answer")


def _mean(classes: pl.DataFrame) -> Measure:
    name, title = "class_mean", "mean accuracy over the classes"
    if not classes.height:
        return Measure(name, None, "share", 0, title=title, why="no image has a label", headline=True)
    k, n = (classes[column].to_numpy().astype(float) for column in "kn")
    found = over_classes(k, n)
    value = float((k / n).mean())
    return Measure(name, value, "share", classes.height, *found, title, better="higher", headline=True)


def _agreement(a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> Iterable[Measure]:
    """Kappa, the share of images that both are right or both wrong on, and what chance alone would make of it."""
    n, why, title = len(a), "no image has a label that both know", "error consistency (kappa)"
    p, q = (float(x.mean()) if n else 0.0 for x in (a, b))
    value, (interval, expecting) = kappa(a.tolist(), b.tolist()), kappa_intervals(a.tolist(), b.tolist())
    who, share = (names[0], p) if p in (0, 1) else (names[1], q)
    side = f"{who} is {'right' if share else 'wrong'} on every image"
    reason = f"{side}, so its accuracy alone fixes the agreement" if n else why
    few = f"{names[0]} is wrong on {int((~a).sum()):,} and {names[1]} on {int((~b).sum()):,} of {n:,}"
    found = (None, reason) if value is None else (interval, "" if interval else few)
    yield Measure("kappa", value, "kappa", n, *found, title, chance=0.0, headline=True)
    yield stats.share("observed", a == b, why=why, title="both right or both wrong")
    expected = p * q + (1 - p) * (1 - q) if n else None
    yield Measure("expected", expected, "share", n, expecting, "" if n else why, title="the same by chance alone")


def _same_mistake(known: pl.DataFrame, about: tuple[About, About]) -> Measure:
    """Of the images that both get wrong, the share with the same wrong answer."""
    wrong, why = known.filter(~pl.col("right") & ~pl.col("right_2")), "no image is wrong for both"
    if (about[0].space, about[0].classes) != (about[1].space, about[1].classes):
        wrong, why = wrong.clear(), "the two have different classes"
    same, title = wrong["predicted"] == wrong["predicted_2"], "the same wrong answer where both are wrong"
    return stats.share("same_mistake", same, why=why, title=title)


def _scatter(classes: pl.DataFrame, about: tuple[About, About], names: tuple[str, str]) -> Iterable[Panel]:
    if classes.height < 3:
        return
    full = not classes["right5"].null_count() and not classes["right5_2"].null_count()
    column, order = ("right5", "top-5") if full else ("right", "top-1")
    rows = classes.select(column, f"{column}_2", "label", "n").iter_rows()
    points = [{"x": x, "y": y, "label": about[0].classes[label], "n": n} for x, y, label, n in rows]
    data = {"x": f"{names[0]}: {order} accuracy", "y": f"{names[1]}: {order} accuracy"}
    caption = f"A point a class: its {order} accuracy for both. On the diagonal it is as hard for one as for the other."
    yield Panel("per_class", "points", "Which classes are hard", caption, {**data, "points": points, "diagonal": True})


def _four(a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> Iterable[Panel]:
    """The 2 x 2 table of who is right."""
    sides = (("right", a), ("wrong", ~a))
    rows = [[f"{names[0]} {side}", int((first & b).sum()), int((first & ~b).sum())] for side, first in sides]
    data = {"columns": ["images", f"{names[1]} right", f"{names[1]} wrong"], "rows": rows}
    if len(a):
        yield Panel("four", "table", "Who is right on which images", "", data)
