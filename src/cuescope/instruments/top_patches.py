"""Which patches of all images convince it most of each class?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.data.ops.place import Place
from cuescope.instruments.base import Rows
from cuescope.network.dense import Dense

SHOWN_PX = 72
"""Side of a patch as it is shown."""


@dataclass(frozen=True)
class TopPatches:
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

    question: ClassVar[str] = "Which patches convince it most of each class?"
    reference: ClassVar[str] = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, figure 3"
    needs: ClassVar[frozenset[str]] = frozenset({"dense_logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.patches < 1 or self.shown < 1:
            raise ValueError("patches and shown must be at least 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per class, the strongest positions of the batch in images of the class and in all others."""
        dense, maps = classifier.dense, classifier.dense_logits(batch.pixels)
        assert dense is not None
        if unknown := [k for k in self.classes if not 0 <= k < maps.shape[1]]:
            raise ValueError(f"classes={unknown[0]}, but {classifier.name} has the classes 0 to {maps.shape[1] - 1}")
        said = batch.logits.argmax(1)
        own = torch.where(batch.labels >= 0, batch.labels, said)
        most = 1 if self.one_per_image else min(self.patches, maps[0, 0].numel())
        values, places = _strongest(maps.flatten(2), most)
        image = torch.arange(len(batch)).repeat_interleave(most)
        of_class = own[image][:, None] == torch.arange(maps.shape[1])
        frames = [self._best(values, places, image, of_class == side, side, batch.ids) for side in (True, False)]
        x, y = _middles(_place(dense, maps.shape[2:], batch.pixels.shape[2:]), maps.shape[2:])
        index = (rows := pl.concat(frames))["place"]
        return (
            rows.with_columns(
                x=pl.Series(x).gather(index),
                y=pl.Series(y).gather(index),
                local=pl.lit(dense.local),
                field_px=pl.lit(dense.field_px, pl.Int32),
            )
            .select(_SCHEMA.keys())
            .cast(_SCHEMA)
        )

    def _best(
        self, values: Tensor, places: Tensor, image: Tensor, counts: Tensor, own: bool, ids: Sequence[str]
    ) -> pl.DataFrame:
        """For each class the strongest of the positions that count, the first of equal ones."""
        ranked, order = values.where(counts, -torch.inf).sort(dim=0, descending=True, stable=True)
        ranked, order = ranked[: self.patches], order[: self.patches]
        rank, k = (ranked > -torch.inf).nonzero(as_tuple=True)
        chosen = order[rank, k]
        return pl.DataFrame(
            {
                "id": pl.Series(ids, dtype=pl.String).gather(image[chosen].numpy()),
                "class": pl.Series(k.numpy(), dtype=pl.Int32),
                "own": pl.repeat(own, len(k), eager=True),
                "value": pl.Series(ranked[rank, k].numpy(), dtype=pl.Float32),
                "place": pl.Series(places[chosen, k].numpy(), dtype=pl.Int32),
            }
        )

    def reduce(self, rows: Rows) -> Rows:
        """The best of each class and row alone: bounded over any number of images."""
        if not rows.height:
            return rows
        ranked = rows.sort("class", "own", "value", descending=[False, True, True], maintain_order=True)
        return ranked.group_by("class", "own", maintain_order=True).head(self.patches).select(rows.columns)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = self.reduce(rows) if rows.height else pl.DataFrame(schema=_SCHEMA)
        best = rows.group_by("class", "own").agg(pl.col("value").max())
        both = best.filter("own").join(best.filter(~pl.col("own")), on="class", suffix="_others")
        misled, n = int((both["value_others"] > both["value"]).sum()), both.height
        share = Measure(
            "misled",
            misled / n if n else None,
            "share",
            n,
            stats.wilson(misled, n) if n else None,
            title="classes whose strongest patch of all is from an image of another class",
            count=misled if n else None,
            why="" if n else "no class has images of its own and others to compare with",
            better="lower",
            headline=True,
        )
        few = rows.filter("own")["class"].value_counts().filter(pl.col("count") < self.patches).height
        local, field = bool(rows["local"].any()), rows["field_px"].max()
        return Finding(
            instrument="top_patches",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(share,),
            sentence=self._sentence(share, local, field),
            caveats=self._caveats(rows, few, local, field),
            references=(self.reference,),
        )

    def _sentence(self, share: Measure, local: bool, field: object) -> str:
        if share.value is None:
            return f"No patches can be ranked: {share.why}."
        what = f"patch of {field} x {field} pixels" if local else "position"
        return (
            f"For {share.count} of {share.n} classes the most convincing {what} comes from an image of another class."
        )

    def _caveats(self, rows: Rows, few: int, local: bool, field: object) -> tuple[str, ...]:
        told = []
        if not local and rows.height:
            seen = f"{field} x {field} pixels" if field else "the whole image"
            told.append(f"Not local: each position sees {seen}, more than what is shown of it.")
        if few:
            row = f"the first row of {self.patches}"
            told.append(f"{few} classes have fewer than {self.patches} images, so {row} is not full.")
        return tuple(told)

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
        pixels = dict(zip(batch.ids, batch.pixels, strict=True))
        figures = []
        for k in self._chosen(rows):
            lines = [rows.filter((pl.col("class") == k) & (pl.col("own") == own)) for own in (True, False)]
            crops = [[_crop(pixels[r["id"]], r) for r in line.iter_rows(named=True)] for line in lines]
            count = f" (only {lines[0].height} there)" if lines[0].height < self.patches else ""
            figures.append(Figure(f"{classifier.classes.names[k]}{count}", sheet(crops, self.patches)))
        caption = (
            f"For each class two rows, strongest first: patches from images of the class{_whose(rows)}, and below "
            "them from all other images."
        )
        yield Panel("top_patches", "images", "The patches that convince it most", caption, figures=tuple(figures))


