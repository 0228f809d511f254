"""Image sets at addresses: class folders, tars, tables, listings. Nothing is copied: images come as they are read."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import WEB, Entry, Remote, address, together
from cuescope.data.images import Skipped
from cuescope.data.readers.class_folders import is_split, without_masks
from cuescope.data.readers.containers import READERS, of_kinds
from cuescope.data.readers.decode import MAX_BYTES
from cuescope.data.readers.far import FarFile, Fetcher, found, here, out_of_reach
from cuescope.data.readers.files import IMAGE_SUFFIXES, PASSED, Found, Names
from cuescope.data.readers.folder import LABELS, METADATA, labeled
from cuescope.data.readers.stored import Store, StoredSet


class _Objects(Store):
    """Images that are objects below an address."""

    def __init__(self, remote: Remote, names: Names, sizes: Sequence[int], digest: str) -> None:
        self.remote, self.names, self.sizes, self.digest = remote, names, sizes, digest
        self._fetcher = Fetcher(self._load, sizes.__getitem__)

    def _load(self, index: int) -> bytes:
        try:
            return self.remote.read(self.names[index], 0, self.sizes[index])
        except OSError as error:
            raise out_of_reach(error) from None

    def bytes(self, index: int) -> bytes:
        return self._fetcher.get(index)

    def states(self) -> Iterable[object]:
        return [self.digest]

    def ahead(self, indices: Sequence[int]) -> None:
        self._fetcher.ahead(indices)


@dataclass
class _Folder:
    """What lies in one folder, in little memory."""

    names: Names = field(default_factory=Names)
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    digest: str = ""
    folders: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)
    """Tables of labels, and files that hold images."""
    skipped: list[Skipped] = field(default_factory=list)
    others: int = 0


def read_remote(url: str, *, labels: Path | str | None = None, progress: Progress = quiet) -> StoredSet:
    """Which images lie at an address, and what are their labels? As of a folder on this machine.

    A folder of images by `IMAGE_SUFFIXES`, of tars or of Parquet files, or one such file. `labels` is a CSV, here or at
    an address. The digest is over names, sizes and tags (as ETags) of the objects: none is read for it. Raises CueError
    where the address cannot be listed, or holds no image.
    """
    remote = Remote(url)
    files = found(remote, READERS)
    if not files and remote.protocol in WEB:
        wanted = f"a file that ends in {', '.join(READERS)}"
        raise CueError(f"a folder on a web server, '{remote.url}', cannot be listed", wanted=wanted, do="give one")
    listed = {} if files else _listed(remote, progress)
    order = _order(listed)
    if not files and not any(listed[folder].names for folder in order):
        files = [FarFile(remote, one) for folder in order for one in listed[folder].kept if not _is_table(one)]
        if not files:
            others = sum(folder.others for folder in listed.values())
            what = f"no image in '{remote.url}'" + (f"; it has {others:,} other files" if others else ": it is empty")
            raise CueError(what, wanted="a folder of images, tars or Parquet files", do="check the address")
    if files:
        if labels is not None:
            raise CueError("--labels with " + remote.name, wanted="a folder of images", do="leave it out")
        images = of_kinds(files, remote.name, progress)
        assert images is not None
        return images
    return _of_folder(remote, listed, order, labels)


def _listed(remote: Remote, progress: Progress) -> dict[str, _Folder]:
    """All folders below an address by their paths."""
    listed: dict[str, _Folder] = {}
    waiting, count = [""], 0
    progress(0, 0, f"listing {remote.url}")

    def read(folder: str) -> _Folder:
        return _folder(remote, folder)

    try:
        while waiting:
            for name, one in zip(waiting, together(read, waiting), strict=True):
                listed[name] = one
                count += len(one.names)
                progress(0, 0, f"listing {remote.url}: {count:,} images")
            waiting = [inner for name in waiting for inner in listed[name].folders]
    except OSError as error:
        raise remote.error(error, "a folder of images that can be listed") from None
    return listed


def _folder(remote: Remote, folder: str) -> _Folder:
    entries, inner = remote.entries(folder)
    one, total = _Folder(), hashlib.blake2b(digest_size=16)
    for path in inner:
        last = path.rstrip("/").rpartition("/")[2]
        if PASSED.fullmatch(last):
            one.passed.append(last)
        elif not last.startswith("."):
            one.folders.append(path)
    for entry in entries:
        last = entry.name.rpartition("/")[2]
        suffix = os.path.splitext(last)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow
        if last.startswith("."):
            continue
        if _is_table(entry) or suffix in READERS:
            one.kept.append(entry)
            one.others += 1
        elif suffix not in IMAGE_SUFFIXES:
            one.others += 1
        elif entry.size > MAX_BYTES:
            one.skipped.append(Skipped(entry.name, f"too large: {entry.size:,} bytes, the limit is {MAX_BYTES:,}"))
        else:
            one.names.append(entry.name)
            one.sizes.append(entry.size)
            total.update(repr(tuple(entry)).encode())
    one.digest = total.hexdigest()
    return one


def _is_table(entry: Entry) -> bool:
    """Whether it is a table of labels where the reader of folders looks for one."""
    folder, _, name = entry.name.rpartition("/")
    return (not folder and name in (LABELS, *METADATA)) or (name in METADATA and "/" not in folder and is_split(folder))


def _order(listed: dict[str, _Folder]) -> list[str]:
    """The folders as `scan` reads them: each before those in it, by name."""
    found, waiting = list[str](), [""] if listed else []
    while waiting:
        found.append(folder := waiting.pop())
        waiting += reversed(listed[folder].folders)
    return found


def _of_folder(remote: Remote, listed: dict[str, _Folder], order: list[str], labels: Path | str | None) -> StoredSet:
    names, sizes, total = Names(), array("Q"), hashlib.blake2b(digest_size=16)
    for folder in order:
        for name in listed[folder].names:
            names.append(name)
        sizes += listed[folder].sizes
        total.update(listed[folder].digest.encode())
    folders = [listed[folder] for folder in order]
    skipped = [one for folder in folders for one in folder.skipped]
    passed = tuple(dict.fromkeys(name for folder in folders for name in folder.passed))
    whole = Found(names, tuple(skipped), sum(folder.others for folder in folders), passed)
    notes: list[str] = []
    kept = without_masks(whole, notes)
    if len(kept.names) < len(names):
        every = iter(range(len(names)))
        sizes = array("Q", (sizes[next(i for i in every if names[i] == name)] for name in kept.names))
    tables = [one.name for folder in folders for one in folder.kept if _is_table(one)]
    with ExitStack() as stack:
        place = stack.enter_context(here(remote, [] if labels is not None else tables))
        if url := address(labels):
            labels = stack.enter_context(here(Remote(url), [""])) / Remote(url).name
        label, classes = labeled(Path(remote.name), kept, labels, notes, skipped, tables=place)
    store = _Objects(remote, kept.names, sizes, total.hexdigest())
    return StoredSet(remote.name, kept.names, store, label, classes, notes, skipped)
