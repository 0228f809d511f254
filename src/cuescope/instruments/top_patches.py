"""Which patches of all images convince it most of each class?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.instruments.base import Instrument, Observer, Rows, typed
from cuescope.methods.relative_logits import relative

MARGIN = 0.1
"""Classes misled surely no less than this below chance are misled as by chance."""
SHOWN_PX = 72
"""Side of a patch as it is shown."""


@dataclass(frozen=True)
class TopPatches(Instrument, version=3, order=200, needs={"dense_logits"}):
    """The 2 x 7 most informative patches of each class (Brendel & Bethge 2019, figure 3).

    Every position of every image's map is ranked by its logit for a class, less the mean over all classes: a patch that
    raises all logits speaks for none. The first row holds the strongest patches from images of the class, the second
    the strongest from all other images, one an image by default, since the neighbors of a strong patch look like it.
    Ties go to the first image, and in it to the first position. An image without a label counts for the class it is
    said to be. Over any number of images only the best are kept, and how many images each class has.

    >>> TopPatches(patches=3).patches
    3
    """

    patches: int = 7
    """Patches in each of the two rows."""
    one_per_image: bool = True
    """Whether an image gives each class at most one patch."""
    raw: bool = False
    """Whether patches are ranked by the logit as it is, as in the paper, not against the mean of all classes."""
    shown: int = 4
    """Classes to show, spread over those that have images."""
    classes: tuple[int, ...] = ()
    """Indices of the classes to show instead."""

    question = "Which patches convince it most of each class, and are they of the class?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, figure 3"
    columns = {
        "id": pl.String,
        "class": pl.Int32,
        "own": pl.Boolean,
        **typed(pl.Float32, "value x y"),
        **typed(pl.Int32, "images labeled"),
    }
    """A row is a patch; or, where `own` is null, how many images of the class were seen, and how many have a label."""
    sentences = {
        "nothing": Sentence(
            "cannot tell", "nothing is measured, for the reason given", "No patches can be ranked: {why}."
        ),
        "own": Sentence(
            "yes",
            "the whole interval of classes whose strongest patch is from another class lies below chance",
            "For {count} of {n} classes the most convincing {what} comes from an image of another class ({interval}), "
            "less often than by chance, {chance:.0%}.",
        ),
        "by_chance": Sentence(
            "no",
            "the whole interval of classes whose strongest patch is from another class lies above chance less "
            f"{MARGIN}",
            "For {count} of {n} classes the most convincing {what} comes from an image of another class ({interval}), "
            "as often as by chance, {chance:.0%}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            f"the interval of classes whose strongest patch is from another class reaches chance and {MARGIN} below "
            "it, or there is none",
            "For {count} of {n} classes the most convincing {what} comes from an image of another class; by chance it "
            "were {chance:.0%}, so whether patches tell the classes apart cannot be said.",
        ),
    }

    def __post_init__(self) -> None:
        if self.patches < 1 or self.shown < 1:
            raise ValueError("patches and shown must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: whether a position sees a patch alone ("local"), and the side of what it sees ("field_px").

        Raises CueError for `classes` that are none.
        """
        dense, count = classifier.dense, len(classifier.classes)
        assert dense is not None, "without a dense head there are no dense logits, which are needed"
        if unknown := [k for k in self.classes if not 0 <= k < count]:
            found = f"classes={unknown[0]}, but {classifier.name} has the classes 0 to {count - 1}"
            raise CueError(found, wanted="indices of classes", do="correct top_patches.classes")
        facts = {"local": dense.local, "field_px": dense.field_px}
        shape, place = dense.size, dense.place(dense.size, dense.image)
        # The middles of all positions, row by row, in shares of the image: each that of what it sees.
        middles = np.array([place.middle(i, j, shape) for i in range(shape[0]) for j in range(shape[1])])
        return Observer(partial(self._rows, classifier, *middles.T), facts=facts)

    def _rows(self, classifier: Classifier, x: NDArray[Any], y: NDArray[Any], batch: Batch) -> Rows:
        """Per class, the strongest positions of the batch in images of the class and in all others."""
        maps = relative(classifier.dense_logits(batch.pixels), self.raw)
        classes = torch.where(batch.labels >= 0, batch.labels, batch.logits.argmax(1))
        most = 1 if self.one_per_image else min(self.patches, maps[0, 0].numel())
        values, places = _strongest(maps.flatten(2), most)
        image = torch.arange(len(batch)).repeat_interleave(most)
        of_class = classes[image][:, None] == torch.arange(maps.shape[1])
        parts = []
        for own in (True, False):
            ranked, order = values.where(of_class == own, -torch.inf).sort(dim=0, descending=True, stable=True)
            rank, k = (ranked[: self.patches] > -torch.inf).nonzero(as_tuple=True)
            chosen = order[rank, k]
            place, ids = places[chosen, k].numpy(), [batch.ids[i] for i in image[chosen].tolist()]
            found = {"id": ids, "class": k.numpy(), "own": [own] * len(ids), "value": ranked[rank, k].numpy()}
            parts.append(self.table({**found, "x": x[place], "y": y[place]}))
        known, place = classes.unique(return_inverse=True)
        labeled = torch.zeros(len(known), dtype=torch.long).index_add_(0, place, (batch.labels >= 0).long())
        counts = {"class": known.numpy(), "images": place.bincount().numpy(), "labeled": labeled.numpy()}
        return pl.concat([*parts, self.table(counts)])

    def reduce(self, rows: Rows) -> Rows:
        """The best of each class and row alone: bounded over any number of images."""
        patches, counts = rows.filter(pl.col("own").is_not_null()), rows.filter(pl.col("own").is_null())
        ranked = patches.sort("class", "own", "value", descending=[False, True, True], maintain_order=True)
        best = ranked.group_by("class", "own", maintain_order=True).head(self.patches).select(rows.columns)
        sums = counts.group_by("class", maintain_order=True).agg(pl.sum("images", "labeled")).sort("class")
        return pl.concat([best, self.table({name: sums[name] for name in sums.columns})])

    def rows_to_show(self, rows: Rows, ids: Sequence[str]) -> Rows:
        return rows

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = self.reduce(rows)
        local, field = about.facts["local"], about.facts["field_px"]
        best = rows.filter(pl.col("own").is_not_null()).sort("value", descending=True, maintain_order=True)
        best = best.group_by("class", "own", maintain_order=True).first()
        both = best.filter("own").join(best.filter(~pl.col("own")), on="class", suffix="_others")
        counts = rows.filter(pl.col("own").is_null())
        of_class = both.join(counts.select("class", seen="images"), on="class", maintain_order="left")["seen"]
        wrong = both["value_others"] > both["value"]
        winner = [other if lost else own for other, own, lost in zip(both["id_others"], both["id"], wrong, strict=True)]
        beside: dict[str, Any] = (
            {"chance": 1 - float(of_class.to_numpy().mean()) / int(counts["images"].sum())} if both.height else {}
        )
        misled = stats.share(
            "misled",
            wrong,
            # One image may hold the strongest patch of many classes: these are not independent.
            clusters=[winner] if both.height else (),
            why="no class has images of its own and others to compare with",
            title="classes whose strongest patch of all is from an image of another class",
            better="lower",
            headline=True,
            **beside,
        )
        return Conclusion((misled,), (), self._verdict(misled, local, field), self._caveats(rows, local, field))

    def _verdict(self, misled: Measure, local: bool, field: int | None) -> Verdict:
        if misled.value is None:
            return self.say("nothing", why=misled.why)
        alike = "by_chance" if misled.above((misled.chance or 0.0) - MARGIN) else "cannot_tell"
        name = "own" if misled.below(misled.chance) else alike
        values: dict[str, Any] = {"count": misled.count, "n": misled.n, "chance": misled.chance}
        values |= {"what": f"patch of {field} x {field} pixels" if local else "position"}
        return self.say(name, **values, **({} if name == "cannot_tell" else {"interval": interval_text(misled)}))

    def _caveats(self, rows: Rows, local: bool, field: int | None) -> tuple[str, ...]:
        caveats = []
        if not local and rows.height:
            seen = f"{field} x {field} pixels" if field else "the whole image"
            caveats.append(f"Not local: each position sees {seen}, more than what is shown of it.")
        unlabeled = int((rows["images"] - rows["labeled"]).sum())
        if unlabeled:
            caveats.append(f"{counted(unlabeled, 'image')} without a label counts for the class that it is said to be.")
        if few := rows.filter("own")["class"].value_counts().filter(pl.col("count") < self.patches).height:
            row = f"the first row of {self.patches}"
            caveats.append(f"{few} classes have fewer than {self.patches} images, so {row} is not full.")
        return tuple(caveats)

    def _chosen(self, rows: Rows) -> list[int]:
        """The classes to show: those asked for, else spread over all that have images of their own."""
        if self.classes:
            return list(self.classes)
        present = sorted(rows.filter("own")["class"].unique().to_list())
        count = min(self.shown, len(present))
        return [present[i * len(present) // count] for i in range(count)]

    def examples(self, rows: Rows) -> list[str]:
        """All images that a shown patch is of."""
        patches = rows.filter(pl.col("own").is_not_null())
        return patches.filter(pl.col("class").is_in(self._chosen(rows)))["id"].unique(maintain_order=True).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        dense, pixels = classifier.dense, dict(zip(batch.ids, batch.pixels, strict=True))
        side = dense.field_px if dense is not None and dense.local else None
        figures = []
        for k in self._chosen(rows):
            lines = [rows.filter((pl.col("class") == k) & (pl.col("own") == own)) for own in (True, False)]
            crops = [[_crop(pixels[r["id"]], r, side) for r in line.iter_rows(named=True)] for line in lines]
            count = f", {counted(lines[0].height, 'image')} of it" if lines[0].height < self.patches else ""
            size = f", {side} x {side} px each" if side else ""
            figures.append(Figure(f"{classifier.classes.names[k]}{count}{size}", sheet(crops, self.patches)))
        caption = "Strongest first: above, from images of the class; below, from all others."
        yield Panel("top_patches", "images", "The patches that convince it most", caption, figures=tuple(figures))


def _strongest(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest values of (B, K, positions) and their positions, (B * count, K) each; the first of equal ones."""
    if count == 1:
        return maps.max(2)
    values, places = maps.sort(dim=2, descending=True, stable=True)
    return tuple(t[:, :, :count].transpose(1, 2).flatten(0, 1) for t in (values, places))  # type: ignore[return-value]


def _crop(pixels: Tensor, row: Mapping[str, Any], patch_px: int | None) -> Tensor:
    """(3, s, s): the patch around the position; a quarter of the side where the position sees more than a patch."""
    height, width = pixels.shape[1:]
    side = min(patch_px or min(height, width) // 4, height, width)
    top = min(max(round(row["y"] * height - side / 2), 0), height - side)
    left = min(max(round(row["x"] * width - side / 2), 0), width - side)
    patch = pixels[None, :, top : top + side, left : left + side]
    return F.interpolate(patch, (SHOWN_PX, SHOWN_PX), mode="nearest" if side < SHOWN_PX else "area")[0]
