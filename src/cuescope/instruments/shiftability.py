"""In which layer does a shift of the image begin to matter?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.errors import unknown
from cuescope.core.findings import About, Finding, Measure, Panel
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.shift import ShiftedCrop
from cuescope.instruments.base import Rows
from cuescope.methods.linear_readout import Targets, held_out, targets_of

TITLES = {
    "energy": "feature energy of one pixel",
    "aliasing": "share of it that comes of subsampling",
    "change": "P(change) of a linear read-out",
    "accuracy": "accuracy of that read-out",
}
"""Of each layer's measures."""


@dataclass(frozen=True)
class Shiftability:
    """How far do a layer's globally pooled features change when the image moves by one pixel?

    A layer that keeps one position of every s pixels can still be summed over its positions to something that no shift
    changes, if it holds no detail finer than that. Where it does, the sum depends on how the positions happen to fall:
    aliasing (Azulay & Weiss 2019, on shiftability). Of every image the largest square is enlarged to a little more than
    the input, and windows of it that lie a pixel apart on both axes are looked at.

    The feature energy is the mean squared change of the pooled features under one pixel, as a share of their mean
    squared distance between two images. What enters and leaves at the border is a part of it. The same layer computed
    at every position would change by that alone: by its change under s pixels, divided by s, since s such changes make
    up one step of the s positions. What is more than that comes of subsampling.

    The read-out is a linear classifier of the pooled features, trained for each layer on a part of the images and
    asked about the others: P(change) is the share of one-pixel shifts that change its answer. Neither paper nor code
    gives its kind or its numbers: here it is a ridge classifier, five-fold.

    >>> Shiftability(images=64, layers=("layer1", "layer4")).layers
    ('layer1', 'layer4')
    """

    images: int = 128
    """How many images are looked at, spread evenly over the set; read-outs are better with more."""
    layers: tuple[str, ...] = ()
    """Which layers; empty for the last one of each subsampling factor."""
    pairs: int = 4
    """Shifts by one pixel of each image, each a step on from the last."""
    seed: int = 0
    """Of where the square lies in an image that is not square."""

    question: ClassVar[str] = "In which layer does a shift of the image begin to matter?"
    reference: ClassVar[str] = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if min(self.images, self.pairs) < 1:
            raise ValueError("images and pairs must be at least 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image and layer: the pooled features of the image at several shifts."""
        factors = {name: subsampling(classifier, name) for name in self.layers or usual_layers(classifier)}
        shifts = {name: sorted({*range(self.pairs + 1), factor}) for name, factor in factors.items()}
        if not factors:
            return pl.DataFrame([{"id": name} for name in batch.ids], schema=_SCHEMA)
        rows = []
        # One by one, so that the rows of an image do not depend, in the last bits, on what is seen beside it.
        for sample, label in zip(batch.samples, batch.labels.tolist(), strict=True):
            known = {"id": sample.id, "label": label if label >= 0 else None}
            for order, (name, values) in enumerate(self._pooled(classifier, sample, shifts).items()):
                height, width = classifier.layer(name).size
                layer = {"layer": name, "order": order, "factor": factors[name], "height": height, "width": width}
                rows.append({**known, **layer, "shifts": shifts[name], "pooled": values.ravel().tolist()})
        return pl.DataFrame(rows, schema=_SCHEMA)

    def _pooled(
        self, classifier: Classifier, sample: Sample, shifts: Mapping[str, Sequence[int]]
    ) -> dict[str, NDArray[np.float32]]:
        """Of each layer its features at its shifts, (V, C), averaged over the map."""
        every = sorted({shift for some in shifts.values() for shift in some})
        views = ShiftedCrop(1.0, 1.0, seed=self.seed).views([sample], classifier.preprocessing, steps=every[-1])
        maps = classifier.features(views[every].to(classifier.device), list(shifts))
        return {
            name: maps[name][[every.index(shift) for shift in some]].mean((2, 3)).numpy()
            for name, some in shifts.items()
        }

    def conclude(self, rows: Rows, about: About) -> Finding:
        why = "it has no layer that is a map over the image" if rows.height else "no image was seen"
        rows = (rows if rows.height else pl.DataFrame(schema=_SCHEMA)).filter(pl.col("layer").is_not_null())
        parts = rows.sort("order", "id").partition_by("order", maintain_order=True)
        targets = targets_of(parts[0]["label"].to_list() if parts else [], about.space)
        found = [_layer(part, self.pairs, targets) for part in parts]
        caveats = [
            "Features are averaged over the map, also where the network itself does not do so.",
            "A read-out that is right less often is also less sure and changes its answer more: read the two together.",
        ]
        if parts and (targets.why or targets.note):
            caveats.append(f"Read-outs: {targets.why or targets.note}.")
        return Finding(
            instrument="shiftability",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(*_headlines(found, why), *(m for layer in found for m in layer.measures)),
            panels=tuple(_panels(found)) if parts and parts[0].height > 1 else (),
            sentence=_sentence(found, why),
            caveats=tuple(caveats),
            references=(self.reference,),
        )


class _Layer(NamedTuple):
    """What was found of one layer. `measures` are those of `TITLES`, in their order."""

    name: str
    factor: int
    map: str
    channels: int
    measures: tuple[Measure, ...]

    @property
    def label(self) -> str:
        return f"{self.name} \N{DIVISION SIGN}{self.factor}"


_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "label": pl.Int32,
    "layer": pl.String,
    "order": pl.Int32,
    "factor": pl.Int32,
    "height": pl.Int32,
    "width": pl.Int32,
    "shifts": pl.List(pl.Int32),
    "pooled": pl.List(pl.Float32),
}


