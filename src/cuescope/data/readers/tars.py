"""Webdataset's tars: 0001.jpg beside 0001.cls or 0001.json; or tars of class folders."""

import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from cuescope.core.errors import CueError
from cuescope.core.files import cache, parsed, read_bytes, write
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import together
from cuescope.data.images import Skipped
from cuescope.data.readers.class_folders import labels_from_folders
from cuescope.data.readers.decode import MAX_BYTES, unreached
from cuescope.data.readers.far import FarFile, Fetcher
from cuescope.data.readers.files import IMAGE_SUFFIXES, Names
from cuescope.data.readers.stored import Store, StoredSet, labels_of, state

LABELS = (".cls", ".json")
KEYS = ("label", "cls", "class", "class_id", "class_index", "index", "target", "class_name", "label_name", "category")
MOST = 1 << 20
"""Bytes of a file that holds a label."""
TOGETHER = 4
"""Tars at addresses that are read through at a time."""

Label = int | str | None


class _Index(msgspec.Struct):
    """Which images lie in one tar, and where."""

    names: list[str] = []
    starts: list[int] = []
    sizes: list[int] = []
    labels: list[Label] = []
    skipped: list[tuple[str, str]] = []
    others: int = 0


class _Tars(Store):
    """Where the images lie in their tars; each is read alone, from its place."""

    def __init__(self, paths: Sequence[Path | FarFile]) -> None:
        self.paths = paths
        self.file, self.start, self.size = array("I"), array("Q"), array("Q")
        self._fetcher = Fetcher(self._load, self.size.__getitem__)
        self._far = any(isinstance(path, FarFile) for path in paths)

    def _load(self, index: int) -> bytes:
        path, start, size = self.paths[self.file[index]], self.start[index], self.size[index]
        if isinstance(path, FarFile):
            return path.read(start, size)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise unreached(path, error, "its tar") from None

    def bytes(self, index: int) -> bytes:
        return self._fetcher.get(index)

    def states(self) -> Iterable[object]:
        return map(state, self.paths)

    def ahead(self, indices: Sequence[int]) -> None:
        if self._far:
            self._fetcher.ahead(indices)


def read_tars(paths: Sequence[Path] | Sequence[FarFile], name: str, progress: Progress = quiet) -> StoredSet:
    """Which images are in these tars, and what are their labels?

    An image's label is the number or the name in the file of the same key that ends in .cls, or under "label" and the
    like in that of .json; where no image has such a file, the class is the folder, as in a folder of images. Names have
    the tar before them where there are several tars. What lies where in a tar at an address is kept in the user's cache
    once it was read through. Raises CueError where a tar cannot be read, or holds no image.
    """
    store, names, labels = _Tars(paths), Names(), list[Label]()
    skipped: list[Skipped] = []
    seen: set[str] = set()
    others = 0
    for number, (path, index) in enumerate(zip(paths, _indices(paths, progress), strict=True)):
        prefix = f"{path.name}/" if len(paths) > 1 else ""
        others += index.others
        skipped += [Skipped(member, why) for member, why in index.skipped]
        places = zip(index.names, index.starts, index.sizes, index.labels, strict=True)
        for member, start, size, label in places:
            if (whole := prefix + member) in seen:
                skipped.append(Skipped(member, "a second file of this name in its tar"))
                continue
            seen.add(whole)
            names.append(whole)
            labels.append(label)
            store.file.append(number)
            store.start.append(start)
            store.size.append(size)
    if not names:
        found = f"no image in '{paths[0]}'"
        raise CueError(found, wanted="tars of images, 0001.jpg with 0001.cls or 0001.json", do="check the path")
    several = "" if len(paths) == 1 else f" in {len(paths):,} tars"
    notes = [f"{len(names):,} images{several}"]
    if any(label is not None for label in labels):
        places, classes = labels_of(labels)
        notes.append("labels from the .cls and .json files beside the images")
    else:
        places, classes = labels_from_folders(Names(n.partition("/")[2] for n in names) if several else names, notes)
    if others:
        notes.append(f"{others:,} files that are no image passed over")
    return StoredSet(name, names, store, places, classes, notes, skipped)


def _indices(paths: Sequence[Path | FarFile], progress: Progress) -> Iterator[_Index]:
    """What lies where in each tar; several at addresses are read through at a time."""
    made = together(_kept_index, paths, TOGETHER) if isinstance(paths[0], FarFile) else map(_index, paths)
    for number, index in enumerate(made):
        progress(0, 0, f"reading what lies in the tars, {number + 1:,} of {len(paths):,}")
        yield index


def _kept_index(path: Path | FarFile) -> _Index:
    """The index of a tar at an address, which was kept, or is from now on."""
    assert isinstance(path, FarFile)
    kept = cache() / "tars" / f"{path.key}.msgpack"
    with suppress(OSError, ValueError, msgspec.DecodeError):
        return msgspec.msgpack.decode(read_bytes(kept), type=_Index)
    index = _index(path)
    with suppress(CueError):  # A cache that cannot be written is none.
        write(kept, msgspec.msgpack.encode(index))
    return index


def _index(path: Path | FarFile) -> _Index:
    found, keys, said = _Index(), list[str](), dict[str, Label]()
    try:
        with path.open() if isinstance(path, FarFile) else path.open("rb") as raw, _opened(raw) as tar:
            for member in tar:
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue] - else it keeps all of a million
                name = member.name.removeprefix("./")
                folder, _, base = name.rpartition("/")
                if not member.isreg() or base.startswith("."):
                    continue
                stem, _, suffix = base.partition(".")
                last, key = "." + suffix.lower().rpartition(".")[2], f"{folder}/{stem}"
                if last in LABELS and member.size <= MOST:
                    file = tar.extractfile(member)
                    said[key] = said.get(key) if file is None else _label(file.read(), last, said.get(key))
                elif last not in IMAGE_SUFFIXES:
                    found.others += 1
                elif (why := _unusable(member)) is not None:
                    found.skipped.append((name.encode(errors="backslashreplace").decode(), why))
                else:
                    found.names.append(name)
                    keys.append(key)
                    found.starts.append(member.offset_data)
                    found.sizes.append(member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        what, wanted = f"'{path}' cannot be read as a tar: {error}", "a tar that is whole and not compressed"
        raise CueError(what, wanted=wanted, do="write it again, or unpack it to a folder") from None
    found.labels = [said.get(key) for key in keys]
    return found


def _opened(raw: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=raw, mode="r:")


def _unusable(member: tarfile.TarInfo) -> str | None:
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return "the file name is not valid UTF-8"
    if member.size > MAX_BYTES:
        return f"too large: a file of {member.size / 2**30:.1f} GiB, the limit is {MAX_BYTES >> 30} GiB"
    return None


def _label(data: bytes, suffix: str, before: Label) -> Label:
    """The label that a file holds, or the one known `before`."""
    text = data.decode(errors="replace").strip()
    if suffix == ".json":
        try:
            found = parsed(text)
        except ValueError:
            return before
        value = next((found[key] for key in KEYS if key in found), None) if isinstance(found, dict) else found
        if isinstance(value, bool) or not isinstance(value, int | str):
            return before
        text = str(value).strip()
    if not text:
        return before
    return int(text) if text.isascii() and text.isdecimal() else text