_SCHEMA: dict[Any, Any] = {
    "id": pl.String,
    "class": pl.Int32,
    "own": pl.Boolean,
    "value": pl.Float32,
    "x": pl.Float32,
    "y": pl.Float32,
    "local": pl.Boolean,
    "field_px": pl.Int32,
}


def _place(dense: Dense, shape: Sequence[int], size: Sequence[int]) -> Place:
    """Where the map lies: each cell around the middle of what its position sees."""
    if dense.field.rows is None or dense.field.columns is None:
        return Place()
    return Place.of_fields(dense.field.rows, dense.field.columns, shape, size)


def _strongest(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest values of (B, K, positions) and their positions, (B * count, K) each; the first of equal ones."""
    if count == 1:
        return maps.max(2)
    values, places = maps.sort(dim=2, descending=True, stable=True)
    return tuple(t[:, :, :count].transpose(1, 2).flatten(0, 1) for t in (values, places))  # type: ignore[return-value]


def _whose(rows: Rows) -> str:
    side = _side(rows["local"][0], rows["field_px"][0]) if rows.height else None
    return f" ({side} x {side} px each)" if side else ""


def _side(local: bool, field: int | None) -> int | None:
    """Side of the patch to show: what the position sees, where that is local."""
    return field if local else None


def _middles(place: Place, shape: Sequence[int]) -> tuple[list[float], list[float]]:
    """X and y of the middles of all cells of a map, row by row, in shares of the image."""
    rows, columns = shape
    spots = [place.middle(i, j, shape) for i in range(rows) for j in range(columns)]
    return [x for x, _ in spots], [y for _, y in spots]


def _crop(pixels: Tensor, row: Mapping[str, Any]) -> Tensor:
    """(3, s, s): the patch around the position; a quarter of the side where the position sees more than a patch."""
    height, width = pixels.shape[1:]
    side = min(_side(row["local"], row["field_px"]) or min(height, width) // 4, height, width)
    top = min(max(round(row["y"] * height - side / 2), 0), height - side)
    left = min(max(round(row["x"] * width - side / 2), 0), width - side)
    patch = pixels[None, :, top : top + side, left : left + side]
    return F.interpolate(patch, (SHOWN_PX, SHOWN_PX), mode="nearest" if side < SHOWN_PX else "area")[0]
