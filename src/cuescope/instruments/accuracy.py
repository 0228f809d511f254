"""Is the classifier right, does it know when it is, and what does it take for what?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Look, Measure, Panel, dot
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted, ordinal
from cuescope.data.images import Batch
from cuescope.instruments.base import (
    Instrument,
    Rows,
    answer,
    answered,
    by_id,
    gallery,
    label_ranks,
    typed,
    where_labeled,
)
from cuescope.methods import calibration

CHANCE = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""
OFF = 0.05
"""Mean confidence fits accuracy where it surely differs by less than this..."""
SPREAD = 0.1
"""... and the confidences of images do where the root of their mean squared error is surely less than this."""
ENOUGH = 150
"""Labeled images for errors over 15 bins: ten a bin."""

LOOK = 5
"""Answers that a look at one image shows."""

REMEDY = (
    "Temperature scaling: fit one number that divides all logits, on labeled images that are not these. It changes no "
    "answer."
)


@dataclass(frozen=True)
class Accuracy(Instrument, version=3, order=10, needs={"logits", "label"}):
    """Top-1 and top-5 accuracy, accuracy per class, calibration and the most confused pairs.

    Classes with equal logits share their ranks: among 16 of them each is first in one case of 16. Calibration is the
    smooth calibration error, the debiased squared one, and the expected one over bins (ECE), each beside what a
    calibrated classifier of the same confidences would have; whether it is too sure or not sure enough is mean
    confidence less accuracy over the same images. Where images have several right labels each, `multi_label` scores
    answers against all of them.

    >>> Accuracy(bins=10).bins
    10
    """

    bins: int = 15
    """Equally wide bins of confidence for the expected calibration error; 15 in Guo et al."""
    pairs: int = 12
    """Confused pairs to list."""
    per_class_images: int = 5
    """Classes with fewer labeled images than this are left out of the accuracy per class."""

    question = "Is it right, and does it know when it is?"
    headline = Headline("Is it better than chance?", "top1", "images it is right on (top-1 accuracy)")
    reference = (
        "Guo et al. 2017 (calibration); Blasiok & Nakkiran 2023 (smooth calibration error); "
        "Kumar et al. 2019 (debiased)"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        **typed(pl.Float64, "rank confidence p_label top1 top5"),
    }
    sentences = {
        "no_labels": Sentence(
            "cannot tell", "no image has a label", "Nothing can be said of its accuracy: no image has a label."
        ),
        "right": Sentence(
            "yes",
            "the whole interval of top-1 accuracy lies above chance",
            "It is right on {share:.1%} of {images}.",
        ),
        "by_chance": Sentence(
            "no",
            f"the whole interval of top-1 accuracy lies less than {CHANCE} above chance, and not all of it above",
            "It is right on {share:.1%} of {images}, no more than the {chance:.1%} of chance.",
            clause="is right no more often than by chance",
        ),
        "unclear": Sentence(
            "cannot tell",
            f"the interval of top-1 accuracy holds chance and reaches {CHANCE} above it or further, or there is none",
            "It is right on {share:.1%} of {images}; whether that is more than chance ({chance:.1%}) cannot be said.",
        ),
        "fits": Sentence(
            "yes",
            f"all of the interval of mean confidence less accuracy lies within {OFF}, and that of the root mean square "
            f"error below {SPREAD}",
            f"Its confidence fits: on average it is off by {{gap:.1f}} points, surely less than {100 * OFF:.0f}.",
        ),
        "surer": Sentence(
            "no",
            "the whole interval of mean confidence less accuracy lies above 0, and it does not fit",
            "It is surer than it is right: its mean confidence is {gap:.1f} points above its accuracy "
            "({low:.1f} to {high:.1f}).",
            REMEDY,
        ),
        "less_sure": Sentence(
            "no",
            "the whole interval of mean confidence less accuracy lies below 0, and it does not fit",
            "It is less sure than it could be: its mean confidence is {gap:.1f} points below its accuracy "
            "({low:.1f} to {high:.1f}).",
            REMEDY,
        ),
        "uneven": Sentence(
            "no",
            "mean confidence may equal accuracy and does not surely fit, the whole interval of the squared error lies "
            "above 0, and so large an ECE would have less than 1 calibrated classifier of 20",
            "Its confidence is right on average, but too high on some images and too low on others, by {rms:.1f} "
            "points (root mean square).",
        ),
        "unsure": Sentence(
            "cannot tell",
            "none of the other sentences on confidence may be said",
            "Whether its confidence fits cannot be said from {images}: it is {gap:.1f} points {side} its accuracy, "
            "which may be by chance.",
        ),
    }

    def __post_init__(self) -> None:
        if self.bins < 1 or self.pairs < 0 or self.per_class_images < 1:
            raise ValueError("bins and per_class_images must be at least 1, pairs at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: label, answer, confidence, the label's expected rank, and how likely it is first, of five."""
        probabilities, ranks = batch.logits.double().softmax(1), label_ranks(batch)
        confidence, predicted = probabilities.max(1)
        at = batch.labels.clamp(min=0)[:, None]
        first = {f"top{m}": ranks.among_first(m)[:, 0] for m in (1, 5)}
        found = {"p_label": probabilities.gather(1, at)[:, 0], "rank": ranks.expected[:, 0], **first}
        known = {name: where_labeled(batch, values) for name, values in found.items()}
        said = {"predicted": predicted.numpy(), "confidence": confidence.numpy()}
        return self.table({**answered(batch), **said, **known})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = rows.drop_nulls("label")
        tops = [_top(m, len(about.classes), labeled) for m in (1, 5)]
        errors = self._calibration(labeled)
        panels = *_reliability(labeled), *self._per_class(labeled, about), *self._confused(labeled, about)
        verdict = self._verdict(tops[0], errors)
        return Conclusion((*tops, *errors.values()), panels, verdict, self._caveats(labeled, rows, errors))

    def _verdict(self, top1: Measure, errors: dict[str, Measure]) -> Verdict:
        if top1.value is None or top1.chance is None:
            return self.say("no_labels")
        about = {"share": top1.value, "images": counted(top1.n, "image")}
        if top1.above(top1.chance):
            said = self.say("right", **about)
        else:
            name = "by_chance" if top1.below(top1.chance + CHANCE) else "unclear"
            said = self.say(name, chance=top1.chance, **about)
        gap, rms, squared, ece = (errors[name] for name in ("gap", "rms", "squared", "ece_by_chance"))
        points = 100 * abs(gap.value or 0.0)
        if gap.within(-OFF, OFF) and rms.below(SPREAD):
            return said + self.say("fits", gap=points)
        if gap.interval and (gap.above(0) or gap.below(0)):
            low, high = sorted(100 * abs(end) for end in gap.interval)
            return said + self.say("surer" if gap.above(0) else "less_sure", gap=points, low=low, high=high)
        if squared.above(0) and ece.value is not None and ece.value < 0.05:
            return said + self.say("uneven", rms=100 * (rms.value or 0.0))
        side = "above" if (gap.value or 0.0) > 0 else "below"
        return said + self.say("unsure", gap=points, side=side, images=about["images"])

    def examples(self, rows: Rows) -> list[str]:
        """The most confident mistakes."""
        wrong = rows.filter(pl.col("label") != pl.col("predicted")).sort("confidence", "id", descending=[True, False])
        return wrong["id"].head(8).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)

        def caption_of(name: str) -> str:
            row = row_of[name]
            return f"labeled {names[row['label']]}; it says {names[row['predicted']]} at {row['confidence']:.0%}"

        figures = gallery(batch, sorted(batch.ids, key=lambda name: -row_of[name]["confidence"]), caption_of)
        caption = "Is the model wrong, or the label?"
        yield Panel("mistakes", "images", "Most confident mistakes", caption, figures=figures)

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, names = rows.row(0, named=True), classifier.classes.names
        top = batch.logits[0].double().softmax(0).topk(min(LOOK, len(names)))
        dots = [dot(names[k], p) for p, k in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
        said = f"It says {answer(classifier, batch.logits[0])}"
        if row["label"] == row["predicted"]:
            said += ", which is right"
        elif row["label"] is not None:
            said += (
                f"; it is {names[row['label']]} ({row['p_label']:.0%}), which it ranks {ordinal(round(row['rank']))}"
            )
        data = {"unit": "probability", "rows": dots}
        image = Panel("image", "images", "", figures=gallery(batch, batch.ids, lambda _: "image"))
        return Look(f"{said}.", (image, Panel("answers", "dots", "Probabilities of its answers", data=data)))

    def _calibration(self, labeled: pl.DataFrame) -> dict[str, Measure]:
        n, (confidence, right) = labeled.height, (labeled[name].to_numpy() for name in ("confidence", "top1"))
        title, none = "mean confidence less accuracy", "no image has a label"
        gap = stats.difference("gap", confidence, right, title=title, why=none, headline=True)
        few = f"an error over bins needs at least {ENOUGH} labeled images, not {n}" if n < ENOUGH else ""
        found = [gap, *_squared(confidence, right)]
        smooth = None if few else calibration.smooth(confidence, right)
        ece = None if few else calibration.by_bins(confidence, right, self.bins)
        for name, error, title in (("smece", smooth, "smooth"), ("ece", ece, "expected")):
            title = f"{title} calibration error ({'smECE' if name == 'smece' else 'ECE'})"
            value, span, null = (error.value, error.interval, error.null) if error else (None, None, None)
            more = {"title": title, "chance": null, "headline": name == "smece"}
            found.append(Measure(name, value, "share", n, span, few, **more))
        title = "calibrated classifiers with so large an ECE"
        found.append(Measure("ece_by_chance", ece.p if ece else None, "probability", n, why=few, title=title))
        return {measure.name: measure for measure in found}

    def _per_class(self, labeled: pl.DataFrame, about: About) -> Iterable[Panel]:
        classes = labeled.group_by("label").agg(pl.len().alias("n"), pl.col("top1").sum().alias("k"))
        table = classes.filter(pl.col("n") >= self.per_class_images).sort(pl.col("k") / pl.col("n"), "label")
        if not table.height:
            return
        right = dict(labeled.group_by("label").agg("top1").iter_rows())
        shares = [(label, stats.mean_share("", right[label])) for label in table["label"].head(30)]
        worst = [dot(about.classes[label], share.value, share.interval, share.n) for label, share in shares]
        caption = "Top-1 accuracy per class, lowest first" + (f"; 30 of {table.height}" if table.height > 30 else "")
        yield Panel("per_class", "dots", "Which classes it gets wrong", caption + ".", {"unit": "share", "rows": worst})

    def _confused(self, labeled: pl.DataFrame, about: About) -> Iterable[Panel]:
        wrong = labeled.filter(pl.col("label") != pl.col("predicted"))
        pairs = wrong.group_by("label", "predicted").len("n")
        top = pairs.sort("n", "label", "predicted", descending=[True, False, False])
        # A list of pairs that occur once each tells nothing of what is confused.
        if not top.height or not self.pairs or top["n"][0] < 2:
            return
        of = dict(labeled.group_by("label").len("n").iter_rows())
        cells = [[about.classes[a], about.classes[b], n, of[a]] for a, b, n in top.head(self.pairs).iter_rows()]
        data = {"columns": ["labeled", "called", "images", "of"], "rows": cells}
        yield Panel("confused", "table", "Most confused pairs", "Most often first.", data)

    def _caveats(self, labeled: pl.DataFrame, rows: Rows, errors: dict[str, Measure]) -> tuple[str, ...]:
        caveats = []
        if labeled.height and labeled.group_by("label").len("n")["n"].max() < self.per_class_images:  # type: ignore[operator]
            caveats.append(
                f"No class has {self.per_class_images} labeled images, so no accuracy per class is given and the "
                "confused pairs are anecdotes."
            )
        if rows.height > labeled.height:
            lost = counted(rows.height - labeled.height, "image")
            caveats.append(f"{lost} without a usable label {'is' if lost[:2] == '1 ' else 'are'} left out.")
        smooth, ece = errors["smece"].chance, errors["ece"].chance
        if smooth is not None and ece is not None:
            caveats.append(
                f"A calibrated classifier of the same confidences would have a smECE of {smooth:.3f} and an ECE of "
                f"{ece:.3f} on so many images; both are resampled with pivotal intervals."
            )
        if labeled.height:
            caveats.append("If these images were used in training, this is no estimate of accuracy on new ones.")
        return tuple(caveats)


def _top(m: int, classes: int, labeled: pl.DataFrame) -> Measure:
    """The share of images whose label is among the first m of the classes."""
    name, title = f"top{m}", f"top-{m} accuracy"
    if m > 1 and classes <= m:
        return Measure(name, None, "share", labeled.height, title=title, why=f"there are only {classes} classes")
    more = {"chance": m / classes, "better": "higher", "headline": True, "per_image": name}
    of = stats.share if labeled[name].is_in([0.0, 1.0]).all() else stats.mean_share  # ties count in part
    return of(name, labeled[name], title=title, why="no image has a label", **more)


def _squared(confidence: np.ndarray, right: np.ndarray) -> Sequence[Measure]:
    """The debiased squared error, and its root."""
    titles, n = ("squared calibration error, debiased", "root mean square calibration error"), len(right)
    if n < 2 * calibration.FOLDS:
        why = f"it needs at least {2 * calibration.FOLDS} labeled images, not {n}"
        return [Measure(name, None, n=n, why=why, title=t) for name, t in zip(("squared", "rms"), titles, strict=True)]
    value, span = calibration.squared(confidence, right)
    roots = None if span is None else (max(0.0, span[0]) ** 0.5, max(0.0, span[1]) ** 0.5)
    root = Measure("rms", max(0.0, value) ** 0.5, "share", n, roots, title=titles[1])
    return Measure("squared", value, "", n, span, title=titles[0], chance=0.0), root


def _reliability(labeled: pl.DataFrame) -> Iterable[Panel]:
    if labeled.height < 2:
        return
    confidence, right = labeled["confidence"].to_numpy(), labeled["top1"].to_numpy()
    parts, low, high = calibration.reliability(confidence, right)
    x, shares = [float(confidence[part].mean()) for part in parts], [stats.mean_share("", right[p]) for p in parts]
    ends = list(zip(*(share.interval or (None, None) for share in shares), strict=True))
    measured = {"name": "measured", "x": x, "y": [share.value for share in shares], "low": ends[0], "high": ends[1]}
    expected = {"name": "if it were calibrated", "x": x, "y": x, "low": low.tolist(), "high": high.tolist()}
    data = {"x": "confidence", "y": "accuracy", "series": [measured, expected], "diagonal": True}
    caption = "Below the diagonal it is surer than it is right; the band of a calibrated one holds 90%."
    yield Panel("reliability", "lines", "Confidence against accuracy", caption, data)
    counts, edges = np.histogram(confidence, 20, (0, 1))
    data = {"x": "confidence", "y": "images", "edges": edges.tolist(), "values": counts.tolist()}
    yield Panel("confidence", "bars", "How confident it is", "", data)
