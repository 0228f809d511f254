"""Where the columns of a Parquet file lie, and how much they unpack to: by its footer and the heads of its pages."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl

MAGIC = b"PAR1"
MOST_FOOTER = 1 << 28
MOST_UNPACKED, RATIO = 1 << 26, 8
"""A column of a group of rows that unpacks to more bytes, and to so many times its own, is refused: images are packed
already, and labels are few."""
MOST_TABLE, OF_TABLE, VALUE = 1 << 27, 16, 16
"""The same of a table that is read whole: its bytes in all, and its values, each of about so many."""
HEAD = 1 << 12
"""Bytes in which most heads of pages lie."""
DELTAS = 7
"""An encoding by which a value may begin as the one before: few bytes are many. Nobody writes images so."""

UNREADABLE = ValueError, IndexError, struct.error, KeyError, TypeError, AttributeError, RecursionError
"""What reading a damaged footer raises."""


class Part(NamedTuple):
    """The pages of a column in a group of rows."""

    start: int
    size: int
    unpacked: int
    values: int


class Group(NamedTuple):
    """How many rows, and the parts of each column: of a struct there is one for each field."""

    rows: int
    columns: dict[str, list[Part]]


def groups(footer: bytes) -> list[Group]:
    """The groups of rows that a footer tells of. Raises one of UNREADABLE."""
    found = []
    for group in Compact(footer).struct()[4]:
        columns: dict[str, list[Part]] = {}
        for chunk in group[1]:
            about = chunk[3]
            start = min(place for place in (about.get(9), about.get(11)) if place)
            columns.setdefault(about[3][0].decode(), []).append(Part(start, about[7], about[6], about[5]))
        found.append(Group(group[3], columns))
    return found


def read_groups(path: Path) -> list[Group]:
    """The groups of rows of a file. Raises OSError, or one of UNREADABLE."""
    with path.open("rb") as file:
        return _groups(file)


def _groups(file: BinaryIO) -> list[Group]:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 8))
    size = footer_size(file.read(8), end)
    file.seek(end - size)
    return groups(file.read(size - 8))


def read_table(data: bytes, columns: list[str] | None = None, **how: Any) -> pl.DataFrame:
    """A small table that somebody else may have written: these columns, or all.

    Raises one of cuescope.core.tables.DAMAGED, also where few bytes unpack to very many.
    """
    file, most = io.BytesIO(data), max(MOST_TABLE, OF_TABLE * len(data))
    try:
        found = _groups(file)
        parts = [part for group in found for of_column in group.columns.values() for part in of_column]
        check_pages(file, parts, most)
        size = sum(part.unpacked for part in parts)
        size = max(size, VALUE * sum(part.values for part in parts))
    except UNREADABLE as error:
        raise ValueError(f"its footer is damaged: {error}" if not isinstance(error, ValueError) else error) from None
    if size > most:
        raise ValueError(f"a decompression bomb: {len(data):,} bytes unpack to {size:,}")
    return pl.read_parquet(io.BytesIO(data), columns=columns, **how)


def footer_size(tail: bytes, size: int) -> int:
    """How many bytes the footer of a file has, told by its last ones. Raises ValueError."""
    if size < 12 or tail[-4:] != MAGIC:
        raise ValueError("it does not end as one")
    found = struct.unpack("<I", tail[-8:-4])[0] + 8
    if found > min(size - 4, MOST_FOOTER):
        raise ValueError("its footer is larger than it is")
    return found


def check_pages(file: BinaryIO, parts: Iterable[Part], most: int = 0) -> None:
    """Raise ValueError where parts unpack to much more than they are. None of their pages is unpacked."""
    for start, size, unpacked, values in parts:
        at, total, left = start, 0, values
        while at < start + size:
            page = _page(file, at, start + size - at)
            at, total, left = at + page.head + page.size, total + page.unpacked, left - page.values
            if left < 0:
                raise ValueError("its pages hold more than its footer says")
            if page.encoding == DELTAS:
                raise ValueError("its values are differences of those before, which are not read")
        if max(unpacked, total) > max(most or MOST_UNPACKED, RATIO * size):
            raise ValueError(f"a decompression bomb: {size:,} bytes unpack to {max(unpacked, total):,}")


class _Page(NamedTuple):
    head: int
    size: int
    unpacked: int
    values: int = 0
    encoding: int = 0


def _page(file: BinaryIO, at: int, left: int) -> _Page:
    """What the head of the page that begins there says. Raises ValueError."""
    for size in (HEAD, left):
        file.seek(at)
        reader = Compact(file.read(min(size, left)))
        try:
            page = reader.struct()
            # Of values there are two kinds of pages, besides those of dictionaries.
            inside = (page[5][1], page[5][2]) if 5 in page else (page[8][1], page[8][4]) if 8 in page else ()
            found = _Page(reader.at, page[3], page[2], *inside)
            if min(found) < 0:
                raise ValueError("it has less than nothing")
            return found
        except IndexError:  # The head is longer.
            continue
        except UNREADABLE as error:
            raise ValueError(f"the head of a page is damaged: {error}") from None
    raise ValueError("the head of a page is cut off")


class Compact:
    """A reader of Thrift's compact protocol, in which footers are written: structs by number of field."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

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
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._data):
            raise IndexError("it is cut off")
        return self._data[self.at - size : self.at]

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
