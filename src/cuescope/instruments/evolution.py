"""How do its units come to be? Each one's projection over the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier, Watch, peak
from cuescope.core import stats
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Rows
from cuescope.methods.deconvnet import Variant, project, why_not
from cuescope.network.receptive import WHOLE


@dataclass(frozen=True)
class Evolution:
    """Units over the checkpoints of a training (Zeiler & Fergus 2014, section 4.1 and figure 4).

    Give the checkpoints of one network in their order; the last one tells the story. For a random subset of each
    layer's units the strongest activation over the images is found at each checkpoint and projected down to the
    pixels; a sudden jump is a change of the image that it comes from. When a unit has become what it stays is told by
    a number of our own: the correlation, over the images, of how strongly it is excited at a checkpoint and at the
    last one. It has settled at the first checkpoint from which on that is never below `settled_at`.

    >>> Evolution(units=8).settled_at
    0.9
    """

    layers: tuple[str, ...] = ()
    """Layers to look at; by default the last of each map size, at most five, the coarsest ones."""
    units: int = 16
    """Units of each layer that are followed: a random subset."""
    shown: int = 3
    """Of these, how many of each layer are drawn."""
    images: int = 256
    """How many images are looked at, spread evenly over the set; the paper takes the training set."""
    settled_at: float = 0.9
    """Correlation with the last checkpoint from which on a unit counts as settled."""
    variant: Variant = "deconvnet"
    """What sends a unit down to the pixels: deconvnet, guided (backpropagation) or gradient."""
    seed: int = 0
    """Of the random subset."""

    question: ClassVar[str] = "How do its units come to be, over the checkpoints of its training?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.1 and figure 4"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}
    peers: ClassVar[str] = "series"

    def __post_init__(self) -> None:
        if self.units < 1 or self.shown < 0 or self.images < 1 or not 0 < self.settled_at <= 1:
            raise ValueError("units and images must be at least 1, settled_at above 0 and at most 1")

    def misfit(self, classifier: Classifier) -> str:
        """Whether it has no layers of its own. Raises CueError for an unknown layer."""
        return "" if self.watch(classifier) else f"{classifier.name} has no layers that can be told apart"

    def watch(self, classifier: Classifier) -> Sequence[Watch]:
        """The peak of every channel of the layers."""
        return [(name, peak) for name in classifier.stages(self.layers)]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image, checkpoint and unit: how strongly the image excites it, and where."""
        wanted = self.watch(classifier)
        frames = []
        for step, net in enumerate((*batch.peers, classifier)):
            found = net.watch(batch, wanted) if net is classifier else net.watch(_fresh(net, classifier, batch), wanted)
            for order, ((layer, _), peaks) in enumerate(found.items()):
                chosen = self._subset(order, peaks.shape[1])
                values = {
                    "id": pl.Series(batch.ids, dtype=pl.String).gather(np.arange(len(batch)).repeat(len(chosen))),
                    "channel": np.tile(chosen, len(batch)),
                    "value": peaks[:, chosen, 0].flatten().numpy(),
                    "place": peaks[:, chosen, 1].flatten().numpy(),
                }
                told = {"step": step, "checkpoint": net.name.partition("@")[2] or net.name}
                told |= {"order": order, "layer": layer, "columns": classifier.layer(layer).size[1]}
                rows = pl.DataFrame(values).with_columns(**{key: pl.lit(value) for key, value in told.items()})
                frames.append(rows.select(_SCHEMA.keys()).cast(_SCHEMA))
        return pl.concat(frames)

    def _subset(self, order: int, count: int) -> np.ndarray[Any, Any]:
        generator = np.random.default_rng([self.seed, order])
        return np.sort(generator.choice(count, min(self.units, count), replace=False))

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        steps = rows["step"].n_unique()
        names = rows.select("step", "checkpoint").unique().sort("step")["checkpoint"].to_list()
        curves = {} if steps < 2 else _curves(rows)
        if steps < 2:
            why = "no image was seen" if not steps else "one checkpoint alone has no history"
        else:
            why = "no unit answers differently to different images"
        layers = [name for name, curve in curves.items() if len(curve)]
        told = [self._settled(name, curves[name], name == layers[-1]) for name in layers]
        measures = told or [
            Measure("settled", None, why=why, title="checkpoints until a unit has settled", headline=True)
        ]
        return Finding(
            instrument="evolution",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(*measures, _jumps(rows, why)),
            panels=(_panel(curves, layers, names),) if layers else (),
            sentence=_sentence(told, layers, steps, why),
            caveats=("Checkpoints are counted from 1, in the order they were given, whatever lies between them.",),
            references=(self.reference,),
        )

    def _settled(self, layer: str, curve: np.ndarray[Any, Any], last: bool) -> Measure:
        """The mean over units of the first checkpoint from which on they stay what they are."""
        held = curve >= self.settled_at
        # The last one of the checkpoints below the mark, counted from 1, and one more.
        first = curve.shape[1] - np.cumprod(held[:, ::-1], axis=1).sum(1) + 1
        return Measure(
            "settled" if last else f"settled_{layer}",
            float(first.mean()),
            "",
            len(first),
            stats.bootstrap_mean(first) if len(first) > 1 else None,
            title=f"checkpoint at which a unit of '{layer}' has settled, of {curve.shape[1]}",
            headline=last,
        )

    def _strongest(self, rows: Rows) -> pl.DataFrame:
        """Of the drawn units, the strongest image at each checkpoint."""
        drawn = rows.filter(
            pl.col("channel").is_in(pl.col("channel").unique().sort().head(self.shown).implode()).over("layer")
        )
        return _best(drawn)

    def examples(self, rows: Rows) -> list[str]:
        """The images that excite a drawn unit most at some checkpoint."""
        return self._strongest(rows)["id"].unique(maintain_order=True).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        place = {name: i for i, name in enumerate(batch.ids)}
        best = self._strongest(rows.filter(pl.col("id").is_in(list(place))))
        for number, layer in enumerate(best["layer"].unique(maintain_order=True)):
            mine, refused = best.filter(pl.col("layer") == layer), why_not(classifier, layer, self.variant)
            figures = tuple(
                self._strip(classifier, batch, list(unit.iter_rows(named=True)), place, refused)
                for _, unit in mine.group_by("channel", maintain_order=True)
            )
            above = (
                f"There is no {self.variant}: {refused}. The" if refused else f"Above by the {self.variant}, below the"
            )
            title = f"Units of '{layer}' from the first checkpoint to the last"
            yield Panel(
                f"units-{number}", "images", title, f"{above} image that excites the unit most.", figures=figures
            )

    def _strip(
        self,
        classifier: Classifier,
        batch: Batch,
        told: Sequence[Mapping[str, Any]],
        place: Mapping[str, int],
        refused: str,
    ) -> Figure:
        """One unit over the checkpoints: its projections in one row, the crops they come from in the next."""
        layer, channel = told[0]["layer"], told[0]["channel"]
        field, nets = classifier.receptive_fields.get(layer, WHOLE), (*batch.peers, classifier)
        crops, projections = [], []
        for row in told:
            image, (y, x) = batch.pixels[place[row["id"]]][None], divmod(row["place"], row["columns"])
            top, left, bottom, right = field.window(y, x, (image.shape[2], image.shape[3]))
            crops.append(tile(image[0, :, top:bottom, left:right]))
            if not refused:
                net = nets[row["step"]]
                (down,) = project(net, image, layer, [channel], places=[(y, x)], variant=self.variant).maps
                projections.append(tile(contrast(down[:, top:bottom, left:right])))
        changes = sum(a["id"] != b["id"] for a, b in pairwise(told))
        times = {0: "stays the same", 1: "changes once"}.get(changes, f"changes {changes} times")
        return Figure(f"unit {channel} · its strongest image {times}", sheet([[*projections, *crops]], len(told)))


