"""The rows of one cell on disk: a Parquet file for each chunk, and what was seen of chunks that are not finished."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.core.errors import CueError
from cuescope.core.files import is_there, read_bytes, write
from cuescope.core.parquet_file import read_table
from cuescope.core.tables import DAMAGED
from cuescope.runs.seals import check_rows, sealed_rows

MOST_BYTES = 2**40


class Chunks:
    """The chunks of one cell. A chunk that is there is never done again; one that was begun goes on where it was."""

    def __init__(self, folder: Path, *, sealed: bool = True) -> None:
        """`sealed`: chunks have checksums. Those of a run of schema 2 have none, and can be read only."""
        self._name, self._sealed = folder.name, sealed
        self._rows, self._parts, self._outcomes = folder / "rows", folder / "begun", folder / "outcomes.parquet"

    def has(self, chunk: int) -> bool:
        return self._path(chunk).is_file()

    def done(self) -> set[int]:
        """The chunks that are there."""
        return {int(path.stem) for path in self._finished()}

    def write(self, chunk: int, rows: pl.DataFrame) -> None:
        """The rows of a finished chunk; what was kept of it is removed."""
        path = self._path(chunk)
        write(path, sealed_rows(rows, self._of(path)))
        for path in self._kept(chunk):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """All chunks are there: remove the folder of begun ones. Not before, while another process may write to it.

        A process that ended between writing a chunk and removing what was kept of it has left that.
        """
        with suppress(OSError):
            for path in self._kept():
                path.unlink()
            self._parts.rmdir()

    def keep(self, chunk: int, images: int, rows: pl.DataFrame) -> None:
        """The rows of the first so many images of a chunk, in place of what was kept of fewer."""
        before, path = self._kept(chunk), self._parts / f"{chunk:06d}-{images:06d}.parquet"
        write(path, sealed_rows(rows, self._of(path)))
        for other in before:
            if other != path:
                other.unlink(missing_ok=True)

    def begun(self, only: int | None = None) -> dict[int, tuple[int, pl.DataFrame]]:
        """Of each chunk that is not finished, or of one: how many of its images were seen, and their rows."""
        found = {}
        for path in self._kept(only):
            chunk, images = map(int, path.stem.split("-"))
            # What cannot be read is seen again.
            with suppress(*DAMAGED):
                if not self.has(chunk):
                    data = read_bytes(path, MOST_BYTES)
                    check_rows(data, self._of(path))
                    found[chunk] = images, read_table(data)
        return found

    def read(self, columns: list[str] | None = None) -> Iterator[tuple[str, pl.DataFrame]]:
        """The checksum ("" where there is none) and the rows of each finished chunk, in order: these columns, or all.

        Raises CueError for a file that is damaged, or that of another chunk.
        """
        for path in self._finished():
            try:
                data = read_bytes(path, MOST_BYTES)
                known = check_rows(data, self._of(path)) if self._sealed else ""
                yield known, read_table(data, columns)
            except DAMAGED as error:
                wanted, do = "the rows of a chunk", "audit again: its images are seen again"
                raise CueError(f"cannot read '{path}': {error}", wanted=wanted, do=do) from None

    def column(self, name: str) -> Iterator[NDArray[Any]]:
        """A column of lists of numbers, chunk by chunk: (m, width), nothing of a chunk in which it is null."""
        for _, rows in self.read([name]):
            lists = rows[name].drop_nulls()
            yield lists.explode().to_numpy().reshape(len(lists), -1) if len(lists) else np.empty((0, 0), np.float32)

    def write_outcomes(self, outcomes: pl.DataFrame) -> None:
        """What was concluded of each image."""
        write(self._outcomes, sealed_rows(outcomes, self._of(self._outcomes)))

    def outcomes(self) -> tuple[list[str], pl.DataFrame]:
        """What was concluded of each image, after its checksum in a list, which is empty where that is nothing.

        Raises CueError for a damaged file.
        """
        if not is_there(self._outcomes):
            return [], pl.DataFrame()
        try:
            data = read_bytes(self._outcomes, MOST_BYTES)
            known = check_rows(data, self._of(self._outcomes)) if self._sealed else ""
            return [known], read_table(data)
        except DAMAGED as error:
            found, do = f"cannot read '{self._outcomes}': {error}", "audit again: it is concluded again"
            raise CueError(found, wanted="what was concluded of each image", do=do) from None

    def remove(self, chunk: int) -> None:
        """Have a chunk done again from its first image."""
        for path in (self._path(chunk), *self._kept(chunk)):
            path.unlink(missing_ok=True)

    def mend(self) -> list[str]:
        """Remove what is damaged or of other chunks or cells; the checksums of the rest, in order, outcomes last."""
        sums = []
        for path in (*self._finished(), *([self._outcomes] if self._outcomes.is_file() else [])):
            try:
                sums.append(check_rows(read_bytes(path, MOST_BYTES), self._of(path)))
            except (OSError, ValueError):
                path.unlink(missing_ok=True)
        return sums

    def _of(self, path: Path) -> str:
        """What a file is called in its own seal: other cells have files of the same name."""
        return f"{self._name}/{path.stem}"

    def _finished(self) -> list[Path]:
        files = self._rows.iterdir() if self._rows.is_dir() and not self._rows.is_symlink() else ()
        return sorted(path for path in files if re.fullmatch(r"\d{6,}\.parquet", path.name))

    def _path(self, chunk: int) -> Path:
        return self._rows / f"{chunk:06d}.parquet"

    def _kept(self, chunk: int | None = None) -> list[Path]:
        """Files of this chunk or of all that were begun, by chunk and number of images."""
        files = self._parts.iterdir() if self._parts.is_dir() and not self._parts.is_symlink() else ()
        named = [path for path in files if re.fullmatch(r"\d{6,}-\d{6,}\.parquet", path.name)]
        return sorted(path for path in named if chunk in (None, int(path.stem.partition("-")[0])))
