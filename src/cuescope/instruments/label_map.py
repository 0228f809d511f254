"""What does each part of the image show?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Map, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, by_id, typed
from cuescope.methods.patch_annotator import Annotator, why_none

FAINT, FULL = 0.25, 0.8
"""How strongly a label is laid on the image where it has just won, and where its probability is 1."""


@dataclass(frozen=True)
class LabelMap(Instrument, version=2, order=160, needs={"logits"}):
    """How many things a classifier sees in an image: the classes that win a good part of its map of labels.

    A dense head gives the logits at each position (Yun et al. 2021, section 3.1); a class wins where its probability
    among all classes is over `least`, and counts where it wins `least_area` of the positions. An image that has one
    label by the softmax of the whole may have several so, or none. The maps are what `cuescope make label-maps`
    stores, there of whole images, here of what the classifier sees.

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
    shown: int = 8
    """Images to show, those with the most labels."""

    question = "What does each part of the image show, and how many things are there?"
    reference = "Yun et al. 2021, Re-labeling ImageNet: from Single to Multi-Labels, section 3.1"
    columns = {
        "id": pl.String,
        **typed(pl.List(pl.Int32), "labels top"),
        **typed(pl.List(pl.Float64), "areas sure"),
        **typed(pl.Int32, "count height width"),
        **typed(pl.Boolean, "several whole own"),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or not 0.5 <= self.least < 1 or not 0 <= self.least_area <= 1 or self.shown < 0:
            raise ValueError("images must be at least 1, least in [.5, 1), least_area in [0, 1], shown at least 0")

    def start(self, classifier: Classifier) -> Observer:
        if why := why_none(classifier):
            raise Misfit(f"{classifier.name} has no dense head: {why}")
        annotator = Annotator.of(classifier)
        return Observer(partial(self._observe, annotator), facts={"position": annotator.description})

    def _observe(self, annotator: Annotator, batch: Batch) -> Rows:
        """Per image: the class and its probability at each position, and the classes that win somewhere."""
        sure, top = annotator.logits(batch.pixels).softmax(1).max(1)
        whole = batch.logits.softmax(1).amax(1)
        rows = []
        for i, (name, label) in enumerate(zip(batch.ids, batch.labels.tolist(), strict=True)):
            labels, cells = top[i][sure[i] > self.least].unique(return_counts=True)
            order = cells.argsort(descending=True, stable=True)
            areas, labels = (cells[order] / top[i].numel()).tolist(), labels[order].tolist()
            counted = [k for k, area in zip(labels, areas, strict=True) if area >= self.least_area]
            row = {"id": name, "labels": labels, "areas": areas, "count": len(counted), "several": len(counted) > 1}
            row |= {"whole": bool(whole[i] > self.least), "own": label in counted if label >= 0 else None}
            row |= {"height": top.shape[1], "width": top.shape[2], "top": top[i].flatten().tolist()}
            rows.append({**row, "sure": [round(p, 3) for p in sure[i].flatten().tolist()]})
        return pl.DataFrame(rows, schema=dict(self.columns))

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
        panels = (_histogram(rows["count"].to_numpy()),) if rows.height > 1 else ()
        caveats = (f"A position of the map: {about.facts['position']}.",) if rows.height else ()
        return Conclusion(measures, panels, _sentence(rows, labels, several, about.classes), caveats)

    def examples(self, rows: Rows) -> list[str]:
        """The images with the most labels; of as many, those whose labels cover the more even areas."""
        second = pl.col("areas").list.get(1, null_on_oob=True).fill_null(0)
        return rows.sort(["count", second], descending=True, maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of, figures = classifier.classes.names, by_id(rows), []
        for name in self.examples(rows):
            row, i = row_of[name], batch.ids.index(name)
            answer = names[int(batch.logits[i].argmax())]
            caption = f"as a whole: {answer}; in parts: {_listed(row['labels'], names) or 'nothing sure'}"
            figures.append(Figure(caption, to_image(batch.pixels[i]), maps=(_map(row, names, self.least),)))
        caption = f"The class of each position, where its probability is over {self.least:g}: the surer the stronger."
        title = "What each part shows: the images with the most labels"
        yield Panel("label_map", "images", title, caption, figures=tuple(figures))


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
    return Map("labels", values.tolist(), "labels", legend=legend, strength=strength.round(3).tolist())  # type: ignore[arg-type]


def _histogram(counts: np.ndarray[Any, Any]) -> Panel:
    values = np.bincount(counts).tolist()
    data = {"x": "labels", "y": "images", "edges": [i - 0.5 for i in range(len(values) + 1)], "values": values}
    return Panel("labels_per_image", "bars", "How many labels an image has", data=data)


def _listed(labels: Iterable[int], names: tuple[str, ...], most: int = 4) -> str:
    found = [names[label] for label in labels]
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _sentence(rows: Rows, labels: Measure, several: Measure, names: tuple[str, ...]) -> str:
    if labels.value is None:
        return "No image was seen."
    if rows.height == 1:
        found = _listed(rows["labels"][0].to_list(), names)
        return f"In parts of the image it sees {found}." if found else "It is sure of no part of the image."
    n, share = several.n, several.value or 0.0
    return f"It sees more than one thing in {share:.0%} of {n} images, and {labels.value:.2f} an image on average."
