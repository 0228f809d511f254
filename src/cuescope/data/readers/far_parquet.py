"""Columns of a Parquet file at an address: its footer says where they lie, and only these bytes are fetched."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import temporary
from cuescope.core.parquet_file import MAGIC, UNREADABLE, Part, check_pages, footer_size, groups
from cuescope.core.remote import together
from cuescope.data.images import OutOfReachError
from cuescope.data.readers.far import BLOCK, FarFile

TAIL = 1 << 18
"""Bytes at the end of a file that are fetched first: mostly they hold the whole footer."""
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
            self.groups = groups(self._footer[:-8])
        except (OutOfReachError, *UNREADABLE) as error:
            what, do = f"'{file}' cannot be read as Parquet: {error}", "check the file"
            raise CueError(what, wanted="a Parquet file with a column of images", do=do) from None
        self.bounds = [0, *itertools.accumulate(group.rows for group in self.groups)]
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
        """A column of little data, whole. Raises OutOfReachError, and ValueError where it is much."""
        path = self._empty(self._folder / "column")
        parts = [part for group in self.groups for part in group.columns.get(name, ())]
        self._fill(path, parts)
        with path.open("rb") as file:
            check_pages(file, parts)
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
        self._fill(path, self.groups[group].columns.get(column, ()))
        return path

    def _empty(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.write(MAGIC)
            file.truncate(self.file.size - len(self._footer))
            file.seek(0, os.SEEK_END)
            file.write(self._footer)
        return path

    def _fill(self, path: Path, places: Iterable[Part]) -> None:
        parts = (
            (at, min(BLOCK, start + size - at))
            for start, size, *_ in places
            for at in range(start, start + size, BLOCK)
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
    size = footer_size(tail, file.size)
    return tail[-size:] if size <= len(tail) else file.read(file.size - size, size)
