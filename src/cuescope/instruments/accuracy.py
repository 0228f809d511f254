"""Is the classifier right, does it know when it is, and what does it take for what?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, answered, by_id, gallery, typed, where_labeled


@dataclass(frozen=True)
class Accuracy(Instrument, version=2, order=10, needs={"logits", "label"}):
    """Top-1 and top-5 accuracy, accuracy per class, calibration and the most confused pairs.

    Calibration is the expected calibration error (Guo et al. 2017, eq. 3): the mean distance of confidence from
    accuracy over equally wide bins of confidence, weighted by their images. Where images have several right labels
    each, `multi_label` scores answers against all of them.

    >>> Accuracy(bins=10).bins
    10
    """

    bins: int = 15
    """Bins of confidence for the calibration error; 15 in Guo et al."""
    pairs: int = 12
    """Confused pairs to list."""
    per_class_images: int = 5
    """Classes with fewer labeled images than this are left out of the accuracy per class."""

    question = "Is it right, and does it know when it is?"
    reference = "Guo et al. 2017 (calibration)"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted rank"),
        **typed(pl.Float64, "confidence p_label"),
        **typed(pl.Boolean, "top1 top5"),
    }

    def __post_init__(self) -> None:
        if self.bins < 1 or self.pairs < 0 or self.per_class_images < 1:
            raise ValueError("bins and per_class_images must be at least 1, pairs at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the label, the answer, its confidence, the label's rank, and whether it is right."""
        probabilities = batch.logits.double().softmax(1)
        confidence, predicted = probabilities.max(1)
        at = batch.labels.clamp(min=0)[:, None]
        # The rank counts only what beats the label, so a tie does not push it out of the top 5.
        rank = (batch.logits > batch.logits.gather(1, at)).sum(1)
        right = {"top1": predicted == batch.labels, "top5": rank < 5}
        found = {"p_label": probabilities.gather(1, at)[:, 0], "rank": rank, **right}
        known = {name: where_labeled(batch, values) for name, values in found.items()}
        first = {"predicted": predicted.numpy(), "confidence": confidence.numpy()}
        return self.table({**answered(batch), **first, **known})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = rows.drop_nulls("label")
        top1, top5 = (_top(m, len(about.classes), labeled) for m in (1, 5))
        ece = self._calibration(labeled)
        panels = *self._reliability(labeled), *self._per_class(labeled, about), *self._confused(labeled, about)
        return Conclusion((top1, top5, ece), panels, _sentence(top1, ece, labeled), self._caveats(labeled, rows))

    def examples(self, rows: Rows) -> list[str]:
        """The most confident mistakes."""
        wrong = rows.filter(pl.col("top1").eq(False)).sort("confidence", "id", descending=[True, False])
        return wrong["id"].head(8).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)

        def caption_of(name: str) -> str:
            row = row_of[name]
            return f"labeled {names[row['label']]}; it says {names[row['predicted']]} at {row['confidence']:.0%}"

        figures = gallery(batch, sorted(batch.ids, key=lambda name: -row_of[name]["confidence"]), caption_of)
        caption = "The most confident mistakes come first: look whether the model or the label is wrong."
        yield Panel("mistakes", "images", "Most confident mistakes", caption, figures=figures)

    def _calibration(self, labeled: pl.DataFrame) -> Measure:
        title = "calibration error (ECE)"
        if labeled.height < 2:
            return Measure("ece", None, "share", labeled.height, title=title, why="fewer than two labeled images")
        confidence, right = labeled["confidence"].to_numpy(), labeled["top1"].to_numpy().astype(float)
        value, generator = _ece(confidence, right, self.bins), np.random.default_rng(0)
        draws = (generator.integers(0, labeled.height, labeled.height) for _ in range(500))
        values = [_ece(confidence[draw], right[draw], self.bins) for draw in draws]
        low, high = np.percentile(values, [2.5, 97.5])
        # Resampling adds noise that the error counts as miscalibration: shift the interval back to the value.
        shift = float(np.mean(values)) - value
        interval = (max(0.0, float(low) - shift), float(high) - shift)
        return Measure("ece", value, "share", labeled.height, interval, title=title, better="lower", headline=True)

    def _reliability(self, labeled: pl.DataFrame) -> Iterable[Panel]:
        if labeled.height < 2:
            return
        bins = _bin(labeled["confidence"].to_numpy(), labeled["top1"].to_numpy().astype(float), self.bins)
        images, confidence, right = (values[bins[0] > 0] for values in bins)
        spans = [stats.wilson(int(r), int(n)) for r, n in zip(right, images, strict=True)]
        low, high = (list(side) for side in zip(*spans, strict=True))
        x, y = (confidence / images).tolist(), (right / images).tolist()
        series = {"name": "", "x": x, "y": y, "low": low, "high": high}
        data = {"x": "confidence", "y": "share that is right", "series": [series], "diagonal": True}
        caption = "On the diagonal, confidence is honest; below it, the classifier is surer than it is right."
        yield Panel("reliability", "lines", "Confidence against accuracy", caption, data)
        edges = np.linspace(0, 1, self.bins + 1).tolist()
        data = {"x": "confidence", "y": "images", "edges": edges, "values": bins[0].astype(int).tolist()}
        yield Panel("confidence", "bars", "How confident it is", "Images in each bin of the reliability plot.", data)

    def _per_class(self, labeled: pl.DataFrame, about: About) -> Iterable[Panel]:
        classes = labeled.group_by("label").agg(pl.len().alias("n"), pl.col("top1").sum().alias("k"))
        table = classes.filter(pl.col("n") >= self.per_class_images).sort(pl.col("k") / pl.col("n"), "label")
        if not table.height:
            return
        counts = table.head(30).iter_rows()
        worst = [dot(about.classes[label], k / n, stats.wilson(k, n), n) for label, n, k in counts]
        caption = "Top-1 accuracy per class, lowest first" + (f"; 30 of {table.height}" if table.height > 30 else "")
        yield Panel("per_class", "dots", "Which classes it gets wrong", caption + ".", {"unit": "share", "rows": worst})

    def _confused(self, labeled: pl.DataFrame, about: About) -> Iterable[Panel]:
        wrong = labeled.filter(~pl.col("top1"))
        pairs = wrong.group_by("label", "predicted").len("n")
        top = pairs.sort("n", "label", "predicted", descending=[True, False, False])
        if not top.height or not self.pairs:
            return
        of = dict(labeled.group_by("label").len("n").iter_rows())
        cells = [[about.classes[a], about.classes[b], n, of[a]] for a, b, n in top.head(self.pairs).iter_rows()]
        data = {"columns": ["labeled", "called", "images", "of"], "rows": cells}
        yield Panel("confused", "table", "Most confused pairs", "What was taken for what, most often first.", data)

    def _caveats(self, labeled: pl.DataFrame, rows: Rows) -> tuple[str, ...]:
        caveats = []
        if labeled.height and labeled.group_by("label").len("n")["n"].max() < self.per_class_images:  # type: ignore[operator]
            caveats.append(
                f"No class has {self.per_class_images} labeled images, so no accuracy per class is given and the "
                "confused pairs are anecdotes."
            )
        if rows.height > labeled.height:
            caveats.append(f"{rows.height - labeled.height} images without a usable label are left out.")
        if labeled.height:
            caveats.append("If these images were used in training, this is no estimate of accuracy on new ones.")
        return tuple(caveats)


