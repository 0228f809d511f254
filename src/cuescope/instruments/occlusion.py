"""Which parts of an image does the answer depend on? A square slides over it and hides one place after another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Watch, peak
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Look, Measure, Panel, Unit
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.objects import object_mask
from cuescope.data.ops.occlude import FILLS, Fill, Grid, Occlude, fill_color
from cuescope.instruments.base import Instrument, Observer, Rows, answer, typed
from cuescope.methods.incremental import painted_logits
from cuescope.methods.occlusion import changes_map, concentration, fall_map, followed_map, pointing, unseen

MARGIN = 0.05
"""A share of hits that is surely less than this above chance is no more than chance."""
MOST_SHOWN, MOST_EXAMPLES, OTHERS = 4, 12, 3


@dataclass(frozen=True)
class Occlusion(Instrument, version=2, order=140, needs={"logits"}):
    """Which parts of an image does the answer depend on?

    A square of one color hides each place of the image in turn; P(class) at each place makes a map, and the answer at
    each place another (Zeiler & Fergus 2014, section 4.2 and figure 7 d and e). The class is the image's
    label where it is known, else the answer to the unhidden image. The paper gives neither size, stride nor color: here
    the size is 49 of 224 px and the color that of the classifier's mean pixel. The logits are exact, computed only
    where the square can reach. Where the image already has about the square's color, nothing is hidden: the share of
    such places is given, and another `fill` hides them.

    In the pointing game an image is a hit where the square's center lies on the object at the place of the largest
    fall, by the share of hits where places tie; chance is the share of all places that lie on it. What looks at the
    middle alone hits objects that photographers put there: so it is also seen whether the place lies on the object with
    the image turned by 180 degrees. Boxes are those of the label's class, as the classifier sees them.

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
    followed: int = 2
    """Images whose strongest feature map is followed too, with what excites it there and in three other images; each
    takes as many passes more as there are places."""
    layer: str = ""
    """The layer of that map; by default the last one that gives maps over the image (the paper's layer 5)."""

    question = "Which parts of the image does its answer depend on?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.2 and figure 7"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted tracked height width worst_top worst_left"),
        **typed(pl.Float64, "p_clean flips largest_drop concentration unseen hit hit_turned hit_by_chance"),
        **typed(pl.List(pl.Float64), "p peaks"),
        **typed(pl.List(pl.Int32), "answers tops lefts"),
    }
    """`peaks` are the highest activations of each map of the layer that is followed; null for a black box."""
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no image was seen", "What its answers depend on is not measured: no image was seen."
        ),
        "flips": Sentence(
            "yes",
            "hiding some place changes the answer to an image",
            "A square of {size:.0%} of the side changes the answer at {flips:.1%} of the places it can hide "
            "({images}); at the worst place the probability of the class falls by {drop:.2f} on average.",
        ),
        "never": Sentence(
            "no",
            "hiding no place changes the answer to any image",
            "A square of {size:.0%} of the side never changes the answer ({images}; {unseen:.0%} of the places have "
            "about its color already); at the worst place the probability of the class falls by {drop:.2f} on average.",
            "Try other squares.",
            "cuescope audit {models} --images {images} --only occlusion --set occlusion.size_share=.4 --out more",
        ),
        "object": Sentence(
            "yes",
            "the whole intervals of above_chance and of beyond_middle lie above 0",
            "The worst place lies on the object in {hits:.0%} of {n} images, {chance:.0%} by chance, and in "
            "{turned:.0%} with the image turned.",
        ),
        "middle": Sentence(
            "cannot tell",
            "the whole interval of above_chance lies above 0, that of beyond_middle does not",
            "The worst place lies on the object in {hits:.0%} of {n} images, {chance:.0%} by chance; but in "
            "{turned:.0%} with the image turned, so that it may just lie in the middle.",
        ),
        "beside": Sentence(
            "no",
            "the whole interval of above_chance lies below MARGIN",
            "The worst place does not lie on the object more than by chance: in {hits:.0%} of {n} images, {chance:.0%} "
            "by chance, and surely less than {margin:.0%} more.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of above_chance holds 0 and reaches beyond MARGIN, or there is none",
            "Whether the worst place lies on the object cannot be said from {n} image{s}: it does in {hits:.0%}, "
            "{chance:.0%} by chance.",
            "Look at more images.",
            "cuescope audit {models} --images {images} --only occlusion --set occlusion.images=50 --out more",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.followed < 0 or not 0 < self.size_share <= 1 or not 0 < self.stride_share <= 1:
            raise ValueError(
                "images must be at least 1, followed at least 0, size_share and stride_share above 0 and at most 1"
            )

    def start(self, classifier: Classifier) -> Observer:
        """It watches the peak of every map of the layer that is followed."""
        layer = self._layer(classifier)
        watch = [(layer, peak)] if layer and self.followed else []
        return Observer(partial(self._rows, classifier, watch), watch)

    def _rows(self, classifier: Classifier, watch: Sequence[Watch], batch: Batch) -> Rows:
        """Per image: P(class) and the answer at each place, row by row, and what they come to."""
        occlude = self._occluder(classifier, batch)
        grid = occlude.grid(*batch.pixels.shape[-2:])
        rows = [self._row(classifier, batch, i, occlude, grid) for i in range(len(batch))]
        for peaks in classifier.watch(batch, watch).values():
            for row, values in zip(rows, peaks[..., 0].tolist(), strict=True):
                row["peaks"] = values
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
            "concentration": concentration(p_clean - p),
            "unseen": unseen(batch.pixels[i], grid, occlude.color),
        }
        if label >= 0 and (place := object_mask(batch.samples[i], classifier.preprocessing)) is not None:
            row |= pointing(place, grid, p, p_clean)
        return row

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        def mean(name: str, column: str, title: str, unit: Unit = "share", **more: Any) -> Measure:
            return stats.mean(name, rows[column].drop_nulls(), unit, title=title, per_image=column, **more)

        why, title = "no image was seen", "places whose hiding changes the answer"
        flips = mean("label_flips", "flips", title, why=why, headline=True)
        drop = mean("largest_drop", "largest_drop", "largest fall of P(class)", "difference", why=why)
        same = mean("unseen", "unseen", "places that have about the color of the square already", why=why)
        title = "share of all falls in the top tenth of places (a tenth where all fall alike)"
        narrow = mean("concentration", "concentration", title, why="hiding never lowers P(class)")
        known, title = rows.drop_nulls("hit"), "the place of the largest fall lies on the object"
        chance = float(known["hit_by_chance"].to_numpy().mean()) if known.height else None
        why = "no image has both a label and a known place of its object, and a place where P(class) falls"
        more: dict[str, Any] = {"why": why, "title": title}
        hits = stats.mean("pointing_game", known["hit"], chance=chance, per_image="hit", **more)
        more["title"] = f"{title}, less the share of places that do"
        above = stats.difference("above_chance", known["hit"], known["hit_by_chance"], **more)
        more["title"] = f"{title}, less with the image turned"
        beyond = stats.difference("beyond_middle", known["hit"], known["hit_turned"], **more)
        verdict = self._verdict(flips, drop, same, hits, above, beyond)
        return Conclusion((flips, drop, narrow, same, hits, above, beyond), (), verdict, _caveats(rows, self.fill))

    def _verdict(self, *measures: Measure) -> Verdict:
        flips, drop, unseen, hits, above, beyond = measures
        if flips.value is None or drop.value is None:
            return self.say("nothing")
        images, values = counted(flips.n, "image"), {"size": self.size_share, "drop": drop.value}
        if flips.value:
            said = self.say("flips", **values, images=images, flips=flips.value)
        else:
            said = self.say("never", **values, images=images, unseen=unseen.value)
        if hits.value is None or beyond.value is None:
            return said
        pointing = {"hits": hits.value, "n": hits.n, "chance": hits.chance}
        if above.above(0):
            turned = hits.value - beyond.value
            return said + self.say("object" if beyond.above(0) else "middle", **pointing, turned=turned)
        if above.below(MARGIN):
            return said + self.say("beside", **pointing, margin=MARGIN)
        return said + self.say("cannot_tell", **pointing, s="s" * (hits.n > 1))

    def examples(self, rows: Rows) -> list[str]:
        """The images whose P(class) falls most, and those that excite most the maps that are followed in them."""
        worst = _worst(rows)
        others = [name for row in worst.head(self.followed).iter_rows(named=True) for name in _others(rows, row)]
        return list(dict.fromkeys([*worst["id"], *others]))[:MOST_EXAMPLES]

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        figures, layer = [], self._layer(classifier)
        for row in _worst(rows).iter_rows(named=True):
            pixels = batch.pixels[batch.ids.index(row["id"])]
            figures.append(_figure(row, pixels, classifier.classes.names))
            if layer and len(figures) <= self.followed:
                shown = batch.pixels[[batch.ids.index(name) for name in (row["id"], *_others(rows, row))]]
                color = self._occluder(classifier, batch).color
                extra = followed_map(classifier, shown, _grid(row), color, layer, _strongest(row))
                figures[-1] = replace(figures[-1], maps=(extra[0], *figures[-1].maps), insets=extra[1])
        caption = "What is lost, and what the answer becomes, with the middle of the square at each place."
        yield Panel("maps", "images", "What a hidden place changes", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, names = rows.row(0, named=True), classifier.classes.names
        changed = [a for a in row["answers"] if a != row["predicted"]]
        clean, lowest, square = row["p_clean"], min(row["p"]), f"a square of {row['width']} x {row['height']} px"
        if changed:
            most = names[max(changed, key=changed.count)]
            said = f". Hidden by {square}, {len(changed)} of {len(row['p'])} places change that, mostly to {most}"
        else:
            said = f", and still does wherever {square} hides a place"
        falls = (
            f"falls from {clean:.2f} to {lowest:.2f} at worst" if clean - lowest >= 0.01 else f"stays at {clean:.2f}"
        )
        said = f"It says {answer(classifier, batch.logits[0])}{said}; P({names[row['tracked']]}) {falls}."
        figure = replace(_figure(row, batch.pixels[0], names), caption="")
        return Look(said, (Panel("maps", "images", "", figures=(figure,)),))

    def _layer(self, classifier: Classifier) -> str:
        """The layer whose strongest map is followed; none for a black box, or for a network without maps."""
        if "features" not in classifier.capabilities:
            return ""
        return next(reversed(classifier.stages([self.layer] if self.layer else ())), "")


def _worst(rows: Rows) -> Rows:
    """The images whose P(class) falls most."""
    return rows.sort("largest_drop", "id", descending=[True, False]).head(MOST_SHOWN)


def _strongest(row: Mapping[str, Any]) -> int:
    """The map with the highest activation."""
    return int(np.argmax(row["peaks"]))


def _others(rows: Rows, row: Mapping[str, Any]) -> list[str]:
    """The images beside this one that excite its strongest map most."""
    if row["peaks"] is None:
        return []
    other = rows.filter(pl.col("id") != row["id"]).with_columns(peak=pl.col("peaks").list.get(_strongest(row)))
    return other.sort("peak", "id", descending=[True, False])["id"].head(OTHERS).to_list()


def _caveats(rows: pl.DataFrame, fill: str) -> tuple[str, ...]:
    found = [
        f"The square, {FILLS[fill]}, is something to see as well: it can be taken for a cue or a thing of its own.",
        "It cannot hide a cue that has its color: repeat with another fill (occlusion.fill).",
        "All numbers depend on the size of the square: a large one hides more, a small one leaves the cue's copies.",
    ]
    if unlabeled := rows["label"].null_count():
        images = counted(unlabeled, "image")
        found.append(f"The class is the label; for {images} without one it is the classifier's own answer.")
    return tuple(found)


def _grid(row: Mapping[str, Any]) -> Grid:
    return Grid(tuple(row["tops"]), tuple(row["lefts"]), row["height"], row["width"])


def _figure(row: Mapping[str, Any], pixels: Tensor, names: tuple[str, ...]) -> Figure:
    grid, size, name = _grid(row), (pixels.shape[-2], pixels.shape[-1]), names[row["tracked"]]
    clean = row["p_clean"]
    fall = fall_map([clean - p for p in row["p"]], clean, grid, size, f"fall of P({name}) from {clean:.2f}")
    changes = changes_map(row["answers"], row["predicted"], grid, size, names)
    caption = f"{name}: P {row['p_clean']:.2f} unhidden, {min(row['p']):.2f} at worst"
    return Figure(caption, to_image(pixels), maps=(fall, changes) if changes else (fall,))
