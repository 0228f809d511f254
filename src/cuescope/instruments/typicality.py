"""Is it stable only where objects lie as photographers place them?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.neighbors import neighbors
from cuescope.instruments.base import Rows

LEAST = 9
"""Images with a box below which a third of them tells nothing."""
FIFTHS = 5
MOST_POINTS = 1000
MOST_CLASSES = 40
SHOWN = 3
"""Of the most and of the least typical images."""


@dataclass(frozen=True)
class Typicality:
    """Where do objects lie, and does an untypical place make the answer less stable? The photographer's bias.

    The place of an object is the center of its box and its size the root of the box's area, as shares of the image; of
    several boxes the largest counts. How untypical an image is, is told by the set itself: the Mahalanobis distance of
    (x, y, log size) from the set's mean. So "typical" is what is usual among these images, which should be like those
    that the classifier learned from. Photographs are concentrated in place and size, and networks are said to be stable
    there only (Azulay & Weiss 2019, on photographers' biases).

    Instability is P(top-1 change): the image as the classifier sees it is moved by a pixel to its eight neighbors,
    which leaves the object where it is; the border that moves in repeats the last row or column.

    >>> Typicality(shift_px=2).images
    1000
    """

    images: int = 1000
    """How many images are looked at, spread evenly over the set."""
    shift_px: int = 1
    """How far the image is moved, in pixels of the network's input."""

    question: ClassVar[str] = "Is it stable only where objects lie as photographers place them?"
    reference: ClassVar[str] = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "boxes"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"top1_change": "change"}

    def __post_init__(self) -> None:
        if min(self.images, self.shift_px) < 1:
            raise ValueError("images and shift_px must be at least 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the place and size of its object, and the share of its eight shifts that change the answer."""
        answers, labels = batch.logits.argmax(1), batch.labels.tolist()
        moved = [classifier.logits(view).argmax(1) != answers for view in neighbors(batch.pixels, self.shift_px)]
        places = [place_of(sample) or (None,) * 4 for sample in batch.samples]
        columns = {
            "id": batch.ids,
            "label": [label if label >= 0 else None for label in labels],
            **dict(zip(("x", "y", "width", "height"), zip(*places, strict=True), strict=True)),
            "change": torch.stack(moved, 1).double().mean(1).tolist(),
            "right": [a == k if k >= 0 else None for a, k in zip(answers.tolist(), labels, strict=True)],
        }
        return pl.DataFrame(columns, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        boxed, why = with_distance(rows)
        measures = (*_bias(boxed, why), *_instability(rows, boxed, why))
        caveats = [
            "Typical is what is usual in this set; it tells of the training images only as far as they are alike.",
            "An image that is untypical is also answered wrongly more often, and wrong answers change more: hence the "
            "difference among right answers.",
        ]
        lacking = rows.height - boxed.height
        if lacking:
            caveats.append(f"{lacking} of {rows.height} images have no box and count in P(top-1 change) alone.")
        return Finding(
            instrument="typicality",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=() if why else tuple(_panels(boxed, about)),
            sentence=_sentence({measure.name: measure for measure in measures}),
            caveats=tuple(caveats),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The most typical images and the least."""
        ids = with_distance(rows)[0]["id"].to_list()
        return list(dict.fromkeys(ids[:SHOWN] + ids[-SHOWN:]))

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        off = {name: math.hypot(row["x"] - 0.5, row["y"] - 0.5) for name, row in told.items()}
        figures = []
        for i in sorted(range(len(batch)), key=lambda i: (off[batch.ids[i]], batch.ids[i])):
            row = told[batch.ids[i]]
            where = f"center at {row['x']:.2f} from the left, {row['y']:.2f} from the top"
            size = math.sqrt(row["width"] * row["height"])
            caption = f"{where}; side {size:.2f}; {round(8 * row['change'])} of 8 shifts change the answer"
            figures.append(Figure(caption, to_image(batch.pixels[i])))
        caption = "The most and the least typical images of the set, those with the object in the middle first."
        yield Panel("typical", "images", "Typical and untypical images", caption, figures=tuple(figures))


_SCHEMA = {
    "id": pl.String,
    "label": pl.Int32,
    "x": pl.Float64,
    "y": pl.Float64,
    "width": pl.Float64,
    "height": pl.Float64,
    "change": pl.Float64,
    "right": pl.Boolean,
}


def place_of(sample: Sample) -> tuple[float, float, float, float] | None:
    """The largest box: its center from the left and the top, its width and height, as shares of the image.

    >>> from cuescope.data.images import Box
    >>> place_of(Sample("a", torch.zeros(3, 10, 20), boxes=(Box(0, 0, 10, 5), Box(0, 0, 1, 1))))
    (0.25, 0.25, 0.5, 0.5)
    """
    _, height, width = sample.pixels.shape
    inside = [(max(b.x0, 0), max(b.y0, 0), min(b.x1, width), min(b.y1, height)) for b in sample.boxes]
    boxes = [(x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in inside if x1 > x0 and y1 > y0]
    if not boxes:
        return None
    x0, y0, x1, y1 = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def with_distance(rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The images with a box by `distance` from the typical, and why nothing can be told of it, or ""."""
    boxed = (
        rows.filter(pl.col("x").is_not_null())
        .sort("id")
        .with_columns((pl.col("width") * pl.col("height")).sqrt().alias("size"))
    )
    values = boxed.select("x", "y", pl.col("size").log()).to_numpy()
    apart = values - values.mean(0) if len(values) else values
    covariance = apart.T @ apart / max(1, len(values))
    # A way in which the objects never differ tells nothing: the inverse leaves it out.
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    squared = np.einsum("ni,ij,nj->n", apart, inverse, apart)
    boxed = boxed.with_columns(pl.Series("distance", np.sqrt(squared.clip(0)).round(9))).sort("distance", "id")
    if len(values) < LEAST:
        seen = f"only {len(values)} images have a box" if len(values) else "no image has a box"
        return boxed, seen if rows.height else "no image was seen"
    return boxed, "" if covariance.trace() > 1e-12 else "all objects lie alike"


def middle_by_chance(side: float) -> float:
    """P(the center is in the middle third) along one axis, of an object of this side that lies anywhere as a whole.

    >>> round(middle_by_chance(0.0), 3), round(middle_by_chance(0.5), 3), middle_by_chance(0.9)
    (0.333, 0.667, 1.0)
    """
    return 1.0 if side >= 2 / 3 else 1 / 3 / (1 - side)


def _bias(boxed: pl.DataFrame, why: str) -> Iterable[Measure]:
    """How concentrated place and size are."""
    n, title = boxed.height, "objects whose center lies in the middle ninth of the image"
    inside = ((boxed["x"] - 0.5).abs() < 1 / 6) & ((boxed["y"] - 0.5).abs() < 1 / 6)
    found = _share("middle", title, inside, why or "no image has a box")
    by_chance = [middle_by_chance(w) * middle_by_chance(h) for w, h in boxed.select("width", "height").rows()]
    yield replace(found, chance=float(np.mean(by_chance)) if n else None, headline=True)
    yield _mean("size", "side of an object's box, as a share of the image's", boxed["size"], why)


def _instability(rows: pl.DataFrame, boxed: pl.DataFrame, why: str) -> Iterable[Measure]:
    yield replace(_mean("top1_change", "P(top-1 change)", rows["change"], "no image was seen"), better="lower")
    n = 0 if why else boxed.height // 3
    ends = {"typical": boxed.head(n), "untypical": boxed.tail(n)}
    for (name, part), most in zip(ends.items(), ("most", "least"), strict=True):
        which = f"the {most} typical third"
        yield _mean(f"change_{name}", f"P(top-1 change): {which}", part["change"], why)
        yield _share(f"accuracy_{name}", f"accuracy: {which}", part["right"].drop_nulls(), why or "no label is known")
    title = "P(top-1 change): the least typical third less the most typical"
    yield replace(_excess("excess", title, ends, why), headline=True)
    right = {name: part.filter(pl.col("right")) for name, part in ends.items()}
    yield _excess("excess_right", f"{title}, where it is right", right, why or "a third without a right answer")
    value, interval, reason = (None, None, why) if why else stats.pearson(*boxed["distance", "change"].to_numpy().T)
    title = "correlation of P(top-1 change) with the distance from the typical"
    n = boxed.height if value is not None else 0
    yield Measure("correlation", value, "correlation", n, interval, why=reason if value is None else "", title=title)


def _mean(name: str, title: str, values: pl.Series, why: str) -> Measure:
    n = len(values)
    if not n:
        return Measure(name, None, "share", why=why, title=title)
    numbers = values.to_numpy()
    return Measure(name, float(numbers.mean()), "share", n, stats.mean_of_shares(numbers), title=title)


def _share(name: str, title: str, values: pl.Series, why: str) -> Measure:
    n, k = len(values), int(values.sum() or 0)
    if not n:
        return Measure(name, None, "share", why=why, title=title)
    return Measure(name, k / n, "share", n, stats.wilson(k, n), title=title, count=k)


def _excess(name: str, title: str, ends: Mapping[str, pl.DataFrame], why: str) -> Measure:
    typical, untypical = (_mean("", "", ends[end]["change"], why) for end in ("typical", "untypical"))
    if typical.value is None or untypical.value is None or typical.interval is None or untypical.interval is None:
        return Measure(name, None, "difference", why=why, title=title, better="lower")
    value, n = untypical.value - typical.value, typical.n + untypical.n
    interval = stats.independent_difference(untypical.value, untypical.interval, typical.value, typical.interval)
    return Measure(name, value, "difference", n, interval, title=title, better="lower")


def _panels(boxed: pl.DataFrame, about: About) -> Iterable[Panel]:
    shown = boxed.sort("id")[:: -(-boxed.height // MOST_POINTS)].select("id", "x", "y")
    points = [{"x": round(x, 4), "y": round(1 - y, 4), "label": name} for name, x, y in shown.rows()]
    data = {"x": "from the left, as a share", "y": "from the bottom, as a share", "points": points}
    yield Panel("places", "points", "Where objects lie", "The center of each object.", data)
    edges = np.linspace(0, 1, 21)
    counted = np.histogram(boxed["size"].to_numpy(), edges)[0].tolist()
    data = {"x": "side of the box, as a share", "y": "images", "edges": edges.tolist(), "values": counted}
    yield Panel("sizes", "bars", "How large objects are", "The root of the share of the image that a box fills.", data)
    parts = [pl.from_numpy(p, ["x", "y"]) for p in np.array_split(boxed["distance", "change"].to_numpy(), FIFTHS)]
    found = [_mean("", "", part["y"], "") for part in parts]
    ends = [measure.interval or (None, None) for measure in found]
    xs, ys = [part["x"].mean() for part in parts], [measure.value for measure in found]
    curve = {"name": about.classifier, "x": xs, "y": ys, "low": [e[0] for e in ends], "high": [e[1] for e in ends]}
    caption = "Fifths of the images, from the most typical to the least; bands are 95% intervals."
    data = {"x": "distance from the typical place and size", "y": "P(top-1 change)", "series": [curve]}
    yield Panel("instability", "lines", "Does an untypical place make it unstable?", caption, data)
    what = [f(column).alias(f"{column} {f.__name__}") for column in ("x", "y", "size") for f in (pl.mean, pl.std)]
    by_class = (
        boxed.filter(pl.col("label").is_not_null()).group_by("label").agg(pl.len().alias("n"), *what, pl.mean("change"))
    )
    table = by_class.sort("n", "label", descending=[True, False]).head(MOST_CLASSES)
    columns = ["class", "images", "x", "sd of x", "y", "sd of y", "side", "sd of side", "P(top-1 change)"]
    rows = [
        [about.classes[label], n, *(None if v is None else round(v, 3) for v in numbers)]
        for label, n, *numbers in table.rows()
    ]
    if rows:
        caption = "Centers from the left and from the top, as shares of the image."
        yield Panel("classes", "table", "Place and size by class", caption, {"columns": columns, "rows": rows})


def _sentence(found: Mapping[str, Measure]) -> str:
    middle, typical, untypical, excess = (found[n] for n in ("middle", "change_typical", "change_untypical", "excess"))
    if middle.value is None:
        return f"Where objects lie is not known: {middle.why}."
    text = f"{middle.value:.0%} of the objects lie in the middle ninth of the image (by chance {middle.chance:.0%})"
    if typical.value is None or untypical.value is None or excess.interval is None:
        return f"{text}; whether it is less stable elsewhere is not measured: {typical.why}."
    told = "untypical places make it less stable" if excess.interval[0] > 0 else "no clear difference"
    told = "untypical places make it more stable" if excess.interval[1] < 0 else told
    return (
        f"{text}; a small shift changes its answer to {typical.value:.1%} of the most typical third and to "
        f"{untypical.value:.1%} of the least typical: {told}."
    )
