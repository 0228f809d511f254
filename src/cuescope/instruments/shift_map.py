"""What does it say at every offset of a window? The crop moves over the image pixel by pixel."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.findings import About, Conclusion, Figure, Frame, Look, Map, Measure, Panel, Unit
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import listed
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import Window
from cuescope.instruments.base import Instrument, Rows, by_id, typed
from cuescope.methods.incremental.crops import crop_logits

MARGIN = 0.02
"""An answer that surely differs at fewer of the offsets stays, one that surely differs at more does not."""


@dataclass(frozen=True)
class ShiftMap(Instrument, version=2, order=110, needs={"logits"}):
    """The answer and P(class) at every offset of a window, as two maps, and P(class) along the window's diagonal.

    The crops lie at each of 32 x 32 offsets from the corner of the image's middle 256 px, for an input of 224 px (Zhang
    2019; for others in proportion). The middle offset is the evaluation's own crop, if that leaves room. The class is
    the image's label, else the answer in the middle. Logits are exact, the first layers computed once for many crops.

    >>> ShiftMap(images=1, step_px=4).range_px
    32
    """

    images: int = 3
    """How many images are looked at, spread evenly over the set; fewer than five are examples and no more."""
    range_px: int = 32
    """Side of the window of offsets, for an input of 224 px."""
    step_px: int = 1
    """Distance of neighboring offsets, in pixels of the network's input."""

    question = "What does it say as the image moves, pixel by pixel?"
    reference = (
        "Azulay & Weiss 2019, figure 1; Zhang 2019, Making convolutional networks shift-invariant again, section 4.1"
    )
    animates = True
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label tracked middle"),
        **typed(pl.List(pl.Int32), "offsets answers"),
        **typed(pl.List(pl.Float64), "p p_answer"),
        **typed(pl.Float64, "other change distinct p_range"),
        "small": pl.Boolean,
    }

    sentences = {
        "nothing": Sentence(
            "cannot tell", "no offset was seen", "What it says as the image moves is not measured: {why}."
        ),
        "few": Sentence(
            "cannot tell",
            "there are fewer images than an interval needs",
            "{seen}. So few images are examples.",
        ),
        "moves": Sentence(
            "yes",
            "the share of offsets with another answer lies above MARGIN with its whole interval",
            "{seen}.",
            remedy="Blur before it subsamples, and train it on with stronger crops.",
            command="cuescope cure {model} --images {images} --for shift",
        ),
        "stays": Sentence(
            "no",
            "the share of offsets with another answer lies below MARGIN, and the accuracy in the middle above chance",
            f"{{seen}}, which is less than {MARGIN:.0%}.",
        ),
        "blind": Sentence(
            "cannot tell",
            "the share of offsets with another answer lies below MARGIN, but the accuracy does not lie above chance",
            "{seen}, but a classifier that is not seen to be right more often than by chance may see nothing.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of the share of offsets with another answer holds MARGIN, or there is none",
            f"{{seen}}; whether more than {MARGIN:.0%} do on images in general cannot be said from {{images}}.",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.step_px) < 1 or self.range_px < 2:
            raise ValueError("images and step_px must be at least 1, and range_px at least 2")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: P(class), the answer and its probability at each offset, row by row, and what they come to."""
        rows = [self._row(classifier, sample, int(batch.labels[i])) for i, sample in enumerate(batch.samples)]
        return pl.DataFrame(rows, schema=dict(self.columns))

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

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        step = "one pixel" if self.step_px == 1 else f"{self.step_px} pixels"
        why = "the window holds a single offset" if rows.height else "no image was seen"

        def mean(name: str, column: str, title: str, unit: Unit = "share", **more: Any) -> Measure:
            return stats.mean(name, rows[column].drop_nulls(), unit, why=why, title=title, per_image=column, **more)

        labeled = rows.select("label", "middle").drop_nulls()
        title = "offsets with another answer than the middle"
        none = "no image has a label" if rows.height else "no image was seen"
        chance = agreement_by_chance(labeled["label"], labeled["middle"])
        right = {"title": "accuracy of the crop in the middle", "better": "higher", "chance": chance, "why": none}
        measures = (
            mean("other_answers", "other", title, headline=True, better="lower"),
            mean("answers", "distinct", "different answers in the window", "", headline=True),
            # It falls where logits are scaled down, which changes no answer.
            mean("p_range", "p_range", "range of P(class) in the window", "probability"),
            mean("top1_change", "change", f"P(top-1 change) for a diagonal step of {step}", better="lower"),
            stats.share("accuracy", labeled["label"] == labeled["middle"], **right),
        )
        caveats = []
        if rows["label"].null_count():
            caveats.append("Without a label, the class is the classifier's own answer in the middle of the window.")
        if small := int(rows["small"].sum() or 0):
            caveats.append(f"{small} of {rows.height} images were smaller than the window and enlarged.")
        panels = tuple(_traces(rows, self.examples(rows), about.classes))
        return Conclusion(measures, panels, self._verdict(rows, measures), tuple(caveats))

    def _verdict(self, rows: Rows, measures: Sequence[Measure]) -> Verdict:
        other, answers, p_range, _, accuracy = measures
        if other.value is None:
            return self.say("nothing", why=other.why)
        side = rows["offsets"].explode().max() + 1  # type: ignore[operator] - whole numbers
        images, get = ("one image", "gets") if rows.height == 1 else (f"{rows.height} images", "on average get")
        window, swings = f"As the crop moves over {side} x {side} px", f"P(class) ranges over {p_range.value:.2f}"
        seen = f"{window}, the answer to {images} never changes, and {swings}"
        if other.value:
            seen = (
                f"{window}, {images} {get} {answers.value:.3g} different answers, and {swings}: {other.value:.1%} of "
            )
            seen += "the offsets have another answer than the middle"
        if rows.height < stats.UNITS:
            return self.say("few", seen=seen)
        if other.below(MARGIN):
            return self.say("stays" if accuracy.above(accuracy.chance) else "blind", seen=seen)
        return (
            self.say("moves", seen=seen) if other.above(MARGIN) else self.say("cannot_tell", seen=seen, images=images)
        )

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer changes at most offsets."""
        return rows.sort("other", "id", descending=[True, False])["id"].head(6).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, samples = by_id(rows), sorted(batch.samples, key=lambda sample: sample.id)
        figures = tuple(self._figure(classifier, sample, row_of[sample.id]) for sample in samples)
        caption = f"One cell for {self.step_px} px of shift down and to the right; the image is the crop in the middle."
        yield Panel("maps", "images", "What it says at each offset", caption, figures=figures)

    def _figure(self, classifier: Classifier, sample: Sample, row: Mapping[str, Any]) -> Figure:
        ranks, names = _ranks(row["answers"]), classifier.classes.names
        side, name = len(row["offsets"]), names[row["tracked"]]
        codes = np.array([float(ranks[answer]) for answer in row["answers"]]).reshape(side, side).tolist()
        answers = Map("labels", codes, "answer", legend=tuple(names[answer] for answer in ranks), alone=True)
        p = np.array(row["p"]).reshape(side, side)
        heat = Map("heat", p.tolist(), f"P({name})", "probability", 0.0, 1.0, alone=True)
        several = f"{len(ranks)} answers" if len(ranks) > 1 else "one answer"
        offsets = f"{side} x {side} offsets {self.step_px} px apart"
        caption = f"{name}: P from {p.min():.2f} to {p.max():.2f}, {several} at {offsets}"
        return Figure(caption, to_image(self._crop(classifier, sample, side // 2)), maps=(answers, heat))

    def _crop(self, classifier: Classifier, sample: Sample, place: int) -> Tensor:
        """The crop at an offset on the diagonal, (3, H, W) uint8."""
        pixels, offsets = self._window(classifier, sample)
        (height, width), start = classifier.preprocessing.size, offsets[place]
        return pixels[:, start : start + height, start : start + width]

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, names = rows.row(0, named=True), classifier.classes.names
        middle, side = (len(row["offsets"]) // 2) * (len(row["offsets"]) + 1), row["offsets"][-1] + 1
        said = f"The crop in the middle is {names[row['middle']]} ({row['p_answer'][middle]:.0%})"
        if others := int(row["distinct"]) - 1:
            ranked = (names[answer] for answer in _ranks(row["answers"]) if answer != row["middle"])
            others = listed([*itertools.islice(ranked, 2), *([f"{others - 2} more"] if others > 2 else [])])
            said += (
                f"; as it moves over {side} x {side} px, {row['other']:.0%} of the offsets say something else: {others}"
            )
        else:
            said += f", and so are all others as it moves over {side} x {side} px"
        panel = Panel("map", "images", "", figures=(self._figure(classifier, batch.samples[0], row),))
        return Look(f"{said}.", (panel,), self._frames(classifier, batch, row))

    def _frames(self, classifier: Classifier, batch: Batch, row: Mapping[str, Any]) -> tuple[Frame, ...]:
        """The crops along the diagonal of the window."""
        names = classifier.classes.names
        ranks, step = _ranks(row["answers"]), len(row["offsets"]) + 1
        found = []
        for i, (answer, p) in enumerate(zip(row["answers"][::step], row["p_answer"][::step], strict=True)):
            pixels, moved = to_image(self._crop(classifier, batch.samples[0], i)), f"moved by {row['offsets'][i]} px"
            found.append(Frame(pixels, names[answer], p, ranks[answer], moved))
        return tuple(found)


def _ranks(answers: Sequence[int]) -> dict[int, int]:
    """The answers by how often they are given, each with its place in that order."""
    codes, counts = np.unique(answers, return_counts=True)
    ranked = codes[np.argsort(-counts, kind="stable")].tolist()
    return {answer: rank for rank, answer in enumerate(ranked)}


def _traces(rows: pl.DataFrame, shown: Sequence[str], names: Sequence[str]) -> Iterable[Panel]:
    series = []
    # By name, so that a curve has the same dashes for every classifier.
    for row in rows.filter(pl.col("id").is_in(shown)).sort("id").iter_rows(named=True):
        trace = row["p"][:: len(row["offsets"]) + 1]
        series.append({"name": f"{row['id']} ({names[row['tracked']]})", "x": row["offsets"], "y": trace})
    if series:
        data = {"x": "shift down and to the right (px)", "y": "P(class)", "series": series}
        caption = "The curve is flat where the shift changes nothing."
        yield Panel("diagonal", "lines", "P(class) along the diagonal", caption, data)