def _top(m: int, classes: int, labeled: pl.DataFrame) -> Measure:
    """The share of images whose label is among the first m of the classes."""
    name, title = f"top{m}", f"top-{m} accuracy"
    if m > 1 and classes <= m:
        return Measure(name, None, "share", labeled.height, title=title, why=f"there are only {classes} classes")
    more = {"chance": m / classes, "better": "higher", "headline": True, "per_image": name}
    return stats.share(name, labeled[name], title=title, why="no image has a label", **more)


def _bin(confidence: np.ndarray, right: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, summed confidence and right answers in each of the bins (low, high]."""
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    summed, hits = (np.bincount(at, weights, bins) for weights in (confidence, right))
    return np.bincount(at, minlength=bins), summed, hits


def _ece(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Expected calibration error: sum over bins of |accuracy - confidence|, weighted by images.

    >>> round(_ece(np.array([0.9, 0.9]), np.array([1.0, 0.0]), 10), 3)
    0.4
    """
    _, sure, hits = _bin(confidence, right, bins)
    return float(np.abs(sure - hits).sum() / len(confidence))


def _sentence(top1: Measure, ece: Measure, labeled: pl.DataFrame) -> str:
    if top1.value is None:
        return "Nothing can be said of its accuracy: no image has a label."
    text = f"It is right on {top1.value:.1%} of {top1.n:,} images"
    if ece.value is None:
        return text + "."
    gap = float(labeled["confidence"].mean() or 0) - top1.value  # type: ignore[arg-type]
    if abs(gap) < 0.02:
        off = f"{100 * ece.value:.1f} points"
        return f"{text}, and about as sure as it is right (its confidence is off by {off} on average)."
    side = "surer than it is right" if gap > 0 else "less sure than it could be"
    where = f"{100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'}"
    return f"{text}, and {side}: its mean confidence is {where} its accuracy."
