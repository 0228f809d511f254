"""What do random crops of an image show of the object that it is labeled with?"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.published import CROPS_MISSING, CROPS_OVER_HALF, CROPS_SOURCE, listed
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.crops import overlap, random_resized_crops
from cuescope.instruments.base import Instrument, Rows

STANDARD = ((0.08, 1.0), (3 / 4, 4 / 3))
"""Scale and ratio of the crops that ImageNet's networks are trained on: those of the published numbers."""
_ASKED = {
    "missing": ("crops that do not overlap with the object's box", "no image has a box", True),
    "over_half": ("crops whose IoU with the object's box is over .5", "no image has a box", True),
    "over_half_union": ("crops whose IoU with the union of its boxes is over .5", "no image has a box", False),
    "other_where_agreed": (
        "crops of another label than the image, where the map agrees with that as a whole",
        "no label map agrees with the label of its image",
        True,
    ),
    "other_than_label": ("crops whose own label is not the image's label", "no labeled image has a label map", False),
    "other_than_whole": ("crops whose own label is not that of the whole image", "no image has a label map", False),
}
"""Per measure: its title, why it may be missing, whether it is shown large."""
_BOX_CURVES = {
    "missing": "no overlap",
    "over_half": "IoU > .5 with a box",
    "over_half_union": "IoU > .5 with the union",
}
MARGIN = 0.02
"""Crops that are surely a smaller share than this are hardly any."""
_LABEL_CURVES = {"other_than_label": "not the image's label", "other_than_whole": "not that of the whole image"}
_PUBLISHED = {"missing": CROPS_MISSING, "over_half": CROPS_OVER_HALF}


