"""Parquet tables of images, as Hugging Face's datasets have them: a column of bytes, a column of labels."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.core.parquet_file import UNREADABLE, Group, check_pages, check_rows, read_groups
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import together
from cuescope.core.tables import DAMAGED
from cuescope.core.wording import counted
from cuescope.data.images import Lock, OutOfReachError, UnreadableError
from cuescope.data.readers.decode import unreached
from cuescope.data.readers.far import FarFile
from cuescope.data.readers.far_parquet import FarParquet
from cuescope.data.readers.files import Names
from cuescope.data.readers.spool import Spool
from cuescope.data.readers.stored import TEXTS, Store, StoredSet, labels_of, mixed_labels, state

IMAGES = ("image", "img", "jpg", "png", "bytes", "image_bytes", "content", "picture")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "class_id", "class_name", "category")
BLOCK_BYTES = 1 << 24
"""Of rows that are read together; two blocks are held. Each costs reading its row groups from their beginning."""
HELD_BYTES = 1 << 26
"""Of a block that holds more, rows are taken out one by one."""
AGAIN = 3
"""A block that is read so often is asked for at random, and kept: notes on a set and one look at all of it take two."""
KEPT = 2
"""Files at addresses of which groups of rows are kept."""


Table = Path | FarParquet
Rows = list[bytes | None] | pl.Series


class _Tables(Store):
    """The bytes of images in the rows of tables, a block of rows at a time.

    What is read in a random order from files on this machine, as trainings do, lies in a temporary file from the third
    time on. Of files at addresses groups of rows lie in such files anyway.
    """

    def __init__(self, tables: Sequence[Table], counts: Sequence[int], column: str, schema: dict[str, Any]) -> None:
        self.tables, self.column, self.expression = tables, column, bytes_in(schema, column)
        self.bounds = [0, *itertools.accumulate(counts)]
        self._known: dict[int, tuple[int, list[Group]]] = {}
        self._checked: set[tuple[int, int]] = set()
        self._held: dict[tuple[int, int], Rows] = {}
        self._reads: Counter[tuple[int, int]] = Counter()
        self._spool, self._lock = Spool(self.bounds[-1]), Lock()
        self._used: list[FarParquet] = []

    def bytes(self, index: int) -> bytes:
        if (kept := self._spool.get(index)) is not None:
            return kept
        file, row = self._place(index)
        table, first, end = self.tables[file], 0, self.bounds[file + 1] - self.bounds[file]
        if isinstance(table, FarParquet):
            first, end = table.bounds[(group := _group(table, row)) : group + 2]
        with self._lock:
            count, _ = self._about(file)
            start = row - (row - first) % count
            if (rows := self._held.get((file, start))) is None:
                rows = self._read(file, row, start, min(count, end - start))
                last = list(self._held.items())[-1:]
                self._held = {**dict(last), (file, start): rows}
        if (data := rows[row - start]) is None:
            raise UnreadableError("its row holds no bytes, at most the path of a file")
        return data

    def _place(self, index: int) -> tuple[int, int]:
        file = bisect.bisect_right(self.bounds, index) - 1
        return file, index - self.bounds[file]

    def _about(self, file: int) -> tuple[int, list[Group]]:
        """How many rows of a file are read together, and its groups of rows."""
        if file not in self._known:
            table = self.tables[file]
            try:
                found = table.groups if isinstance(table, FarParquet) else read_groups(table)
                groups = [Group(rows, {self.column: columns[self.column]}) for rows, columns in found if rows]
                sizes = [sum(part.unpacked for part in group.columns[self.column]) for group in groups]
            except OSError as error:
                raise unreached(Path(str(table)), error, "its Parquet file") from None
            except UNREADABLE as error:
                raise UnreadableError(f"its Parquet file cannot be read: {error}") from None
            rows = (BLOCK_BYTES * group.rows // max(1, size) for group, size in zip(groups, sizes, strict=True))
            self._known[file] = max(1, min(rows, default=1)), groups
        return self._known[file]

    def _check(self, file: int, path: Path, start: int, end: int) -> None:
        """Raise ValueError where rows of a file unpack to much more than they are."""
        first = 0
        with path.open("rb") as opened:
            for number, (rows, columns) in enumerate(self._about(file)[1]):
                if first < end and start < first + rows and (file, number) not in self._checked:
                    check_pages(opened, columns[self.column])
                    self._checked.add((file, number))
                first += rows

    def _read(self, file: int, row: int, start: int, count: int) -> Rows:
        if isinstance(table := self.tables[file], FarParquet):
            self._use(table)
            path = table.group(_group(table, row), self.column)
        else:
            path = table
        try:
            self._check(file, path, start, start + count)
            found = pl.scan_parquet(path, glob=False).select(self.expression).slice(start, count).collect().to_series()
        except OSError as error:
            raise unreached(path, error, "its Parquet file") from None
        except DAMAGED as error:
            raise UnreadableError(f"its Parquet file cannot be read: {error}") from None
        # Equal rows are stored once, and each is a copy only when it is asked for: a million may be one.
        if (found.bin.size().sum() or 0) > HELD_BYTES:
            return found
        rows = found.to_list()
        self._reads[file, start] += isinstance(table, Path)
        if self._reads[file, start] >= AGAIN:
            self._spool.keep(self.bounds[file] + start, rows)
        return rows

    def _use(self, table: FarParquet) -> None:
        """Of two files that were used last, and no other, groups of rows stay here."""
        if table not in self._used:
            self._used.append(table)
        if len(self._used) > KEPT:
            self._used.pop(0).let_go()

    def states(self) -> Iterable[object]:
        return (state(table.file if isinstance(table, FarParquet) else table) for table in self.tables)

    def ahead(self, indices: Sequence[int]) -> None:
        wanted: dict[int, dict[int, None]] = {}
        for file, row in map(self._place, indices):
            if isinstance(table := self.tables[file], FarParquet):
                wanted.setdefault(file, {})[_group(table, row)] = None
        far = {file: table for file, table in enumerate(self.tables) if isinstance(table, FarParquet)}
        if far:
            with self._lock:
                for file in wanted or far:
                    far[file].ahead(wanted.get(file, ()), self.column)


def _group(table: FarParquet, row: int) -> int:
    return bisect.bisect_right(table.bounds, row) - 1


def read_parquet(paths: Sequence[Path] | Sequence[FarFile], name: str, progress: Progress = quiet) -> StoredSet:
    """Which images are in these tables, and what are their labels?

    The column of images is the one that the table says to be one, or is called so: bytes, or a struct with them. The
    labels are those of the first column that the table says to be of classes, or that is called label; names are the
    table's. An image is named by its file and row. Of files at addresses a group of rows is fetched at a time. Raises
    CueError where there is no column of images.
    """
    tables: list[Table] = []
    counts, labels = list[int](), list[pl.Series]()
    schema, features = about(paths[0])
    column = image_column(paths[0], schema, features)
    label, classes = label_column(schema, features)
    opened = together(_opened, paths) if isinstance(paths[0], FarFile) else map(_opened, paths)
    for number, (path, table) in enumerate(zip(paths, opened, strict=True)):
        progress(0, 0, f"reading what lies in the tables, {number + 1:,} of {len(paths):,}")
        tables.append(table)
        found = _column(path, table, label)
        counts.append(found if isinstance(found, int) else len(found))
        labels += [] if isinstance(found, int) else [found]
    names = Names(f"{path.stem}/{row}" for path, count in zip(paths, counts, strict=True) for row in range(count))
    if not names:
        raise CueError(f"'{paths[0]}' has no row", wanted="a row an image", do="check the path")
    notes = [f"in the rows of {counted(len(paths), 'Parquet file')}"]
    places, space = labels_in(label, classes, labels, len(names), notes)
    return StoredSet(name, names, _Tables(tables, counts, column, schema), places, space, notes)


def _opened(path: Path | FarFile) -> Table:
    return FarParquet(path) if isinstance(path, FarFile) else path


def _column(path: Path | FarFile, table: Table, label: str | None) -> pl.Series | int:
    """The labels of a table, or the number of its rows where it has none."""
    try:
        if isinstance(table, FarParquet):
            check_rows(table.bounds[-1], table.file.size)
            return table.bounds[-1] if label is None else table.column(label)
        whole = pl.scan_parquet(table, glob=False)
        rows = whole.select(pl.len()).collect().item()
        check_rows(rows, table.stat().st_size)
        if label is None:
            return rows
        with table.open("rb") as file:
            for group in read_groups(table):
                check_pages(file, group.columns.get(label, ()))
        return whole.select(pl.col(label)).collect().to_series()
    except (OutOfReachError, *UNREADABLE, *DAMAGED) as error:
        raise unreadable_table(path, error) from None


def about(source: Path | FarFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of a table, and what Hugging Face's metadata say of them. Raises CueError."""
    table = _opened(source)
    path = table.about if isinstance(table, FarParquet) else table
    try:
        schema, metadata = dict(pl.read_parquet_schema(path)), pl.read_parquet_metadata(path)
    except DAMAGED as error:
        raise unreadable_table(source, error) from None
    try:
        features = parsed(metadata["huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        features = {}
    return schema, features if isinstance(features, dict) else {}


def unreadable_table(path: Path | FarFile, error: BaseException) -> CueError:
    found = f"'{path}' cannot be read as Parquet: {str(error).splitlines()[0]}"
    return CueError(found, wanted="a Parquet file with a column of images", do="check the file")


def image_column(path: Path | FarFile, schema: dict[str, Any], features: dict[str, Any]) -> str:
    """The column that holds images as bytes. Raises CueError where there is none."""
    said = [name for name in schema if _type(features, name) == "Image"]
    structs = [name for name in schema if isinstance(schema[name], pl.Struct)]
    for name in (*said, *(name for name in IMAGES if name in schema), *structs):
        if holds_bytes(schema, name):
            return name
    found = f"'{path}' has no column of images; it has: {', '.join(schema)[:100]}"
    raise CueError(found, wanted="a column image of bytes, or of structs with bytes", do="give a table of images")


def holds_bytes(schema: dict[str, Any], name: str) -> bool:
    """Whether a column is of bytes, or of structs with them."""
    kind = schema[name]
    fields = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
    return kind == pl.Binary or fields.get("bytes") == pl.Binary


def label_column(schema: dict[str, Any], features: dict[str, Any]) -> tuple[str | None, Sequence[str]]:
    """The column of labels and the names of its classes, () where the table has none."""
    said = [name for name in schema if _type(features, name) == "ClassLabel"]
    known = [name for name in LABELS if name in schema]
    fit = [name for name in schema if schema[name].is_integer() or schema[name] in TEXTS]
    usable = [name for name in (*known, *said) if name in fit]
    name = next((name for name in usable if name in said), next(iter(usable), None))
    return name, tuple(map(str, features[name].get("names") or ())) if name in said else ()


def bytes_in(schema: dict[str, Any], column: str) -> pl.Expr:
    """The bytes of the images of a column."""
    return pl.col(column).struct.field("bytes") if isinstance(schema[column], pl.Struct) else pl.col(column)


def labels_in(
    column: str | None, classes: Sequence[str], labels: Sequence[pl.Series], count: int, notes: list[str]
) -> tuple[np.ndarray, ClassSpace | None]:
    """What the label of each of so many rows is, -1 where there is none, and of which classes; `notes` are added to."""
    if column is None:
        return np.full(count, -1, np.int32), None
    notes.append(f"labels from the column {column}" + f", {len(classes)} classes by name" * bool(classes))
    kinds = {part.dtype for part in labels} - {pl.Null()}
    numbers = all(kind.is_integer() for kind in kinds)
    if not numbers and any(kind not in TEXTS for kind in kinds):
        raise mixed_labels()
    return labels_of(pl.concat([part.cast(pl.Int128 if numbers else pl.String) for part in labels]), classes)


def _type(features: dict[str, Any], name: str) -> str:
    feature = features.get(name)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""
