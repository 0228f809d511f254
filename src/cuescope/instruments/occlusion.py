"""Which parts of an image does the answer depend on? A square slides over it and hides one place after another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier, peak
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Map, Measure, Panel, Unit
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.objects import object_mask
from cuescope.data.ops.occlude import FILLS, Fill, Grid, Occlude, cover, fill_color
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Instrument, Rows, typed
from cuescope.methods.deconvnet import project, why_not
from cuescope.methods.incremental import painted_logits

_PASS, _TILE_PX = 32, 112
"""Hidden images whose maps are held together; side of a projection as it is shown."""


@dataclass(frozen=True)
class Occlusion(Instrument, version=1, order=140, needs={"logits"}):
    """Which parts of an image does the answer depend on?

    A square of one color hides each place of the image in turn; P(class) at each place makes a map, and the answer at
    each place another (Zeiler & Fergus 2014, section 4.2 and figure 7 d and e). The class is the image's
    label where it is known, else the answer to the unhidden image. The paper gives neither size, stride nor color: here
    the size is 50 of 224 px and the color that of the classifier's mean pixel. The logits are exact, computed only
    where the square can reach.

    >>> Occlusion(fill="gray").size_share
    0.22
    """

    images: int = 12
    """How many images are looked at, spread evenly over the set."""
    size_share: float = 0.22
    """Side of the square, as a share of the shorter side of the network's input."""
    stride_share: float = 0.07
    """Distance of neighboring places, as a share of the same side."""
    fill: Fill = "mean"
    """Color of the square: the mean pixel that the classifier subtracts, middle gray, or black."""
    followed: int = 3
    """Images whose strongest feature map is followed too; each takes as many passes more as there are places."""
    layer: str = ""
    """The layer of that map; by default the last one that gives maps over the image (the paper's layer 5)."""

    question = "Which parts of the image does its answer depend on?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.2 and figure 7"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted tracked height width worst_top worst_left"),
        **typed(pl.Float64, "p_clean flips largest_drop concentration hit_by_chance"),
        "p": pl.List(pl.Float64),
        **typed(pl.List(pl.Int32), "answers tops lefts"),
        "hit": pl.Boolean,
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.followed < 0 or not 0 < self.size_share <= 1 or not 0 < self.stride_share <= 1:
            raise ValueError(
                "images must be at least 1, followed at least 0, size_share and stride_share above 0 and at most 1"
            )

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: P(class) and the answer at each place, row by row, and what they come to."""
        occlude = self._occluder(classifier, batch)
        grid = occlude.grid(*batch.pixels.shape[-2:])
        rows = [self._row(classifier, batch, i, occlude, grid) for i in range(len(batch))]
        return pl.DataFrame(rows, schema=dict(self.columns))

    def _occluder(self, classifier: Classifier, batch: Batch) -> Occlude:
        side = min(batch.pixels.shape[-2:])
        color = fill_color(self.fill, classifier.preprocessing.mean)
        return Occlude(max(1, round(self.size_share * side)), max(1, round(self.stride_share * side)), color)

    def _row(self, classifier: Classifier, batch: Batch, i: int, occlude: Occlude, grid: Grid) -> dict[str, Any]:
        painted = painted_logits(classifier, batch.pixels[i], grid.rectangles, occlude.color)
        predicted, label = int(painted.clean.argmax()), int(batch.labels[i])
        tracked = label if label >= 0 else predicted
        p_clean = float(painted.clean.double().softmax(0)[tracked])
        p = painted.logits.double().softmax(1)[:, tracked].numpy()
        answers = painted.logits.argmax(1).numpy()
        worst = int(p.argmin())
        row = {
            "id": batch.ids[i],
            "label": label if label >= 0 else None,
            "predicted": predicted,
            "tracked": tracked,
            "p_clean": p_clean,
            "p": p.tolist(),
            "answers": answers.tolist(),
            **vars(grid),
            "flips": float((answers != predicted).mean()),
            "largest_drop": p_clean - float(p[worst]),
            "worst_top": grid.rectangles[worst].top,
            "worst_left": grid.rectangles[worst].left,
            "concentration": stats.concentration(p_clean - p),
        }
        if label >= 0 and (place := object_mask(batch.samples[i], classifier.prepare)) is not None:
            # Where the square's center lies on the object.
            hits = [bool(place[grid.center(k)]) for k in range(len(p))]
            row |= {"hit": hits[worst], "hit_by_chance": sum(hits) / len(hits)}
        return row

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        def mean(name: str, column: str, title: str, unit: Unit = "share", **more: Any) -> Measure:
            return stats.mean(name, rows[column].drop_nulls(), unit, title=title, per_image=column, **more)

        why, title = "no image was seen", "places whose hiding changes the answer"
        flips = mean("label_flips", "flips", title, why=why, headline=True)
        drop = mean("largest_drop", "largest_drop", "largest fall of P(class)", "difference", why=why)
        title, why = "share of all falls in the top tenth of places", "hiding never lowers P(class)"
        narrow = mean("concentration", "concentration", title, why=why, chance=0.1)
        known, title = rows.drop_nulls("hit"), "the place of the largest fall lies on the object"
        chance = float(known["hit_by_chance"].to_numpy().mean()) if known.height else None
        why = "no image has both a label and a known place of its object"
        hits = stats.share("pointing_game", known["hit"], why=why, title=title, chance=chance, per_image="hit")
        sentence = _sentence(flips, drop, self.size_share)
        return Conclusion((flips, drop, narrow, hits), (), sentence, _caveats(rows, self.fill))

    def examples(self, rows: Rows) -> list[str]:
        """The images whose P(class) falls most."""
        return rows.sort("largest_drop", "id", descending=[True, False])["id"].head(6).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        figures, layer = [], self._layer(classifier)
        for row in rows.sort("largest_drop", "id", descending=[True, False]).iter_rows(named=True):
            i = batch.ids.index(row["id"])
            figures.append(_figure(row, batch.pixels[i], classifier.classes.names))
            if layer and len(figures) <= self.followed:
                figures[-1] = self._followed(classifier, batch, i, layer, row, figures[-1])
        caption = (
            "P(class) and the answer while a square hides the place: each point shows what is left with the square's "
            "center there. Where P falls, the class was read; where the answer changes, the place decided."
        )
        if layer and self.followed:
            caption += (
                f" The sum of the map of '{layer}' that is strongest unhidden falls where hiding hits what excites it; "
                "what that is stands beside it, by the deconvnet, here and in other images."
            )
        yield Panel("maps", "images", "What a hidden place changes", caption, figures=tuple(figures))

    def _layer(self, classifier: Classifier) -> str:
        """The layer whose strongest map is followed; none for a black box, or for a network without maps."""
        if "features" not in classifier.capabilities:
            return ""
        return next(reversed(classifier.stages([self.layer] if self.layer else ())), "")

    def _followed(
        self, classifier: Classifier, batch: Batch, i: int, layer: str, row: Mapping[str, Any], figure: Figure
    ) -> Figure:
        """Figure 7 b and c: the strongest map's sum at each place of the square, and what excites it."""
        (peaks,) = classifier.watch(batch, [(layer, peak)]).values()
        channel = int(peaks[i, :, 0].argmax())
        grid, (height, width) = _grid(row), batch.pixels.shape[-2:]
        color = self._occluder(classifier, batch).color
        sums: list[float] = []
        for start in range(0, len(grid.rectangles), _PASS):
            hidden = cover(batch.pixels[i], grid.rectangles[start : start + _PASS], color)
            sums += classifier.features(hidden, [layer])[layer][:, channel].sum((1, 2)).tolist()
        (clean,) = classifier.features(batch.pixels[i : i + 1], [layer]).values()
        whole = float(clean[0, channel].sum()) or 1.0
        shares = grid.spread([value / whole for value in sums], height, width)
        followed = Map("heat", shares, f"sum of map {channel} of {layer} (unhidden: 1)", low=0.0)
        others = sorted((j for j in range(len(batch)) if j != i), key=lambda j: -float(peaks[j, channel, 0]))[:3]
        insets = ()
        if not why_not(classifier, layer):
            shown = batch.pixels[[i, *others]]
            maps = project(classifier, shown, layer, [channel] * len(shown)).maps
            tiles = [tile(contrast(one), _TILE_PX) for one in maps]
            where = ", here (top left) and elsewhere" if others else ""
            insets = (Inset(f"what excites map {channel}{where}", sheet([tiles], columns=min(2, len(tiles)))),)
        return replace(figure, maps=(followed, *figure.maps), insets=insets)


