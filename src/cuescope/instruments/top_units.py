"""What does each unit look for? The images that excite it most, and what in them did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Watch, peak
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Rows
from cuescope.methods.deconvnet import CHOICES, Variant, project, why_not
from cuescope.network.receptive import WHOLE


@dataclass(frozen=True)
class TopUnits:
    """The nine images that excite each unit most, and what in them did (Zeiler & Fergus 2014, figure 2).

    A unit is a channel of a layer. Its nine strongest activations over all images are kept, one an image, at the
    position where it is strongest; beside the crop of the image that the position can see stands its projection, by
    the deconvnet or a relative of it. Crops are of the receptive field, which is computed. Any number of images is
    seen in bounded memory, in the clean forward pass itself. How much of one class a unit's nine images are tells how
    far up it is: a class counts by the label, or by the answer where an image has none.

    >>> TopUnits(layers=("layer4.1",), shown=12).variant
    'deconvnet'
    """

    layers: tuple[str, ...] = ()
    """Layers to look at; by default the last of each map size, at most five, and the layer of the logits."""
    best: int = 9
    """Images kept of each unit."""
    shown: int = 6
    """Units drawn of each layer: a random subset, as in the paper."""
    channels: tuple[int, ...] = ()
    """Units to draw instead."""
    variant: Variant = "deconvnet"
    """What sends a unit down to the pixels: deconvnet, guided (backpropagation) or gradient."""
    seed: int = 0
    """Of the random subset."""

    question: ClassVar[str] = "What does each of its units look for?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4 and figure 2"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.best < 1 or self.shown < 1:
            raise ValueError("best and shown must be at least 1")

    def misfit(self, classifier: Classifier) -> str:
        """Whether it has no layers of its own. Raises CueError for an unknown layer."""
        return "" if self.watch(classifier) else f"{classifier.name} has no layers that can be told apart"

    def watch(self, classifier: Classifier) -> Sequence[Watch]:
        """The peak of every channel of the layers."""
        last = "" if self.layers else classifier.last_layer
        return [(name, peak) for name in dict.fromkeys((*classifier.stages(self.layers), last)) if name]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Of each unit, the images of the batch in which it is strongest."""
        said = batch.logits.argmax(1)
        known = torch.where(batch.labels >= 0, batch.labels, said)
        frames = []
        for order, ((name, _), peaks) in enumerate(classifier.watch(batch, self.watch(classifier)).items()):
            frames.append(self._strongest(classifier, batch.ids, known, order, name, peaks))
        return pl.concat(frames)

    def _strongest(
        self,
        classifier: Classifier,
        ids: Sequence[str],
        known: Tensor,
        order: int,
        layer: str,
        peaks: Tensor,
    ) -> pl.DataFrame:
        """Of one layer, from the peaks (B, C, 2) of its channels."""
        values, images = peaks[..., 0].sort(dim=0, descending=True, stable=True)
        values, images = values[: self.best].T, images[: self.best].T
        places = peaks[..., 1].T.gather(1, images)
        (units, count), flat = values.shape, images.flatten().numpy()
        seen = classifier.receptive_fields.get(layer, WHOLE).size_px
        found = {
            "id": pl.Series(ids, dtype=pl.String).gather(flat),
            "channel": np.arange(units).repeat(count),
            "value": values.flatten().numpy(),
            "place": places.flatten().numpy(),
            "class": known.numpy()[flat],
        }
        same = {"order": order, "layer": layer, "columns": classifier.layer(layer).size[1], "field_px": seen}
        rows = pl.DataFrame(found).with_columns(**{key: pl.lit(value) for key, value in same.items()})
        return rows.select(_SCHEMA.keys()).cast(_SCHEMA)

    def reduce(self, rows: Rows) -> Rows:
        """The strongest of each unit alone; of equal ones the first."""
        if not rows.height:
            return rows
        ranked = rows.sort("order", "channel", "value", descending=[False, False, True], maintain_order=True)
        return ranked.group_by("order", "channel", maintain_order=True).head(self.best).select(rows.columns)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = self.reduce(rows) if rows.height else pl.DataFrame(schema=_SCHEMA)
        units = _units(rows)
        layers = units["layer"].unique(maintain_order=True).to_list()
        told = [self._layer(rows, units.filter(pl.col("layer") == name), name) for name in layers]
        last = told[-1] if told else self._layer(rows, units, "")
        return Finding(
            instrument="top_units",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=last,
            panels=(*_purity(told, layers), _table(told, layers, units)) if layers else (),
            sentence=self._sentence(told, layers),
            caveats=self._caveats(units),
            references=(self.reference,),
        )

    def _layer(self, rows: Rows, units: pl.DataFrame, name: str) -> tuple[Measure, Measure, Measure]:
        """Of one layer: units of one class, the mean share of the commonest class, dead units."""
        alive = units.filter(~pl.col("dead") & (pl.col("n") > 1))
        n, pure = alive.height, int((alive["purity"] == 1).sum())
        seen = rows.select("id", "class").unique("id", maintain_order=True)["class"]
        why = "" if n else "no unit has two images that excite it"
        if n and seen.is_unique().all():
            n, why = 0, "no class has two images among those that excite a unit most"
        where = f"of '{name}'" if name else "of its last layer"
        one = Measure(
            "one_class",
            pure / n if n else None,
            "share",
            n,
            stats.wilson(pure, n) if n else None,
            title=f"units {where} whose strongest images are all of one class",
            count=pure if n else None,
            why=why,
            headline=True,
        )
        values = alive["purity"].to_numpy()
        mean = Measure(
            "purity",
            float(values.mean()) if n else None,
            "share",
            n,
            stats.bootstrap_mean(values) if n > 1 else None,
            title=f"strongest images of a unit {where} that are of its commonest class",
            why=why,
            chance=_chance(seen.to_numpy(), self.best, self.seed) if n else None,
        )
        dead, all_units = int(units["dead"].sum()), units.height
        silent = Measure(
            "dead",
            dead / all_units if all_units else None,
            "share",
            all_units,
            stats.wilson(dead, all_units) if all_units else None,
            title=f"units {where} that no image excites",
            why="" if all_units else "no image was seen",
            count=dead if all_units else None,
            better="lower",
        )
        return one, mean, silent

    def _sentence(self, told: Sequence[tuple[Measure, Measure, Measure]], layers: Sequence[str]) -> str:
        if not told:
            return "What its units look for is not known: no image was seen."
        one, mean, _ = told[-1]
        if one.value is None or mean.value is None or mean.chance is None:
            return f"How much its units look for one class cannot be told: {one.why}."
        first = told[0][1]
        rise = f", against {first.value:.0%} in '{layers[0]}'" if len(told) > 1 and first.value is not None else ""
        return (
            f"Of the units of its last layer, '{layers[-1]}', {one.value:.0%} are excited most by images of one class "
            f"alone; {mean.value:.0%} of a unit's strongest images are of its commonest class{rise} and "
            f"{mean.chance:.0%} by chance."
        )

    def _caveats(self, units: pl.DataFrame) -> tuple[str, ...]:
        told = (
            [f"Projections by the {self.variant}: " + "; ".join(CHOICES) + "."] if self.variant == "deconvnet" else []
        )
        few = int((units["n"] < self.best).sum())
        if few:
            told.append(f"There are fewer than {self.best} images, so that each unit has only as many.")
        return tuple(told)

    def _chosen(self, rows: Rows) -> list[tuple[str, int]]:
        """The layers and channels to draw: those asked for, else a random subset of the living, in their order."""
        generator, found = np.random.default_rng(self.seed), []
        for name in rows["layer"].unique(maintain_order=True):
            mine = rows.filter(pl.col("layer") == name)
            if self.channels:
                present = set(mine["channel"].unique())
                chosen = [channel for channel in self.channels if channel in present]
            else:
                living = mine.filter(pl.col("value") != 0)["channel"].unique().sort().to_numpy()
                chosen = sorted(generator.choice(living, min(self.shown, len(living)), replace=False).tolist())
            found += [(name, channel) for channel in chosen]
        return found

    def examples(self, rows: Rows) -> list[str]:
        """All images that a drawn unit is excited by."""
        wanted = pl.DataFrame(self._chosen(rows), schema={"layer": pl.String, "channel": pl.Int32}, orient="row")
        return rows.join(wanted, on=["layer", "channel"], how="semi")["id"].unique(maintain_order=True).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        place = {name: i for i, name in enumerate(batch.ids)}
        there = rows.filter(pl.col("id").is_in(list(place)))
        by_layer: dict[str, list[Figure]] = {}
        refused: dict[str, str] = {}
        for layer, channel in self._chosen(rows):
            if layer not in refused:
                refused[layer] = why_not(classifier, layer, self.variant)
            mine = self.reduce(there.filter((pl.col("layer") == layer) & (pl.col("channel") == channel)))
            by_layer.setdefault(layer, []).append(self._figure(classifier, batch, mine, place, refused[layer]))
        for number, (layer, figures) in enumerate(by_layer.items()):
            told = (
                f"{self.variant.capitalize()} projections are not there: {refused[layer]}."
                if refused[layer]
                else (
                    f"Left, what in each image excited the unit, by the {self.variant}; right, the image where it did."
                )
            )
            side = rows.filter(pl.col("layer") == layer)["field_px"][0]
            seen = f"A position sees {side} x {side} px" if side else "A unit sees the whole image"
            title = f"What units of '{layer}' look for"
            yield Panel(f"units-{number}", "images", title, f"{told} {seen}.", figures=tuple(figures))

    def _figure(
        self, classifier: Classifier, batch: Batch, rows: Rows, place: Mapping[str, int], refused: str
    ) -> Figure:
        """Nine crops, and nine projections beside them."""
        told = list(rows.iter_rows(named=True))
        layer, channel, columns = told[0]["layer"], told[0]["channel"], told[0]["columns"]
        spots = [divmod(row["place"], columns) for row in told]
        pixels = batch.pixels[torch.tensor([place[row["id"]] for row in told], device=batch.pixels.device)]
        field, size = classifier.receptive_fields.get(layer, WHOLE), (pixels.shape[2], pixels.shape[3])
        windows = [field.window(row, column, size) for row, column in spots]
        crops = [tile(_cut(image, window)) for image, window in zip(pixels, windows, strict=True)]
        grids = [crops]
        if not refused:
            maps = project(classifier, pixels, layer, [channel] * len(told), places=spots, variant=self.variant).maps
            grids = [[tile(contrast(_cut(m, w))) for m, w in zip(maps, windows, strict=True)], crops]
        names = [classifier.classes.names[row["class"]] for row in told]
        most = max(names, key=names.count)
        of = f"{names.count(most)} of {len(names)} {most}" if names.count(most) > 1 else "no class twice"
        return Figure(f"unit {channel} · {of}", sheet(grids, columns=3))


