"""Corrected labels: what an annotator's label maps say of whole images, as tables that other training code reads."""

import io
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.core.alignment import align
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import plain_cell, plain_path, write
from cuescope.data.images import ImageSet
from cuescope.data.label_maps.file import LabelMapFile
from cuescope.data.label_maps.layout import Arrays
from cuescope.data.label_maps.pooling import LabelPooling
from cuescope.data.label_maps.published import PublishedLabelMaps

Maps = LabelMapFile | PublishedLabelMaps

BATCH = 256
LEAST = 0.1
"""The share of the soft target of the whole image from which a class is one of the image's labels."""
MOST = 5
"""Labels of an image at most."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The crop that is the whole image: top, left, height, width."""

SCHEMA = {
    "file": pl.String,
    "index": pl.Int32,
    "wnid": pl.String,
    "name": pl.String,
    "labels": pl.List(pl.Int32),
    "weights": pl.List(pl.Float32),
    "old_index": pl.Int32,
    "old_name": pl.String,
    "old_weight": pl.Float32,
}


def labels_in(target: Tensor, least: float = LEAST, most: int = MOST) -> list[tuple[int, float]]:
    """The labels that a soft target (K,) gives an image, with their weights: up to `most` that have `least` or more,
    and the first in any case.
    """
    top = target.topk(min(most, len(target)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(label, weight) for i, (label, weight) in enumerate(pairs) if not i or weight >= least]


def places_in(images: ImageSet, space: ClassSpace) -> tuple[int, ...]:
    """The annotator's class for each label of the images; none where their classes have nothing in common."""
    try:
        return align(images.classes, space) if images.classes else ()
    except CueError:
        return ()


def relabel(
    maps: Maps, images: ImageSet, *, least: float = LEAST, most: int = MOST, without: Container[str] = ()
) -> pl.DataFrame:
    """Which labels should these images have, by their label maps? A row for each image that has a map and is not
    among those to do `without`.

    The labels are those of the soft target of the whole image (`labels_in`). `index`, `name` and, where it is known,
    `wnid` are the first one's, `labels` and `weights` all of them; `old_index`, `old_name` and `old_weight` are the
    image's own label, as a class of the annotator, and its probability. Raises CueError where no image has a map.
    """
    rows = [row for batch in _batches(maps, images, without) for row in _rows(maps, images, batch, least, most)]
    if not rows:
        found = f"no label map of an image of {images.name}"
        raise CueError(found, wanted="the maps that were made of these images", do="give others")
    return pl.DataFrame(rows, SCHEMA)


def write_relabeled(folder: str | Path, table: pl.DataFrame) -> tuple[Path, Path]:
    """Write `labels.csv`, with lists joined by spaces, and `labels.parquet` to a folder, each whole or not at all.

    Raises CueError where they cannot be written.
    """
    paths = Path(folder) / "labels.csv", Path(folder) / "labels.parquet"
    joined = [
        pl.col("labels").list.eval(pl.element().cast(pl.String)).list.join(" "),
        pl.col("weights").list.eval(pl.element().round(4).cast(pl.String)).list.join(" "),
        pl.col("old_weight").round(4),
        *(pl.col(name).map_elements(plain_cell, pl.String) for name in ("wnid", "name", "old_name")),
        pl.col("file").map_elements(plain_path, pl.String),
    ]
    flat = table.with_columns(joined)
    if table["wnid"].null_count() == table.height:
        flat = flat.drop("wnid")
    write(paths[0], flat.write_csv().encode())
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write(paths[1], buffer.getvalue())
    return paths


def _batches(maps: Maps, images: ImageSet, without: Container[str]) -> Iterator[list[tuple[int, Arrays]]]:
    """Positions in the image set and their maps, in order, those of one size together."""
    batch: list[tuple[int, Arrays]] = []
    for index in range(len(images)):
        name = images.id(index)
        if name in without or name not in maps:
            continue
        found = maps[name]
        if batch and (len(batch) == BATCH or batch[0][1][0].shape != found[0].shape):
            yield batch
            batch = []
        batch.append((index, found))
    if batch:
        yield batch


def _rows(
    maps: Maps, images: ImageSet, batch: Sequence[tuple[int, Arrays]], least: float, most: int
) -> Iterable[dict[str, Any]]:
    scores, ids = (np.stack(part) for part in zip(*(found for _, found in batch), strict=True))
    space = maps.classes
    targets = LabelPooling(len(space))(ids, scores, [WHOLE] * len(batch))
    places, wnids = places_in(images, space), space.keys if space.keys and not space.keys[0].isdecimal() else ()
    for (index, _), target in zip(batch, targets, strict=True):
        labels, label = labels_in(target, least, most), images.label(index)
        first = labels[0][0]
        old = places[label] if label is not None and label < len(places) else -1
        yield {
            "file": images.id(index),
            "index": first,
            "wnid": wnids[first] if wnids else None,
            "name": space.names[first],
            "labels": [label for label, _ in labels],
            "weights": [weight for _, weight in labels],
            "old_index": old if old >= 0 else None,
            "old_name": images.classes.names[label] if images.classes and label is not None else None,
            "old_weight": float(target[old]) if old >= 0 else None,
        }
