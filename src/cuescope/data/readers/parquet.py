"""Parquet tables of images, as Hugging Face's datasets have them: a column of bytes, a column of labels."""

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.core.tables import DAMAGED
from cuescope.data.images import Lock, UnreadableError
from cuescope.data.readers.decode import unreached
from cuescope.data.readers.files import Names
from cuescope.data.readers.spool import Spool
from cuescope.data.readers.stored import StoredSet, labels_of

IMAGES = ("image", "img", "jpg", "png", "bytes", "image_bytes", "content", "picture")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "class_id", "class_name", "category")
BLOCK_BYTES = 1 << 24
"""Of rows that are read together; two blocks are held. Each costs reading its row groups from their beginning."""
AGAIN = 3
"""A block that is read so often is asked for at random, and kept: notes on a set and one look at all of it take two."""


class _Tables:
    """The bytes of images in the rows of tables, a block of rows at a time.

    What is read in a random order, as trainings do, lies in a temporary file from the third time on.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], column: pl.Expr) -> None:
        self.paths, self.column = paths, column
        self.bounds = [0, *itertools.accumulate(counts)]
        sizes = (path.stat().st_size for path in paths)
        self._rows = [max(1, BLOCK_BYTES * count // size) for count, size in zip(counts, sizes, strict=True)]
        self._held: dict[tuple[int, int], list[bytes | None]] = {}
        self._reads: Counter[tuple[int, int]] = Counter()
        self._spool, self._lock = Spool(self.bounds[-1]), Lock()

    def _read(self, file: int, block: int) -> list[bytes | None]:
        first, count = block * self._rows[file], self._rows[file]
        table = pl.scan_parquet(self.paths[file], glob=False).select(self.column).slice(first, count)
        try:
            rows = table.collect().to_series().to_list()
        except OSError as error:
            raise unreached(self.paths[file], error, "its Parquet file") from None
        except DAMAGED as error:
            raise UnreadableError(f"its Parquet file cannot be read: {error}") from None
        self._reads[file, block] += 1
        if self._reads[file, block] >= AGAIN:
            self._spool.keep(self.bounds[file] + first, rows)
        return rows

    def bytes(self, index: int) -> bytes:
        if (kept := self._spool.get(index)) is not None:
            return kept
        file = bisect.bisect_right(self.bounds, index) - 1
        block, at = divmod(index - self.bounds[file], self._rows[file])
        with self._lock:
            if (rows := self._held.get((file, block))) is None:
                rows = self._read(file, block)
                last = list(self._held.items())[-1:]
                self._held = {**dict(last), (file, block): rows}
        if (data := rows[at]) is None:
            raise UnreadableError("its row holds no bytes, at most the path of a file")
        return data


def read_parquet(paths: Sequence[Path], name: str) -> StoredSet:
    """Which images are in these tables, and what are their labels?

    The column of images is the one that the table says to be one, or is called so: bytes, or a struct with them. The
    labels are those of the first column that the table says to be of classes, or that is called label; names are the
    table's. An image is named by its file and row. Raises CueError where there is no column of images.
    """
    schema, features = _about(paths[0])
    column = image_column(paths[0], schema, features)
    label, classes = label_column(schema, features)
    counts, labels = [], list[Any]()
    for path in paths:
        try:
            table = pl.scan_parquet(path, glob=False).select(pl.len() if label is None else pl.col(label)).collect()
        except DAMAGED as error:
            raise _unreadable(path, error) from None
        counts.append(table.item() if label is None else table.height)
        labels += [None] * counts[-1] if label is None else table.to_series().to_list()
    names = Names(f"{path.stem}/{row}" for path, count in zip(paths, counts, strict=True) for row in range(count))
    if not names:
        raise CueError(f"'{paths[0]}' has no row", wanted="a row an image", do="check the path")
    notes = [f"{len(names):,} images in the rows of {len(paths):,} Parquet file{'s' * (len(paths) > 1)}"]
    places, space = labels_in(label, classes, labels, notes)
    return StoredSet(name, names, _Tables(paths, counts, bytes_in(schema, column)), places, space, notes)


def _about(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of a table, and what Hugging Face's metadata say of them."""
    try:
        schema, metadata = dict(pl.read_parquet_schema(path)), pl.read_parquet_metadata(path)
    except DAMAGED as error:
        raise _unreadable(path, error) from None
    try:
        features = parsed(metadata["huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        features = {}
    return schema, features if isinstance(features, dict) else {}


def _unreadable(path: Path, error: BaseException) -> CueError:
    found = f"'{path}' cannot be read as Parquet: {str(error).splitlines()[0]}"
    return CueError(found, wanted="a Parquet file with a column of images", do="check the file")


def image_column(path: Path, schema: dict[str, Any], features: dict[str, Any]) -> str:
    """The column that holds images as bytes. Raises CueError where there is none."""

    def holds_bytes(name: str) -> bool:
        kind = schema[name]
        fields = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
        return kind == pl.Binary or fields.get("bytes") == pl.Binary

    said = [name for name in schema if _type(features, name) == "Image"]
    structs = [name for name in schema if isinstance(schema[name], pl.Struct)]
    for name in (*said, *(name for name in IMAGES if name in schema), *structs):
        if holds_bytes(name):
            return name
    found = f"'{path}' has no column of images; it has: {', '.join(schema)[:100]}"
    raise CueError(found, wanted="a column image of bytes, or of structs with bytes", do="give a table of images")


def label_column(schema: dict[str, Any], features: dict[str, Any]) -> tuple[str | None, Sequence[str]]:
    """The column of labels and the names of its classes, () where the table has none."""
    said = [name for name in schema if _type(features, name) == "ClassLabel"]
    known = [name for name in LABELS if name in schema]
    fit = [name for name in schema if schema[name].is_integer() or schema[name] in (pl.String, pl.Categorical)]
    usable = [name for name in (*known, *said) if name in fit]
    name = next((name for name in usable if name in said), next(iter(usable), None))
    return name, tuple(map(str, features[name].get("names") or ())) if name in said else ()


def bytes_in(schema: dict[str, Any], column: str) -> pl.Expr:
    """The bytes of the images of a column."""
    return pl.col(column).struct.field("bytes") if isinstance(schema[column], pl.Struct) else pl.col(column)


def labels_in(
    column: str | None, classes: Sequence[str], labels: Sequence[Any], notes: list[str]
) -> tuple[np.ndarray, ClassSpace | None]:
    """What the label of each row is, -1 where there is none, and of which classes; `notes` are added to."""
    if column is None:
        return np.full(len(labels), -1, np.int32), None
    notes.append(f"labels from the column {column}" + f", {len(classes)} classes by name" * bool(classes))
    return labels_of(labels, classes)


def _type(features: dict[str, Any], name: str) -> str:
    feature = features.get(name)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""
