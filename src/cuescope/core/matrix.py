"""A table of numbers that need not fit in memory: the rows of it that are read are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

HELD = 1 << 21
"""Numbers up to which a table is held in memory: a larger one lies in a temporary file."""

Array = NDArray[Any]


class Column(NamedTuple):
    """A column of lists of numbers of rows that lie on disk: what gives it part by part, (m, width) each, in order; and
    a folder for what is made of it. A part of nulls is empty.
    """

    parts: Callable[[], Iterator[Array]]
    folder: Path | None = None


class Matrix:
    """Rows of numbers (n, width), in memory or in a file without a name, which goes when this does.

    >>> one = Matrix.of([np.eye(2), np.ones((1, 2))], 3, 2)
    >>> one.part(1, 3).tolist(), one.take([2, 0]).tolist()
    ([[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]])
    """

    def __init__(self, rows: int, width: int, kind: DTypeLike = np.float32, folder: Path | None = None) -> None:
        self.shape, self.kind, self.folder = (rows, width), np.dtype(kind), folder
        self.shift: Array | None = None
        """What is taken from each row when it is read, (width,), before it is multiplied by `scale`."""
        self.scale: Array | None = None
        large = rows * width > HELD
        self._file = tempfile.TemporaryFile(buffering=0, dir=folder) if large else None  # noqa: SIM115 - it is kept
        self._held = None if self._file else np.empty(self.shape, self.kind)

    def __len__(self) -> int:
        return self.shape[0]

    @classmethod
    def of(
        cls, parts: Iterable[Array], rows: int, width: int, kind: DTypeLike = np.float32, folder: Path | None = None
    ) -> Matrix:
        """The rows of these parts, one after another."""
        made, at = cls(rows, width, kind, folder), 0
        for part in parts:
            made._write(at, part)
            at += len(part)
        return made

    @classmethod
    def whole(cls, rows: Array) -> Matrix:
        """The rows of an array."""
        return cls.of([rows], len(rows), rows.shape[1], rows.dtype)

    def part(self, start: int, end: int) -> Array:
        """Rows from `start` to before `end`; of a table in memory that is as it was written, no copy."""
        if self._file is None:
            assert self._held is not None
            return self._scaled(self._held[start:end])
        found = np.empty((min(end, len(self)) - start, self.shape[1]), self.kind)
        self._read(found, start)
        return self._scaled(found)

    def take(self, rows: Any) -> Array:
        """These rows, in this order."""
        rows = np.asarray(rows, np.int64)
        if self._file is None:
            assert self._held is not None
            return self._scaled(self._held[rows])
        found = np.empty((len(rows), self.shape[1]), self.kind)
        for place in np.argsort(rows, kind="stable").tolist():
            self._read(found[place : place + 1], int(rows[place]))
        return self._scaled(found)

    def parts(self, most: int) -> Iterator[tuple[slice, Array]]:
        """All rows, at most so many at once, with where they are."""
        for start in range(0, len(self), most):
            yield slice(start, min(start + most, len(self))), self.part(start, start + most)

    def _write(self, at: int, part: Array) -> None:
        if self._file is None:
            assert self._held is not None
            self._held[at : at + len(part)] = part
        elif part.size:
            self._file.seek(at * self._stride)
            left = np.ascontiguousarray(part, self.kind).data.cast("B")
            while left:
                left = left[self._file.write(left) :]

    @property
    def _stride(self) -> int:
        return self.shape[1] * self.kind.itemsize

    def _read(self, into: Array, row: int) -> None:
        assert self._file is not None
        self._file.seek(row * self._stride)
        left = into.data.cast("B")
        while left and (count := self._file.readinto(left)):
            left = left[count:]
        if left:
            raise EOFError(f"{self.shape} numbers were announced, fewer were written")

    def _scaled(self, rows: Array) -> Array:
        if self.shift is None or self.scale is None:
            return rows
        return (rows - self.shift) * self.scale
