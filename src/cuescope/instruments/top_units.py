"""What does each unit look for? The images that excite it most, and what in them did."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel, dot
from cuescope.data.images import Batch
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Observer, Rows, peaks_of, typed
from cuescope.methods.deconvnet import CHOICES, Variant, project, visible, why_not
from cuescope.network.receptive import WHOLE


@dataclass(frozen=True)
class TopUnits(Instrument, version=1, order=240, needs={"features"}):
    """The nine images that excite each unit most, and what in them did (Zeiler & Fergus 2014, figure 2).

    A unit is a channel of a layer. Its nine strongest activations over all images are kept, one an image, at the
    position where it is strongest; beside the crop of the image that the position can see stands its projection, by
    the deconvnet or a relative of it. Crops are of the receptive field, which is computed. Any number of images is
    seen in bounded memory, in the clean forward pass itself. The share of a unit's nine images that are of one class
    grows from layer to layer: a class counts by the label, or by the answer where an image has none.

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

    question = "What does each of its units look for?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4 and figure 2"
    columns = {
        **typed(pl.String, "id layer"),
        **typed(pl.Int32, "order channel place class columns field_px"),
        "value": pl.Float32,
    }

    def __post_init__(self) -> None:
        if self.best < 1 or self.shown < 1:
            raise ValueError("best and shown must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """It watches the peak of every channel of the layers."""
        last = "" if self.layers else classifier.last_layer
        watch = peaks_of(classifier, (*classifier.stages(self.layers), last))
        return Observer(partial(self._rows, classifier, watch), watch)

    def _rows(self, classifier: Classifier, watch: Sequence[Watch], batch: Batch) -> Rows:
        """Of each unit, the images of the batch in which it is strongest."""
        classes = torch.where(batch.labels >= 0, batch.labels, batch.logits.argmax(1))
        frames = []
        for order, ((layer, _), peaks) in enumerate(classifier.watch(batch, watch).items()):
            values, images = peaks[..., 0].sort(dim=0, descending=True, stable=True)
            values, images = values[: self.best].T, images[: self.best].T
            (units, count), flat = values.shape, images.flatten().numpy()
            found = {
                "id": pl.Series(batch.ids, dtype=pl.String).gather(flat),
                "order": order,
                "layer": layer,
                "channel": np.arange(units).repeat(count),
                "value": values.flatten().numpy(),
                "place": peaks[..., 1].T.gather(1, images).flatten().numpy(),
                "class": classes.numpy()[flat],
                "columns": classifier.layer(layer).size[1],
                "field_px": classifier.receptive_fields.get(layer, WHOLE).size_px,
            }
            frames.append(self.table(found))
        return pl.concat(frames)

    def reduce(self, rows: Rows) -> Rows:
        """The strongest of each unit alone; of equal ones the first."""
        ranked = rows.sort("order", "channel", "value", descending=[False, False, True], maintain_order=True)
        return ranked.group_by("order", "channel", maintain_order=True).head(self.best).select(rows.columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = self.reduce(rows)
        purity, dead = pl.col("class").unique_counts().max() / pl.len(), (pl.col("value") == 0).all()
        units = rows.group_by("order", "layer", "channel", maintain_order=True).agg(
            pl.first("field_px"), n=pl.len(), purity=purity, dead=dead
        )
        units = units.sort("order", "channel")
        by_layer = {str(name): part for (name,), part in units.group_by("layer", maintain_order=True)}
        found = {name: self._measures(rows, part, f"of '{name}'") for name, part in by_layer.items()}
        last = list(found.values())[-1] if found else self._measures(rows, units, "of its last layer")
        panels = (*_purity(found), _table(found, units)) if found else ()
        return Conclusion(last, panels, _sentence(found), self._caveats(units))

    def _measures(self, rows: Rows, units: pl.DataFrame, where: str) -> tuple[Measure, Measure, Measure]:
        """Of one layer: units of one class, the mean share of the commonest class, dead units."""
        purity = units.filter(~pl.col("dead") & (pl.col("n") > 1))["purity"]
        seen, why = rows.unique("id", maintain_order=True)["class"], ""
        if not len(purity):
            why = "no unit has two images that excite it"
        elif seen.is_unique().all():
            purity, why = purity.clear(), "no class has two images among those that excite a unit most"
        title = f"units {where} whose strongest images are all of one class"
        one = stats.share("one_class", purity == 1, why=why, title=title, headline=True)
        title = f"strongest images of a unit {where} that are of its commonest class"
        chance = _chance(seen.to_numpy(), self.best, self.seed) if len(purity) else None
        mean = stats.mean("purity", purity, why=why, title=title, chance=chance)
        title = f"units {where} that no image excites"
        return one, mean, stats.share("dead", units["dead"], why="no image was seen", title=title, better="lower")

    def _caveats(self, units: pl.DataFrame) -> tuple[str, ...]:
        caveats = []
        if self.variant == "deconvnet":
            caveats.append(f"Projections by the {self.variant}: {'; '.join(CHOICES)}.")
        if (units["n"] < self.best).any():
            caveats.append(f"There are fewer than {self.best} images, so that each unit has only as many.")
        return tuple(caveats)

    def _chosen(self, rows: Rows) -> list[tuple[str, int]]:
        """The layers and channels to draw: those asked for, else a random subset of the living, in their order."""
        generator, found = np.random.default_rng(self.seed), []
        for name in rows["layer"].unique(maintain_order=True):
            mine = rows.filter(layer=name)
            chosen = [channel for channel in self.channels if channel in mine["channel"]]
            if not self.channels:
                living = mine.filter(pl.col("value") != 0)["channel"].unique().sort().to_numpy()
                chosen = sorted(generator.choice(living, min(self.shown, len(living)), replace=False).tolist())
            found += [(name, channel) for channel in chosen]
        return found

    def examples(self, rows: Rows) -> list[str]:
        """All images that a drawn unit is excited by."""
        wanted = pl.DataFrame(self._chosen(rows), schema={"layer": pl.String, "channel": pl.Int32}, orient="row")
        return rows.join(wanted, on=["layer", "channel"], how="semi")["id"].unique(maintain_order=True).to_list()

    def rows_to_show(self, rows: Rows, ids: Sequence[str]) -> Rows:
        """All: which units are drawn depends on all that are there."""
        return rows

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        there, units = rows.filter(pl.col("id").is_in(batch.ids)), self._chosen(rows)
        for number, layer in enumerate(dict.fromkeys(name for name, _ in units)):
            lacking, mine = why_not(classifier, layer, self.variant), there.filter(layer=layer)
            strongest = [self.reduce(mine.filter(channel=channel)) for name, channel in units if name == layer]
            figures = tuple(self._figure(classifier, batch, unit, not lacking) for unit in strongest)
            what = f"Left, what in each image excited the unit, by the {self.variant}; right, the image where it did."
            what = f"There are no {self.variant} projections: {lacking}." if lacking else what
            side = mine["field_px"][0]
            seen = f"A position sees {side} x {side} px" if side else "A unit sees the whole image"
            title = f"What units of '{layer}' look for"
            yield Panel(f"units-{number}", "images", title, f"{what} {seen}.", figures=figures)

    def _figure(self, classifier: Classifier, batch: Batch, unit: Rows, projected: bool) -> Figure:
        """Nine crops, and nine projections beside them."""
        layer, channel, columns = (unit[name][0] for name in ("layer", "channel", "columns"))
        places = [divmod(place, columns) for place in unit["place"]]
        pixels = batch.pixels[torch.tensor([batch.ids.index(name) for name in unit["id"]], device=batch.pixels.device)]
        windows = visible(classifier, layer, places, pixels)
        grids = [[tile(image[window]) for image, window in zip(pixels, windows, strict=True)]]
        if projected:
            chosen = [channel] * len(places)
            maps = project(classifier, pixels, layer, chosen, places=places, variant=self.variant).maps
            grids.insert(0, [tile(contrast(down[window])) for down, window in zip(maps, windows, strict=True)])
        names = [classifier.classes.names[k] for k in unit["class"]]
        most = max(names, key=names.count)
        of = f"{names.count(most)} of {len(names)} {most}" if names.count(most) > 1 else "no class twice"
        return Figure(f"unit {channel} · {of}", sheet(grids, columns=3))


Found = Mapping[str, tuple[Measure, Measure, Measure]]
"""By layer: units of one class, the mean share of the commonest class, dead units."""


def _sentence(found: Found) -> str:
    if not found:
        return "What its units look for is not known: no image was seen."
    layers = list(found)
    one, mean, _ = found[layers[-1]]
    if one.value is None:
        return f"How much its units look for one class is not measured: {one.why}."
    first = found[layers[0]][1].value
    rise = f", against {first:.0%} in '{layers[0]}'" if len(layers) > 1 and first is not None else ""
    return (
        f"Of the units of its last layer, '{layers[-1]}', {one.value:.0%} are excited most by images of one class "
        f"alone; {mean.value:.0%} of a unit's strongest images are of its commonest class{rise} and "
        f"{mean.chance:.0%} by chance."
    )


def _chance(classes: np.ndarray[Any, Any], best: int, seed: int, draws: int = 400) -> float:
    """The mean share of the commonest class among as many of these images drawn at random."""
    generator, count = np.random.default_rng(seed), min(best, len(classes))
    drawn = (generator.choice(classes, count, replace=False) for _ in range(draws))
    return float(np.mean([np.unique(some, return_counts=True)[1].max() / count for some in drawn]))


def _purity(found: Found) -> tuple[Panel, ...]:
    """By layer, where it is known at all."""
    means = {name: mean for name, (_, mean, _) in found.items()}
    if all(mean.value is None for mean in means.values()):
        return ()
    chance = [mean.chance for mean in means.values()]
    rows = [dot(name, mean.value, mean.interval, mean.n) for name, mean in means.items()]
    marks = [] if None in chance else [{"who": "chance", "values": chance}]
    caption = "From fine to coarse: the mean share of a unit's strongest images that are of its commonest class."
    data = {"unit": "share", "rows": rows, "marks": marks}
    return (Panel("purity", "dots", "How much of one class a unit's images are", caption, data),)


def _table(found: Found, units: pl.DataFrame) -> Panel:
    fields = dict(units.select("layer", "field_px").unique("layer").iter_rows())
    rows = [[name, dead.n, fields[name] or "all", one.count, dead.count] for name, (one, _, dead) in found.items()]
    columns = ["layer", "units", "px that one position sees", "units of one class", "dead units"]
    return Panel("layers", "table", "The layers", data={"columns": columns, "rows": rows})
