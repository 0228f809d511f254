"""Does the answer change when the image moves by one pixel?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from cuescope import stats
from cuescope.classes import IMAGENET
from cuescope.classifier import Classifier
from cuescope.findings import Figure, Finding, Measure, Panel, Published
from cuescope.images import Batch
from cuescope.instrument import About, Rows
from cuescope.ops.convert import to_image
from cuescope.ops.shift import ShiftedCrop


@dataclass(frozen=True)
class ShiftStability:
    """P(top-1 change) and MAC under a diagonal shift of one pixel, by the crop protocol.

    A random square of the image is resized to the network's input; a second one is shifted by a pixel on both
    axes. P(top-1 change) is the share of pairs whose answers differ; MAC, the mean absolute change, is the mean
    of |p1(k) - p2(k)| with k the first window's answer (Azulay & Weiss 2019, section 2). One pair
    an image, so the intervals are over independent images and two classifiers are compared on the same squares.

    >>> ShiftStability(shift_px=2).shift_px
    2
    """

    shift_px: int = 1
    """Diagonal shift, in pixels of the network's input."""
    scale_min: float = 0.08
    """Smallest area of the square, as a share of the image."""
    scale_max: float = 1.0
    """Largest area of the square, as a share of the image."""
    seed: int = 0
    """Of the random squares."""

    question: ClassVar[str] = "Does one pixel of shift change its mind?"
    reference: ClassVar[str] = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"top1_change": "changed", "mac": "mac"}

    def __post_init__(self) -> None:
        if self.shift_px < 1 or not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError("shift_px must be at least 1, and 0 < scale_min <= scale_max <= 1")

    @property
    def _crop(self) -> ShiftedCrop:
        return ShiftedCrop(self.scale_min, self.scale_max, self.shift_px, self.seed)

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: both windows' answers and the probability of the first answer in each."""
        pairs = self._crop.pairs(batch.samples, classifier.preprocessing).to(batch.pixels.device)
        probabilities = classifier.logits(pairs).double().softmax(1).view(len(batch), 2, -1)
        (p_first, first), second = probabilities[:, 0].max(1), probabilities[:, 1].argmax(1)
        p_second = probabilities[:, 1].gather(1, first[:, None])[:, 0]
        squares = [self._crop.square(s.id, s.pixels.shape[1], s.pixels.shape[2]) for s in batch.samples]
        labels = batch.labels.tolist()
        return pl.DataFrame(
            {
                "id": batch.ids,
                "first": first.numpy(),
                "second": second.numpy(),
                "p_first": p_first.numpy(),
                "p_second": p_second.numpy(),
                "changed": (first != second).numpy(),
                "mac": (p_first - p_second).abs().numpy(),
                "right": [f == label if label >= 0 else None for f, label in zip(first.tolist(), labels, strict=True)],
                "top": [s.top for s in squares],
                "left": [s.left for s in squares],
                "side": [s.side for s in squares],
            },
            schema=_SCHEMA,
        )

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        n, imagenet = rows.height, about.space == IMAGENET and self.shift_px == 1
        why = "no image was seen"
        change = _share("top1_change", "P(top-1 change)", rows["changed"], why, _PUBLISHED_P if imagenet else (), True)
        right = rows.filter(pl.col("right"))
        among = _share(
            "top1_change_right", "P(top-1 change) where the first answer is right", right["changed"], "no right answer"
        )
        title = "mean absolute change (MAC)"
        if n > 1:
            mac = Measure(
                "mac",
                float(rows["mac"].mean()),  # type: ignore[arg-type]
                "probability",
                n,
                stats.bootstrap_mean(rows["mac"].to_numpy()),
                title=title,
                better="lower",
                published=_PUBLISHED_MAC if imagenet else (),
                headline=True,
            )
        else:
            mac = Measure("mac", None, "probability", n, title=title, why="fewer than two images")
        caveats = ["A classifier that is right more often also changes its mind less: read this beside its accuracy."]
        if imagenet:
            caveats.append(
                "The published values are of other weights on 1,000 validation images, by the same protocol."
            )
        return Finding(
            instrument="shift_stability",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(change, mac, among),
            panels=tuple(_panels(rows)),
            sentence=_sentence(change, mac, self.shift_px),
            caveats=tuple(caveats),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer changes although it was surest."""
        flips = rows.filter(pl.col("changed")).sort("p_first", "id", descending=[True, False])
        return flips["id"].head(4).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names = classifier.classes.names
        pairs = self._crop.pairs(batch.samples, classifier.preprocessing)
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        figures = []
        for i in sorted(range(len(batch)), key=lambda i: -told[batch.ids[i]]["p_first"]):
            row = told[batch.ids[i]]
            figures.append(Figure(f"{names[row['first']]}, {row['p_first']:.0%}", to_image(pairs[2 * i])))
            caption = f"shifted by {self.shift_px} px: {names[row['second']]}"
            figures.append(
                Figure(f"{caption} ({names[row['first']]} {row['p_second']:.0%})", to_image(pairs[2 * i + 1]))
            )
        caption = f"Pairs that differ by {self.shift_px} px on both axes, and what it says to each."
        yield Panel("flips", "images", "Answers that changed", caption, figures=tuple(figures))


_SCHEMA = {
    "id": pl.String,
    "first": pl.Int32,
    "second": pl.Int32,
    "p_first": pl.Float64,
    "p_second": pl.Float64,
    "changed": pl.Boolean,
    "mac": pl.Float64,
    "right": pl.Boolean,
    "top": pl.Int32,
    "left": pl.Int32,
    "side": pl.Int32,
}

_SOURCE = "Azulay & Weiss 2019, table 1, crop protocol, PyTorch"
_PUBLISHED_P = (
    Published("VGG-16", 0.062, _SOURCE),
    Published("ResNet-50", 0.061, _SOURCE),
    Published("DenseNet-121", 0.068, _SOURCE),
)
_PUBLISHED_MAC = (
    Published("VGG-16", 0.038, _SOURCE),
    Published("ResNet-50", 0.040, _SOURCE),
    Published("DenseNet-121", 0.045, _SOURCE),
)


def _share(
    name: str, title: str, flags: pl.Series, why: str, published: tuple[Published, ...] = (), headline: bool = False
) -> Measure:
    n, k = len(flags), int(flags.sum() or 0)
    if not n:
        return Measure(name, None, "share", 0, title=title, why=why)
    return Measure(
        name,
        k / n,
        "share",
        n,
        stats.wilson(k, n),
        title=title,
        count=k,
        better="lower",
        published=published,
        headline=headline,
    )


def _panels(rows: pl.DataFrame) -> Iterable[Panel]:
    if rows.height < 2:
        return
    edges = np.linspace(0, 1, 21)
    values = np.histogram(rows["mac"].to_numpy(), edges)[0].tolist()
    yield Panel(
        "change",
        "bars",
        "How far one answer's probability moves",
        "Absolute change of the first answer's probability, per image.",
        {"x": "absolute change of probability", "y": "images", "edges": edges.tolist(), "values": values},
    )


def _sentence(change: Measure, mac: Measure, shift_px: int) -> str:
    if change.value is None:
        return f"Stability is not measured: {change.why}."
    step = "one pixel" if shift_px == 1 else f"{shift_px} pixels"
    odds = f"about one image in {round(1 / change.value)}" if change.value else "none of the images"
    moved = f"; the probability of its answer moves by {mac.value:.3f} on average" if mac.value is not None else ""
    return f"A shift by {step} changes its answer on {change.value:.1%} of {change.n} images ({odds}){moved}."
