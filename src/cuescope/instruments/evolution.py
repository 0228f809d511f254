"""How do its units develop? Each one's projection over the checkpoints of a training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel
from cuescope.core.naming import checkpoint_of, network_of
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.core.wording import counted, listed
from cuescope.data.images import Batch
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, peaks_of, typed
from cuescope.methods.deconvnet import Variant, project, visible, why_not
from cuescope.methods.settling import Settling

MOST_TICKS = 12
"""More checkpoints than these are not numbered one by one on an axis."""


@dataclass(frozen=True)
class Evolution(Instrument, version=3, order=260, needs={"features", "checkpoints"}):
    """Units over the checkpoints of one network, in their order; the last one is asked (section 4.1 and figure 4).

    For a random subset of each layer's units the strongest activation over the images is found at each checkpoint and
    projected down to the pixels; a sudden jump is a change of the image that it comes from. Our own is when a unit has
    settled: from the first checkpoint on at which the correlation, over the images, of how strongly it is excited there
    and at the last one is never again below `settled_at`. At the last one all have, whatever comes after, so those
    that have settled before it are counted.

    >>> Evolution(units=8).settled_at
    0.9
    """

    layers: tuple[str, ...] = ()
    """Layers to look at; by default the last of each map size, at most five, the coarsest ones."""
    units: int = 16
    """Units of each layer that are followed: a random subset."""
    shown: int = 2
    """Of these, how many of each layer are drawn."""
    images: int = 256
    """How many images are looked at, spread evenly over the set; the paper takes the training set."""
    settled_at: float = 0.9
    """Correlation with the last checkpoint from which on a unit counts as settled."""
    variant: Variant = "deconvnet"
    """What sends a unit down to the pixels: deconvnet, guided (backpropagation) or gradient."""
    seed: int = 0
    """Of the random subset."""

    question = "How do its units develop over the checkpoints of its training?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.1 and figure 4"
    columns = {
        **typed(pl.String, "id checkpoint layer"),
        **typed(pl.Int32, "step order channel place columns"),
        "value": pl.Float32,
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no unit could be followed", "How its units develop is not measured: {why}."
        ),
        "settled": Sentence(
            "yes",
            "of each layer listed the whole interval of the share of settled units lies above a half and above chance",
            "Most units of {layers} have settled before the last of {checkpoints}: {shares}.",
        ),
        "changing": Sentence(
            "no",
            "of each layer listed the whole interval lies below a half",
            "Most units of {layers} still change up to the last of {checkpoints}: {shares} have settled before.",
        ),
        "unsure": Sentence(
            "cannot tell",
            "of each layer listed the interval holds a half or does not lie above chance, or there is none",
            "Whether most units of {layers} have settled before the last of {checkpoints} cannot be told from "
            "{images}; "
            "{shares} have, {chance} agree as much with another unit.",
        ),
    }

    def __post_init__(self) -> None:
        if self.units < 1 or self.shown < 0 or self.images < 1 or not 0 < self.settled_at <= 1:
            raise ValueError("units and images must be at least 1, settled_at above 0 and at most 1")

    def peers(self, classifier: Classifier, classifiers: Sequence[Classifier]) -> tuple[Classifier, ...]:
        """The checkpoints of the same network before this one, which must be the last of them."""
        network = network_of(classifier.name)
        same = [c for c in classifiers if network_of(c.name) == network and c.classes == classifier.classes]
        if len(same) < 2:
            raise Misfit(f"{classifier.name} is one checkpoint alone")
        if same[-1] is not classifier:
            raise Misfit(f"it is an earlier checkpoint of {same[-1].name}, which is asked for all of them")
        if other := next((c.name for c in same if c.preprocessing != classifier.preprocessing), ""):
            raise Misfit(f"{other} and {classifier.name} take their images in different ways")
        return tuple(same[:-1])

    def start(self, classifier: Classifier) -> Observer:
        watch = peaks_of(classifier, classifier.stages(self.layers))
        return Observer(partial(self._rows, classifier, watch), watch)

    def _rows(self, classifier: Classifier, watch: Sequence[Watch], batch: Batch) -> Rows:
        """Per image, checkpoint and unit: how strongly the image excites it, and where."""
        unseen = Batch(batch.samples, batch.pixels, torch.zeros_like(batch.logits), batch.labels)
        frames = []
        for step, net in enumerate((*batch.peers, classifier)):
            found = net.watch(batch if net is classifier else unseen, watch)
            for order, ((layer, _), peaks) in enumerate(found.items()):
                random, count = np.random.default_rng([self.seed, order]), peaks.shape[1]
                chosen = np.sort(random.choice(count, min(self.units, count), replace=False))
                value, place = (peaks[:, chosen, i].flatten().numpy() for i in (0, 1))
                units = {"channel": np.tile(chosen, len(batch)), "value": value, "place": place}
                at = {"step": step, "checkpoint": checkpoint_of(net.name), "order": order}
                at |= {"layer": layer, "columns": classifier.layer(layer).size[1]}
                frames.append(self.table({"id": np.repeat(batch.ids, len(chosen)), **at, **units}))
        return pl.concat(frames)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        steps, images = rows["step"].n_unique(), rows["id"].n_unique()
        lacking = {0: "no image was seen", 1: "there is one checkpoint alone"}
        why = lacking.get(steps, "no unit responds differently to different images")
        by_layer = rows.sort("order").partition_by("layer", maintain_order=True) if steps > 1 else []
        found = {part["layer"][0]: Settling.of(part, self.settled_at) for part in by_layer}
        found = {layer: units for layer, units in found.items() if len(units)}
        settled = [
            units.before_last(
                f"settled_{layer}", title=f"units of '{layer}' that have settled before the last checkpoint"
            )
            for layer, units in found.items()
        ]
        title = "units that have settled before the last checkpoint, last layer"
        last = replace(settled[-1], name="settled", title=title, headline=True) if settled else None
        last = last or Measure("settled", None, "share", why=why, title=title, headline=True)
        best = _best(rows).with_columns(jump=(pl.col("id") != pl.col("id").shift()).over("order", "channel"))
        panels = (_panel(found, steps),) if found else ()
        verdict = self._verdict(dict(zip(found, settled, strict=True)), steps, images, why)
        measures = (last, *settled, _jumps(best.filter(pl.col("step") > 0)["jump"], why))
        return Conclusion(measures, panels, verdict, tuple(_caveats(rows, found)))

    def _verdict(self, settled: Mapping[str, Measure], steps: int, images: int, why: str) -> Verdict:
        if not settled:
            return self.say("nothing", why=why)
        said = []
        for name in self.sentences:
            those = {layer: m for layer, m in settled.items() if _sort(m) == name}
            if not those:
                continue
            layers = listed(f"'{layer}'" for layer in those)
            more = {"shares": _shares(m.value for m in those.values()), "checkpoints": counted(steps, "checkpoint")}
            if name == "unsure":
                more |= {"images": counted(images, "image"), "chance": _shares(m.chance for m in those.values())}
            said.append(self.say(name, layers=layers, **more))
        return sum(said, UNSAID)

    def _strongest(self, rows: Rows) -> pl.DataFrame:
        """Of the drawn units, the strongest image at each checkpoint."""
        drawn = pl.col("channel").unique().sort().head(self.shown).implode()
        return _best(rows.filter(pl.col("channel").is_in(drawn).over("layer")))

    def examples(self, rows: Rows) -> list[str]:
        """The images that excite a drawn unit most at some checkpoint."""
        return self._strongest(rows)["id"].unique(maintain_order=True).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        best, figures = self._strongest(rows.filter(pl.col("id").is_in(batch.ids))), []
        for mine in best.partition_by("layer", maintain_order=True):
            lacking = why_not(classifier, mine["layer"][0], self.variant)
            units = [unit.to_dicts() for unit in mine.partition_by("channel", maintain_order=True)]
            figures += [self._strip(classifier, batch, steps, not lacking) for steps in units]
        caption = f"Above what excites the unit, by the {self.variant}; below the image that excites it most."
        title = "Units from the first checkpoint to the last"
        yield Panel("units", "images", title, caption, figures=tuple(figures))

    def _strip(self, classifier: Classifier, batch: Batch, steps: list[dict[str, Any]], projected: bool) -> Figure:
        """One unit over the checkpoints: its projections in one row, the crops they come from in the next."""
        layer, channel, nets = steps[0]["layer"], steps[0]["channel"], (*batch.peers, classifier)
        crops, projections = [], []
        for row in steps:
            image, places = batch.pixels[batch.ids.index(row["id"])][None], [divmod(row["place"], row["columns"])]
            (window,) = visible(classifier, layer, places, image)
            crops.append(tile(image[0][window]))
            if projected:
                (down,) = project(nets[row["step"]], image, layer, [channel], places=places, variant=self.variant).maps
                projections.append(tile(contrast(down[window])))
        changes = sum(a["id"] != b["id"] for a, b in pairwise(steps))
        times = {0: "stays the same", 1: "changes once"}.get(changes, f"changes {changes} times")
        lacking = "" if projected else f"; no {self.variant}"
        return Figure(
            f"{layer}, unit {channel}: its strongest image {times}{lacking}",
            sheet([[*projections, *crops]], len(steps)),
        )


def _best(rows: Rows) -> pl.DataFrame:
    """Of each unit at each checkpoint, the image that excites it most; of equal ones the first."""
    unit = ["order", "channel", "step"]
    ranked = rows.sort(*unit, "value", descending=[False, False, False, True], maintain_order=True)
    return ranked.unique(unit, keep="first", maintain_order=True)


def _jumps(jumps: pl.Series, why: str) -> Measure:
    title = "steps at which the image that excites a unit most is another one"
    if jumps.is_empty():
        return Measure("jumps", None, "share", why=why, title=title)
    lone = "which image is the strongest depends on single images"
    return Measure("jumps", float(jumps.sum()) / len(jumps), "share", len(jumps), None, lone, title, int(jumps.sum()))


def _panel(found: Mapping[str, Settling], steps: int) -> Panel:
    series = [{"name": layer, **units.curve()} for layer, units in found.items()]
    data = {"x": "checkpoint", "y": "share of units that have settled", "series": series, "y_ends": [0, 1]}
    if steps <= MOST_TICKS:
        data["ticks"] = [[step, str(step)] for step in range(1, steps + 1)]
    title, caption = "When units become what they stay", "By each checkpoint; at the last one all have."
    return Panel("convergence", "lines", title, caption, data)


def _sort(measure: Measure) -> str:
    """Which sentence a layer is listed in."""
    if measure.below(0.5):
        return "changing"
    return "settled" if measure.above(0.5) and measure.above(measure.chance) else "unsure"


def _shares(values: Iterable[float | None]) -> str:
    return listed(f"{value:.0%}" for value in values if value is not None)


def _caveats(rows: Rows, found: Mapping[str, Settling]) -> Iterable[str]:
    names = rows.unique("step").sort("step")["checkpoint"]
    numbered = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
    yield f"Checkpoints are counted from 1, in the order they were given, whatever lies between them: {numbered}."
    yield "The chance is how often a unit agrees as much with another unit of the layer at the last checkpoint."
    units = rows.select("layer", "channel").n_unique() if rows.height else 0
    if left := units - sum(map(len, found.values())):
        yield f"Left out: {counted(left, 'unit')} that all images excite alike at the last checkpoint."