def _fresh(net: Classifier, classifier: Classifier, batch: Batch) -> Batch:
    """The batch for another checkpoint, which has seen none of it."""
    if net.preprocessing != classifier.preprocessing:
        found = f"{net.name} and {classifier.name} take their images in different ways"
        raise CueError(found, wanted="checkpoints of one network", do="give them the same preprocessing")
    return Batch(batch.samples, batch.pixels, torch.zeros_like(batch.logits), batch.labels)


def _curves(rows: Rows) -> dict[str, np.ndarray[Any, Any]]:
    """Per layer (units, checkpoints): each unit's correlation over the images with itself at the last checkpoint."""
    found = {}
    last = rows["step"].max()
    for layer in rows.sort("order")["layer"].unique(maintain_order=True):
        curves = []
        for _, unit in rows.filter(pl.col("layer") == layer).group_by("channel", maintain_order=True):
            table = unit.pivot("step", index="id", values="value", sort_columns=False).drop("id")
            values = table.select(sorted(table.columns, key=int)).to_numpy().astype(float)
            spread = values.std(0)
            if len(values) < 3 or spread[int(str(last))] <= 1e-9 * np.abs(values).max():
                continue  # a unit that is the same for all images in the end became nothing
            centered = values - values.mean(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                curve = (centered * centered[:, -1:]).mean(0) / (spread * spread[-1])
            curves.append(np.nan_to_num(curve))
        found[layer] = np.array(curves)
    return found


def _best(rows: Rows) -> pl.DataFrame:
    """Of each unit at each checkpoint, the image that excites it most; of equal ones the first."""
    down = [False, False, False, True]
    ranked = rows.sort("order", "channel", "step", "value", descending=down, maintain_order=True)
    return ranked.group_by("order", "channel", "step", maintain_order=True).head(1)


def _jumps(rows: Rows, why: str) -> Measure:
    title = "steps at which the image that excites a unit most is another one"
    units = _best(rows).with_columns(jump=(pl.col("id") != pl.col("id").shift()).over("order", "channel"))
    jumps = units.filter(pl.col("step") > 0)["jump"]
    n, k = len(jumps), int(jumps.sum() or 0)
    if not n:
        return Measure("jumps", None, "share", why=why, title=title)
    return Measure("jumps", k / n, "share", n, stats.wilson(k, n), title=title, count=k)


def _panel(curves: Mapping[str, np.ndarray[Any, Any]], layers: Sequence[str], names: Sequence[str]) -> Panel:
    series = []
    for layer in layers:
        curve = curves[layer]
        ends = [stats.bootstrap_mean(c) if len(c) > 1 else (float(c[0]), float(c[0])) for c in curve.T]
        mean = curve.mean(0).tolist()
        steps = list(range(1, len(mean) + 1))
        low, high = (list(side) for side in zip(*ends, strict=True))
        series.append({"name": layer, "x": steps, "y": mean, "low": low, "high": high})
    caption = "Mean over units of the correlation with themselves at the last checkpoint. " + ", ".join(
        f"{i}: {name}" for i, name in enumerate(names, 1)
    )
    data = {"x": "checkpoint", "y": "correlation with the last", "series": series, "diagonal": False}
    return Panel("convergence", "lines", "When units become what they stay", f"{caption}.", data)


def _sentence(told: Sequence[Measure], layers: Sequence[str], steps: int, why: str) -> str:
    if not told:
        return f"How its units came to be cannot be told: {why}."
    text = f"Units of '{layers[0]}' have settled by checkpoint {told[0].value:.1f} of {steps} on average"
    return text + (f", those of '{layers[-1]}' by {told[-1].value:.1f}." if len(told) > 1 else ".")


_SCHEMA: dict[Any, Any] = {
    "id": pl.String,
    "step": pl.Int32,
    "checkpoint": pl.String,
    "order": pl.Int32,
    "layer": pl.String,
    "channel": pl.Int32,
    "value": pl.Float32,
    "place": pl.Int32,
    "columns": pl.Int32,
}