@dataclass(frozen=True)
class CropSupervision(Instrument, version=2, order=170, needs={"regions"}):
    """How much wrong supervision random resized crops give: crops that do not show the object of the image's label.

    Random crops of the image as decoded, taken as torchvision's `RandomResizedCrop` takes them, are compared with the
    boxes of the label's class: crops that overlap with none of them, and crops whose intersection over union is over .5
    with one of them, or with their union. Of images with label maps: crops of which the map's first class is another
    than the image's label, and another than that of the whole image. It asks of the images alone.

    >>> CropSupervision(crops=20).bins
    6
    """

    crops: int = 100
    """Crops of each image."""
    scale: tuple[float, ...] = STANDARD[0]
    """The smallest and the largest share of the image's area that a crop has."""
    ratio: tuple[float, ...] = STANDARD[1]
    """The smallest and the largest ratio of a crop's width to its height."""
    bins: int = 6
    """Equally wide parts of the scale, in which crops are counted."""
    seed: int = 0
    """Of the crops; an image has the same ones in every run."""

    question = "Which labels do random crops really show, and how much wrong supervision is in them?"
    reference = "Yun et al. 2021, Re-labeling ImageNet: from Single to Multi-Labels, section 1"
    about_images = True
    columns = {"id": pl.String, "boxes": pl.Int64, **dict.fromkeys(("crops", *_ASKED), pl.List(pl.Int64))}
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no image has a box or a label map", "Nothing is known of the crops: {why}."
        ),
        "few": Sentence("cannot tell", "neither share has an interval", "What crops show cannot be told: {why}."),
        "miss": Sentence(
            "yes",
            "the interval of the crops that miss the boxes does not lie under MARGIN",
            "Of the crops of {images} {missing} show nothing of the object's box; {over_half} have an IoU over .5.",
        ),
        "hardly_miss": Sentence(
            "no",
            "the interval of the crops that miss the boxes lies under MARGIN",
            "Less than {margin:.0%} of the crops of {images} show nothing of the object's box; {over_half} have an IoU "
            "over .5.",
        ),
        "other_label": Sentence(
            "yes",
            "the interval of the crops of another label, where the map agrees as a whole, does not lie under MARGIN",
            "Where the annotator agrees with the label of a whole image ({images}), {other} of the crops have another.",
        ),
        "hardly_other": Sentence(
            "no",
            "that interval lies under MARGIN",
            "Where the annotator agrees with the label of a whole image ({images}), less than {margin:.0%} of the "
            "crops have another.",
        ),
        "never_agrees": Sentence(
            "cannot tell",
            "there are label maps of labeled images, and none agrees with the label as a whole",
            "The annotator has another label for each whole image, so the labels of crops say nothing of the crops.",
        ),
    }

    def __post_init__(self) -> None:
        pairs = (self.scale, self.ratio)
        if self.crops < 1 or self.bins < 1 or any(len(p) != 2 or not 0 < p[0] <= p[1] for p in pairs):
            raise ValueError("crops and bins must be at least 1, scale and ratio two growing numbers over 0")
        if self.scale[1] > 1:
            raise ValueError("scale must not be over 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: how many of its crops, in all and by their share of the area, do what."""
        return pl.DataFrame([self._row(sample) for sample in batch.samples], schema=dict(self.columns))

    def _row(self, sample: Sample) -> dict[str, Any]:
        height, width = sample.pixels.shape[1:]
        # Of the image's name: the same crops alone, in any batch, and whatever stands before it.
        random = np.random.default_rng([self.seed, zlib.crc32(sample.id.encode())])
        low, high = self.scale
        crops = random_resized_crops(height, width, self.crops, random, (low, high), (self.ratio[0], self.ratio[1]))
        share = crops[:, 2] * crops[:, 3] / (height * width)
        # Whole pixels bring a crop a little over the limits; one from the middle may be far below.
        place = np.clip((share - low) / max(high - low, 1e-9) * self.bins, 0, self.bins - 1).astype(np.int64)

        def crops_with(which: np.ndarray[Any, Any]) -> list[int]:
            return np.bincount(place[which], minlength=self.bins).tolist()

        row: dict[str, Any] = {"id": sample.id, "crops": crops_with(np.ones(len(crops), bool))}
        boxes = [box for box in sample.boxes if box.name == sample.boxes[0].name]
        if boxes:
            found = overlap(crops, boxes)
            row |= {"missing": crops_with(found.covered <= 0), "boxes": len(boxes)}
            row |= {"over_half": crops_with(found.best > 0.5), "over_half_union": crops_with(found.union > 0.5)}
        if sample.label_map is not None:
            places = crops / np.array([height, width, height, width])
            first = sample.label_map(np.concatenate([[(0.0, 0.0, 1.0, 1.0)], places])).argmax(1).numpy()
            row["other_than_whole"] = crops_with(first[1:] != first[0])
            if sample.label is not None:
                row["other_than_label"] = crops_with(first[1:] != sample.label)
                if _agrees(first, sample.label):
                    row["other_where_agreed"] = row["other_than_label"]
        return row

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        standard = (tuple(self.scale), tuple(self.ratio)) == STANDARD
        measures = tuple(_measure(rows, name, standard) for name in _ASKED)
        caveats = tuple(self._caveats(rows, standard))
        return Conclusion(measures, tuple(self._panels(rows)), self._verdict({m.name: m for m in measures}), caveats)

    def _verdict(self, found: Mapping[str, Measure]) -> Verdict:
        missing, other, verdicts = found["missing"], found["other_where_agreed"], []
        if missing.interval:
            said = {"images": counted(missing.n, "image"), "over_half": _span(found["over_half"])}
            few = missing.below(MARGIN)
            more = {"margin": MARGIN} if few else {"missing": _span(missing)}
            verdicts.append(self.say("hardly_miss" if few else "miss", **said, **more))
        if other.interval:
            few = other.below(MARGIN)
            more = {"margin": MARGIN} if few else {"other": _span(other)}
            verdicts.append(
                self.say("hardly_other" if few else "other_label", images=counted(other.n, "image"), **more)
            )
        elif found["other_than_label"].value is not None and other.value is None:
            verdicts.append(self.say("never_agrees"))
        if verdicts:
            return sum(verdicts, UNSAID)
        known = [m for m in (missing, other) if m.value is not None]
        return self.say("few", why=known[0].why) if known else self.say("nothing", why=missing.why)

    def _panels(self, rows: pl.DataFrame) -> Iterator[Panel]:
        edges = np.linspace(self.scale[0], self.scale[1], self.bins + 1)
        middles = ((edges[:-1] + edges[1:]) / 2).tolist()
        # Of one box the union is that box, and its curve the same one.
        same = {"over_half_union"} if rows["boxes"].max() == 1 else set()
        for name, legend, title in (
            ("boxes_by_scale", _BOX_CURVES, "Crops and the box of the object, by size"),
            ("labels_by_scale", _LABEL_CURVES, "Crops of another label, by size"),
        ):
            curves = [_by_scale(rows, key, middles, text) for key, text in legend.items() if key not in same]
            series = [curve for curve in curves if curve["x"]]
            if series:
                data = {"x": "crop's share of the image", "y": "share of crops", "series": series, "y_ends": [0.0, 1.0]}
                yield Panel(name, "lines", title, "Bands are 95% intervals over images.", data)

    def _caveats(self, rows: pl.DataFrame, standard: bool) -> Iterator[str]:
        if rows.height:
            yield (
                f"{self.crops} crops of each image as torchvision's RandomResizedCrop takes them: {self.scale[0]:g} to "
                f"{self.scale[1]:g} of the area, width to height {self.ratio[0]:.3g} to {self.ratio[1]:.3g}."
            )
        boxed = rows.drop_nulls("boxes")
        if boxed.height and standard:
            yield (
                "Published numbers are of ImageNet's training images, by the same crops; the paper does not say which "
                "box counts where an image has several. Here it is the one of the label's class with the most overlap."
            )
        if boxed.height and (lost := rows.height - boxed.height):
            yield f"Left out of what is said of boxes, since they have none: {counted(lost, 'image')}."
        if rows["other_than_whole"].null_count() < rows.height:
            yield "A crop's label is the first class of the annotator's map there: of a classifier, not of people."


def _measure(rows: pl.DataFrame, name: str, standard: bool) -> Measure:
    title, why, headline = _ASKED[name]
    known = rows.drop_nulls(name)
    if not known.height:
        return Measure(name, None, "share", title=title, why=why if rows.height else "no image was seen")
    published = listed(_PUBLISHED[name], CROPS_SOURCE) if standard and name in _PUBLISHED else ()
    shares = known[name].list.sum() / known["crops"].list.sum()
    return stats.mean_share(name, shares, title=title, published=published, headline=headline)


def _by_scale(rows: pl.DataFrame, name: str, middles: Sequence[float], legend: str) -> dict[str, Any]:
    """A curve over the parts of the scale that some crop is in; no point where an interval cannot be had."""
    known, points = rows.drop_nulls(name), []
    for k, middle in enumerate(middles):
        above, below = (known[column].list.get(k).to_numpy() for column in (name, "crops"))
        measure = stats.ratio(name, above, below)
        if measure.interval:
            points.append((middle, measure.value, *measure.interval))
    return {"name": legend, **{key: [point[i] for point in points] for i, key in enumerate(("x", "y", "low", "high"))}}


def _agrees(first: np.ndarray[Any, Any], label: int) -> bool:
    """Whether the map's first class of the whole image is its label; `first` begins with that."""
    return bool(first[0] == label)


def _span(measure: Measure) -> str:
    """A share with its interval, in words."""
    low, high = measure.interval or (0.0, 1.0)
    return f"{measure.value:.1%} ({low:.1%} to {high:.1%})"
