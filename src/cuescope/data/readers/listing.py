"""Listings: Parquet tables that say where images lie, a row an image, for sets that are too large to be listed anew."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import posixpath
import threading
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import temporary
from cuescope.core.parquet_file import UNREADABLE, check_pages, check_rows, read_groups
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import Remote, address, together
from cuescope.core.tables import DAMAGED
from cuescope.core.wording import counted
from cuescope.data.images import OutOfReachError, UnreadableError
from cuescope.data.readers.decode import load, read_part, unreached
from cuescope.data.readers.far import BLOCK, FarFile, Fetcher, out_of_reach
from cuescope.data.readers.parquet import about, holds_bytes, label_column, labels_in, read_parquet, unreadable_table
from cuescope.data.readers.stored import Store, StoredSet, state

PATHS = ("path", "file", "file_name", "filename", "url", "image", "key")
ROWS = 1 << 16
"""Rows of which the places are read together; two such blocks are kept."""
MOST_UNPACKED = 1 << 28
"""Paths that differ in their ends take a tenth of their bytes: the most of a group of rows that may take less."""
ROWS_A_BYTE = 8
"""Paths that are numbered take a third of a byte each."""
GUESSED = 1 << 18
"""Bytes of an image whose size is not listed."""

Place = tuple[str, int | None, int | None]


def read_tables(paths: Sequence[Path] | Sequence[FarFile], name: str, progress: Progress = quiet) -> StoredSet:
    """Which images are in these tables, or where do they lie by them?

    A table with a column of paths (`PATHS`) and none of bytes is a listing. A path is relative to the table's folder,
    absolute, or an address; with the columns `start` and `size` it is that of a file, such as a tar, in which an image
    has this range of bytes. Labels are told as in tables of images. The digest is over the tables alone: an image that
    changed behind its path is not seen. Raises CueError where a table cannot be read.
    """
    schema, features = about(paths[0])
    column = next((one for one in PATHS if schema.get(one) == pl.String), None)
    if column is None or any(holds_bytes(schema, one) for one in schema):
        return read_parquet(paths, name, progress)
    copies, counts, labels = _Copies(paths), list[int](), list[pl.Series]()
    label, classes = label_column({key: kind for key, kind in schema.items() if key != column}, features)
    columns = [one for one in (column, "start", "size") if one in schema]
    for number, path in enumerate(paths):
        progress(0, 0, f"reading listings, {number + 1:,} of {len(paths):,}")
        place = copies.place(number)
        try:
            counts.append(_checked(place, [*columns, *([label] if label else [])]))
            table = pl.scan_parquet(place, glob=False)
            if label is not None:
                labels.append(table.select(pl.col(label)).collect().to_series())
        except (*UNREADABLE, *DAMAGED) as error:
            raise unreadable_table(path, error) from None
    rows = _Rows(copies, counts, columns)
    if not rows:
        raise CueError(f"'{paths[0]}' has no row", wanted="a row an image", do="check the path")
    notes = [f"by the paths of {counted(len(paths), 'listing')}"]
    found, space = labels_in(label, classes, labels, len(rows), notes)
    return _ListedSet(name, rows, _Listed(paths, rows), found, space, notes)


def _checked(path: Path, columns: Sequence[str]) -> int:
    """How many rows a listing has. Raises ValueError where it unpacks to much more than it is, or OSError."""
    groups = read_groups(path)
    with path.open("rb") as file:
        for group in groups:
            check_pages(file, [part for column in columns for part in group.columns.get(column, ())], MOST_UNPACKED)
    rows = sum(group.rows for group in groups)
    check_rows(rows, path.stat().st_size, ROWS_A_BYTE)
    return rows


class _Copies:
    """Listings as files of this machine: those at addresses are copied, in another process anew."""

    def __init__(self, files: Sequence[Path] | Sequence[FarFile]) -> None:
        self._files = files
        self._known: dict[int, Path] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _Copies, (self._files,)

    def place(self, number: int) -> Path:
        """Where this one lies. Raises CueError where it cannot be copied."""
        file = self._files[number]
        if not isinstance(file, FarFile):
            return file
        if number not in self._known:
            self._known[number] = _copied(file, temporary(self)[0] / file.name)
        return self._known[number]


def _copied(file: FarFile, path: Path) -> Path:
    with path.open("wb") as out:
        starts = range(0, file.size, BLOCK)
        try:
            for data in together(lambda at: file.remote.read(file.entry.name, at, min(BLOCK, file.size - at)), starts):
                out.write(data)
        except OSError as error:
            raise file.remote.at(file.entry.name).error(error) from None
    return path


class _Rows(Sequence[str]):
    """The paths of a listing, of which few are in memory."""

    def __init__(self, copies: _Copies, counts: Sequence[int], columns: Sequence[str]) -> None:
        self._copies, self._counts, self._columns = copies, counts, columns
        self._bounds = [0, *itertools.accumulate(counts)]
        self._lock = threading.Lock()
        self._block = lru_cache(2)(self._read)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads its own blocks."""
        return _Rows, (self._copies, self._counts, self._columns)

    def __len__(self) -> int:
        return self._bounds[-1]

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        """The name of an image: its path, and where in the file it begins."""
        path, start, _ = self.place(index)
        return path if start is None else f"{path}:{start}"

    def place(self, index: int) -> Place:
        """The path of an image, and its range of bytes where the file holds others too."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        table = bisect.bisect_right(self._bounds, index) - 1
        number, row = divmod(index - self._bounds[table], ROWS)
        with self._lock:
            found = self._block(table, number).row(row, named=True)
        return found[self._columns[0]] or "", found.get("start"), found.get("size")

    def _read(self, table: int, number: int) -> pl.DataFrame:
        rows = pl.scan_parquet(self._copies.place(table), glob=False).select(self._columns).slice(number * ROWS, ROWS)
        return rows.collect()


class _Listed(Store):
    """The images at the paths of a listing."""

    def __init__(self, tables: Sequence[Path] | Sequence[FarFile], rows: _Rows) -> None:
        self._tables, self._rows = tables, rows
        self._fetcher = Fetcher(self._load, self._size)

    def bytes(self, index: int) -> bytes:
        return self._fetcher.get(index)

    def states(self) -> Iterable[object]:
        return map(state, self._tables)

    def ahead(self, indices: Sequence[int]) -> None:
        self._fetcher.ahead(indices)

    def _size(self, index: int) -> int:
        return self._rows.place(index)[2] or GUESSED

    def _load(self, index: int) -> bytes:
        text, start, size = self._rows.place(index)
        if (start is None) != (size is None) or min(start or 0, size or 0) < 0 or not text:
            raise UnreadableError("its row has no path, or half of a range of bytes")
        if url := address(text) or self._beside(text):
            try:
                return Remote(url).read("", start or 0, size)
            except OSError as error:
                raise out_of_reach(error) from None
        path = Path(str(self._tables[0])).parent / text
        if not path.parent.is_dir():  # one folder of many
            raise OutOfReachError("its folder is not there")
        if start is None or size is None:
            return load(path)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return read_part(file, size)
        except OSError as error:
            raise unreached(path, error) from None

    def _beside(self, text: str) -> str:
        """The address of a path that is relative to a listing at an address; "" where the listing lies here."""
        first = self._tables[0]
        if not isinstance(first, FarFile):
            return ""
        protocol, _, folder = str(first).rpartition("/")[0].partition("://")
        return f"{protocol}://{posixpath.normpath(f'{folder}/{text}')}"


class _ListedSet(StoredSet):
    @cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Over the listings' names, sizes and times of change (or tags), which tell of all paths and labels."""
        total = hashlib.blake2b(repr(("listing", self.classes)).encode(), digest_size=16)
        for known in self.store.states():
            total.update(repr(known).encode())
        return total.hexdigest()
