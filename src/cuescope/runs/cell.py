"""A cell of a run: one instrument on one classifier and one image set. Its rows, its finding, or why there is none."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from cuescope.core import files
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, write, write_json
from cuescope.core.findings import Figure, Finding, Inset, Panel
from cuescope.core.matrix import Column
from cuescope.runs.chunks import Chunks
from cuescope.runs.manifest import Status
from cuescope.runs.seals import sealed, unsealed

if TYPE_CHECKING:
    # For types alone: reading a run needs no torch.
    from cuescope.instruments.base import Instrument

HELD_ROWS = 200_000
"""Rows that are gathered before they are reduced."""
Written = TypeVar("Written", Figure, Inset)


@dataclass(repr=False)
class Cell:
    """One instrument on one classifier and one image set: its rows, its finding, or why there is none.

    The folder's name ends with a hash of everything the rows depend on, so rows of different weights,
    parameters or images can never be mixed.
    """

    folder: Path
    identity: Mapping[str, Any]
    status: Status = "partial"
    why: str = ""
    seconds: float = 0.0
    sealed: bool = True
    """Whether its files have checksums."""

    def __repr__(self) -> str:
        return f"<Cell {self.instrument} of {self.classifier} on {self.images}: {self.status}>"

    @property
    def classifier(self) -> str:
        return str(self.identity["classifier"])

    @property
    def images(self) -> str:
        return str(self.identity["images"])

    @property
    def instrument(self) -> str:
        return str(self.identity["instrument"])

    @property
    def _finding(self) -> Path:
        return self.folder / "finding.json"

    @property
    def _facts(self) -> Path:
        return self.folder / "facts.json"

    @property
    def concluded(self) -> bool:
        return self._finding.is_file()

    @property
    def finding(self) -> Finding | None:
        """What was concluded, or None where the cell did not get that far. Raises CueError for a damaged file."""
        if not self.concluded:
            if self.status in ("done", "not applicable"):
                found = f"'{self._finding}' is lost"
                raise CueError(found, wanted="what the manifest lists", do="audit again")
            return None
        return self._stored()[0]

    def _stored(self) -> tuple[Finding, list[str]]:
        """The finding, and the checksums of the chunks that it was concluded from."""
        data, chunks = read_json(self._finding), list[str]()
        try:
            if self.sealed:
                data, chunks = unsealed(data, self.folder.name)
            return Finding.from_json(data), chunks
        except ValueError as error:
            found = f"'{self._finding}' is no finding: {error}"
            raise CueError(found, wanted="what an audit wrote", do="audit again: it is concluded again") from None

    def forget(self, chunks: Iterable[int]) -> None:
        """Have these chunks done again, and what was concluded from them."""
        for chunk in chunks:
            self.chunks.remove(chunk)
        self._finding.unlink(missing_ok=True)
        self.status, self.why = "partial", ""

    def mend(self) -> None:
        """Remove what is damaged, lost in part, or of another cell, so that it is done again."""
        chunks = self.chunks.mend()
        if self.concluded:
            try:
                whole = self._stored()[1] == chunks and isinstance(self.facts, dict)
            except CueError:
                whole = False
            if not whole:
                self._finding.unlink()

    @property
    def error(self) -> str:
        """The traceback of a failed cell, or ""."""
        return files.stored_text(self.folder / "error.txt")

    @property
    def facts(self) -> dict[str, Any]:
        """What the instrument found out about the classifier before its first batch."""
        if not self._facts.is_file():
            return {}
        data = read_json(self._facts)
        if "checksum" not in data:  # As they were written before.
            return data
        try:
            return unsealed(data, self.folder.name)[0]["facts"]
        except (ValueError, KeyError) as error:
            raise CueError(f"cannot read '{self._facts}': {error}", wanted="facts", do="audit again") from None

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """What the instrument found out about the classifier before its first batch."""
        write_json(self._facts, sealed({"facts": facts}, self.folder.name, []))

    def rows(self, tool: Instrument | None = None, columns: list[str] | None = None) -> pl.DataFrame:
        """All rows in the order of the images: these columns, or all. Raises CueError for a damaged file.

        `tool` is the instrument: rows are reduced by it chunk by chunk, and typed where there are none, and its large
        columns are left out. Without it they have what was concluded of each image besides.
        """
        known, outcomes = self.chunks.outcomes()
        if tool is not None and tool.large:
            columns = [column for column in tool.columns if column not in tool.large]
        own = columns
        if columns is not None:
            own = [column for column in columns if column == "id" or column not in outcomes.columns]
        sums, frame = self._observed(tool, own)
        if self.sealed and self.concluded and self._stored()[1] != [*sums, *known]:
            found = f"the rows in '{self.folder}' are not those that its finding was concluded from"
            raise CueError(found, wanted="all chunks of the cell", do="audit again: what is missing is seen again")
        if tool is not None or not known:
            return frame
        frame = frame.join(outcomes, on="id", how="left", maintain_order="left")
        return frame if columns is None else frame.select(columns)

    def _observed(self, tool: Instrument | None, columns: list[str] | None) -> tuple[list[str], pl.DataFrame]:
        """The checksums of the chunks, and their rows."""
        kept, sums = [] if tool is None else [tool.empty.select(columns or list(tool.columns))], []
        height, most = 0, HELD_ROWS
        for known, rows in self.chunks.read(columns):
            sums.append(known)
            kept.append(rows)
            height += rows.height
            if tool is not None and height > most:
                kept = [tool.reduce(pl.concat(kept))]
                height = kept[0].height
                most = max(HELD_ROWS, 2 * height)
        frame = pl.concat(kept, rechunk=True) if kept else pl.DataFrame({"id": []}, schema={"id": pl.String})
        return sums, frame if tool is None else tool.reduce(frame)

    def large(self, tool: Instrument) -> dict[str, Column]:
        """The columns of the rows that are too large to stand in them."""
        return {name: Column(partial(self.chunks.column, name), self.folder) for name in tool.large}

    @property
    def chunks(self) -> Chunks:
        return Chunks(self.folder, sealed=self.sealed)

    def write_finding(self, finding: Finding) -> None:
        """Write the images of the finding's panels as PNG files, then the finding itself."""
        panels = tuple(self._with_files(panel) for panel in finding.panels)
        data = replace(finding, panels=panels).to_json()
        sums = [*(known for known, _ in self.chunks.read([])), *self.chunks.outcomes()[0]]
        write_json(self._finding, sealed(data, self.folder.name, sums))
        self.chunks.close()
        self.status, self.why = ("not applicable", finding.why) if finding.why else ("done", "")

    def refresh(self) -> None:
        """Take the state from the finding, if there is one."""
        if finding := self.finding:
            self.status, self.why = ("not applicable", finding.why) if finding.why else ("done", "")

    def take_error(self) -> None:
        """Take a failure that another process has recorded."""
        if not self.concluded and (error := self.error.strip()):
            self.status, self.why = "failed", error.splitlines()[-1]

    def forget_error(self) -> None:
        (self.folder / "error.txt").unlink(missing_ok=True)

    def fail(self, trace: str) -> None:
        """Record a failure. What was observed before stays and is not observed again."""
        self.status, self.why = "failed", trace.strip().splitlines()[-1]
        write(self.folder / "error.txt", trace.encode())

    def summary(self) -> dict[str, Any]:
        """The cell's line in the manifest."""
        keys = ("classifier", "images", "instrument", "version", "params")
        return {
            "folder": f"cells/{self.folder.name}",
            **{key: self.identity[key] for key in keys},
            "status": self.status,
            "why": self.why,
            "seconds": round(self.seconds, 3),
        }

    def _with_files(self, panel: Panel) -> Panel:
        figures = []
        for i, figure in enumerate(panel.figures):
            name = f"images/{panel.name}-{i:02d}"
            insets = tuple(self._with_file(inset, f"{name}-{k}.png") for k, inset in enumerate(figure.insets))
            figures.append(replace(self._with_file(figure, f"{name}.png"), insets=insets))
        return replace(panel, figures=tuple(figures))

    def _with_file(self, one: Written, name: str) -> Written:
        if one.pixels is None:
            return one
        write(self.folder / name, files.encoded(np.ascontiguousarray(one.pixels)))
        return replace(one, pixels=None, file=name)


@contextmanager
def timed(cell: Cell) -> Iterator[None]:
    """Add the time spent inside to the cell's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        cell.seconds += time.perf_counter() - start
