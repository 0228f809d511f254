"""What in this image excites its strongest units?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Look, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.objects import object_mask
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answer, peaks_of, typed
from cuescope.methods.deconvnet import CHOICES, Variant, project, visible, why_not
from cuescope.methods.picture_sanity import alike_random

SHOWN_IMAGES = 2
MARGIN = 0.05
"""Energy on the object that is surely less than this above the object's share of the image is no more than chance."""


@dataclass(frozen=True)
class Deconvnet(Instrument, version=3, order=250, needs={"features", "gradients"}):
    """Down from the strongest units of each layer to the pixels that excite them (Zeiler & Fergus 2014, section 2.1).

    A unit is a channel of a layer, at the place where it is strongest; all others of its layer are set to zero, and
    what is left goes down the network: unpooled by the switches of the max pools, rectified, through transposed
    filters, without biases. The relatives guided backpropagation (Springenberg et al. 2015) and gradient (Simonyan et
    al. 2014) differ in the rectifiers' rule alone. Where below a layer there is anything that a variant has no rule
    for (GELU, attention, gates), the layer has no projection and is left out, with the reason as a caveat.

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

    question = "What in an image excites its strongest units?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 2.1"
    columns = {
        **typed(pl.String, "id layer"),
        **typed(pl.Int32, "order rank channel"),
        **typed(pl.Float64, "value focus on_object object turned"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no projection has any energy", "What excites its units is not known: {why}."
        ),
        "focus": Sentence(
            "yes",
            "a projection has energy",
            "A tenth of the pixels holds {focus:.0%} of what excites the strongest units of '{layer}' ({images}).",
        ),
        "object": Sentence(
            "yes",
            "the whole intervals of above_share and of beyond_middle lie above 0",
            "It lies on the object: {on_object:.0%} of it, on {chance:.0%} of the image, and {turned:.0%} where the "
            "object would be with the image turned.",
        ),
        "middle": Sentence(
            "cannot tell",
            "the whole interval of above_share lies above 0, that of beyond_middle does not",
            "{on_object:.0%} of it lies on the object, on {chance:.0%} of the image; but {turned:.0%} lies where the "
            "object would be with the image turned, so that it may just lie in the middle.",
        ),
        "beside": Sentence(
            "no",
            "the whole interval of above_share lies below MARGIN",
            "It does not lie on the object more than by chance: {on_object:.0%} of it, on {chance:.0%} of the image, "
            "and surely less than {margin:.0%} more.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of above_share holds 0 and reaches beyond MARGIN, or there is none",
            "Whether it lies on the object cannot be said from so few images: {on_object:.0%} of it, on {chance:.0%} "
            "of the image.",
            "Look at more images.",
            "cuescope audit {models} --images {images} --only deconvnet --set deconvnet.images=50 --out more",
        ),
    }

    def __post_init__(self) -> None:
        if self.units < 1 or self.images < 1:
            raise ValueError("units and images must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """It watches the peak of every channel of the layers; "refused" says why some have no projection."""
        why = {layer: why_not(classifier, layer, self.variant) for layer in classifier.stages(self.layers)}
        refused = list(dict.fromkeys(filter(None, why.values())))
        if all(why.values()) and refused:
            raise Misfit(f"{refused[0]}; the plain gradient goes through anything: --set deconvnet.variant=gradient")
        watch = peaks_of(classifier, (layer for layer, reason in why.items() if not reason))
        return Observer(partial(self._rows, classifier, watch), watch, {"refused": refused})

    def _rows(self, classifier: Classifier, watch: Sequence[Watch], batch: Batch) -> Rows:
        """Per image, layer and unit: how strong it is, and where its projection lies."""
        objects = [object_mask(sample, classifier.preprocessing) for sample in batch.samples]
        rows: list[dict[str, Any]] = []
        for order, ((layer, _), peaks) in enumerate(classifier.watch(batch, watch).items()):
            for rank, chosen in enumerate(self._units(peaks)):
                maps = project(classifier, batch.pixels, layer, chosen, variant=self.variant).maps
                for i, unit in enumerate(chosen):
                    row = {"id": batch.ids[i], "order": order, "layer": layer, "rank": rank, "channel": unit}
                    rows.append({**row, "value": float(peaks[i, unit, 0]), **_where(maps[i], objects[i])})
        return pl.DataFrame(rows, self.columns)

    def _units(self, peaks: Tensor) -> list[list[int]]:
        """For each rank, the channel of each image: those asked for, else the strongest."""
        count = peaks.shape[1]
        if self.channels:
            return [[channel] * len(peaks) for channel in self.channels if channel < count]
        return peaks[..., 0].topk(min(self.units, count), dim=1).indices.T.tolist()

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        known, why = rows.filter(pl.col("focus").is_not_null()), "no image was seen"
        by_layer = {str(layer): part for (layer,), part in known.group_by("layer", maintain_order=True)}
        found = {layer: _measures(part, f"of units of '{layer}'", why) for layer, part in by_layer.items()}
        none = _measures(known, "of units", "no unit of the images is excited" if rows.height else why)
        last = [none, *found.values()][-1]
        caveats = [f"{reason}." for reason in about.facts.get("refused", ())]
        if self.variant == "deconvnet":
            caveats.append(f"What the paper leaves open: {'; '.join(CHOICES)}.")
        panels = (_by_layer(found),) if found else ()
        return Conclusion(last, panels, self._verdict(last, list(found)), tuple(caveats))

    def _verdict(self, last: Sequence[Measure], layers: Sequence[str]) -> Verdict:
        focus, on_object, above, beyond = last
        if focus.value is None:
            return self.say("nothing", why=focus.why)
        images = counted(focus.n, "image")
        said = self.say("focus", focus=focus.value, layer=layers[-1], images=images)
        if on_object.value is None or above.value is None or beyond.value is None:
            return said
        values = {"on_object": on_object.value, "chance": on_object.chance}
        turned = {"turned": on_object.value - beyond.value}
        if above.above(0):
            return said + self.say("object" if beyond.above(0) else "middle", **values, **turned)
        if above.below(MARGIN):
            return said + self.say("beside", **values, margin=MARGIN)
        return said + self.say("cannot_tell", **values)

    def examples(self, rows: Rows) -> list[str]:
        """The first images."""
        return rows["id"].unique(maintain_order=True).head(SHOWN_IMAGES).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        figures = []
        for name, pixels, logits in zip(batch.ids, batch.pixels, batch.logits, strict=True):
            says = classifier.classes.names[int(logits.argmax())]
            insets = self._insets(classifier, pixels, rows.filter(pl.col("id") == name))
            last = rows.drop_nulls("focus").sort("order", descending=True)["layer"].head(1).to_list()
            random = self._beside_random(classifier, pixels, last[0]) if last else ""
            figures.append(Figure(f"It says {says}{random}", to_image(pixels), insets=insets))
        caption = (
            f"Left what excites a unit, by the {self.variant}; right what it sees of the image. Middle gray is zero."
        )
        yield Panel("projections", "images", "What excites the strongest units", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        figure = Figure("", to_image(batch.pixels[0]), insets=self._insets(classifier, batch.pixels[0], rows))
        said, known = f"It says {answer(classifier, batch.logits[0])}", rows.drop_nulls("focus").sort("order", "rank")
        if not known.height:
            return Look(f"{said}; no unit is excited.", (Panel("projections", "images", "", figures=(figure,)),))
        row = known.filter(pl.col("order") == known["order"].max()).row(0, named=True)
        said += f"; of '{row['layer']}' unit {row['channel']} is the strongest, and a tenth of the pixels holds "
        said += f"{row['focus']:.0%} of what excites it{self._beside_random(classifier, batch.pixels[0], row['layer'])}"
        return Look(f"{said}.", (Panel("projections", "images", "", figures=(figure,)),))

    def _beside_random(self, classifier: Classifier, pixels: Tensor, layer: str) -> str:
        """How alike the projection of random weights is, to stand behind what is said of an image."""
        alike = alike_random(classifier, [pixels], layer, self.variant)
        return "" if alike is None else f"; that of random weights in '{layer}' is {alike:.2f} alike (rank correlation)"

    def _insets(self, classifier: Classifier, pixels: Tensor, rows: Rows) -> tuple[Inset, ...]:
        """One for each layer, from fine to coarse."""
        layers = rows.drop_nulls("focus").partition_by("layer", maintain_order=True)
        return tuple(self._inset(classifier, pixels[None], units) for units in layers)

    def _inset(self, classifier: Classifier, image: Tensor, units: Rows) -> Inset:
        """A row for each unit of a layer: what excites it, and the part of the image that it can see."""
        chosen, layer = units["channel"].to_list(), units["layer"][0]
        found = project(classifier, image.expand(len(chosen), -1, -1, -1), layer, chosen, variant=self.variant)
        places, tiles = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)), []
        for down, window in zip(found.maps, visible(classifier, layer, places, image), strict=True):
            tiles += [tile(contrast(down[window])), tile(image[0][window])]
        units_named = f"unit{'s' * (len(chosen) > 1)} {', '.join(map(str, chosen))}"
        return Inset(f"{layer}, {units_named}", sheet([tiles], columns=2))


def _where(projection: Tensor, on_object: Tensor | None) -> dict[str, Any]:
    """Where the energy of a projection lies; nothing for one that is zero everywhere."""
    energy = projection.double().square().sum(0)
    total, ordered = float(energy.sum()), energy.flatten().sort(descending=True).values
    if not total:
        return {}
    found = {"focus": float(ordered[: max(1, round(0.1 * len(ordered)))].sum()) / total}
    if on_object is not None:
        on, turned = (float(energy[place].sum()) / total for place in (on_object, on_object.flip(0, 1)))
        found |= {"on_object": on, "object": float(on_object.double().mean()), "turned": turned}
    return found


def _measures(rows: Rows, where: str, why: str) -> tuple[Measure, Measure, Measure, Measure]:
    """Of one layer. Means over images, so that the units of an image do not count as so many images."""
    images = rows.group_by("id", maintain_order=True).agg(pl.col("focus", "on_object", "object", "turned").mean())
    title = f"energy of a projection {where} in a tenth of the pixels"
    focus = stats.mean("focus", images["focus"], why=why, title=title, headline=True)
    known, title = images.drop_nulls("on_object"), f"energy of a projection {where} on the object"
    chance = float(known["object"].to_numpy().mean()) if known.height else None
    why = "where the objects are is not known" if images.height else why
    on_object = stats.mean("on_object", known["on_object"], why=why, title=title, chance=chance)
    above = stats.difference(
        "above_share", known["on_object"], known["object"], why=why, title=f"{title}, less its share"
    )
    title = f"{title}, less that where it would be turned"
    beyond = stats.difference("beyond_middle", known["on_object"], known["turned"], why=why, title=title)
    return focus, on_object, above, beyond


def _by_layer(found: Mapping[str, Sequence[Measure]]) -> Panel:
    on_object = any(measures[1].value is not None for measures in found.values())
    shown = {layer: measures[on_object] for layer, measures in found.items()}
    rows = [dot(layer, measure.value, measure.interval, measure.n) for layer, measure in shown.items()]
    title = "Energy on the object" if on_object else "Energy in a tenth of the pixels"
    marks = [{"who": "chance", "values": [measure.chance for measure in shown.values()]}] if on_object else []
    caption = "Of the projections of the strongest units, from fine to coarse."
    return Panel("by_layer", "dots", title, caption, {"unit": "share", "rows": rows, "marks": marks})
