"""The rows of one cell on disk: a Parquet file for each chunk, and what was seen of chunks that are not finished."""

import io
import re
from contextlib import suppress
from pathlib import Path

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import read_bytes, write

MOST_BYTES = 2**40


class Chunks:
    """The chunks of one cell. A chunk that is there is never done again; one that was begun goes on where it was."""

    def __init__(self, folder: Path) -> None:
        self._rows, self._parts = folder / "rows", folder / "begun"

    def has(self, chunk: int) -> bool:
        return self._path(chunk).is_file()

    def write(self, chunk: int, rows: pl.DataFrame) -> None:
        """The rows of a finished chunk; what was kept of it is removed."""
        write(self._path(chunk), _packed(rows))
        for path in self._kept(chunk):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # Other chunks were begun, or none.
            self._parts.rmdir()

    def keep(self, chunk: int, images: int, rows: pl.DataFrame) -> None:
        """The rows of the first so many images of a chunk, in place of what was kept of fewer."""
        before, path = self._kept(chunk), self._parts / f"{chunk:06d}-{images:06d}.parquet"
        write(path, _packed(rows))
        for other in before:
            if other != path:
                other.unlink(missing_ok=True)

    def begun(self) -> dict[int, tuple[int, pl.DataFrame]]:
        """Of each chunk that is not finished: how many of its images were seen, and their rows."""
        found = {}
        for path in self._kept():
            chunk, images = map(int, path.stem.split("-"))
            # What cannot be read is seen again.
            with suppress(OSError, ValueError, CueError, pl.exceptions.PolarsError):
                if not self.has(chunk):
                    found[chunk] = images, pl.read_parquet(io.BytesIO(read_bytes(path, MOST_BYTES)))
        return found

    def _path(self, chunk: int) -> Path:
        return self._rows / f"{chunk:06d}.parquet"

    def _kept(self, chunk: int | None = None) -> list[Path]:
        """Files of this chunk or of all that were begun, by chunk and number of images."""
        files = self._parts.iterdir() if self._parts.is_dir() and not self._parts.is_symlink() else ()
        named = [path for path in files if re.fullmatch(r"\d{6,}-\d{6,}\.parquet", path.name)]
        return sorted(path for path in named if chunk in (None, int(path.stem.partition("-")[0])))


def _packed(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return buffer.getvalue()