def _sentence(flips: Measure, drop: Measure, size_share: float) -> str:
    if flips.value is None:
        return f"What its answers depend on is not measured: {flips.why}."
    images = "one image" if flips.n == 1 else f"{flips.n} images"
    return (
        f"A square of {size_share:.0%} of the side changes the answer at {flips.value:.0%} of the places it can hide "
        f"({images}); at the worst place the probability of the class falls by {drop.value:.2f} on average."
    )


def _caveats(rows: pl.DataFrame, fill: str) -> tuple[str, ...]:
    found = [
        f"The square, {FILLS[fill]}, is something to see as well: it can be taken for a cue or a thing of its own.",
        "All numbers depend on the size of the square: a large one hides more, a small one leaves the cue's copies.",
    ]
    if unlabeled := rows["label"].null_count():
        found.append(f"The class is the label; for {unlabeled} images without one it is the classifier's own answer.")
    return tuple(found)


def _grid(row: Mapping[str, Any]) -> Grid:
    return Grid(tuple(row["tops"]), tuple(row["lefts"]), row["height"], row["width"])


def _figure(row: Mapping[str, Any], pixels: Tensor, names: tuple[str, ...]) -> Figure:
    grid, (height, width) = _grid(row), pixels.shape[-2:]
    name = names[row["tracked"]]
    present = list(dict.fromkeys([row["predicted"], *row["answers"]]))
    indices = [float(present.index(answer)) for answer in row["answers"]]
    heat = Map("heat", grid.spread(row["p"], height, width), f"P({name})", "probability", 0.0, 1.0)
    labels = Map("labels", grid.spread(indices, height, width), "answer", legend=tuple(names[a] for a in present))
    caption = f"{name}: P {row['p_clean']:.2f} unhidden, {min(row['p']):.2f} at worst"
    return Figure(caption, to_image(pixels), maps=(heat, labels))
