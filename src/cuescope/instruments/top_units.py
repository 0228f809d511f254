"""What does each unit look for? The images that excite it most, and what in them did."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core.findings import About, Conclusion, Figure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import listed
from cuescope.data.images import Batch
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Observer, Rows, peaks_of, typed
from cuescope.methods.deconvnet import CHOICES, Variant, project, visible, why_not
from cuescope.methods.picture_sanity import alike_random
from cuescope.methods.strongest import UNIT, Chance, Layer, constant, measures_of, strongest_of
from cuescope.network.receptive import WHOLE

MARGIN = 0.05
"""A share of the commonest class that is surely less than this above chance is no more than chance."""
COMPARED = 2
"""Images whose projections are compared with those of random weights."""
TILE_PX = 64
"""Side of a crop and of a projection as they are shown."""


@dataclass(frozen=True)
class TopUnits(Instrument, version=2, order=240, needs={"features"}):
    """The nine images that excite each unit most, and what in them did (Zeiler & Fergus 2014, figure 2).

    A unit is a channel of a layer. Its nine strongest activations over all images are kept, one an image, at the
    position where it is strongest; beside the crop of the image that the position can see stands its projection, by
    the deconvnet or a relative of it. Crops are of the receptive field, which is computed. Any number of images is
    seen in bounded memory, in the clean forward pass itself. The share of a unit's nine images that are of one class
    grows from layer to layer: a class counts by the label, or by the answer where an image has none, which says nothing
    of the units that make the answer.

    An activation of 0 is never among the strongest, nor are images that tie for the last of the nine places with others
    that would find none. A unit that is as strong in all images is dead. The interval is over images, which units have
    in common; chance is that of as many images drawn from all that were seen.

    >>> TopUnits(layers=("layer4.1",), shown=12).variant
    'deconvnet'
    """

    layers: tuple[str, ...] = ()
    """Layers to look at; by default the last of each map size, at most five, and the layer of the logits."""
    best: int = 9
    """Images kept of each unit."""
    shown: int = 2
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
        **typed(pl.Float32, "value lowest"),
        "labeled": pl.Boolean,
    }
    """Of each unit its strongest images, and its lowest peak in any; and a row for each image, of order -1."""
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no image was seen", "What its units look for is not known: no image was seen."
        ),
        "unknown": Sentence(
            "cannot tell",
            "the share of the commonest class has no value",
            "Whether the images that excite a unit most share a class is not measured: {why}.",
        ),
        "answers": Sentence(
            "cannot tell",
            "an image has no label, so that its own answer is its class",
            "Whether images that excite the same unit of '{layer}' share a class takes labels: {purity:.0%} of a "
            "unit's strongest images have one answer, {chance:.0%} by chance.",
            "Give the labels of the images.",
            "cuescope audit {models} --images {images} --labels FILE --only top_units --out more",
        ),
        "classes": Sentence(
            "yes",
            "the whole interval of the share of the commonest class lies above chance",
            "The images that excite a unit of '{layer}' most share a class more often than others: {purity:.0%} are of "
            "its commonest class, {chance:.0%} by chance ({n} images).",
        ),
        "no_classes": Sentence(
            "no",
            "the whole interval of the share of the commonest class lies less than MARGIN above chance",
            "The images that excite a unit of '{layer}' most share no class: {purity:.0%} are of its commonest class, "
            "{chance:.0%} by chance, and surely less than {margin:.0%} more ({n} images).",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval holds chance and reaches beyond MARGIN above it, or there is none",
            "Whether the images that excite a unit of '{layer}' most share a class cannot be said from so few: "
            "{purity:.0%} are of its commonest class, {chance:.0%} by chance.",
        ),
        "dead": Sentence(
            "yes",
            "a unit of the last layer is as strong in every image",
            "No image excites {count} of its {n} units more than another does.",
        ),
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
        labeled = batch.labels >= 0
        classes = torch.where(labeled, batch.labels, batch.logits.argmax(1))
        seen = {"id": batch.ids, "layer": "", "order": -1, "channel": -1, "class": classes.numpy()}
        frames = [self.table({**seen, "labeled": labeled.numpy()})]
        for order, ((layer, _), peaks) in enumerate(classifier.watch(batch, watch).items()):
            values, images = peaks[..., 0].sort(dim=0, descending=True, stable=True)
            lowest, values, images = values[-1], values[: self.best + 1].T, images[: self.best + 1].T
            (units, count), flat = values.shape, images.flatten().numpy()
            found = {
                "id": pl.Series(batch.ids, dtype=pl.String).gather(flat),
                "order": order,
                "layer": layer,
                "channel": np.arange(units).repeat(count),
                "value": values.flatten().numpy(),
                "lowest": lowest.numpy().repeat(count),
                "place": peaks[..., 1].T.gather(1, images).flatten().numpy(),
                "class": classes.numpy()[flat],
                "columns": classifier.layer(layer).size[1],
                "field_px": classifier.receptive_fields.get(layer, WHOLE).size_px,
            }
            frames.append(self.table(found))
        return pl.concat(frames)

    def reduce(self, rows: Rows) -> Rows:
        """The strongest of each unit alone, and one more, which may be as strong; of equal ones the first."""
        units = rows.filter(pl.col("order") >= 0).with_columns(pl.col("lowest").min().over(UNIT))
        ranked = units.sort(*UNIT, "value", descending=[False, False, True], maintain_order=True)
        kept = ranked.group_by(UNIT, maintain_order=True).head(self.best + 1).select(rows.columns)
        return pl.concat([rows.filter(pl.col("order") < 0), kept])

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = self.reduce(rows)
        images, strongest = rows.filter(pl.col("order") < 0), strongest_of(rows, self.best)
        units = rows.filter(pl.col("order") >= 0).unique(UNIT, keep="first").sort(UNIT)
        units = units.with_columns(dead=constant(images.height))
        chance = Chance(images["class"].to_numpy(), self.seed)
        found = {
            str(name): measures_of(strongest.filter(layer=name), mine, chance, f"of '{name}'")
            for (name,), mine in units.group_by("layer", maintain_order=True)
        }
        last = [measures_of(strongest, units, chance, "of its last layer"), *found.values()][-1]
        panels = (*_purity(found), _table(found, units)) if found else ()
        verdict = self._verdict(last, list(found), bool(images["labeled"].all()))
        return Conclusion(last, panels, verdict, self._caveats(images.height))

    def _verdict(self, last: Layer, layers: Sequence[str], labeled: bool) -> Verdict:
        purity, dead = last.purity, last.dead
        if not layers:
            return self.say("nothing")
        values = {"layer": layers[-1], "purity": purity.value, "chance": purity.chance}
        if purity.value is None or purity.chance is None:
            said = self.say("unknown", why=purity.why)
        elif not labeled:
            said = self.say("answers", **values)
        elif purity.above(purity.chance):
            said = self.say("classes", **values, n=purity.n)
        elif purity.below(purity.chance + MARGIN):
            said = self.say("no_classes", **values, n=purity.n, margin=MARGIN)
        else:
            said = self.say("cannot_tell", **values)
        return said + self.say("dead", count=dead.count, n=dead.n) if dead.count else said

    def _caveats(self, images: int) -> tuple[str, ...]:
        caveats = []
        if self.variant == "deconvnet":
            caveats.append(f"Projections by the {self.variant}: {'; '.join(CHOICES)}.")
        if images < self.best:
            caveats.append(f"There are fewer than {self.best} images, so that each unit has only as many.")
        return tuple(caveats)

    def _strongest(self, rows: Rows) -> Rows:
        return strongest_of(self.reduce(rows), self.best)

    def _chosen(self, rows: Rows) -> list[tuple[str, int]]:
        """The layers and channels to draw: those asked for, else a random subset of the living, in their order."""
        generator, found, strongest = np.random.default_rng(self.seed), [], self._strongest(rows)
        for name in rows.filter(pl.col("order") >= 0)["layer"].unique(maintain_order=True):
            living = strongest.filter(layer=name)["channel"].unique().sort().to_numpy()
            chosen = [channel for channel in self.channels if channel in living]
            if not self.channels:
                chosen = sorted(generator.choice(living, min(self.shown, len(living)), replace=False).tolist())
            found += [(name, channel) for channel in chosen]
        return found

    def examples(self, rows: Rows) -> list[str]:
        """All images that a drawn unit is excited by."""
        wanted = pl.DataFrame(self._chosen(rows), schema={"layer": pl.String, "channel": pl.Int32}, orient="row")
        shown = self._strongest(rows).join(wanted, on=["layer", "channel"], how="semi")
        return shown["id"].unique(maintain_order=True).to_list()

    def rows_to_show(self, rows: Rows, ids: Sequence[str]) -> Rows:
        """All: which units are drawn depends on all that are there."""
        return rows

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        there, units = self._strongest(rows).filter(pl.col("id").is_in(batch.ids)), self._chosen(rows)
        lacking = {
            layer: why_not(classifier, layer, self.variant) for layer in dict.fromkeys(name for name, _ in units)
        }
        figures, random = [], ""
        # Coarse layers first: what they look for is the easiest to name.
        for layer, drawn in groupby(reversed(units), lambda unit: unit[0]):
            alike = (
                alike_random(classifier, batch.pixels[:COMPARED], layer, self.variant) if not lacking[layer] else None
            )
            random = "" if alike is None else f"; random weights {alike:.2f} alike"
            for _, channel in reversed([*drawn]):
                unit = there.filter(layer=layer, channel=channel)
                figures.append(self._figure(classifier, batch, unit, random, not lacking[layer]))
        caption = ""
        if not all(lacking.values()):
            caption = f"Left, what excites the unit in each image, by the {self.variant}; right, the image there."
        if without := [layer for layer, why in lacking.items() if why]:
            caption += f" No {self.variant} of {listed(without)}: {lacking[without[0]]}."
        title = "What units look for, from coarse to fine"
        yield Panel("units", "images", title, caption.strip(), figures=tuple(figures))

    def _figure(self, classifier: Classifier, batch: Batch, unit: Rows, random: str, projected: bool) -> Figure:
        """Nine crops, and nine projections beside them."""
        layer, channel, columns = (unit[name][0] for name in ("layer", "channel", "columns"))
        places = [divmod(place, columns) for place in unit["place"]]
        pixels = batch.pixels[torch.tensor([batch.ids.index(name) for name in unit["id"]], device=batch.pixels.device)]
        windows = visible(classifier, layer, places, pixels)
        grids = [[tile(image[window], TILE_PX) for image, window in zip(pixels, windows, strict=True)]]
        if projected:
            chosen = [channel] * len(places)
            maps = project(classifier, pixels, layer, chosen, places=places, variant=self.variant).maps
            grids.insert(0, [tile(contrast(down[window]), TILE_PX) for down, window in zip(maps, windows, strict=True)])
        names = [classifier.classes.names[k] for k in unit["class"]]
        most = max(names, key=names.count)
        of = f"{names.count(most)} of {len(names)} {most}" if names.count(most) > 1 else "no class twice"
        return Figure(f"{layer}, unit {channel}: {of}{random}", sheet(grids, columns=3))


def _purity(found: Mapping[str, Layer]) -> tuple[Panel, ...]:
    """By layer, where it is known at all."""
    means = {name: layer.purity for name, layer in found.items()}
    if all(mean.value is None for mean in means.values()):
        return ()
    chance = [mean.chance for mean in means.values()]
    rows = [dot(name, mean.value, mean.interval, mean.n) for name, mean in means.items()]
    marks = [] if None in chance else [{"who": "chance", "values": chance}]
    caption = "From fine to coarse: the mean share of a unit's strongest images that are of its commonest class."
    data = {"unit": "share", "rows": rows, "marks": marks}
    return (Panel("purity", "dots", "How much of one class a unit's images are", caption, data),)


def _table(found: Mapping[str, Layer], units: pl.DataFrame) -> Panel:
    fields = dict(units.select("layer", "field_px").unique("layer").iter_rows())
    rows = [
        [name, layer.dead.n, fields[name] or "all", layer.one_class.count, layer.dead.count]
        for name, layer in found.items()
    ]
    columns = ["layer", "units", "px that one position sees", "units of one class", "dead units"]
    return Panel("layers", "table", "The layers", data={"columns": columns, "rows": rows})
