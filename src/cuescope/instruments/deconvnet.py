"""What in this image excites its strongest units?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Watch, peak
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Inset, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.objects import object_mask
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Rows
from cuescope.methods.deconvnet import CHOICES, Variant, project, why_not
from cuescope.network.receptive import WHOLE

SHOWN = 4
"""Images that are drawn."""


@dataclass(frozen=True)
class Deconvnet:
    """Down from the strongest units of each layer to the pixels that excite them (Zeiler & Fergus 2014, section 2.1).

    A unit is a channel of a layer, at the place where it is strongest; all others of its layer are set to zero, and
    what is left goes down the network: unpooled by the switches of the max pools, rectified, through transposed
    filters, without biases. The relatives guided backpropagation (Springenberg et al. 2015) and gradient (Simonyan et
    al. 2014) differ in the rectifiers' rule alone. Where below a layer there is anything that a variant has no rule
    for (GELU, attention, gates), the layer has no projection, which is said; nothing else is shown in its name.

    >>> Deconvnet(layers=("layer3.1",), channels=(12,)).variant
    'deconvnet'
    """

    layers: tuple[str, ...] = ()
    """Layers to look at; by default the last of each map size, at most five, the coarsest ones."""
    channels: tuple[int, ...] = ()
    """Units to look at; by default the strongest in each image."""
    units: int = 3
    """How many of the strongest units of each layer."""
    variant: Variant = "deconvnet"
    """What sends a unit down to the pixels: deconvnet, guided (backpropagation) or gradient."""
    images: int = 12
    """How many images are looked at, spread evenly over the set."""

    question: ClassVar[str] = "What in an image excites its strongest units?"
    reference: ClassVar[str] = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 2.1"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "gradients"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.units < 1 or self.images < 1:
            raise ValueError("units and images must be at least 1")

    def misfit(self, classifier: Classifier) -> str:
        """Whether it has no layers of its own. Raises CueError for an unknown layer."""
        return "" if self.watch(classifier) else f"{classifier.name} has no layers that can be told apart"

    def watch(self, classifier: Classifier) -> Sequence[Watch]:
        """The peak of every channel of the layers."""
        return [(name, peak) for name in classifier.stages(self.layers)]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image, layer and unit: how strong it is, and where its projection lies."""
        objects = [object_mask(sample, classifier.prepare) for sample in batch.samples]
        rows = []
        for order, ((layer, _), peaks) in enumerate(classifier.watch(batch, self.watch(classifier)).items()):
            why = why_not(classifier, layer, self.variant)
            for rank, chosen in enumerate(self._units(peaks)):
                maps = None if why else project(classifier, batch.pixels, layer, chosen, variant=self.variant).maps
                for i, name in enumerate(batch.ids):
                    unit = {"channel": chosen[i], "value": float(peaks[i, chosen[i], 0]), "why": why}
                    place = _where(maps[i], objects[i]) if maps is not None else {}
                    rows.append({"id": name, "order": order, "layer": layer, "rank": rank, **unit, **place})
        return pl.DataFrame(rows, schema=_SCHEMA)

    def _units(self, peaks: Tensor) -> list[list[int]]:
        """For each rank, the channel of each image: those asked for, else the strongest."""
        count = peaks.shape[1]
        if self.channels:
            return [[channel] * len(peaks) for channel in self.channels if channel < count]
        return peaks[..., 0].topk(min(self.units, count), dim=1).indices.T.tolist()

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        refused = rows.filter(pl.col("why") != "")["why"].unique(maintain_order=True).to_list()
        shown = rows.filter((pl.col("why") == "") & pl.col("focus").is_not_null())
        layers = shown["layer"].unique(maintain_order=True).to_list()
        last = shown.filter(pl.col("layer") == layers[-1]) if layers else shown
        why = "no unit of the images is excited" if rows.height else "no image was seen"
        measures = _measures(last, layers[-1] if layers else "", why=refused[0] if refused and not layers else why)
        nothing = refused[0] if refused and not layers else ""
        return Finding(
            instrument="deconvnet",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=(_by_layer(shown, layers),) if layers else (),
            sentence=_sentence(measures, layers),
            caveats=(*(f"{reason}." for reason in refused), *self._choices()),
            references=(self.reference,),
            why=nothing,
        )

    def _choices(self) -> tuple[str, ...]:
        return (f"What the paper leaves open: {'; '.join(CHOICES)}.",) if self.variant == "deconvnet" else ()

    def examples(self, rows: Rows) -> list[str]:
        """The first images."""
        return rows["id"].unique(maintain_order=True).head(SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        figures = []
        for i, name in enumerate(batch.ids):
            mine = rows.filter((pl.col("id") == name) & (pl.col("why") == "") & pl.col("focus").is_not_null())
            insets = [
                self._inset(classifier, batch.pixels[i : i + 1], layer, mine.filter(pl.col("layer") == layer))
                for layer in mine["layer"].unique(maintain_order=True)
            ]
            answer = classifier.classes.names[int(batch.logits[i].argmax())]
            figures.append(Figure(f"It says {answer}", to_image(batch.pixels[i]), insets=tuple(insets)))
        which = "the units asked for" if self.channels else f"the {self.units} strongest units of the image"
        caption = (
            f"For each layer, from fine to coarse, {which} by the {self.variant}, each stretched to its own "
            "contrast, where middle gray is zero, and beside it the part of the image that the unit can see."
        )
        yield Panel("projections", "images", "What excites the strongest units", caption, figures=tuple(figures))

    def _inset(self, classifier: Classifier, image: Tensor, layer: str, rows: Rows) -> Inset:
        """A row for each unit: what excites it, and the part of the image that it can see."""
        chosen = rows["channel"].to_list()
        found = project(classifier, image.expand(len(chosen), -1, -1, -1), layer, chosen, variant=self.variant)
        field, tiles = classifier.receptive_fields.get(layer, WHOLE), []
        for down, row, column in zip(found.maps, found.rows.tolist(), found.columns.tolist(), strict=True):
            top, left, bottom, right = field.window(row, column, (image.shape[2], image.shape[3]))
            tiles += [tile(contrast(down[:, top:bottom, left:right])), tile(image[0, :, top:bottom, left:right])]
        return Inset(f"{layer}: {', '.join(map(str, chosen))}", sheet([tiles], columns=2))


def _where(projection: Tensor, on_object: Tensor | None) -> dict[str, Any]:
    """Where the energy of a projection lies; nothing for one that is zero everywhere."""
    energy = projection.double().square().sum(0)
    total = float(energy.sum())
    if not total:
        return {}
    ordered = energy.flatten().sort(descending=True).values
    found: dict[str, Any] = {"focus": float(ordered[: max(1, round(0.1 * len(ordered)))].sum()) / total}
    if on_object is not None:
        found["on_object"] = float(energy[on_object].sum()) / total
        found["object"] = float(on_object.double().mean())
    return found


def _measures(rows: Rows, layer: str, why: str) -> tuple[Measure, Measure]:
    """Means over images, so that the units of an image do not count as so many images."""
    images = rows.group_by("id", maintain_order=True).agg(pl.col("focus", "on_object", "object").mean())
    where = f"of units of '{layer}'" if layer else "of units"
    focus = _mean("focus", f"energy of a projection {where} in a tenth of the pixels", images["focus"], why, 0.1)
    known = images.filter(pl.col("on_object").is_not_null())
    chance = float(known["object"].to_numpy().mean()) if known.height else None
    reason = why if not images.height else "where the objects are is not known"
    return focus, _mean(
        "on_object", f"energy of a projection {where} on the object", known["on_object"], reason, chance
    )


def _mean(name: str, title: str, values: pl.Series, why: str, chance: float | None) -> Measure:
    n, headline = len(values), name == "focus"
    if not n:
        return Measure(name, None, "share", why=why, title=title, headline=headline)
    found = values.to_numpy()
    interval = stats.bootstrap_mean(found) if n > 1 else None
    return Measure(name, float(found.mean()), "share", n, interval, title=title, chance=chance, headline=headline)


def _sentence(measures: tuple[Measure, Measure], layers: Sequence[str]) -> str:
    focus, on_object = measures
    if focus.value is None:
        return f"What excites its units cannot be shown: {focus.why}."
    text = f"A tenth of the pixels holds {focus.value:.0%} of what excites the strongest units of '{layers[-1]}'"
    if on_object.value is None or on_object.chance is None:
        return f"{text}."
    return f"{text}; {on_object.value:.0%} of it lies on the object, which covers {on_object.chance:.0%} of the image."


def _by_layer(rows: Rows, layers: Sequence[str]) -> Panel:
    told = "on_object" if rows["on_object"].is_not_null().any() else "focus"
    points, chance = [], []
    for layer in layers:
        images = rows.filter(pl.col("layer") == layer).group_by("id", maintain_order=True)
        means = images.agg(pl.col(told, "object").mean() if told != "focus" else pl.col(told).mean()).drop_nulls()
        values = means[told].to_numpy()
        low, high = stats.bootstrap_mean(values) if len(values) > 1 else (None, None)
        value = float(np.mean(values)) if len(values) else None
        points.append({"label": layer, "value": value, "low": low, "high": high, "n": len(values)})
        chance.append(0.1 if told == "focus" else float(means["object"].to_numpy().mean()) if len(values) else None)
    title = {"focus": "Energy in a tenth of the pixels", "on_object": "Energy on the object"}[told]
    data = {"unit": "share", "rows": points, "marks": [{"who": "chance", "values": chance}]}
    return Panel("by_layer", "dots", title, "Of the projections of the strongest units, from fine to coarse.", data)


_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "order": pl.Int32,
    "layer": pl.String,
    "rank": pl.Int32,
    "channel": pl.Int32,
    "value": pl.Float64,
    "why": pl.String,
    "focus": pl.Float64,
    "on_object": pl.Float64,
    "object": pl.Float64,
}
