"""A run folder at an address: written on this machine as any other, and copied there file by file as it grows.

An object store has no rename and no lock, and a run needs neither there: an object appears whole, the files that others
rest on are copied before those, and the manifest that commits the run is the last.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.core.files import check_names, inside, parsed, temporary
from cuescope.core.remote import Remote, together
from cuescope.runs.lease import BEAT_S, Lease

PUSH_S = 10.0
"""Seconds between two looks for what is new: a process that is killed loses no more."""
MANIFEST, FINDING, BEGUN = "manifest.json", "finding.json", "begun"

Signature = tuple[int, int, int]


class Mirror:
    """The folder of this machine that stands for a run at an address."""

    def __init__(self, url: str) -> None:
        """Raises CueError where no driver reads such addresses."""
        self.remote = Remote(url)
        place, self._clean = temporary(self)
        self.folder = place / self.remote.name
        self._known: dict[str, Signature] = {}
        self._tags: dict[str, tuple[int, str]] = {}
        self._lost = False

    @property
    def url(self) -> str:
        return self.remote.url

    def check(self) -> None:
        """Raise CueError where there is no such bucket, no right to see it, or something that is no run."""
        try:
            objects, folders = self.remote.entries()
        except FileNotFoundError as error:
            if "bucket" in str(error):
                raise self.remote.error(error, "a bucket that is there") from None
            return
        except OSError as error:
            raise self.remote.error(error, "a folder that can be written") from None
        check_names(self.url, {one.name for one in objects} | {folder.rstrip("/") for folder in folders})

    def pull(self) -> None:
        """Have here what is there, and nothing else. Raises CueError where it cannot be read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            there = {entry.name: entry for entry in self.remote.walk() if not _is_hidden(entry.name)}
            missing = [e for e in there.values() if self._tags.get(e.name) != (e.size, e.tag) or not e.tag]
            for name, data in together(lambda e: (e.name, self.remote.read(e.name, 0, e.size)), missing):
                path = inside(self.folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        except OSError as error:
            raise self.remote.error(error, "a run that can be read") from None
        self._tags = {name: (entry.size, entry.tag) for name, entry in there.items()}
        for name in self._here().keys() - there.keys():
            (self.folder / name).unlink()
        self._known = self._here()

    def push(self) -> None:
        """Have there what is here, in the order in which one file rests on another. Raises OSError."""
        if self._lost:
            return
        here = self._here()
        changed = {name for name in here if self._known.get(name) != here[name]}
        gone = self._known.keys() - here.keys()
        if MANIFEST in changed and not self._finishes():
            self._upload([MANIFEST], here)
            changed.remove(MANIFEST)
        self._remove(sorted(gone, key=lambda name: not name.endswith(FINDING)), begun=False)
        for rank in range(5):
            self._upload(sorted(name for name in changed if _rank(name) == rank), here)
        self._remove(gone, begun=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the address alone, and copy there what is written until the end. Raises CueError.

        What cannot be copied at the end stays on this machine, where the error says.
        """
        lease, stop = Lease(self.remote), threading.Event()
        try:
            lease.take()
        except OSError as error:
            raise self.remote.error(error, "a folder that can be written") from None
        thread = threading.Thread(target=self._follow, args=(lease, stop), daemon=True, name="mirror")
        try:
            self.pull()
            thread.start()
            yield
        finally:
            stop.set()
            try:
                if thread.ident is not None:
                    thread.join()
                    self._last(lease)
            finally:
                lease.leave()

    def put(self, name: str) -> None:
        """Copy one file there. Raises CueError."""
        try:
            self._upload([name], self._here())
        except OSError as error:
            raise self.remote.error(error, "a folder that can be written") from None

    def _follow(self, lease: Lease, stop: threading.Event) -> None:
        beaten = time.monotonic()
        while not stop.wait(PUSH_S):
            with suppress(OSError):  # It is tried again, and told at the end.
                if time.monotonic() - beaten >= BEAT_S:
                    self._lost = self._lost or not lease.beat()
                    beaten = time.monotonic()
                self.push()

    def _last(self, lease: Lease) -> None:
        try:
            self._lost = self._lost or not lease.beat()
            self.push()
            why = "another process has taken it over" if self._lost else ""
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            self._clean.detach()
            do = f"what is not there yet is in '{self.folder}': copy it there, or run the same command again"
            raise CueError(f"cannot write to '{self.url}': {why}", wanted="a folder that can be written", do=do)

    def _here(self) -> dict[str, Signature]:
        """The files of this machine, each after those that were there when it was written."""
        found = {}
        # A folder's files come before those of its folders: a finding that is seen has all its chunks below it. Cells
        # come before what was skipped: rows that are seen have that noted.
        for parent, folders, names in os.walk(self.folder):
            folders.sort()
            for file in names:
                path = Path(parent, file)
                name = path.relative_to(self.folder).as_posix()
                if not _is_hidden(name) and (signature := _signature(path)):
                    found[name] = signature
        return found

    def _upload(self, names: Iterable[str], here: dict[str, Signature]) -> None:
        def put(name: str) -> None:
            with suppress(FileNotFoundError):
                data = (self.folder / name).read_bytes()
                if _signature(self.folder / name) == here[name]:  # else it was written again: the next push has it
                    self.remote.write(name, data)
                    self._known[name] = here[name]
                    self._tags.pop(name, None)

        for _ in together(put, names):
            pass

    def _remove(self, names: Iterable[str], *, begun: bool) -> None:
        for name in names:
            if (BEGUN in name.split("/")) == begun:
                self.remote.remove(name)
                self._known.pop(name)
                self._tags.pop(name, None)

    def _finishes(self) -> bool:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return bool(parsed((self.folder / MANIFEST).read_bytes())["finished"])
        return False


def _rank(name: str) -> int:
    """When a file is copied: skipped images, rows, then findings, what is made of them, the manifest."""
    if "/" in name:
        return 0 if name.startswith("skipped/") else 2 if name.endswith(FINDING) else 1
    return 4 if name == MANIFEST else 3


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _signature(path: Path) -> Signature | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
    return None
