"""In which layer does a shift of the image begin to matter?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.shift import ShiftedCrop
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed, where_labeled
from cuescope.methods.linear_readout import Targets, held_out, targets_of
from cuescope.methods.shiftability import energies, seamless, subsampling, unfit, usual_layers, without_border

TITLES = {
    "energy": "feature energy of one pixel",
    "aliasing": "feature energy of one pixel by subsampling alone",
    "change": "P(change) of a linear read-out",
    "accuracy": "accuracy of that read-out",
}
MARGIN = 0.01
"""A feature energy that is surely above this matters, one that is surely below does not."""
CYCLIC_PAIRS = 2
"""Cyclic shifts of each image, at most: they are one more look at it each."""


class _Layer(NamedTuple):
    """What was found of one layer. `measures` are those of `TITLES`, in their order."""

    name: str
    factor: int
    size: str
    channels: int
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class Shiftability(Instrument, version=3, order=130, needs={"features"}):
    """How far do a layer's globally pooled features change when the image moves by one pixel?

    The sum of a layer over its positions, one for every s pixels, is the same under every shift of the image if the
    layer holds no detail finer than s pixels. Else it depends on where the positions fall: aliasing (Azulay & Weiss
    2019, on shiftability). Of every image the largest square is enlarged to a little more than the input, and windows
    of it that lie a pixel apart on both axes are looked at.

    The feature energy is the mean squared change of the pooled features under one pixel, as a share of their mean
    squared distance between two images. A part of it is no aliasing: the image enters and leaves at the border, and
    what a layer pads stays where it is. What subsampling does alone is measured by a control, the same weights with
    circular padding, under cyclic shifts of the same images, faded at their border, so that nothing enters, leaves or
    is padded. P(change) is the share of one-pixel shifts that change the answer of a linear read-out of the pooled
    features. Neither paper nor code gives its kind or its settings: here it is a ridge classifier, five-fold.

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
    columns = {
        **{"id": pl.String, "label": pl.Int32, "layer": pl.String},
        **typed(pl.List(pl.Float32), "pooled cyclic"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "the last layer has no energy", "Shiftability is not measured: {why}."),
        "from": Sentence(
            "yes",
            "the energy of the layer named lies above MARGIN with its whole interval, that of no layer before it does",
            "{where} {layer} one pixel of shift moves the pooled features by more than "
            f"{MARGIN:.0%} of the squared distance between two images.",
        ),
        "never": Sentence(
            "no",
            "the energy of every layer lies below MARGIN with its whole interval",
            f"In no layer does one pixel of shift move the pooled features by as much as {MARGIN:.0%} of the squared "
            "distance between two images.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "no layer's energy lies above MARGIN, and not all lie below",
            "Whether one pixel of shift moves the pooled features of a layer by "
            f"{MARGIN:.0%} of the squared distance between two images cannot be said from {{n}}.",
        ),
        "last": Sentence("yes", "the last layer has an energy", "At {layer} it moves them by {energy:.2%}."),
        "subsampling": Sentence(
            "yes",
            "the last layer subsamples, and has an energy under cyclic shifts too",
            "Subsampling by {factor} alone moves them by {aliasing:.2%} there (cyclic shifts, no border).",
        ),
        "read_out": Sentence(
            "yes",
            "there is a read-out of the last layer",
            "It changes the answer of a linear read-out there in {change:.1%} of all cases, which is right about "
            "{accuracy:.0%}.",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.pairs) < 1:
            raise ValueError("images and pairs must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: of each layer its pixels a position ("factor"), its map, and why it has no control, if so."""
        factors = {name: subsampling(classifier, name) for name in self.layers or usual_layers(classifier)}
        if not factors:
            raise Misfit("it has no layer that is a map over the image")
        control, layers = without_border(classifier), []
        why = unfit(classifier, control, factors)
        for name, factor in factors.items():
            height, width = classifier.layer(name).size
            layers.append({"name": name, "factor": factor, "size": f"{height} x {width}", "why": why[name]})

        def observe(batch: Batch) -> Rows:
            fit = [name for name in factors if not why[name]]
            return self._rows(
                classifier, list(factors), control if isinstance(control, Classifier) else None, fit, batch
            )

        return Observer(observe, facts={"layers": layers})

    def _rows(
        self, classifier: Classifier, names: list[str], control: Classifier | None, fit: Sequence[str], batch: Batch
    ) -> Rows:
        """Per image and layer: the pooled features at each shift, (V, C), row by row, and those of the control."""
        crop, how, rows = ShiftedCrop(1.0, 1.0, seed=self.seed), classifier.preprocessing, []
        # One by one, so that the rows of an image do not depend, in the last bits, on what is seen beside it.
        for sample, label in zip(batch.samples, where_labeled(batch, batch.labels), strict=True):
            views = crop.views([sample], how, steps=self.pairs).to(classifier.device)
            maps = classifier.features(views, names)
            whole = seamless(views[:1])
            rolled = torch.cat([whole.roll((-k, -k), (2, 3)) for k in range(min(self.pairs, CYCLIC_PAIRS) + 1)])
            cyclic = control.features(rolled, fit) if control and fit else {}
            for name in names:
                pooled = (part[name].mean((2, 3)).ravel().tolist() if name in part else None for part in (maps, cyclic))
                rows.append((sample.id, label, name, *pooled))
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
        return Conclusion(measures, panels, self._verdict(found), tuple(caveats))

    def _verdict(self, found: Sequence[_Layer]) -> Verdict:
        last = found[-1] if found else None
        if last is None or last.measures[0].value is None:
            return self.say("nothing", why=last.measures[0].why if last else "no image was seen")
        first = next((i for i, one in enumerate(found) if one.measures[0].above(MARGIN)), None)
        n, (energy, aliasing, change, accuracy) = last.measures[0].n, last.measures
        if first is not None:
            clear = all(one.measures[0].below(MARGIN) for one in found[:first])
            said = self.say("from", where="First at" if clear else "At the latest at", layer=found[first].name)
        elif all(one.measures[0].below(MARGIN) for one in found):
            said = self.say("never")
        else:
            said = self.say("cannot_tell", n=counted(n, "image"))
        said += self.say("last", layer=last.name, energy=energy.value)
        if aliasing.value is not None and last.factor > 1:
            said += self.say("subsampling", factor=last.factor, aliasing=aliasing.value)
        if change.value is not None:
            said += self.say("read_out", change=change.value, accuracy=accuracy.value)
        return said


def _layer(layer: Mapping[str, Any], rows: Rows, pairs: int, targets: Targets) -> _Layer:
    name, n = layer["name"], rows.height
    views = np.array(rows["pooled"].to_list(), np.float64).reshape(n, pairs + 1, -1)
    energy = _energy(views, "")
    cyclic = [one for one in rows["cyclic"] if one is not None]
    rolled = np.array([np.reshape(one, (-1, views.shape[2])) for one in cyclic], np.float64)
    aliasing = _energy(rolled, layer["why"])
    answers = np.empty((0, pairs + 1)) if targets.why else held_out(views[targets.images], targets.classes)
    changes = (answers[:, 1:] != answers[:, :-1]).mean(1)
    change = stats.mean_share("", changes, why=targets.why)
    accuracy = stats.share("", answers[:, 0] == targets.classes, why=targets.why)
    named = zip(TITLES.items(), (energy, aliasing, change, accuracy), strict=True)
    key = name.replace(".", "_")
    measures = (replace(m, name=f"{what}_{key}", title=f"{title}: {name}") for (what, title), m in named)
    return _Layer(name, layer["factor"], layer["size"], views.shape[2], tuple(measures))


def _energy(views: NDArray[Any], why: str) -> Measure:
    """The mean squared change under one pixel, as a share of the mean squared distance between two images."""
    if len(views) < 2:
        return stats.ratio("", [], [], why=why or "fewer than two images")
    return stats.ratio("", *energies(views), why="it is the same for every image")


def _headlines(found: Sequence[_Layer]) -> Iterable[Measure]:
    for i, what in ((0, "energy"), (2, "change")):
        last = found[-1].measures[i] if found else Measure("", None, "share", why="no image was seen")
        yield replace(last, name=f"{what}_last", title=f"{TITLES[what]}: last layer", headline=True)


def _panels(found: Sequence[_Layer]) -> Iterable[Panel]:
    def dots(i: int) -> dict[str, Any]:
        shown = ((f"{one.name} \N{DIVISION SIGN}{one.factor}", one.measures[i]) for one in found)
        return {"unit": "share", "rows": [dot(label, m.value, m.interval, m.n) for label, m in shown]}

    factor = "\N{DIVISION SIGN}: pixels of the input for which a layer has one position."
    caption = f"As a share of how far two images are apart. {factor}"
    yield Panel("energy", "dots", "How far one pixel moves a layer's pooled features", caption, dots(0))
    if found[-1].measures[2].value is not None:
        caption = f"Shifts that change the answer of a linear read-out. {factor}"
        yield Panel("read_outs", "dots", "How often one pixel changes what is read out", caption, dots(2))
    columns = ["layer", "px a position", "map", "channels", "energy", "by subsampling", "P(change)", "accuracy"]
    values = [[None if m.value is None else float(f"{m.value:.3g}") for m in layer.measures] for layer in found]
    rows = [[*layer[:4], *shown] for layer, shown in zip(found, values, strict=True)]
    caption = "Shares are of 1; the last two are of the read-out."
    yield Panel("layers", "table", "The layers", caption, {"columns": columns, "rows": rows})
