"""Columns of a Parquet file at an address: its footer says where they lie, and only these bytes are fetched."""

from __future__ import annotations

import itertools
import os
import secrets
import struct
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import temporary
from cuescope.core.remote import together
from cuescope.data.images import OutOfReachError
from cuescope.data.readers.far import BLOCK, FarFile

TAIL = 1 << 18
"""Bytes at the end of a file that are fetched first: mostly they hold the whole footer."""
MAGIC = b"PAR1"
MOST_FOOTER = 1 << 28
GROUPS, FETCHERS = 3, 16
"""Groups of rows of images that are kept, and requests at a time."""


class FarParquet:
    """A Parquet file at an address, as files on this machine of the same size, empty but for the columns asked for.

    Empty bytes take no room on the disk. Not safe in threads. Raises CueError where it is no Parquet
    file that can be read.
    """

    def __init__(self, file: FarFile, footer: bytes | None = None) -> None:
        self.file = file
        self._folder = temporary(self)[0]
        try:
            self._footer = footer or _footer(file)
            self.chunks = _chunks(self._footer[:-8])
        except (OutOfReachError, ValueError, IndexError, struct.error, KeyError, TypeError) as error:
            what, do = f"'{file}' cannot be read as Parquet: {error}", "check the file"
            raise CueError(what, wanted="a Parquet file with a column of images", do=do) from None
        self.bounds = [0, *itertools.accumulate(rows for rows, _ in self.chunks)]
        self._coming: dict[int, Future[Path]] = {}
        self._used: set[int] = set()

    def __reduce__(self) -> tuple[type[FarParquet], tuple[FarFile, bytes]]:
        """Another process has files of its own."""
        return FarParquet, (self.file, self._footer)

    @property
    def about(self) -> Path:
        """A file with the footer alone."""
        path = self._folder / "footer"
        return path if path.exists() else self._empty(path)

    def column(self, name: str) -> pl.Series:
        """A column of little data, whole. Raises OutOfReachError."""
        path = self._empty(self._folder / "column")
        self._fill(path, [place for _, columns in self.chunks for place in columns.get(name, ())])
        found = pl.scan_parquet(path, glob=False).select(pl.col(name)).collect().to_series()
        path.unlink()
        return found

    def ahead(self, groups: Iterable[int], column: str) -> None:
        """Have the images of these groups of rows fetched, as far as there is room; none: let go what nobody used."""
        groups = list(groups)
        if not groups:
            self._let_go(set(self._coming) - self._used)
        for group in groups:
            if group not in self._coming and len(self._coming) < GROUPS:
                self._submit(group, column)

    def group(self, group: int, column: str) -> Path:
        """A file with this column of a group of rows, which is there until another is asked for.

        Raises OutOfReachError.
        """
        self._let_go(self._used - {group})
        if group not in self._coming:
            self._submit(group, column)
        self._used.add(group)
        try:
            return self._coming[group].result()
        except OutOfReachError:
            self._let_go({group})
            raise

    def let_go(self) -> None:
        """Keep nothing of its groups of rows here."""
        self._let_go(set(self._coming))

    def _submit(self, group: int, column: str) -> None:
        self._coming[group] = _pool().submit(self._fetched, group, column)

    def _let_go(self, groups: set[int]) -> None:
        for group in groups:
            gone = self._coming.pop(group)
            gone.cancel()
            gone.add_done_callback(_unlinked)
        self._used -= groups

    def _fetched(self, group: int, column: str) -> Path:
        path = self._empty(self._folder / f"group-{group}-{secrets.token_hex(4)}")
        self._fill(path, self.chunks[group][1].get(column, ()))
        return path

    def _empty(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.write(MAGIC)
            file.truncate(self.file.size - len(self._footer))
            file.seek(0, os.SEEK_END)
            file.write(self._footer)
        return path

    def _fill(self, path: Path, places: Iterable[tuple[int, int]]) -> None:
        parts = (
            (at, min(BLOCK, start + size - at)) for start, size in places for at in range(start, start + size, BLOCK)
        )
        with path.open("r+b") as out:
            for at, data in together(lambda part: (part[0], self.file.read(*part)), parts, FETCHERS):
                out.seek(at)
                out.write(data)


@cache
def _pool() -> ThreadPoolExecutor:
    """One for all files: there may be thousands."""
    return ThreadPoolExecutor(GROUPS, thread_name_prefix="groups")


def _unlinked(gone: Future[Path]) -> None:
    if not gone.cancelled() and gone.exception() is None:
        gone.result().unlink(missing_ok=True)


def _footer(file: FarFile) -> bytes:
    """What stands at the end of the file, from the metadata to the last byte. Raises ValueError."""
    tail = file.read(max(0, file.size - TAIL), min(TAIL, file.size))
    if len(tail) < 12 or tail[-4:] != MAGIC:
        raise ValueError("it does not end as one")
    size = struct.unpack("<I", tail[-8:-4])[0] + 8
    if size > min(file.size - 4, MOST_FOOTER):
        raise ValueError("its footer is larger than it is")
    return tail[-size:] if size <= len(tail) else file.read(file.size - size, size)


def _chunks(footer: bytes) -> list[tuple[int, dict[str, list[tuple[int, int]]]]]:
    """Of each group of rows how many there are, and of each column (start, size) of its parts."""
    found = []
    for group in _Compact(footer).struct()[4]:
        columns: dict[str, list[tuple[int, int]]] = {}
        for chunk in group[1]:
            about = chunk[3]
            start = min(place for place in (about.get(9), about.get(11)) if place)
            columns.setdefault(about[3][0].decode(), []).append((start, about[7]))
        found.append((group[3], columns))
    return found


class _Compact:
    """A reader of Thrift's compact protocol, in which footers are written: structs by number of field."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> dict[int, Any]:
        found, field = dict[int, Any](), 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._signed()
            found[field] = self._value(head & 15)
        return found

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._number())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._number()
            return [self._byte() == 1 if head & 15 in (1, 2) else self._value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"a field of kind {kind}")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _signed(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)
