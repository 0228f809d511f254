"""Is it stable only where objects lie as photographers place them?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.neighbors import neighbors
from cuescope.data.ops.objects import SeenBox, largest_seen
from cuescope.instruments.base import Instrument, Rows, answered, by_id, histogram, typed, where_labeled

LEAST = 3 * stats.UNITS
"""Images with a whole object that it takes for thirds of them to be compared."""
MARGIN = 0.05
"""A difference of P(top-1 change) that surely lies within this of 0 is none."""
MOST_POINTS, MOST_CLASSES = 1000, 40


@dataclass(frozen=True)
class Typicality(Instrument, version=2, order=120, needs={"logits", "boxes"}):
    """Where do objects lie, and does an untypical place make the answer less stable? The photographer's bias.

    The place of an object is the center of its largest box as the classifier sees it, after resize and crop, and its
    size the root of the box's area, as shares of what it sees. Objects that the frame cuts, or that a shift would cut,
    are counted apart: a part of them is lost, wherever they lie. How untypical an image is depends on the set: the
    Mahalanobis distance of (x, y, log size) from the set's mean. Photographs are concentrated in place and size, and
    networks are said to be stable there only (Azulay & Weiss 2019, on photographers' biases). Instability is P(top-1
    change): the image as the classifier sees it is moved by a pixel to its eight neighbors; the border that moves in
    repeats the last row or column.

    >>> Typicality(shift_px=2).images
    1000
    """

    images: int = 1000
    """How many images are looked at, spread evenly over the set."""
    shift_px: int = 1
    """How far the image is moved, in pixels of the network's input."""

    question = "Is it stable only where objects lie as photographers place them?"
    reference = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        **typed(pl.Float64, "x y width height change"),
        **typed(pl.Boolean, "whole right"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "thirds of the images cannot be compared",
            "Whether it is less stable at untypical places is not measured: {why}.",
        ),
        "less": Sentence(
            "yes",
            "the excess lies above 0 with its whole interval, and that among right answers too where labels are known",
            "Untypical places make it less stable: {changes}.",
        ),
        "wrong": Sentence(
            "cannot tell",
            "the excess lies above 0 with its whole interval, but that among right answers does not",
            "It is less stable at untypical places, but that may be since it is wrong more often there: {changes}.",
        ),
        "more": Sentence(
            "no",
            "the excess lies below 0 with its whole interval",
            "Untypical places make it more stable: {changes}.",
        ),
        "alike": Sentence(
            "no",
            "the interval of the excess lies within MARGIN of 0, and the accuracy above chance",
            f"Untypical places change its stability by less than {MARGIN * 100:.0f} points: {{changes}}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the excess has no interval, or one that holds 0 and more than MARGIN, or the accuracy is not above chance",
            "Whether untypical places make it less stable cannot be said from {n} images: {changes}.",
        ),
        "places": Sentence(
            "yes",
            "an object is seen as a whole",
            "{middle:.0%} of the objects that it sees whole lie in the middle ninth of what it sees (by chance "
            "{chance:.0%}).",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.shift_px) < 1:
            raise ValueError("images and shift_px must be at least 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the place and size of its object, and the share of its eight shifts that change the answer."""
        answers = batch.logits.argmax(1)
        moved = [classifier.logits(view).argmax(1) != answers for view in neighbors(batch.pixels, self.shift_px)]
        seen = [largest_seen(sample, classifier.preprocessing, self.shift_px) for sample in batch.samples]
        columns = answered(batch) | {name: [box and getattr(box, name) for box in seen] for name in SeenBox._fields}
        columns["change"] = torch.stack(moved, 1).double().mean(1).tolist()
        columns["right"] = where_labeled(batch, answers == batch.labels)
        return self.table(columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        boxed, why = with_distance(rows)
        measures = (*_bias(boxed), *_instability(rows, boxed, why))
        caveats = [
            "Typical is what is usual in this set; the training images may be distributed otherwise.",
            "An image that is untypical is also answered wrongly more often, and wrong answers change more: hence the "
            "difference among right answers.",
        ]
        cut, unseen = int((~rows["whole"]).sum() or 0), rows["x"].null_count()
        if cut:
            caveats.append(
                f"{cut} of {rows.height} images show an object that is cut by the frame, or by a shift of it."
            )
        if unseen:
            caveats.append(f"{unseen} of {rows.height} images have no box in view and count in P(top-1 change) alone.")
        panels = () if why else (*_places(boxed), _curve(boxed, about.classifier), *_classes(boxed, about.classes))
        return Conclusion(measures, panels, self._verdict({m.name: m for m in measures}), tuple(caveats))

    def _verdict(self, found: Mapping[str, Measure]) -> Verdict:
        middle, excess, right, accuracy = (found[name] for name in ("middle", "excess", "excess_right", "accuracy"))
        typical, untypical = found["change_typical"], found["change_untypical"]
        if excess.value is None:
            said = self.say("nothing", why=excess.why)
        else:
            changes = f"a small shift changes its answer to {typical.value:.1%} of the most typical third and to "
            changes += f"{untypical.value:.1%} of the least typical"
            if excess.above(0):
                said = self.say("less" if right.above(0) or accuracy.value is None else "wrong", changes=changes)
            elif excess.below(0):
                said = self.say("more", changes=changes)
            elif excess.within(-MARGIN, MARGIN) and accuracy.above(accuracy.chance):
                said = self.say("alike", changes=changes)
            else:
                said = self.say("cannot_tell", n=excess.n, changes=changes)
        return said if middle.value is None else said + self.say("places", middle=middle.value, chance=middle.chance)

    def examples(self, rows: Rows) -> list[str]:
        """The most typical images and the least."""
        ids = with_distance(rows)[0]["id"].to_list()
        return list(dict.fromkeys(ids[:3] + ids[-3:]))

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, place = by_id(rows), {name: i for i, name in enumerate(batch.ids)}
        off = {name: math.hypot(row["x"] - 0.5, row["y"] - 0.5) for name, row in row_of.items()}
        figures = []
        for name in sorted(batch.ids, key=lambda name: (off[name], name)):
            caption = f"{round(8 * row_of[name]['change'])} of 8 shifts change the answer"
            figures.append(Figure(caption, _framed(to_image(batch.pixels[place[name]]), row_of[name])))
        caption = "The most and the least typical places and sizes, those in the middle first."
        yield Panel("typical", "images", "Typical and untypical images", caption, figures=tuple(figures))


def _framed(pixels: NDArray[np.uint8], row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The image, (H, W, 3), with the frame of its box: white on black, so that it is seen on any ground."""
    height, width = pixels.shape[:2]
    ends = [(row[at] - row[size] / 2, row[at] + row[size] / 2) for at, size in (("y", "height"), ("x", "width"))]
    drawn = pixels.copy()
    for inset, color in ((0, 0), (1, 255), (2, 255), (3, 0)):
        (top, bottom), (left, right) = (
            (max(0, round(low * side)) + inset, min(side, round(high * side)) - 1 - inset)
            for (low, high), side in zip(ends, (height, width), strict=True)
        )
        if top < bottom and left < right:
            drawn[[top, bottom], left : right + 1] = color
            drawn[top : bottom + 1, [left, right]] = color
    return drawn


def with_distance(rows: Rows) -> tuple[Rows, str]:
    """The images of whole objects by `distance` from the typical, and why thirds of them cannot be compared, or ""."""
    boxed = rows.filter("whole").sort("id").with_columns(size=(pl.col("width") * pl.col("height")).sqrt())
    values = boxed.select("x", "y", pl.col("size").log()).to_numpy()
    apart = values - values.mean(0) if len(values) else values
    covariance = apart.T @ apart / max(1, len(values))
    # The inverse leaves out directions in which the objects do not differ.
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    squared = np.einsum("ni,ij,nj->n", apart, inverse, apart)
    boxed = boxed.with_columns(pl.Series("distance", np.sqrt(squared.clip(0)).round(9))).sort("distance", "id")
    if len(values) < LEAST:
        seen = f"only {len(values)} images show a whole object" if len(values) else "no image shows a whole object"
        return boxed, seen if rows.height else "no image was seen"
    return boxed, "" if covariance.trace() > 1e-12 else "all objects have the same place and size"


def middle_by_chance(side: float) -> float:
    """P(the center is in the middle third) along one axis, of an object of this side that lies anywhere as a whole.

    >>> round(middle_by_chance(0.0), 3), round(middle_by_chance(0.5), 3), middle_by_chance(0.9)
    (0.333, 0.667, 1.0)
    """
    return 1.0 if side >= 2 / 3 else 1 / 3 / (1 - side)


def _bias(boxed: Rows) -> Iterable[Measure]:
    """How concentrated place and size are."""
    why = "no image shows a whole object"
    by_chance = [middle_by_chance(w) * middle_by_chance(h) for w, h in boxed.select("width", "height").rows()]
    chance = float(np.mean(by_chance)) if by_chance else None
    inside = ((boxed["x"] - 0.5).abs() < 1 / 6) & ((boxed["y"] - 0.5).abs() < 1 / 6)
    title = "objects whose center lies in the middle ninth of what it sees"
    yield stats.share("middle", inside, why=why, title=title, chance=chance, headline=True)
    title = "side of an object's box, as a share of what it sees"
    yield stats.mean_share("size", boxed["size"], why=why, title=title)


def _instability(rows: Rows, boxed: Rows, why: str) -> Iterable[Measure]:
    """P(top-1 change) of all images, and of the most and the least typical third."""
    none, title = "no image was seen", "P(top-1 change)"
    yield stats.mean_share("top1_change", rows["change"], why=none, title=title, better="lower", per_image="change")
    title = "P(top-1 change) where the frame, or a shift of it, cuts the object"
    cut, uncut = rows.filter(~pl.col("whole"))["change"], "no object is cut" if rows.height else none
    yield stats.mean_share("change_cut", cut, why=uncut, title=title)
    known = rows.select("label", "predicted", "right").drop_nulls()
    chance = agreement_by_chance(known["label"], known["predicted"])
    more: dict[str, Any] = {"chance": chance, "better": "higher", "per_image": "right", "title": "accuracy"}
    yield stats.share("accuracy", known["right"], why="no label is known", **more)
    title, n = "P(top-1 change)", 0 if why else boxed.height // 3
    thirds = boxed.head(n), boxed.tail(n)
    for part, name, most in zip(thirds, ("typical", "untypical"), ("most", "least"), strict=True):
        which = f"the {most} typical third"
        yield stats.mean_share(f"change_{name}", part["change"], why=why, title=f"{title}: {which}")
        right, none = part["right"].drop_nulls(), why or "no label is known"
        yield stats.share(f"accuracy_{name}", right, why=none, title=f"accuracy: {which}")
    difference = f"{title}: the least typical third less the most typical"
    yield _excess("excess", thirds, why, title=difference, headline=True)
    right, none = [part.filter("right") for part in thirds], why or "a third without a right answer"
    yield _excess("excess_right", right, none, title=f"{difference}, where it is right")
    title = f"correlation of {title} with the distance from the typical"
    if why:
        yield Measure("correlation", None, "correlation", why=why, title=title)
    else:
        yield stats.correlation("correlation", boxed["distance"], boxed["change"], title=title)


def _excess(name: str, thirds: Sequence[Rows], why: str, **more: Any) -> Measure:
    a, b = (stats.mean_share("", part["change"], why=why or "nothing was seen") for part in thirds)
    if a.value is None or b.value is None:
        return Measure(name, None, "difference", why=why, **more)
    interval = stats.independent_difference(b.value, b.interval, a.value, a.interval)
    lacking = "" if interval else a.why or b.why
    return Measure(name, b.value - a.value, "difference", a.n + b.n, interval, lacking, **more)


def _places(boxed: Rows) -> Iterable[Panel]:
    shown = boxed.sort("id")[:: -(-boxed.height // MOST_POINTS)].select("id", "x", "y").rows()
    points = [{"x": round(x, 4), "y": round(1 - y, 4), "label": name} for name, x, y in shown]
    data = {"x": "from the left, as a share", "y": "from the bottom, as a share", "points": points}
    yield Panel("places", "points", "Where objects lie", "The center of each object.", data)
    data = histogram(boxed["size"].to_numpy(), 20, (0, 1), "side of the box, as a share")
    yield Panel("sizes", "bars", "How large objects are", "The root of the share of the view that a box fills.", data)


def _curve(boxed: Rows, classifier: str) -> Panel:
    """P(top-1 change) of each fifth of the images."""
    parts = np.array_split(boxed["distance", "change"].to_numpy(), 5)
    # Of fewer images than an interval needs nothing is known.
    spans = [stats.mean_share("", part[:, 1]).interval or (0.0, 1.0) for part in parts]
    low, high = (list(side) for side in zip(*spans, strict=True))
    xs, ys = ([pl.Series(part[:, column]).mean() for part in parts] for column in (0, 1))
    curve = {"name": classifier, "x": xs, "y": ys, "low": low, "high": high}
    caption = "Fifths of the images, from the most typical to the least."
    data = {"x": "distance from the typical place and size", "y": "P(top-1 change)", "series": [curve]}
    return Panel("instability", "lines", "Does an untypical place make it unstable?", caption, data)


def _classes(boxed: Rows, names: Sequence[str]) -> Iterable[Panel]:
    what = [f(column).alias(f"{column} {f.__name__}") for column in ("x", "y", "size") for f in (pl.mean, pl.std)]
    by_class = boxed.drop_nulls("label").group_by("label").agg(pl.len().alias("n"), *what, pl.mean("change"))
    # Of a single image there is no spread.
    table = by_class.filter(pl.col("n") > 1).sort("n", "label", descending=[True, False]).head(MOST_CLASSES).rows()
    rows = [[names[k], n, *(None if v is None else round(v, 3) for v in numbers)] for k, n, *numbers in table]
    columns = ["class", "images", "x", "sd of x", "y", "sd of y", "side", "sd of side", "P(top-1 change)"]
    if rows:
        caption = "Centers from the left and from the top, as shares."
        yield Panel("classes", "table", "Place and size by class", caption, {"columns": columns, "rows": rows})
