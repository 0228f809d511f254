"""What does each part of the image show?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Look, Map, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answer, by_id, no_dense_head, typed
from cuescope.methods.annotator_score import class_indices, classes_of_positions, score_of_labels, score_of_positions
from cuescope.methods.patch_annotator import Annotator

FAINT, FULL = 0.25, 0.8
"""How strongly a label is laid on the image where it has just won, and where its probability is 1."""
MARGIN = 0.05
"""A share that is surely less than this above chance is no better, and one that differs by less is the same."""


@dataclass(frozen=True)
class LabelMap(Instrument, version=3, order=160, needs={"logits"}):
    """How many things a classifier sees in an image: the classes that win a good part of its map of labels.

    A dense head gives the logits at each position (Yun et al. 2021, section 3.1); a class wins where its probability
    among all classes is over `least`, and counts where it wins `least_area` of the positions. An image that has one
    label by the softmax of the whole may have several so, or none. The maps are what `cuescope make label-maps`
    stores, there of whole images, here of what the classifier sees. Where the boxes of objects are known, the class of
    each position is set beside them; where all right labels are (ReaL), the classes of the map beside these.

    >>> LabelMap(images=4).least
    0.5
    """

    images: int = 128
    """Images to look at, spread evenly over the set."""
    least: float = 0.5
    """The probability that a class must exceed at a position to win there; at least .5, so that only one can."""
    least_area: float = 0.1
    """The share of the positions that a class must win to be counted. On the world's images of several objects .1
    comes nearest to their true number; single positions are often sure of what is not there."""
    shown: int = 4
    """Images to show, those with the most labels."""

    question = "What does each part of the image show, and how many things are there?"
    reference = "Yun et al. 2021, Re-labeling ImageNet: from Single to Multi-Labels, section 3.1"
    columns = {
        "id": pl.String,
        **typed(pl.List(pl.Int32), "labels top boxes right"),
        **typed(pl.List(pl.Float64), "areas sure"),
        **typed(pl.Int32, "count count_half count_double height width"),
        **typed(pl.Boolean, "several whole own"),
    }

    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "No image was seen."),
        "one": Sentence("cannot tell", "one image was seen", "Its map of the image has {found}."),
        "counts": Sentence(
            "cannot tell",
            "several images were seen",
            "Its maps have more than one class in {share:.0%}{span} of {n} images, and {labels:.2f} classes an image.",
        ),
        "unchecked": Sentence(
            "cannot tell",
            "neither boxes nor all right labels are known",
            "Nothing here says whether they are there.",
            "give --boxes DIR or --real FILE, so that the maps can be checked",
        ),
        "finds_objects": Sentence(
            "yes",
            "the interval of positions in boxes lies above chance, and that of in boxes less beside them above 0",
            "In boxes {inside:.1%} of positions have the box's class (by chance {chance:.1%}), beside {beside:.1%}.",
        ),
        "not_where": Sentence(
            "no",
            "positions in boxes lie above chance, and in boxes less beside them is surely less than MARGIN",
            "In boxes {inside:.1%} of positions have the box's class (by chance {chance:.1%}), beside {beside:.1%}: "
            "its maps do not say where the object is.",
        ),
        "no_objects": Sentence(
            "no",
            "positions in boxes are surely less than MARGIN above chance, and not surely above it",
            "In boxes {inside:.1%} of positions have the box's class, no more than by chance ({chance:.1%}).",
        ),
        "objects_open": Sentence(
            "cannot tell",
            "none of these three",
            "In boxes {inside:.1%} of positions have the box's class: whether its maps say what is where cannot be "
            "told from {images}.",
        ),
        "labels_fit": Sentence(
            "yes",
            "the intervals of precision and recall lie above chance",
            "Of the classes of its maps {precision:.1%} are right labels (chance {by_chance:.1%}); of the right labels "
            "they have {recall:.1%}.",
        ),
        "labels_open": Sentence(
            "cannot tell",
            "they do not, or there is none",
            "Whether the classes of its maps are right labels cannot be told: {precision} are, by chance {by_chance}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or not 0.5 <= self.least < 1 or not 0 <= self.least_area <= 1 or self.shown < 0:
            raise ValueError("images must be at least 1, least in [.5, 1), least_area in [0, 1], shown at least 0")

    def start(self, classifier: Classifier) -> Observer:
        if classifier.dense is None:
            raise Misfit(no_dense_head(classifier))
        annotator = Annotator.of(classifier)
        observe = partial(self._observe, annotator, class_indices(classifier.classes))
        return Observer(observe, facts={"position": annotator.description})

    def _observe(self, annotator: Annotator, indices: Callable[[str], int], batch: Batch) -> Rows:
        """Per image: the class and its probability at each position, the classes that win, and what is there."""
        maps = annotator.logits(batch.pixels)
        sure, top = maps.softmax(1).max(1)
        others = {name: (maps / t).softmax(1).amax(1) for name, t in (("count_half", 0.5), ("count_double", 2.0))}
        how, right = annotator.classifier.preprocessing, batch.all_labels or ((),) * len(batch)
        whole = batch.logits.softmax(1).amax(1)
        rows = []
        for i, (name, label) in enumerate(zip(batch.ids, batch.labels.tolist(), strict=True)):
            labels, cells = top[i][sure[i] > self.least].unique(return_counts=True)
            order = cells.argsort(descending=True, stable=True)
            areas, labels = (cells[order] / top[i].numel()).tolist(), labels[order].tolist()
            counted = [k for k, area in zip(labels, areas, strict=True) if area >= self.least_area]
            row = {"id": name, "labels": labels, "areas": areas, "count": len(counted), "several": len(counted) > 1}
            row |= {"whole": bool(whole[i] > self.least), "own": label in counted if label >= 0 else None}
            row |= {key: self._counted(top[i], scaled[i]) for key, scaled in others.items()}
            row["boxes"] = classes_of_positions(batch.samples[i], indices, how, (top.shape[1], top.shape[2]))
            row["right"] = list(right[i]) or None
            row |= {"height": top.shape[1], "width": top.shape[2], "top": top[i].flatten().tolist()}
            rows.append({**row, "sure": [round(p, 3) for p in sure[i].flatten().tolist()]})
        return pl.DataFrame(rows, schema=dict(self.columns))

    def _counted(self, top: Tensor, sure: Tensor) -> int:
        _, cells = top[sure > self.least].unique(return_counts=True)
        return int((cells / top.numel() >= self.least_area).sum())

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        none, own = "no image was seen", rows["own"].drop_nulls()
        title = f"labels an image: classes that win {self.least_area:.0%} of its map or more"
        labels = stats.mean("labels", rows["count"], "", why=none, title=title, headline=True, per_image="count")
        title = "images with more than one label"
        several = stats.share("several", rows["several"], why=none, title=title, headline=True, per_image="several")
        title = f"images in which a class is over {self.least:g} as a whole"
        whole = stats.share("whole", rows["whole"], why=none, title=title)
        nothing = stats.share("nothing", rows["count"] == 0, why=none, title="images without a label")
        why, title = "no image has a label" if rows.height else none, "images whose own label is among them"
        measures = labels, several, nothing, whole, stats.share("own_label", own, why=why, title=title, per_image="own")
        boxed, told = rows.drop_nulls("boxes"), rows.drop_nulls("right")
        in_boxes = score_of_positions(boxed["top"].to_list(), boxed["boxes"].to_list())
        counted = [k[:count] for k, count in zip(told["labels"].to_list(), told["count"], strict=True)]
        by_label = score_of_labels(pl.Series(counted, dtype=pl.List(pl.Int32)), told["right"])
        panels = (_histogram(rows["count"].to_numpy()),) if rows.height > 1 else ()
        verdict = self._verdict(rows, (labels, several), in_boxes, by_label, about.classes)
        return Conclusion((*measures, *in_boxes, *by_label), panels, verdict, tuple(_caveats(rows, about)))

    def _verdict(
        self,
        rows: Rows,
        counts: tuple[Measure, Measure],
        in_boxes: tuple[Measure, ...],
        by_label: tuple[Measure, ...],
        names: tuple[str, ...],
    ) -> Verdict:
        if not rows.height:
            return self.say("nothing")
        labels, several = counts
        if rows.height == 1:
            found = self._parts(rows.row(0, named=True), names) or "no part that it is sure of"
            said = self.say("one", found=found)
        else:
            span = f" ({several.interval[0]:.0%} to {several.interval[1]:.0%})" if several.interval else ""
            said = self.say("counts", share=several.value, span=span, n=several.n, labels=labels.value)
        checked = [self._of_boxes(*in_boxes)] if in_boxes[0].value is not None else []
        if by_label[1].value is not None:
            precision, recall = by_label
            fits = precision.above(precision.chance) and recall.above(recall.chance)
            value, chance = precision.value, precision.chance
            if fits:
                checked.append(self.say("labels_fit", precision=value, by_chance=chance, recall=recall.value))
            else:
                shares = ("none" if share is None else f"{share:.1%}" for share in (value, chance))
                checked.append(self.say("labels_open", **dict(zip(("precision", "by_chance"), shares, strict=True))))
        return sum([*checked[1:], said], checked[0]) if checked else said + self.say("unchecked")

    def _of_boxes(self, inside: Measure, beside: Measure, where: Measure) -> Verdict:
        values = {"inside": inside.value, "chance": inside.chance}
        if inside.above(inside.chance) and where.above(0):
            return self.say("finds_objects", beside=beside.value, **values)
        if inside.above(inside.chance) and where.below(MARGIN):
            return self.say("not_where", beside=beside.value, **values)
        if inside.chance is not None and inside.below(inside.chance + MARGIN) and not inside.above(inside.chance):
            return self.say("no_objects", **values)
        return self.say("objects_open", inside=inside.value, images=counted(inside.n, "image"))

    def examples(self, rows: Rows) -> list[str]:
        """The images with the most labels; of as many, those whose labels cover the more even areas."""
        second = pl.col("areas").list.get(1, null_on_oob=True).fill_null(0)
        return rows.sort(["count", second], descending=True, maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of, figures = classifier.classes.names, by_id(rows), []
        for name in self.examples(rows):
            row, i = row_of[name], batch.ids.index(name)
            parts = self._parts(row, names) or "nothing sure"
            caption = f"as a whole: {names[int(batch.logits[i].argmax())]}; in parts: {parts}"
            figures.append(Figure(caption, to_image(batch.pixels[i]), maps=(_map(row, names, self.least),)))
        caption = f"The class of each position whose probability is over {self.least:g}: the surer the stronger."
        title = "What each part shows: the images with the most labels"
        yield Panel("label_map", "images", title, caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, names = rows.row(0, named=True), classifier.classes.names
        parts = self._parts(row, names)
        parts = f"in parts {parts}" if parts else f"no part of it is over {self.least:g} for any class"
        figure = Figure("", to_image(batch.pixels[0]), maps=(_map(row, names, self.least),))
        said = f"As a whole it says {answer(classifier, batch.logits[0])}; {parts}."
        return Look(said, (Panel("label_map", "images", "", figures=(figure,)),))

    def _parts(self, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
        """Which classes count, and how many others win a few positions; "" for none."""
        shares = [f"{names[k]} ({area:.0%})" for k, area in zip(row["labels"], row["areas"], strict=True)]
        fewer, least = len(shares) - row["count"], f"{self.least_area:.0%}"
        if not row["count"]:
            return f"none of {len(shares)} classes in {least} of it (most: {shares[0]})" if shares else ""
        return _listed(shares[: row["count"]]) + (f", and in less than {least} each {fewer} more" * (fewer > 0))


def _map(row: Mapping[str, Any], names: tuple[str, ...], least: float) -> Map:
    shape = row["height"], row["width"]
    top, sure = np.array(row["top"]).reshape(shape), np.array(row["sure"]).reshape(shape)
    codes = np.full(shape, -1.0)
    for i, label in enumerate(row["labels"]):
        codes[top == label] = i
    values = codes.astype(object)
    values[(sure <= least) | (codes < 0)] = None
    strength = FAINT + (FULL - FAINT) * ((sure - least) / (1 - least)).clip(0, 1)
    legend = tuple(names[label] for label in row["labels"])
    name = f"sure parts: {((sure > least) & (codes >= 0)).mean():.0%} of the image"
    return Map("labels", values.tolist(), name, legend=legend, strength=strength.round(3).tolist())  # type: ignore[arg-type]


def _histogram(counts: np.ndarray[Any, Any]) -> Panel:
    values = np.bincount(counts).tolist()
    data = {
        "x": "labels of an image",
        "y": "images",
        "edges": [i - 0.5 for i in range(len(values) + 1)],
        "values": values,
    }
    return Panel("labels_per_image", "bars", "How many labels an image has", data=data)


def _listed(found: Sequence[str], most: int = 4) -> str:
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _caveats(rows: Rows, about: About) -> Iterator[str]:
    if rows.height:
        yield f"A position of the map: {about.facts['position']}."
        half, double = ((rows[name] > 1).mean() for name in ("count_half", "count_double"))
        yield (
            "How many classes a map has depends on the scale of the logits: at half and at twice the temperature "
            f"{half:.0%} and {double:.0%} of the images have more than one. What lies in boxes does not."
        )
    if rows["boxes"].null_count() < rows.height:
        yield (
            "In boxes the class of each position counts, however unsure; positions in boxes of several classes, or of "
            "one that the classifier has not, are left out. A box has corners that its object does not fill."
        )
