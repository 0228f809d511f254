"""What does it say at every offset of a window? The image moves under the classifier's eye, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Frame, Map, Measure, Panel
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import Window
from cuescope.instruments.base import Rows
from cuescope.methods.incremental.crops import crop_logits

_MOST_SHOWN = 6


@dataclass(frozen=True)
class ShiftMap:
    """The answer and P(class) at every offset of a window, as two maps, and P(class) along the window's diagonal.

    The image is resized as the network's evaluation does it, to a short side of 256 px for an input of 224; crops of
    the input's size are taken at each of 32 x 32 offsets from the corner of the middle 256 px (the window of Zhang
    2019; for other inputs in proportion). The middle offset is the evaluation's own crop, if that leaves room for the
    window. The class is the image's label where it is known, else the answer in the middle. The logits are those of
    whole forward passes, but the first layers are computed once for many crops.

    >>> ShiftMap(images=1, step_px=4).range_px
    32
    """

    images: int = 3
    """How many images are looked at, spread evenly over the set."""
    range_px: int = 32
    """Side of the window of offsets, for an input of 224 px."""
    step_px: int = 1
    """Distance of neighboring offsets, in pixels of the network's input."""

    question: ClassVar[str] = "What does it say as the image moves, pixel by pixel?"
    reference: ClassVar[str] = (
        "Azulay & Weiss 2019, figure 1; Zhang 2019, Making convolutional networks shift-invariant again, section 4.1"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {
        "other_answers": "other",
        "top1_change": "change",
        "answers": "distinct",
        "p_range": "p_range",
    }

    def __post_init__(self) -> None:
        if min(self.images, self.step_px) < 1 or self.range_px < 2:
            raise ValueError("images and step_px must be at least 1, and range_px at least 2")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: P(class), the answer and its probability at each offset, row by row, and what they come to."""
        rows = [self._row(classifier, sample, int(batch.labels[i])) for i, sample in enumerate(batch.samples)]
        return pl.DataFrame(rows, schema=_SCHEMA)

    def _window(self, classifier: Classifier, sample: Sample) -> tuple[Tensor, list[int]]:
        """(3, h, w) uint8 and the offsets along each axis."""
        window, how = Window(self.range_px), classifier.preprocessing
        return window.pixels([sample], how)[0], list(range(0, window.offsets(how), self.step_px))

    def _row(self, classifier: Classifier, sample: Sample, label: int) -> dict[str, Any]:
        pixels, offsets = self._window(classifier, sample)
        image = pixels.to(classifier.device).float().div_(255)
        logits = crop_logits(classifier, image, offsets, offsets, classifier.preprocessing.size).logits
        probabilities = logits.double().softmax(2)
        p_answer, answers = (part.numpy() for part in probabilities.max(2))
        middle = int(answers[len(offsets) // 2, len(offsets) // 2])
        tracked = label if label >= 0 else middle
        p = probabilities[..., tracked].numpy()
        steps = answers[1:, 1:] != answers[:-1, :-1]
        return {
            "id": sample.id,
            "label": label if label >= 0 else None,
            "tracked": tracked,
            "middle": middle,
            "offsets": offsets,
            "p": p.ravel().tolist(),
            "answers": answers.ravel().tolist(),
            "p_answer": p_answer.ravel().tolist(),
            "other": float((answers != middle).mean()),
            "change": float(steps.mean()) if steps.size else None,
            "distinct": len(np.unique(answers)),
            "p_range": float(p.max() - p.min()),
            "small": Window(self.range_px).is_small(sample, classifier.preprocessing),
        }

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        step = "one pixel" if self.step_px == 1 else f"{self.step_px} pixels"
        measures = (
            _mean("other_answers", "offsets with another answer than the middle", rows["other"], headline=True),
            _mean("answers", "different answers in the window", rows["distinct"], unit="", headline=True),
            _mean("p_range", "range of P(class) in the window", rows["p_range"], unit="probability"),
            _mean("top1_change", f"P(top-1 change) for a diagonal step of {step}", rows["change"]),
        )
        caveats = []
        if rows["label"].null_count():
            caveats.append("Without a label, the class is the classifier's own answer in the middle of the window.")
        small = int(rows["small"].sum() or 0)
        if small:
            caveats.append(f"{small} of {rows.height} images were smaller than the window and enlarged.")
        return Finding(
            instrument="shift_map",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_traces(rows, about.classes)),
            sentence=_sentence(rows, measures),
            caveats=tuple(caveats),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer changes at most offsets."""
        return rows.sort("other", "id", descending=[True, False])["id"].head(_MOST_SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        order = sorted(range(len(batch)), key=lambda i: batch.ids[i])
        names = classifier.classes.names
        figures = tuple(self._figure(classifier, batch.samples[i], told[batch.ids[i]], names) for i in order)
        caption = (
            "The answer and P(class) at each offset of the crop: one cell a pixel of shift, down and to the right. The "
            "image is the crop in the middle, as the classifier's evaluation takes it."
        )
        if self.step_px > 1:
            caption = caption.replace("one cell a pixel", f"one cell for {self.step_px} pixels")
        yield Panel("maps", "images", "What it says at each offset", caption, figures=figures)

    def _figure(self, classifier: Classifier, sample: Sample, row: Mapping[str, Any], names: Sequence[str]) -> Figure:
        ranks = _ranks(row["answers"])
        side, name = len(row["offsets"]), names[row["tracked"]]
        codes = np.array([float(ranks[answer]) for answer in row["answers"]]).reshape(side, side)
        legend = tuple(names[answer] for answer in ranks)
        answers = Map("labels", codes.tolist(), "answer", legend=legend, alone=True)
        p = np.array(row["p"]).reshape(side, side)
        heat = Map("heat", p.tolist(), f"P({name})", "probability", 0.0, 1.0, alone=True)
        several = f"{len(ranks)} answers" if len(ranks) > 1 else "one answer"
        caption = f"{name}: P from {p.min():.2f} to {p.max():.2f}, {several} at {side} x {side} offsets"
        return Figure(caption, to_image(self._crop(classifier, sample, side // 2)), maps=(answers, heat))

    def _crop(self, classifier: Classifier, sample: Sample, place: int) -> Tensor:
        """The crop at an offset on the diagonal, (3, H, W) uint8."""
        pixels, offsets = self._window(classifier, sample)
        (height, width), start = classifier.preprocessing.size, offsets[place]
        return pixels[:, start : start + height, start : start + width]

    def frames(self, classifier: Classifier, batch: Batch, rows: Rows) -> Sequence[Frame]:
        """The crops along the diagonal of the window."""
        row, names = rows.row(0, named=True), classifier.classes.names
        side, ranks = len(row["offsets"]), _ranks(row["answers"])
        found = []
        for i, offset in enumerate(row["offsets"]):
            answer, p = (row[key][i * side + i] for key in ("answers", "p_answer"))
            pixels = to_image(self._crop(classifier, batch.samples[0], i))
            found.append(Frame(pixels, names[answer], p, ranks[answer], f"moved by {offset} px"))
        return found


_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "label": pl.Int32,
    "tracked": pl.Int32,
    "middle": pl.Int32,
    "offsets": pl.List(pl.Int32),
    "p": pl.List(pl.Float64),
    "answers": pl.List(pl.Int32),
    "p_answer": pl.List(pl.Float64),
    "other": pl.Float64,
    "change": pl.Float64,
    "distinct": pl.Float64,
    "p_range": pl.Float64,
    "small": pl.Boolean,
}


def _ranks(answers: Sequence[int]) -> dict[int, int]:
    """The answers by how often they are given, each with its place in that order."""
    codes, counts = np.unique(answers, return_counts=True)
    order: NDArray[Any] = np.argsort(-counts, kind="stable")
    return {int(codes[i]): rank for rank, i in enumerate(order)}


def _mean(name: str, title: str, values: pl.Series, *, unit: Any = "share", headline: bool = False) -> Measure:
    known = values.drop_nulls().to_numpy()
    why = "the window holds a single offset" if len(values) else "no image was seen"
    told = stats.of_images(known) if len(known) else {"value": None, "why": why}
    return Measure(name, unit=unit, title=title, better="lower", headline=headline, **told)


def _traces(rows: pl.DataFrame, names: Sequence[str]) -> Iterable[Panel]:
    series = []
    # By name, so that a curve has the same dashes for every classifier.
    shown = rows.sort("other", "id", descending=[True, False]).head(_MOST_SHOWN).sort("id")
    for row in shown.iter_rows(named=True):
        side = len(row["offsets"])
        trace = np.array(row["p"]).reshape(side, side).diagonal()
        name = names[row["tracked"]] if row["tracked"] < len(names) else str(row["tracked"])
        series.append({"name": f"{row['id']} ({name})", "x": row["offsets"], "y": trace.tolist()})
    if series:
        axes = {"x": "shift down and to the right (px)", "y": "P(class)"}
        caption = "P(class) along the diagonal of the window: a classifier that does not mind shifts draws a flat line."
        yield Panel("diagonal", "lines", "The probability on the way", caption, {**axes, "series": series})


def _sentence(rows: pl.DataFrame, measures: Sequence[Measure]) -> str:
    other, answers, p_range, _ = (measure.value for measure in measures)
    if other is None or answers is None or p_range is None:
        return f"What it says as the image moves is not measured: {measures[0].why}."
    ends = [max(offsets) + 1 for offsets in rows["offsets"].to_list()]
    window = f"As the crop moves over {max(ends)} x {max(ends)} px"
    images = "one image" if rows.height == 1 else f"{rows.height} images"
    swings = f"the probability of the class ranges over {p_range:.2f}"
    if other == 0:
        return f"{window}, the answer to {images} never changes; {swings}."
    number = f"{answers:.0f}" if float(answers).is_integer() else f"{answers:.1f}"
    gets = "gets" if rows.height == 1 else "get"
    on_average = "" if rows.height == 1 else " on average"
    return (
        f"{window}, {images} {gets} {number} different answers{on_average}: {other:.1%} of the offsets have another "
        f"than the middle, and {swings}."
    )
