"""The run folder: what a run leaves behind, and all that reports and comparisons read. Every write is atomic."""

from __future__ import annotations

import collections
import csv
import hashlib
import io
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import polars as pl
from PIL import Image

from cuescope.core.display import Displayed
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, why_not, write, write_json
from cuescope.core.findings import About, Figure, Finding, Inset, Panel

if TYPE_CHECKING:
    from cuescope.data.images import Skipped  # for types alone: a report needs no torch

SCHEMA = 1
Written = TypeVar("Written", Figure, Inset)
Status = Literal["done", "not applicable", "failed", "partial"]


@dataclass
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
    def finding(self) -> Finding | None:
        """What was concluded, or None where the cell did not get that far."""
        path = self.folder / "finding.json"
        return Finding.from_json(read_json(path)) if path.is_file() else None

    @property
    def error(self) -> str:
        """The traceback of a failed cell, or ""."""
        path = self.folder / "error.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def rows(self, reduce: Callable[[pl.DataFrame], pl.DataFrame] | None = None) -> pl.DataFrame:
        """All rows in the order of the images, reduced chunk by chunk where that is wanted. Empty without any."""
        parts = sorted((self.folder / "rows").glob("*.parquet"))
        frames = (frame for frame in map(pl.read_parquet, parts) if frame.height)
        if reduce is not None:
            frames = itertools.accumulate(frames, lambda kept, frame: reduce(pl.concat([kept, frame])))
            frames = collections.deque(frames, maxlen=1)
        found = list(frames)
        return pl.concat(found, rechunk=True) if found else pl.DataFrame({"id": []}, schema={"id": pl.String})

    def has(self, chunk: int) -> bool:
        return self._part(chunk).is_file()

    def write_rows(self, chunk: int, rows: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        write(self._part(chunk), buffer.getvalue())

    def write_finding(self, finding: Finding) -> None:
        """Write the images of the finding's panels as PNG files, then the finding itself."""
        panels = tuple(self._with_files(panel) for panel in finding.panels)
        write_json(self.folder / "finding.json", replace(finding, panels=panels).to_json())

    def fail(self, trace: str) -> None:
        """Record a failure. What was observed before stays and is not observed again."""
        self.status, self.why = "failed", trace.strip().splitlines()[-1]
        write(self.folder / "error.txt", trace.encode())

    def forget_failure(self) -> None:
        (self.folder / "error.txt").unlink(missing_ok=True)

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

    def _part(self, chunk: int) -> Path:
        return self.folder / "rows" / f"{chunk:06d}.parquet"

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
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(one.pixels)).save(buffer, "PNG", compress_level=2)
        write(self.folder / name, buffer.getvalue())
        return replace(one, pixels=None, file=name)


