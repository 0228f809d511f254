"""Webdataset's tars: 0001.jpg beside 0001.cls or 0001.json; or tars of class folders."""

import tarfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import cache, parsed, read_bytes, write
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import together
from cuescope.data.images import Skipped
from cuescope.data.readers.class_folders import labels_from_folders
from cuescope.data.readers.decode import MAX_BYTES, read_part, too_large, unreached
from cuescope.data.readers.far import FarFile, Fetcher
from cuescope.data.readers.files import IMAGE_SUFFIXES, Names
from cuescope.data.readers.stored import Store, StoredSet, check_index, labels_of, mixed_labels, state

LABELS = (".cls", ".json")
KEYS = ("label", "cls", "class", "class_id", "class_index", "index", "target", "class_name", "label_name", "category")
MOST = 1 << 20
"""Bytes of a file that holds a label."""
TOLD = 10_000
"""Files between two reports of progress."""
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
                return read_part(file, size)
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
    apart = len({path.name for path in paths}) == len(paths)
    seen: set[str] = set()
    others = 0
    for number, (path, index) in enumerate(zip(paths, _indices(paths, progress), strict=True)):
        prefix = f"{path.name}/" if len(paths) > 1 else ""
        seen = set() if apart else seen
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
    notes = [f"in {len(paths):,} tars"] if len(paths) > 1 else []
    if any(label is not None for label in labels):
        if len({type(label) for label in labels if label is not None}) > 1:
            raise mixed_labels()
        check_index(max((label for label in labels if isinstance(label, int)), default=-1))
        places, classes = labels_of(pl.Series(labels))
        notes.append("labels from the .cls and .json files beside the images")
    else:
        places, classes = labels_from_folders(
            Names(n.partition("/")[2] for n in names) if len(paths) > 1 else names, notes
        )
    if others:
        notes.append(f"{others:,} files that are no image passed over")
    return StoredSet(name, names, store, places, classes, notes, skipped)


def _indices(paths: Sequence[Path | FarFile], progress: Progress) -> Iterator[_Index]:
    """What lies where in each tar; several at addresses are read through at a time."""

    def read(path: Path | FarFile) -> _Index:
        def tell(count: int) -> None:
            progress(0, 0, f"reading what lies in {path.name}: {count:,} files")

        return _kept_index(path, tell) if isinstance(path, FarFile) else _index(path, tell)

    return together(read, paths, TOGETHER) if isinstance(paths[0], FarFile) else map(read, paths)


def _kept_index(path: FarFile, tell: Callable[[int], None]) -> _Index:
    """The index of a tar at an address, which was kept, or is from now on."""
    kept = cache() / "tars" / f"{path.key}.msgpack"
    with suppress(OSError, ValueError, msgspec.DecodeError):
        return msgspec.msgpack.decode(read_bytes(kept), type=_Index)
    index = _index(path, tell)
    with suppress(CueError, OverflowError):  # A cache that cannot be written is none.
        write(kept, msgspec.msgpack.encode(index))
    return index


def _index(path: Path | FarFile, tell: Callable[[int], None]) -> _Index:
    found, keys, said = _Index(), list[str](), dict[str, Label]()
    try:
        end = path.size if isinstance(path, FarFile) else path.stat().st_size
        with path.open() if isinstance(path, FarFile) else path.open("rb") as raw:
            for number, (name, size, start) in enumerate(_files(raw)):
                if number % TOLD == 0:
                    tell(number)
                if start + size > end:
                    raise EOFError(f"it is cut off within '{name}'")
                folder, _, base = name.rpartition("/")
                if base.startswith("."):
                    continue
                stem, _, suffix = base.partition(".")
                last, key = "." + suffix.lower().rpartition(".")[2], f"{folder}/{stem}"
                if last in LABELS and size <= MOST:
                    raw.seek(start)
                    said[key] = _label(raw.read(size), last, said.get(key))
                elif last not in IMAGE_SUFFIXES:
                    found.others += 1
                elif (why := _unusable(name, size)) is not None:
                    found.skipped.append((name.encode(errors="backslashreplace").decode(), why))
                else:
                    found.names.append(name)
                    keys.append(key)
                    found.starts.append(start)
                    found.sizes.append(size)
    except (tarfile.TarError, OSError, EOFError, OverflowError, MemoryError) as error:
        what, wanted = f"'{path}' cannot be read as a tar: {error}", "a tar that is whole and not compressed"
        raise CueError(what, wanted=wanted, do="write it again, or unpack it to a folder") from None
    found.labels = [said.get(key) for key in keys]
    return found


def _files(raw: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """The name, the size and the start of each regular file of a tar. Raises what tarfile raises, or EOFError.

    tarfile takes a fiftieth of a millisecond a file, which is a minute for a million images and their labels: plain
    headers are read here, and it reads the others.
    """
    with tarfile.open(fileobj=raw, mode="r:") as tar:
        tar.firstmember, at = None, 0  # pyright: ignore[reportAttributeAccessIssue]
        while True:
            raw.seek(at)
            if plain := _plain(raw.read(tarfile.BLOCKSIZE)):
                yield *plain, at + tarfile.BLOCKSIZE
                at += tarfile.BLOCKSIZE + -(-plain[1] // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                continue
            tar.offset, tar.members = at, []  # pyright: ignore[reportAttributeAccessIssue]
            member = tar.next()
            if member is None:
                raw.seek(at)
                if any(block := raw.read(tarfile.BLOCKSIZE)):
                    raise tarfile.ReadError(f"what stands at byte {at:,} is no header")
                if not block:
                    raise EOFError("it is cut off: the mark of its end is not there")
                return
            at = tar.offset
            if member.isreg():
                yield member.name.removeprefix("./"), member.size, member.offset_data


def _plain(head: bytes) -> tuple[str, int] | None:
    """The name and the size of a regular file with a header of the simplest kind; None for all others."""
    magic, kind = head[257:263], head[156:157]
    if (
        len(head) < tarfile.BLOCKSIZE
        or magic not in (b"ustar\0", b"ustar ")
        or kind not in (b"0", b"\0")
        or head[124] & 128
    ):
        return None
    try:
        size, checksum = (int(field.strip(b" \0") or b"0", 8) for field in (head[124:136], head[148:156]))
    except ValueError:
        return None
    name = head[:100].partition(b"\0")[0]
    if magic == b"ustar\0" and head[345]:
        name = head[345:500].partition(b"\0")[0] + b"/" + name
    if name.endswith(b"/") or sum(head) - sum(head[148:156]) + 8 * 32 != checksum:
        return None
    return name.decode(errors="surrogateescape").removeprefix("./"), size


def _unusable(name: str, size: int) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the file name is not valid UTF-8"
    if size > MAX_BYTES:
        return too_large(size)
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
