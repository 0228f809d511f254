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
    for group in _struct(footer)[0][4]:
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


def check_rows(rows: int, size: int, most: int = 1) -> None:
    """Raise ValueError where a table of so many bytes has more rows, or more than `most` a byte."""
    if rows > most * size:
        raise ValueError(f"{rows:,} rows of images in {size:,} bytes")


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
        try:
            page, end = _struct(file.read(min(size, left)))
            # Of values there are two kinds of pages, besides those of dictionaries.
            inside = (page[5][1], page[5][2]) if 5 in page else (page[8][1], page[8][4]) if 8 in page else ()
            found = _Page(end, page[3], page[2], *inside)
            if min(found) < 0:
                raise ValueError("it has less than nothing")
            return found
        except IndexError:  # The head is longer.
            continue
        except UNREADABLE as error:
            raise ValueError(f"the head of a page is damaged: {error}") from None
    raise ValueError("the head of a page is cut off")


def _struct(data: bytes, at: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol, in which footers are written, by number of field; and where it ends.

    Numbers are read here and not by another function: a footer has a thousand, and there may be one an image.
    """
    found, field = dict[int, Any](), 0
    while head := data[at]:
        at, kind = at + 1, head & 15
        if head >> 4:
            field += head >> 4
        else:
            number, at = _number(data, at)
            field = (number >> 1) ^ -(number & 1)
        if 4 <= kind <= 6 and (number := data[at]) < 128:
            at += 1
            found[field] = (number >> 1) ^ -(number & 1)
        else:
            found[field], at = _value(data, at, kind)
    return found, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        number, at = _number(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind in (7, 8):
        size, at = (8, at) if kind == 7 else _number(data, at)
        if at + size > len(data):
            raise IndexError("it is cut off")
        return data[at : at + size], at + size
    if kind in (9, 10):
        head, at = data[at], at + 1
        count, at = (head >> 4, at) if head >> 4 < 15 else _number(data, at)
        found = list[Any]()
        for _ in range(count):
            # Of a list each truth has a byte, in a struct it is a kind of field.
            value, at = _value(data, at, 3 if head & 15 in (1, 2) else head & 15)
            found.append(value)
        return found, at
    if kind == 12:
        return _struct(data, at)
    raise ValueError(f"a field of kind {kind}")


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number that is too long")