@dataclass
class Run(Displayed):
    """A run folder: a manifest, the cells, the images that were skipped. Shows itself in a notebook.

    >>> Run.open("no/such/run")
    Traceback (most recent call last):
    ...
    cuescope.core.errors.CueError: no run in 'no/such/run'
      wanted: a folder that `cuescope audit --out` wrote
      do:     check the path
    """

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run. Raises CueError where there is none, or one of another version."""
        path = Path(path)
        manifest_path = path / "manifest.json"
        if not manifest_path.is_file():
            raise CueError(
                f"no run in '{path}'", wanted="a folder that `cuescope audit --out` wrote", do="check the path"
            )
        manifest = read_json(manifest_path)
        if manifest.get("schema") != SCHEMA:
            raise CueError(
                f"'{path}' is a run of schema {manifest.get('schema')}",
                wanted=f"schema {SCHEMA}",
                do="read it with the cuescope that wrote it, or audit again",
            )
        return cls(path, manifest)

    @classmethod
    def create(cls, path: str | Path) -> Run:
        """A new run, or the one that is there, to go on with. Raises CueError where nothing can be written."""
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except (OSError, ValueError) as error:
            raise CueError(
                f"cannot write to '{path}': {why_not(error)}",
                wanted="a folder that can be written",
                do="choose another --out",
            ) from None
        if any(path.iterdir()) and not (path / "manifest.json").is_file() and not (path / "cells").is_dir():
            raise CueError(
                f"'{path}' holds files that are not a run",
                wanted="a new folder, an empty one, or an earlier run",
                do="choose another --out",
            )
        return cls(path)

    @property
    def cells(self) -> list[Cell]:
        return [Cell(self.path / c["folder"], c, c["status"], c["why"], c["seconds"]) for c in self.manifest["cells"]]

    def cell(self, identity: Mapping[str, Any]) -> Cell:
        """The cell of this identity, with what it already holds. Its folder is made on the first write."""
        key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=5).hexdigest()
        parts = (identity["classifier"], identity["images"], identity["instrument"])
        slug = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "-", str(p).partition("@")[0]).strip("-")[-40:] for p in parts)
        cell = Cell(self.path / "cells" / f"{slug}.{key}", identity)
        known = cell.folder / "cell.json"
        if known.is_file():
            cell.seconds = float(read_json(known)["seconds"])
        return cell

    def finding(self, instrument: str, classifier: str = "") -> Finding:
        """The finding of an instrument, of the first classifier or of the named one.

        "timm/resnet50.a1_in1k@w.pth" may be named so, without its weights, its library or its tag, as "resnet50".
        Raises CueError where there is none, and where the name is that of several classifiers.
        """
        found: dict[str, Finding] = {}
        for cell in self.cells:
            if cell.instrument == instrument and (finding := cell.finding):
                found.setdefault(cell.classifier, finding)
        names = [classifier] if classifier in found else [name for name in found if classifier in _called(name)]
        if len(names) > 1:
            do = f"give the whole name: {' or '.join(sorted(names))}"
            raise CueError(f"'{classifier}' may be {len(names)} classifiers", wanted="one of them", do=do)
        if found and (names or not classifier):
            return found[names[0] if classifier else next(iter(found))]
        have = ", ".join(sorted({c.instrument for c in self.cells if c.finding}))
        raise CueError(
            f"no finding of '{instrument}' for '{classifier}'", wanted=f"one of: {have}", do="check the name"
        )

    def write_classes(self, spaces: Mapping[str, tuple[str, ...]]) -> None:
        """Remember the names of the classes of each class space, so that rows can be read without any model."""
        write_json(self.path / "classes.json", {space: list(names) for space, names in spaces.items()})

    def about(self, cell: Cell) -> About:
        """What is known, without any model, of where a cell's rows come from."""
        told = next(c for c in self.manifest["classifiers"] if c["name"] == cell.classifier)
        path = self.path / "classes.json"
        names = read_json(path).get(told["space"], ()) if path.is_file() else ()
        return About(cell.classifier, cell.images, tuple(names), told["space"])

    def write_manifest(self) -> None:
        write_json(self.path / "manifest.json", self.manifest)

    def note_skipped(self, digest: str, chunk: int, skipped: Iterable[Skipped]) -> None:
        """Remember which images of a chunk were left out, also for a later run that need not decode it again."""
        path = self.path / "skipped" / digest[:12] / f"{chunk:06d}.json"
        known = read_json(path) if path.is_file() else {}
        found = known | {s.id: s.why for s in skipped}
        if found and found != known:
            write_json(path, found)

    def write_skipped(self, sets: Mapping[str, tuple[str, Iterable[Skipped]]]) -> dict[str, int]:
        """Write `skipped.csv` for sets of name -> (digest, left out while reading); how many each set lost."""
        text, counts = io.StringIO(), {}
        table = csv.writer(text)
        table.writerow(["set", "id", "why"])
        for name, (digest, early) in sets.items():
            lost = {s.id: s.why for s in early}
            for path in sorted((self.path / "skipped" / digest[:12]).glob("*.json")):
                lost |= read_json(path)
            table.writerows([name, *item] for item in lost.items())
            counts[name] = len(lost)
        write(self.path / "skipped.csv", text.getvalue().encode())
        return counts

    def skipped(self) -> list[dict[str, str]]:
        """What `skipped.csv` lists: rows of set, id, why."""
        path = self.path / "skipped.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@contextmanager
def timed(cell: Cell) -> Any:
    """Add the time spent inside to the cell's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        cell.seconds += time.perf_counter() - start


def _called(name: str) -> tuple[str, ...]:
    """What a classifier may be called: its name without weights, library and tag, one after the other."""
    name = name.partition("@")[0]
    last = name.rpartition("/")[2]
    return name, last, last.partition(".")[0]