def subsampling(classifier: Classifier, layer: str) -> int:
    """Pixels of the input for one position of a layer, along a side. Raises CueError for an unknown layer."""
    if layer not in classifier.layers:
        raise unknown("layer", layer, classifier.layers)
    stride = classifier.receptive_fields[layer].stride_px
    # Tokens lie on no grid that could be followed, but there are so many of them.
    return stride or max(1, round(max(classifier.preprocessing.size) / max(classifier.layer(layer).size)))


def usual_layers(classifier: Classifier) -> list[str]:
    """The last layer of each subsampling factor, all nested as deep as the layers that know most factors.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> usual_layers(Classifier(net))
    ['1', '2']
    """
    by_depth: dict[int, dict[int, str]] = {}
    for name in classifier.layers:
        by_depth.setdefault(name.count("."), {})[subsampling(classifier, name)] = name
    chosen = max((by_depth[depth] for depth in sorted(by_depth)), key=len, default={})
    return [chosen[factor] for factor in sorted(chosen)]


def energies(
    views: NDArray[Any], shifts: Sequence[int], pairs: int, factor: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Per image: the squared change under one pixel, the part without subsampling, the squared distance to others.

    `views` are pooled features (n, V, C) at these shifts, of which the first are 0 to `pairs`.

    >>> moving = np.array([[[0.0], [1.0], [0.0]], [[2.0], [3.0], [2.0]]])
    >>> [part.tolist() for part in energies(moving, [0, 1, 2], pairs=2, factor=2)]
    [[1.0, 1.0], [0.0, 0.0], [4.0, 4.0]]
    """
    n = len(views)
    steps = (np.diff(views[:, : pairs + 1], axis=1) ** 2).sum(2).mean(1)
    whole = views[:, list(shifts).index(factor)] - views[:, 0]
    dense = (whole**2).sum(1) / factor**2 if factor > 1 else steps
    # The mean of these is that of the squared distances of all pairs of images.
    apart = 2 * n / max(n - 1, 1) * ((views[:, 0] - views[:, 0].mean(0)) ** 2).sum(1)
    return steps, dense, apart


def _layer(rows: pl.DataFrame, pairs: int, targets: Targets) -> _Layer:
    first = rows.row(0, named=True)
    views = np.array(rows["pooled"].to_list(), np.float64).reshape(rows.height, len(first["shifts"]), -1)
    steps, dense, apart = energies(views, first["shifts"], pairs, first["factor"])
    energy = _ratio(steps, apart, "it is the same for every image")
    aliasing = _ratio(dense, steps, "no shift changes it")
    if aliasing.value is not None:
        ends = aliasing.interval and (1 - aliasing.interval[1], 1 - aliasing.interval[0])
        aliasing = replace(aliasing, value=1 - aliasing.value, interval=ends)
    found = (energy, aliasing, *_read(views[:, : pairs + 1], targets))
    named = zip(TITLES, found, strict=True)
    key = first["layer"].replace(".", "_")
    measures = (replace(m, name=f"{what}_{key}", title=f"{TITLES[what]}: {first['layer']}") for what, m in named)
    size = f"{first['height']} x {first['width']}"
    return _Layer(first["layer"], first["factor"], size, views.shape[2], tuple(measures))


def _ratio(above: NDArray[Any], below: NDArray[Any], why: str) -> Measure:
    n = len(below)
    if n < 2 or not below.sum():
        return Measure("", None, "share", why="fewer than two images" if n < 2 else why)
    return Measure("", float(above.sum() / below.sum()), "share", n, stats.bootstrap_ratio(above, below))


def _read(views: NDArray[Any], targets: Targets) -> tuple[Measure, Measure]:
    """P(change) of the layer's read-out, and how often it is right."""
    if targets.why:
        return Measure("", None, "share", why=targets.why), Measure("", None, "share", why=targets.why)
    answers, n = held_out(views[targets.images], targets.classes), len(targets.classes)
    changes = (answers[:, 1:] != answers[:, :-1]).mean(1)
    correct = int((answers[:, 0] == targets.classes).sum())
    change = Measure("", float(changes.mean()), "share", n, stats.mean_of_shares(changes), better="lower")
    return change, Measure("", correct / n, "share", n, stats.wilson(correct, n), count=correct)


def _headlines(found: Sequence[_Layer], why: str) -> Iterable[Measure]:
    for i, what in ((0, "energy"), (2, "change")):
        last = found[-1].measures[i] if found else Measure("", None, "share", why=why)
        yield replace(last, name=f"{what}_last", title=f"{TITLES[what]}: last layer", better="lower", headline=True)


def _panels(found: Sequence[_Layer]) -> Iterable[Panel]:
    factor = "After \N{DIVISION SIGN} stand the pixels of the input for which a layer has one position."
    caption = (
        "The mean squared change of a layer's pooled features under one pixel, as a share of their mean squared "
        f"distance between two images. {factor} Bars are 95% intervals over images."
    )
    data = {"unit": "share", "rows": _dots(found, 0)}
    yield Panel("energy", "dots", "How far one pixel moves what a layer sums up", caption, data)
    if found[-1].measures[2].value is not None:
        caption = f"The share of one-pixel shifts that change the answer of a linear read-out of the layer. {factor}"
        data = {"unit": "share", "rows": _dots(found, 2)}
        yield Panel("read_outs", "dots", "How often one pixel changes what is read out", caption, data)
    columns = ["layer", "px a position", "map", "channels", "energy", "from subsampling", "P(change)", "accuracy"]
    rows = [[x.name, x.factor, x.map, x.channels, *(_short(m.value) for m in x.measures)] for x in found]
    caption = "Shares are of 1; the last two are of the read-out."
    yield Panel("layers", "table", "The layers", caption, {"columns": columns, "rows": rows})


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _dots(found: Sequence[_Layer], i: int) -> list[dict[str, Any]]:
    told = [(layer.label, layer.measures[i], layer.measures[i].interval or (None, None)) for layer in found]
    return [{"label": label, "value": m.value, "low": low, "high": high, "n": m.n} for label, m, (low, high) in told]


def _sentence(found: Sequence[_Layer], why: str) -> str:
    if not found or found[-1].measures[0].value is None:
        return f"Shiftability is not measured: {found[-1].measures[0].why if found else why}."
    last, (energy, aliasing, change, _) = found[-1], found[-1].measures
    text = (
        f"A shift by one pixel moves what {last.name} sums up over the image by {energy.value:.2%} of the squared "
        "distance between two images"
    )
    first = found[0].measures[0].value
    if len(found) > 1 and first is not None:
        text += f" ({found[0].name}: {first:.2%})"
    if aliasing.value is not None:
        text += f", of which {max(0.0, aliasing.value):.0%} comes of subsampling by {last.factor}"
    if change.value is None:
        return text + "."
    return f"{text}; it changes the answer of a linear read-out there in {change.value:.1%} of all cases."
