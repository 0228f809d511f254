"""The rows of a cell on disk: what was observed, chunk by chunk, and what was concluded of each image."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cuescope.core import files
from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from cuescope.instruments.base import Instrument

OUTCOMES = "outcomes.parquet"
"""What was concluded of each image."""
HELD_ROWS = 200_000
"""Rows that are gathered before they are reduced."""


def observed(folder: Path, tool: Instrument | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """All that was observed, in the order of the images: these columns, or all.

    `tool` is the instrument: rows are reduced by it chunk by chunk, and typed where there are none. Raises CueError for
    a damaged file.
    """
    kept = [] if tool is None else [tool.empty]
    height, most = 0, HELD_ROWS
    rows = folder / "rows"
    found = sorted(rows.iterdir()) if rows.is_dir() and not rows.is_symlink() else []
    for path in (file for file in found if re.fullmatch(r"\d{6,}\.parquet", file.name)):
        kept.append(
            _read(path, "the rows of a chunk", "remove the file and audit again: its images are seen again", columns)
        )
        height += kept[-1].height
        if tool is not None and height > most:
            kept = [tool.reduce(pl.concat(kept))]
            height = kept[0].height
            most = max(HELD_ROWS, 2 * height)
    frame = pl.concat(kept, rechunk=True) if kept else pl.DataFrame({"id": []}, schema={"id": pl.String})
    return frame if tool is None else tool.reduce(frame)


def with_outcomes(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The same with what was concluded of each image: these columns of both, or all."""
    path = folder / OUTCOMES
    if not files.is_there(path):
        return observed(folder, None, columns)
    concluded = _read(path, "what was concluded", "remove the cell's finding.json and audit again")
    own = None if columns is None else [c for c in columns if c == "id" or c not in concluded.columns]
    frame = observed(folder, None, own).join(concluded, on="id", how="left", maintain_order="left")
    return frame if columns is None else frame.select(columns)


def write_outcomes(folder: Path, outcomes: pl.DataFrame) -> None:
    """Write what was concluded of each image."""
    buffer = io.BytesIO()
    outcomes.write_parquet(buffer)
    files.write(folder / OUTCOMES, buffer.getvalue())


def _read(path: Path, what: str, do: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(
            io.BytesIO(files.read_bytes(path, 2**40)), columns=None if columns is None else list(columns)
        )
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise CueError(f"cannot read '{path}': {error}", wanted=what, do=do) from None
