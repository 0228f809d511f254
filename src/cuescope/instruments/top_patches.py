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
from cuescope.core.findings import About, Conclusion, Figure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.instruments.base import Instrument, Observer, Rows, typed

SHOWN_PX = 72
"""Side of a patch as it is shown."""


@dataclass(frozen=True)
class TopPatches(Instrument, version=2, order=200, needs={"dense_logits"}):
    """The 2 x 7 most informative patches of each class (Brendel & Bethge 2019, figure 3).

    Every position of every image's map is ranked by its logit for a class: the first row holds the strongest patches
    from images of the class, the second the strongest from all other images, one an image by default, since the
    neighbors of a strong patch look like it. Ties go to the first image, and in it to the first position. An image
    without a label counts for the class it is said to be. Over any number of images only the best are kept.

    >>> TopPatches(patches=3).patches
    3
    """

    patches: int = 7
    """Patches in each of the two rows."""
    one_per_image: bool = True
    """Whether an image gives each class at most one patch."""
    shown: int = 8
    """Classes to show, spread over those that have images."""
    classes: tuple[int, ...] = ()
    """Indices of the classes to show instead."""

    question = "Which patches convince it most of each class?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, figure 3"
    columns = {"id": pl.String, "class": pl.Int32, "own": pl.Boolean, **typed(pl.Float32, "value x y")}

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
        maps = classifier.dense_logits(batch.pixels)
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
        return pl.concat(parts)

    def reduce(self, rows: Rows) -> Rows:
        """The best of each class and row alone: bounded over any number of images."""
        ranked = rows.sort("class", "own", "value", descending=[False, True, True], maintain_order=True)
        return ranked.group_by("class", "own", maintain_order=True).head(self.patches).select(rows.columns)

    def rows_to_show(self, rows: Rows, ids: Sequence[str]) -> Rows:
        return rows

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = self.reduce(rows)
        local, field = about.facts["local"], about.facts["field_px"]
        best = rows.group_by("class", "own").agg(pl.col("value").max())
        both = best.filter("own").join(best.filter(~pl.col("own")), on="class", suffix="_others")
        misled = stats.share(
            "misled",
            both["value_others"] > both["value"],
            why="no class has images of its own and others to compare with",
            title="classes whose strongest patch of all is from an image of another class",
            better="lower",
            headline=True,
        )
        sentence = f"No patches can be ranked: {misled.why}."
        if misled.value is not None:
            what = f"patch of {field} x {field} pixels" if local else "position"
            of = f"{misled.count} of {misled.n} classes"
            sentence = f"For {of} the most convincing {what} comes from an image of another class."
        return Conclusion((misled,), verdict=sentence, caveats=self._caveats(rows, local, field))

    def _caveats(self, rows: Rows, local: bool, field: int | None) -> tuple[str, ...]:
        caveats = []
        if not local and rows.height:
            seen = f"{field} x {field} pixels" if field else "the whole image"
            caveats.append(f"Not local: each position sees {seen}, more than what is shown of it.")
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
        return rows.filter(pl.col("class").is_in(self._chosen(rows)))["id"].unique(maintain_order=True).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        dense, pixels = classifier.dense, dict(zip(batch.ids, batch.pixels, strict=True))
        side = dense.field_px if dense is not None and dense.local else None
        figures = []
        for k in self._chosen(rows):
            lines = [rows.filter((pl.col("class") == k) & (pl.col("own") == own)) for own in (True, False)]
            crops = [[_crop(pixels[r["id"]], r, side) for r in line.iter_rows(named=True)] for line in lines]
            count = f" (only {lines[0].height} there)" if lines[0].height < self.patches else ""
            figures.append(Figure(f"{classifier.classes.names[k]}{count}", sheet(crops, self.patches)))
        size = f" ({side} x {side} px each)" if side else ""
        caption = f"For each class two rows, strongest first: patches from images of the class{size}, "
        caption += "and below them from all other images."
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
