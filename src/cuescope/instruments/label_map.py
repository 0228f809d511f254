"""What does each part of the image show?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Map, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Rows
from cuescope.methods.patch_annotator import Annotator, why_none


@dataclass(frozen=True)
class LabelMap:
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

    question: ClassVar[str] = "What does each part of the image show, and how many things are there?"
    reference: ClassVar[str] = "Yun et al. 2021, Re-labeling ImageNet: from Single to Multi-Labels, section 3.1"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"labels": "count", "several": "several", "own_label": "own"}

    def __post_init__(self) -> None:
        if self.images < 1 or not 0.5 <= self.least < 1 or not 0 <= self.least_area <= 1 or self.shown < 0:
            raise ValueError("images must be at least 1, least in [.5, 1), least_area in [0, 1], shown at least 0")

    def misfit(self, classifier: Classifier) -> str:
        """Why there are no logits of parts; "" where there are."""
        why = why_none(classifier)
        return f"{classifier.name} has no dense head: {why}" if why else ""

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the class and its probability at each position, and the classes that win somewhere."""
        annotator = Annotator.of(classifier)
        sure, top = annotator.logits(batch.pixels).softmax(1).max(1)
        whole = batch.logits.softmax(1).amax(1)
        rows = []
        for i, name in enumerate(batch.ids):
            labels, cells = top[i][sure[i] > self.least].unique(return_counts=True)
            order = cells.argsort(descending=True, stable=True)
            areas, labels = (cells[order] / top[i].numel()).tolist(), labels[order].tolist()
            counted = [k for k, area in zip(labels, areas, strict=True) if area >= self.least_area]
            label = int(batch.labels[i])
            rows.append(
                {
                    "id": name,
                    "labels": labels,
                    "areas": areas,
                    "count": len(counted),
                    "several": len(counted) > 1,
                    "whole": bool(whole[i] > self.least),
                    "own": label in counted if label >= 0 else None,
                    "height": top.shape[1],
                    "width": top.shape[2],
                    "top": top[i].flatten().tolist(),
                    "sure": [round(p, 3) for p in sure[i].flatten().tolist()],
                    "told": annotator.description,
                }
            )
        return pl.DataFrame(rows, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        n, counts = rows.height, rows["count"].to_numpy()
        none = "" if n else "no image was seen"
        labels = Measure(
            "labels",
            float(counts.mean()) if n else None,
            "",
            n,
            stats.bootstrap_mean(counts) if n > 1 else None,
            none,
            f"labels an image: classes that win {self.least_area:.0%} of its map or more",
            headline=True,
        )
        several = _share(rows["several"], "several", "images with more than one label", none, headline=True)
        own = rows["own"].drop_nulls()
        measures = (
            labels,
            several,
            _share(rows["count"] == 0, "nothing", "images without a label", none),
            _share(rows["whole"], "whole", f"images in which a class is over {self.least:g} as a whole", none),
            _share(own, "own_label", "images whose own label is among them", none or "no image has a label"),
        )
        return Finding(
            instrument="label_map",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=(_histogram(counts),) if n > 1 else (),
            sentence=_sentence(rows, labels, several, about.classes),
            caveats=tuple(f"A position of the map: {told}." for told in rows["told"].unique(maintain_order=True)),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The images with the most labels; of as many, those whose labels cover the more even areas."""
        second = pl.col("areas").list.get(1, null_on_oob=True).fill_null(0)
        return rows.sort(["count", second], descending=True, maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, told = classifier.classes.names, {row["id"]: row for row in rows.iter_rows(named=True)}
        pixels = dict(zip(batch.ids, batch.pixels, strict=True))
        answers = dict(zip(batch.ids, batch.logits.softmax(1).max(1).indices.tolist(), strict=True))
        figures = []
        for name in self.examples(rows):
            row = told[name]
            caption = f"as a whole: {names[answers[name]]}; in parts: {_listed(row['labels'], names) or 'nothing sure'}"
            figures.append(Figure(caption, to_image(pixels[name]), maps=(_map(row, names, self.least),)))
        caption = f"The class of each position, where its probability is over {self.least:g}: the surer the stronger."
        title = "What each part shows: the images with the most labels"
        yield Panel("label_map", "images", title, caption, figures=tuple(figures))


_SCHEMA = {
    "id": pl.String,
    "labels": pl.List(pl.Int32),
    "areas": pl.List(pl.Float64),
    "count": pl.Int32,
    "several": pl.Boolean,
    "whole": pl.Boolean,
    "own": pl.Boolean,
    "height": pl.Int32,
    "width": pl.Int32,
    "top": pl.List(pl.Int32),
    "sure": pl.List(pl.Float64),
    "told": pl.String,
}

FAINT, FULL = 0.25, 0.8
"""How strongly a label is laid on the image where it has just won, and where its probability is 1."""


def _map(row: Mapping[str, Any], names: tuple[str, ...], least: float) -> Map:
    shape = row["height"], row["width"]
    top, sure = np.array(row["top"]).reshape(shape), np.array(row["sure"]).reshape(shape)
    place = {label: i for i, label in enumerate(row["labels"])}
    codes = np.array([[float(place.get(k, -1)) for k in line] for line in top.tolist()])
    won = (sure > least) & (codes >= 0)
    values = [[c if w else None for c, w in zip(*two, strict=True)] for two in zip(codes.tolist(), won, strict=True)]
    strength = FAINT + (FULL - FAINT) * ((sure - least) / (1 - least)).clip(0, 1)
    legend = tuple(names[label] for label in row["labels"])
    return Map("labels", values, "labels", legend=legend, strength=strength.round(3).tolist())  # type: ignore[arg-type]


def _share(column: pl.Series, name: str, title: str, why: str, *, headline: bool = False) -> Measure:
    n, count = len(column), int(column.sum() or 0)
    if not n:
        return Measure(name, None, "share", why=why, title=title, headline=headline)
    interval = stats.wilson(count, n)
    return Measure(name, count / n, "share", n, interval, title=title, count=count, headline=headline)


def _histogram(counts: np.ndarray[Any, Any]) -> Panel:
    values = np.bincount(counts).tolist()
    data = {"x": "labels", "y": "images", "edges": [i - 0.5 for i in range(len(values) + 1)], "values": values}
    return Panel("labels_per_image", "bars", "How many labels an image has", data=data)


def _listed(labels: Iterable[int], names: tuple[str, ...], most: int = 4) -> str:
    told = [names[label] for label in labels]
    return ", ".join(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")


def _sentence(rows: Rows, labels: Measure, several: Measure, names: tuple[str, ...]) -> str:
    if labels.value is None:
        return "No image was seen."
    if rows.height == 1:
        found = _listed(rows["labels"][0].to_list(), names)
        return f"In parts of the image it sees {found}." if found else "It is sure of no part of the image."
    n, share = several.n, several.value or 0.0
    return f"It sees more than one thing in {share:.0%} of {n} images, and {labels.value:.2f} an image on average."
