"""Does the answer change when the image moves or grows by one pixel?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Figure, Finding, Measure, Panel, Published
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import Canvas, Embedding, ShiftedCrop
from cuescope.instruments.base import Rows

Protocol = Literal["crop", "embed", "inpaint", "size"]

SUFFIX: dict[str, str] = {"crop": "", "embed": "_embed", "inpaint": "_inpaint", "size": "_size"}
"""Of the columns and measures of each protocol. The crop protocol's have none."""

TITLES = {
    "crop": "shifted crop",
    "embed": "shifted on a plain canvas",
    "inpaint": "shifted on a painted canvas",
    "size": "resized on a plain canvas",
}
VIEWS = 64
"""Views that are made before the network sees them: enough for its batches, few enough for memory."""


@dataclass(frozen=True)
class ShiftStability:
    """P(top-1 change) and MAC under a change of one pixel, by the four protocols of Azulay & Weiss (2019, section 2).

    "crop": a random square of the image is enlarged to the network's input; a second one is shifted by a pixel on both
    axes. "embed": the image is scaled to a short side of 100 px and put at a random place of a black canvas, then a
    pixel farther on both axes. "inpaint": so, with the canvas painted from the image's surroundings. "size": on the
    black canvas again, but the place stays and the image grows by a pixel, from its top left corner.

    P(top-1 change) is the share of pairs whose answers differ; MAC, the mean absolute change, is the mean of |p1(k) -
    p2(k)| with k the first view's answer; accuracy is that on the first views of the pairs. Intervals are over images,
    and two classifiers are compared on the same views.

    >>> ShiftStability(protocols=("crop",), pairs=8, margin_px=10).pairs
    8
    """

    protocols: tuple[Protocol, ...] = ("crop", "embed", "inpaint", "size")
    """Which ways to move or resize the image: crop, embed, inpaint, size."""
    shift_px: int = 1
    """Diagonal shift, and growth of the short side, in pixels of the network's input."""
    pairs: int = 1
    """Pairs of an image by each protocol, each a step on from the last; 8 in the authors' code."""
    scale_min: float = 0.08
    """Smallest area of the cropped square, as a share of the image."""
    scale_max: float = 1.0
    """Largest area of the cropped square, as a share of the image."""
    margin_px: int = 0
    """How far the enlarged square exceeds an input of 224 px, beyond what the shifts need; 10 in the authors' code."""
    embed_px: int = 100
    """Short side of the embedded image for an input of 224 px; for other inputs in proportion."""
    canvas: Canvas = "black"
    """Around the embedded image: black as in the paper, or the gray that the network subtracts, as in its code."""
    fill: Literal["blur", "opencv"] = "blur"
    """How the canvas is painted: by the authors' repeated blur, or by OpenCV's inpainting where that is installed."""
    seed: int = 0
    """Of the random squares and places."""

    question: ClassVar[str] = "Does one pixel of shift change its mind?"
    reference: ClassVar[str] = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 3
    per_image: ClassVar[Mapping[str, str]] = {
        measure: f"{column}{suffix}"
        for protocol, suffix in SUFFIX.items()
        for measure, column in (
            (f"top1_change{suffix}", "change"),
            (f"mac{suffix}", "mac"),
            (f"accuracy_{protocol}", "right"),
        )
    }

    def __post_init__(self) -> None:
        if min(self.shift_px, self.pairs, self.embed_px) < 1 or not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError("shift_px, pairs and embed_px must be at least 1, and 0 < scale_min <= scale_max <= 1")
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise ValueError("protocols must name at least one, and each once")

    def maker(self, protocol: Protocol) -> ShiftedCrop | Embedding:
        """What makes the views of a protocol."""
        if protocol == "crop":
            return ShiftedCrop(self.scale_min, self.scale_max, self.shift_px, self.seed, self.margin_px)
        if protocol == "size":
            return Embedding(self.embed_px, 0, self.shift_px, self.canvas, seed=self.seed)
        if protocol == "inpaint":
            return Embedding(self.embed_px, self.shift_px, fill=self.fill, seed=self.seed)
        return Embedding(self.embed_px, self.shift_px, canvas=self.canvas, seed=self.seed)

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image and protocol: the first pair's answers, and over all pairs how often and how far they change."""
        columns: dict[str, Any] = {"id": batch.ids}
        for protocol in self.protocols:
            columns |= self._observed(protocol, classifier, batch)
        if "crop" in self.protocols:
            crop = self.maker("crop")
            assert isinstance(crop, ShiftedCrop)
            squares = [crop.square(s.id, s.pixels.shape[1], s.pixels.shape[2]) for s in batch.samples]
            for name in ("top", "left", "side"):
                columns[name] = [getattr(square, name) for square in squares]
            columns["enlarged"] = [square.side < min(classifier.preprocessing.size) for square in squares]
        known = pl.DataFrame(columns, schema={name: _SCHEMA[name] for name in columns})
        return known.with_columns(
            pl.lit(None, kind).alias(name) for name, kind in _SCHEMA.items() if name not in known
        )[list(_SCHEMA)]

    def _observed(self, protocol: Protocol, classifier: Classifier, batch: Batch) -> dict[str, list[Any]]:
        probabilities = self._probabilities(protocol, classifier, batch.samples)
        (p_before, before), after = probabilities[:, :-1].max(2), probabilities[:, 1:].argmax(2)
        p_after = probabilities[:, 1:].gather(2, before[..., None])[..., 0]
        changed, labels = before != after, batch.labels[:, None]
        right = before == labels
        values = {
            "first": before[:, 0].tolist(),
            "second": after[:, 0].tolist(),
            "p_first": p_before[:, 0].tolist(),
            "p_second": p_after[:, 0].tolist(),
            "changed": changed.any(1).tolist(),
            "change": changed.double().mean(1).tolist(),
            "mac": (p_before - p_after).abs().mean(1).tolist(),
            "right": right.double().mean(1).tolist(),
            "change_right": (changed & right).double().mean(1).tolist(),
        }
        for name in ("right", "change_right"):
            values[name] = [v if k >= 0 else None for v, k in zip(values[name], batch.labels.tolist(), strict=True)]
        return {f"{name}{SUFFIX[protocol]}": column for name, column in values.items()}

    def _probabilities(self, protocol: Protocol, classifier: Classifier, samples: tuple[Sample, ...]) -> Tensor:
        """(B, pairs + 1, K) float64."""
        at_once, parts = max(1, VIEWS // (self.pairs + 1)), []
        for start in range(0, len(samples), at_once):
            views = self.maker(protocol).views(
                samples[start : start + at_once], classifier.preprocessing, steps=self.pairs
            )
            parts.append(classifier.logits(views.to(classifier.device)))
        return torch.cat(parts).double().softmax(1).unflatten(0, (len(samples), self.pairs + 1))

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        imagenet = about.space == IMAGENET and self.shift_px == 1
        published = {"crop"} & {*self.protocols} if imagenet else set()
        if imagenet and self.canvas == "black" and self.embed_px == 100:
            published |= {"embed"}
        measures: list[Measure] = []
        for protocol in ("crop", "embed", "inpaint", "size"):
            measures += self._measures(rows, protocol, protocol in published)
        found = {measure.name: measure for measure in measures}
        caveats = ["A classifier that is right more often also changes its mind less: read this beside its accuracy."]
        if published:
            caveats.append(
                "The published values are of other weights on 1,000 validation images, by the same protocol."
            )
        enlarged = int(rows["enlarged"].sum() or 0)
        if enlarged:
            caveats.append(f"{enlarged} of {rows.height} cropped squares were smaller than the input and enlarged.")
        return Finding(
            instrument="shift_stability",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=tuple(measures),
            panels=tuple(self._panels(rows, found)),
            sentence=self._sentence(found),
            caveats=tuple(caveats),
            references=(self.reference,),
        )

    def _measures(self, rows: pl.DataFrame, protocol: Protocol, published: bool) -> Iterable[Measure]:
        suffix, title = SUFFIX[protocol], TITLES[protocol]
        why = "no image was seen" if protocol in self.protocols else "this protocol was not asked for"
        changes, macs, right = (rows[f"{name}{suffix}"].drop_nulls() for name in ("change", "mac", "right"))
        sources = _PUBLISHED[protocol] if published else ((), ())
        once = self.pairs == 1
        yield Measure(
            f"top1_change{suffix}",
            **_mean(changes, "share", why, once),
            title=f"P(top-1 change): {title}",
            better="lower",
            published=sources[0],
            headline=protocol in ("crop", "embed"),
        )
        few = why if not len(macs) else "fewer than two images"
        yield Measure(
            f"mac{suffix}",
            **_mean(macs if len(macs) > 1 else macs.clear(), "probability", few),
            title=f"mean absolute change (MAC): {title}",
            better="lower",
            published=sources[1],
            headline=protocol == "crop",
        )
        no_label = why if not len(changes) else "no image has a label"
        yield Measure(
            f"accuracy_{protocol}",
            **_mean(right, "share", no_label, once),
            title=f"accuracy on the first views: {title}",
            better="higher",
        )
        if protocol == "crop":
            yield self._among_right(rows, no_label)

    def _among_right(self, rows: pl.DataFrame, no_label: str) -> Measure:
        right, both = (rows[name].drop_nulls().to_numpy() for name in ("right", "change_right"))
        name, title = "top1_change_right", "P(top-1 change) where the first answer is right: shifted crop"
        if not right.sum():
            why = "no answer is right" if len(right) else no_label
            return Measure(name, None, "share", 0, title=title, why=why, better="lower")
        n = int((right > 0).sum())
        if self.pairs == 1:
            told = stats.of_images(both[right > 0], counted=True)
        else:
            told = {"value": float(both.sum() / right.sum()), "n": n, "interval": stats.bootstrap_ratio(both, right)}
        return Measure(name, unit="share", title=title, better="lower", **told)

    def _panels(self, rows: pl.DataFrame, found: Mapping[str, Measure]) -> Iterable[Panel]:
        if rows.height < 2:
            return
        asked = [p for p in SUFFIX if p in self.protocols]
        bars = []
        for protocol in asked:
            measure = found[f"top1_change{SUFFIX[protocol]}"]
            low, high = measure.interval or (None, None)
            label = TITLES[protocol].replace(" on a", ",")  # short enough for the plot
            bars.append({"label": label, "value": measure.value, "low": low, "high": high, "n": measure.n})
        step = "a pixel" if self.shift_px == 1 else f"{self.shift_px} pixels"
        caption = f"The share of pairs of views {step} apart whose answers differ, with 95 % intervals."
        told = [[p.value for p in found[f"top1_change{SUFFIX[protocol]}"].published] for protocol in asked]
        marks = [
            {"who": f"{who} (Azulay & Weiss)", "values": [values[i] if values else None for values in told]}
            for i, who in enumerate(_NETWORKS)
            if any(told)
        ]
        data = {"unit": "share", "rows": bars, "marks": marks}
        yield Panel("protocols", "dots", "How often the answer changes, by protocol", caption, data)
        edges = np.linspace(0, 1, 21)
        counted = np.histogram(rows[f"mac{SUFFIX[asked[0]]}"].to_numpy(), edges)[0].tolist()
        data = {"x": "absolute change of probability", "y": "images", "edges": edges.tolist(), "values": counted}
        caption = f"Absolute change of the first answer's probability, per image ({TITLES[asked[0]]})."
        yield Panel("change", "bars", "How far one answer's probability moves", caption, data)

    def _sentence(self, found: Mapping[str, Measure]) -> str:
        asked = [p for p in SUFFIX if p in self.protocols]
        change, mac = (found[f"{name}{SUFFIX[asked[0]]}"] for name in ("top1_change", "mac"))
        if change.value is None:
            return f"Stability is not measured: {change.why}."
        step = "one pixel" if self.shift_px == 1 else f"{self.shift_px} pixels"
        what = "growth" if asked[0] == "size" else "shift"
        one = "image" if self.pairs == 1 else "pair of views"
        odds = f"about one {one} in {round(1 / change.value)}" if change.value else f"no {one}"
        where = f"{change.n} images" if self.pairs == 1 else f"the pairs of views of {change.n} images"
        text = f"A {what} by {step} changes its answer on {change.value:.1%} of {where} ({odds})"
        if mac.value is not None:
            text += f"; the probability of its answer moves by {mac.value:.3f} on average"
        others = [(found[f"top1_change{SUFFIX[p]}"].value, TITLES[p]) for p in asked[1:]]
        told = [f"{value:.1%} {title}" for value, title in others if value is not None]
        return text + (f". By other protocols: {', '.join(told)}." if told else ".")

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer changes although it was surest."""
        return _flips(rows)["id"].unique(maintain_order=True).head(4).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, figures = classifier.classes.names, []
        for row in _flips(rows).unique("id", maintain_order=True).iter_rows(named=True):
            sample = batch.samples[batch.ids.index(row["id"])]
            views = self.maker(row["protocol"]).views([sample], classifier.preprocessing)
            first, second = names[row["first"]], names[row["second"]]
            figures.append(Figure(f"{first}, {row['p_first']:.0%} ({TITLES[row['protocol']]})", to_image(views[0])))
            how = "grown" if row["protocol"] == "size" else "shifted"
            told = f"{how} by {self.shift_px} px: {second} ({first} {row['p_second']:.0%})"
            figures.append(Figure(told, to_image(views[1])))
        caption = "Pairs that differ by one step, and what it says to each; the surest first answers come first."
        yield Panel("flips", "images", "Answers that changed", caption, figures=tuple(figures))


_OF_A_PROTOCOL = {
    "first": pl.Int32,
    "second": pl.Int32,
    "p_first": pl.Float64,
    "p_second": pl.Float64,
    "changed": pl.Boolean,
    "change": pl.Float64,
    "mac": pl.Float64,
    "right": pl.Float64,
    "change_right": pl.Float64,
}
_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    **{f"{name}{suffix}": kind for suffix in SUFFIX.values() for name, kind in _OF_A_PROTOCOL.items()},
    **dict.fromkeys(("top", "left", "side"), pl.Int32),
    "enlarged": pl.Boolean,
}

_SOURCE = "Azulay & Weiss 2019, table 1, {} protocol, PyTorch"
_NETWORKS = ("VGG-16", "ResNet-50", "DenseNet-121")
_VALUES = {
    "crop": ((0.062, 0.061, 0.068), (0.038, 0.040, 0.045)),
    "embed": ((0.18, 0.20, 0.19), (0.06, 0.086, 0.079)),
}
_PUBLISHED = {
    name: tuple(
        tuple(
            Published(who, v, _SOURCE.format({"embed": "black"}.get(name, name)))
            for who, v in zip(_NETWORKS, values, strict=True)
        )
        for values in both
    )
    for name, both in _VALUES.items()
}


def _flips(rows: Rows) -> pl.DataFrame:
    """Images and protocols whose first pair of answers differs, the surest first."""
    parts = [
        rows.select("id", *(pl.col(f"{c}{suffix}").alias(c) for c in ("first", "second", "p_first", "p_second")))
        .with_columns(pl.lit(protocol).alias("protocol"), pl.lit(i).alias("order"))
        .filter(pl.col("first") != pl.col("second"))
        for i, (protocol, suffix) in enumerate(SUFFIX.items())
    ]
    return pl.concat(parts).sort("p_first", "id", "order", descending=[True, False, False])


def _mean(values: pl.Series, unit: str, why: str, counted: bool = False) -> dict[str, Any]:
    if not len(values):
        return {"value": None, "unit": unit, "why": why}
    return {"unit": unit, **stats.of_images(values.to_numpy(), counted)}
