"""In which layer does a shift of the image begin to matter?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.data.images import Batch
from cuescope.data.ops.shift import ShiftedCrop
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, where_labeled
from cuescope.methods.linear_readout import Targets, held_out, targets_of
from cuescope.methods.shiftability import energies, subsampling, usual_layers

TITLES = {
    "energy": "feature energy of one pixel",
    "aliasing": "share of it that comes from subsampling",
    "change": "P(change) of a linear read-out",
    "accuracy": "accuracy of that read-out",
}


@dataclass(frozen=True)
class Shiftability(Instrument, version=2, order=130, needs={"features"}):
    """How far do a layer's globally pooled features change when the image moves by one pixel?

    The sum of a layer over its positions, one for every s pixels, is the same under every shift of the image if the
    layer holds no detail finer than s pixels. Else it depends on where the positions fall: aliasing (Azulay & Weiss
    2019, on shiftability). Of every image the largest square is enlarged to a little more than the input, and windows
    of it that lie a pixel apart on both axes are looked at.

    The feature energy is the mean squared change of the pooled features under one pixel, as a share of their mean
    squared distance between two images. A part of it enters and leaves at the border: by that alone the same layer
    computed at every position would change, by its change under s pixels divided by s, since s such changes make up one
    step of the s positions. What exceeds that comes from subsampling. P(change) is the share of one-pixel shifts that
    change the answer of a linear read-out of the pooled features. Neither paper nor code gives its kind or its
    settings: here it is a ridge classifier, five-fold.

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

    question = "In which layer does a shift of the image begin to matter?"
    reference = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    columns = {"id": pl.String, "label": pl.Int32, "layer": pl.String, "pooled": pl.List(pl.Float32)}

    def __post_init__(self) -> None:
        if min(self.images, self.pairs) < 1:
            raise ValueError("images and pairs must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: of each layer its pixels a position ("factor"), its map, and the shifts it is looked at."""
        layers: list[dict[str, Any]] = []
        for name in dict.fromkeys(self.layers or usual_layers(classifier)):
            factor, (height, width) = subsampling(classifier, name), classifier.layer(name).size
            shifts = sorted({*range(self.pairs + 1), factor})
            layers.append({"name": name, "factor": factor, "size": f"{height} x {width}", "shifts": shifts})
        if not layers:
            raise Misfit("it has no layer that is a map over the image")
        shifts_of = {layer["name"]: layer["shifts"] for layer in layers}
        return Observer(partial(self._rows, classifier, shifts_of), facts={"layers": layers})

    def _rows(self, classifier: Classifier, shifts_of: Mapping[str, Sequence[int]], batch: Batch) -> Rows:
        """Per image and layer: the pooled features of the image at the layer's shifts, (V, C), row by row."""
        every = sorted({shift for shifts in shifts_of.values() for shift in shifts})
        crop, how, rows = ShiftedCrop(1.0, 1.0, seed=self.seed), classifier.preprocessing, []
        # One by one, so that the rows of an image do not depend, in the last bits, on what is seen beside it.
        for sample, label in zip(batch.samples, where_labeled(batch, batch.labels), strict=True):
            views = crop.views([sample], how, steps=every[-1])[every]
            maps = classifier.features(views.to(classifier.device), list(shifts_of))
            for name, shifts in shifts_of.items():
                pooled = maps[name][[every.index(shift) for shift in shifts]].mean((2, 3))
                rows.append((sample.id, label, name, pooled.ravel().tolist()))
        return pl.DataFrame(rows, dict(self.columns), orient="row")

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        layers = about.facts["layers"] if rows.height else ()
        parts = [rows.filter(pl.col("layer") == layer["name"]).sort("id") for layer in layers]
        targets = targets_of(parts[0]["label"].to_list() if parts else [], about.space)
        found = [_layer(layer, part, self.pairs, targets) for layer, part in zip(layers, parts, strict=True)]
        caveats = [
            "Features are averaged over the map, also where the network itself does not do so.",
            "A read-out that is right less often is also less sure and changes its answer more: read the two together.",
        ]
        if parts and (targets.why or targets.note):
            caveats.append(f"Read-outs: {targets.why or targets.note}.")
        measures = (*_headlines(found), *(measure for layer in found for measure in layer.measures))
        panels = tuple(_panels(found)) if parts and parts[0].height > 1 else ()
        return Conclusion(measures, panels, _sentence(found), tuple(caveats))


class _Layer(NamedTuple):
    """What was found of one layer. `measures` are those of `TITLES`, in their order."""

    name: str
    factor: int
    size: str
    channels: int
    measures: tuple[Measure, ...]


def _layer(layer: Mapping[str, Any], rows: Rows, pairs: int, targets: Targets) -> _Layer:
    name, factor, shifts, n = layer["name"], layer["factor"], layer["shifts"], rows.height
    views = np.array(rows["pooled"].to_list(), np.float64).reshape(n, len(shifts), -1)
    steps, dense, apart = energies(views, shifts, pairs, factor)
    few = "fewer than two images" if n < 2 else ""
    if few:
        steps, dense, apart = np.zeros((3, n))
    energy = stats.ratio("", steps, apart, why=few or "it is the same for every image")
    aliasing = stats.ratio("", dense, steps, why=few or "no shift changes it")
    if aliasing.value is not None:
        interval = aliasing.interval and (1 - aliasing.interval[1], 1 - aliasing.interval[0])
        aliasing = replace(aliasing, value=1 - aliasing.value, n=n, interval=interval)
    answers = np.empty((0, pairs + 1)) if targets.why else held_out(views[targets.images, : pairs + 1], targets.classes)
    changes = (answers[:, 1:] != answers[:, :-1]).mean(1)
    change = stats.mean_share("", changes, why=targets.why, better="lower")
    accuracy = stats.share("", answers[:, 0] == targets.classes, why=targets.why)
    named = zip(TITLES.items(), (energy, aliasing, change, accuracy), strict=True)
    key = name.replace(".", "_")
    measures = (replace(m, name=f"{what}_{key}", title=f"{title}: {name}") for (what, title), m in named)
    return _Layer(name, factor, layer["size"], views.shape[2], tuple(measures))


def _headlines(found: Sequence[_Layer]) -> Iterable[Measure]:
    for i, what in ((0, "energy"), (2, "change")):
        last = found[-1].measures[i] if found else Measure("", None, "share", why="no image was seen")
        yield replace(last, name=f"{what}_last", title=f"{TITLES[what]}: last layer", better="lower", headline=True)


def _panels(found: Sequence[_Layer]) -> Iterable[Panel]:
    def dots(i: int) -> dict[str, Any]:
        shown = ((f"{one.name} \N{DIVISION SIGN}{one.factor}", one.measures[i]) for one in found)
        return {"unit": "share", "rows": [dot(label, m.value, m.interval, m.n) for label, m in shown]}

    factor = "After \N{DIVISION SIGN} stand the pixels of the input for which a layer has one position."
    caption = (
        "The mean squared change of a layer's pooled features under one pixel, as a share of their mean squared "
        f"distance between two images. {factor} Bars are 95% intervals over images."
    )
    yield Panel("energy", "dots", "How far one pixel moves a layer's pooled features", caption, dots(0))
    if found[-1].measures[2].value is not None:
        caption = f"The share of one-pixel shifts that change the answer of a linear read-out of the layer. {factor}"
        yield Panel("read_outs", "dots", "How often one pixel changes what is read out", caption, dots(2))
    columns = ["layer", "px a position", "map", "channels", "energy", "from subsampling", "P(change)", "accuracy"]
    values = [[None if m.value is None else float(f"{m.value:.3g}") for m in layer.measures] for layer in found]
    rows = [[*layer[:4], *shown] for layer, shown in zip(found, values, strict=True)]
    caption = "Shares are of 1; the last two are of the read-out."
    yield Panel("layers", "table", "The layers", caption, {"columns": columns, "rows": rows})


def _sentence(found: Sequence[_Layer]) -> str:
    if not found or found[-1].measures[0].value is None:
        return f"Shiftability is not measured: {found[-1].measures[0].why if found else 'no image was seen'}."
    last, (energy, aliasing, change, _) = found[-1], found[-1].measures
    text = (
        f"A shift by one pixel changes the pooled features of {last.name} by {energy.value:.2%} of the squared "
        "distance between two images"
    )
    first = found[0].measures[0].value
    if len(found) > 1 and first is not None:
        text += f" ({found[0].name}: {first:.2%})"
    if aliasing.value is not None:
        text += f", of which {max(0.0, aliasing.value):.0%} comes from subsampling by {last.factor}"
    if change.value is not None:
        text += f"; it changes the answer of a linear read-out there in {change.value:.1%} of all cases"
    return text + "."
