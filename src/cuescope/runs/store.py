"""The run folder: what a run leaves behind, and all that reports and comparisons read. Every write is atomic."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from filelock import FileLock, Timeout

from cuescope.core import files
from cuescope.core.display import Displayed
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, read_summed, write, write_json, write_summed
from cuescope.core.findings import About, Finding
from cuescope.core.naming import short_name
from cuescope.core.processes import Shard
from cuescope.core.remote import address
from cuescope.runs import answers as answers_of
from cuescope.runs import frames
from cuescope.runs.cell import Cell
from cuescope.runs.manifest import Manifest
from cuescope.runs.mirror import Mirror

if TYPE_CHECKING:
    # For types alone: reading a run needs no torch.
    from cuescope.data.images import Skipped

SCHEMA = 3
"""Version of the run folder. 3: chunks and findings have checksums, and say of which cell they are."""
UNSEALED = 2
"""The version before, which has no checksums: it is read, and where it is gone on with, its chunks are done again."""
LOCK = ".lock"
TURN_S = 60.0
"""How long a shard waits for others that begin or end."""
AGAIN = ".again.json"
"""Suffix of lists of images that were out of reach."""


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
    """On this machine."""
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)
    mirror: Mirror | None = field(default=None, repr=False)
    """Of a run at an address, which the path stands for."""

    @property
    def place(self) -> str:
        """Where it was asked for: the path, or the address."""
        return self.mirror.url if self.mirror else str(self.path)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, of which one at an address is copied here. Raises CueError for none or another version."""
        if url := address(path):
            mirror = Mirror(url)
            mirror.check()
            mirror.pull()
            return cls._of(mirror.folder, mirror)
        return cls._of(Path(path))

    @classmethod
    def _of(cls, path: Path, mirror: Mirror | None = None) -> Run:
        where = mirror.url if mirror else path
        if not (path / "manifest.json").is_file():
            wanted = "a folder that `cuescope audit --out` wrote"
            raise CueError(f"no run in '{where}'", wanted=wanted, do="check the path")
        manifest = read_summed(path / "manifest.json")
        if manifest.get("schema") not in (SCHEMA, UNSEALED):
            found = f"'{where}' is a run of schema {manifest.get('schema')}"
            do = "read it with the cuescope that wrote it, or audit again into another folder"
            raise CueError(found, wanted=f"schema {SCHEMA}", do=do)
        try:
            msgspec.convert(manifest, Manifest)
            datetime.fromisoformat(manifest["created"])
        except (msgspec.ValidationError, ValueError) as error:
            found = f"'{where}/manifest.json' is no manifest: {error}"
            raise CueError(found, wanted="what an audit wrote", do="audit again") from None
        return cls(path, manifest, mirror)

    @classmethod
    def create(cls, path: str | Path) -> Run:
        """A new run, or the one that is there, to go on with. Raises CueError where nothing can be written."""
        if url := address(path):
            mirror = Mirror(url)
            mirror.check()
            mirror.pull()
            known = (mirror.folder / "manifest.json").is_file()
            return cls._of(mirror.folder, mirror) if known else cls(mirror.folder, mirror=mirror)
        path = Path(path)
        files.check_run_folder(path)
        try:
            files.check_writable(path)
        except (OSError, ValueError) as error:
            found, do = f"cannot write to '{path}': {files.why_not(error)}", "choose another --out"
            raise CueError(found, wanted="a folder that can be written", do=do) from None
        return cls.open(path) if (path / "manifest.json").is_file() else cls(path)

    @contextmanager
    def locked(self, part: Shard | None = None) -> Iterator[None]:
        """Hold the folder alone, or the `part` of it that is shard i of n while others hold theirs.

        What processes that died left half-written is removed by who holds it alone. At an address, which has no parts,
        the run is read anew first. Raises CueError that says who holds it.
        """
        if self.mirror:
            with self.mirror.held():
                path = self.path / "manifest.json"
                self.manifest = read_summed(path) if path.is_file() else {}
                yield
            return
        files.check_links(self.path)
        with ExitStack() as held:
            if part:
                held.enter_context(self._held(f"{LOCK}-{part[0]}-of-{part[1]}"))
            else:
                held.enter_context(self._held(LOCK))
                for path in self.path.glob(f"{LOCK}-*"):
                    held.enter_context(self._held(path.name))
                files.sweep(self.path)
            yield

    @contextmanager
    def alone(self, part: Shard | None) -> Iterator[None]:
        """For a moment that shards take in turn. Raises CueError where one does not let go, or an audit holds all."""
        with self._held(LOCK, TURN_S) if part else nullcontext():
            yield

    @contextmanager
    def _held(self, name: str, wait_s: float = 0.0) -> Iterator[None]:
        path = self.path / name
        lock = FileLock(path, timeout=wait_s)
        try:
            lock.acquire()
        except Timeout:
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            found, do = f"'{self.path}' is in use by {holder}", "wait for it, stop it, or choose another --out"
            raise CueError(found, wanted="one audit at a time in a folder", do=do) from None
        try:
            now = datetime.now().astimezone().isoformat(" ", "seconds")
            path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}\n", encoding="utf-8")
            yield
        finally:
            lock.release()

    def check_finished(self) -> None:
        """Raise CueError where the audit of this run did not end."""
        if not self.manifest.get("finished"):
            do = f"run its command again, it continues: {self.manifest['command']}"
            raise CueError(f"the run '{self.place}' is not finished", wanted="a run that is", do=do)

    @property
    def cells(self) -> list[Cell]:
        """The cells that the manifest lists. Raises CueError where one lies outside of the folder."""
        listed, with_sums = self.manifest["cells"], self.manifest["schema"] != UNSEALED
        folders = [files.inside(self.path, c["folder"]) for c in listed]
        told = zip(folders, listed, strict=True)
        return [Cell(folder, c, c["status"], c["why"], c["seconds"], with_sums) for folder, c in told]

    @property
    def findings(self) -> list[Finding]:
        """What was found, cell by cell, also where an instrument does not apply."""
        return [finding for cell in self.cells if (finding := cell.finding)]

    def cell(self, identity: Mapping[str, Any], answers: Any = None) -> Cell:
        """The cell of this identity, with what it already holds. Its folder is made on the first write.

        `answers`: what the classifier gives for the images it was tried on. Rows of another one, and what is damaged
        or lost in part, are removed, so that they are done again.
        """
        key = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=5).hexdigest()
        parts = (identity["classifier"], identity["images"], identity["instrument"])
        slug = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "-", str(p).partition("@")[0]).strip("-")[-40:] for p in parts)
        cell = Cell(files.inside(self.path, f"cells/{slug}.{key}"), identity)
        if answers is not None:
            answers_of.keep_only(cell.folder, answers)
            cell.mend()
        cell.refresh()
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
        called = {name: (name.partition("@")[0], short := short_name(name), short.partition(".")[0]) for name in found}
        names = [classifier] if classifier in found else [name for name in found if classifier in called[name]]
        if len(names) > 1:
            do = f"give the whole name: {' or '.join(sorted(names))}"
            raise CueError(f"'{classifier}' may be {len(names)} classifiers", wanted="one of them", do=do)
        if found and (names or not classifier):
            return found[names[0] if classifier else next(iter(found))]
        have = ", ".join(sorted({c.instrument for c in self.cells if c.finding}))
        lacking = f"no finding of '{instrument}'" + (f" for '{classifier}'" if classifier else "")
        raise CueError(lacking, wanted=f"one of: {have}", do="check the name")

    def frame(self, instrument: str = "") -> pl.DataFrame:
        """All measures of all classifiers, a row each; or the rows of one instrument, by classifier and image set."""
        cells = self.cells
        return frames.rows(cells, instrument) if instrument else frames.measures(f for c in cells if (f := c.finding))

    def about(self, cell: Cell) -> About:
        """What is known, without any model, of where a cell's rows come from."""
        known = (c for c in self.manifest["classifiers"] if c.get("name") == cell.classifier and "space" in c)
        if (classifier := next(known, None)) is None:
            found = f"the manifest of '{self.path}' does not know '{cell.classifier}'"
            raise CueError(found, wanted="the classifier of each cell", do="audit again")
        names = self.made("classes.json").get(classifier["space"], ())
        return About(cell.classifier, cell.images, tuple(names), classifier["space"], cell.facts)

    def write_manifest(self) -> None:
        write_summed(self.path / "manifest.json", self.manifest)

    def digest(self, name: str) -> str:
        """A hash of one of its files; "" where there is none."""
        return files.digest(self.path / name)

    def made(self, name: str) -> dict[str, Any]:
        """A JSON file that an audit made of the cells; {} where there is none.

        Raises CueError where it is not what the manifest has a hash of.
        """
        return _json(self._checked(name))

    def _checked(self, name: str) -> Path:
        """The path of a file that an audit made. Raises CueError where it is not what the manifest has a hash of."""
        path = self.path / name
        known = self.manifest.get("made", {}).get(name)
        if known is not None and self.digest(name) != known:
            found, do = f"'{path}' was damaged or changed", "audit again: it is made again"
            raise CueError(found, wanted="the file that the audit made", do=do)
        return path

    def note_skipped(self, digest: str, chunk: int, skipped: Iterable[Skipped]) -> None:
        """Remember which images of a chunk were left out, also for a later run that need not decode it again."""
        skipped, folder = list(skipped), self._skipped(digest)
        if not skipped:
            return
        for name, again in ((f"{chunk:06d}.json", False), (f"{chunk:06d}{AGAIN}", True)):
            known = _json(folder / name)
            found = known | {s.id: s.why for s in skipped if s.again == again}
            if found != known:
                write_json(folder / name, found)

    def out_of_reach(self, digest: str) -> dict[str, str]:
        """Images of a set that were not found when they were read, and why."""
        return {name: why for path in self._skipped(digest).glob(f"*{AGAIN}") for name, why in read_json(path).items()}

    def found_again(self, digest: str, names: Iterable[str]) -> None:
        """These images are there again: they are no longer skipped."""
        back = set(names)
        for path in self._skipped(digest).glob(f"*{AGAIN}"):
            write_json(path, {name: why for name, why in read_json(path).items() if name not in back})

    def _skipped(self, digest: str) -> Path:
        return self.path / "skipped" / digest[:12]

    def write_skipped(self, sets: Mapping[str, tuple[str, Iterable[Skipped]]]) -> dict[str, int]:
        """Write `skipped.csv` for sets of name -> (digest, left out while reading); how many each set lost."""
        text, counts = io.StringIO(), {}
        table = csv.writer(text)
        table.writerow(["set", "id", "why"])
        for name, (digest, early) in sets.items():
            lost = {s.id: s.why for s in early}
            for path in sorted(self._skipped(digest).glob("*.json")):
                lost |= read_json(path)
            table.writerows([*map(files.plain_cell, (name, *item))] for item in lost.items())
            counts[name] = len(lost)
        write(self.path / "skipped.csv", text.getvalue().encode(errors="backslashreplace"))
        return counts

    def skipped(self) -> list[dict[str, str]]:
        """What `skipped.csv` lists: rows of set, id, why."""
        path = self._checked("skipped.csv")
        rows = csv.DictReader(io.StringIO(files.stored_text(path), newline=""))
        try:
            return [
                {k: files.cell_text(text) if isinstance(text, str) else text for k, text in row.items()} for row in rows
            ]
        except csv.Error as error:
            raise CueError(f"cannot read '{path}': {error}", wanted="what an audit wrote", do="audit again") from None


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