def _cut(image: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    top, left, bottom, right = window
    return image[:, top:bottom, left:right]


def _units(rows: Rows) -> pl.DataFrame:
    """One row a unit: how many images it has, the share of its commonest class, whether nothing excites it."""
    return (
        rows.group_by("order", "layer", "channel", maintain_order=True)
        .agg(
            n=pl.len(),
            field_px=pl.col("field_px").first(),
            purity=pl.col("class").unique_counts().max() / pl.len(),
            dead=(pl.col("value") == 0).all(),
        )
        .sort("order", "channel")
    )


def _chance(classes: np.ndarray[Any, Any], best: int, seed: int, draws: int = 400) -> float:
    """The mean share of the commonest class among as many of these images drawn at random."""
    generator, count = np.random.default_rng(seed), min(best, len(classes))
    drawn = (generator.choice(classes, count, replace=False) for _ in range(draws))
    return float(np.mean([np.unique(some, return_counts=True)[1].max() / count for some in drawn]))


def _purity(told: Sequence[tuple[Measure, ...]], layers: Sequence[str]) -> tuple[Panel, ...]:
    """By layer, where it is known at all."""
    if all(mean.value is None for _, mean, _ in told):
        return ()
    rows = []
    for name, (_, mean, _) in zip(layers, told, strict=True):
        low, high = mean.interval or (None, None)
        rows.append({"label": name, "value": mean.value, "low": low, "high": high, "n": mean.n})
    marks = [{"who": "chance", "values": [mean.chance for _, mean, _ in told]}]
    data = {"unit": "share", "rows": rows, "marks": marks if all(m.chance is not None for _, m, _ in told) else []}
    caption = "From fine to coarse: the mean share of a unit's strongest images that are of its commonest class."
    return (Panel("purity", "dots", "How much of one class a unit's images are", caption, data),)


def _table(told: Sequence[tuple[Measure, ...]], layers: Sequence[str], units: pl.DataFrame) -> Panel:
    fields = dict(units.select("layer", "field_px").unique("layer").iter_rows())
    rows = [
        [name, dead.n, fields[name] or "all", one.count, dead.count]
        for name, (one, _, dead) in zip(layers, told, strict=True)
    ]
    columns = ["layer", "units", "px that one position sees", "units of one class", "dead units"]
    return Panel("layers", "table", "The layers", data={"columns": columns, "rows": rows})


_SCHEMA: dict[Any, Any] = {
    "id": pl.String,
    "order": pl.Int32,
    "layer": pl.String,
    "channel": pl.Int32,
    "value": pl.Float32,
    "place": pl.Int32,
    "class": pl.Int32,
    "columns": pl.Int32,
    "field_px": pl.Int32,
}
