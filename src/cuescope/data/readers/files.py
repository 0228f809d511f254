"""Image files below a folder: found, named compactly, read one by one."""

import functools
import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, printable
from cuescope.core.progress import Progress, quiet
from cuescope.data.derived import Subset
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.readers.decode import decode, sniff

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"}
    | {".heic", ".heif"}  # read with the extra heic; without it listed as skipped, with the reason
)
OTHER_SUFFIXES = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".svg", ".py", ".log"}
    | {".npy", ".npz", ".mat", ".pkl", ".h5", ".parquet", ".pt", ".pth", ".safetensors", ".onnx", ".db", ".ini"}
    | {".zip", ".tar", ".gz", ".pdf"}
)
"""Known to be no images, so that a folder with a million annotation files is not opened file by file."""


class Names(Sequence[str]):
    """Many strings in one buffer: a third of the memory of a list, which counts for a million files.

    >>> list(Names(["cat/a.jpg", "dog/b.jpg"]).take([1]))
    ['dog/b.jpg']
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text, self._ends = bytearray(), array("q", [0])
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        self._text += name.encode()
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._text[self._ends[index] : self._ends[index + 1]].decode()

    def take(self, positions: Iterable[int]) -> "Names":
        """The names at these positions, in their order."""
        return Names(self[i] for i in positions)


PASSED = re.compile(
    r"@eadir|@__thumb|__macosx|#recycle|#snapshot|\$recycle\.bin|system volume information|lost\+found", re.I
)
"""Folders that systems make beside people's own: thumbnails, forks, bins. They are passed over as hidden ones are."""


@dataclass(frozen=True)
class Found:
    """What lies below a folder: image files by relative path, what cannot be used, how many files are no images.

    `passed` names the kinds of folders that a system made and that were passed over.
    """

    names: Names
    skipped: tuple[Skipped, ...]
    others: int
    passed: tuple[str, ...] = ()


def checked_folder(path: Path | str) -> Path:
    """The folder, or a CueError where there is none that can be listed."""
    path = Path(path).expanduser()
    if not path.exists():
        raise CueError(f"no folder '{path}'", wanted="a folder of images", do="check the path")
    if not path.is_dir():
        raise CueError(f"'{path}' is a file", wanted="a folder of images", do=f"give its folder, '{path.parent}'")
    try:
        with os.scandir(path):
            return path
    except OSError as error:
        found = f"the folder '{path}' cannot be read: {error.strerror}"
        raise CueError(found, wanted="a folder that you may list", do="check its permissions") from None


def scan(root: Path, progress: Progress = quiet) -> Found:
    """Which image files lie below a folder, at any depth?

    Order: a folder's own files by name, then its subfolders by name. Hidden files and folders are passed over.
    Links are followed, a linked folder once. Raises CueError where there is no image file.
    """
    names, skipped, others, passed = Names(), [], 0, dict[str, None]()
    read = {os.path.realpath(root)}
    folders = [""]
    while folders:
        progress(0, 0, f"listing {root}: {len(names):,} images")
        folder = folders.pop()
        inner: list[str] = []
        for entry in _entries(root, folder, skipped):
            name = f"{folder}{entry.name}"
            if is_folder(entry):
                if PASSED.fullmatch(entry.name):
                    passed[entry.name] = None
                elif _is_new(entry, read):
                    inner.append(name + "/")
                else:
                    skipped.append(Skipped(name + "/", "a link to a folder that is read already"))
            elif not _is_image(entry):
                others += 1
            elif (why := _unusable(entry, name)) is not None:
                skipped.append(Skipped(os.fsencode(name).decode(errors="backslashreplace"), why))
            else:
                names.append(name)
        folders += reversed(inner)
    if not names:
        rest = f"; it has {others:,} other file{'s' * (others > 1)}" if others else ": it is empty"
        rest = f": '{skipped[0].id}' is {skipped[0].why}" if skipped else rest
        raise CueError(f"no image in '{root}'{rest}", wanted="a folder of images", do="check the path")
    return Found(names, tuple(skipped), others, tuple(passed))


def _entries(root: Path, folder: str, skipped: list[Skipped]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(Skipped(folder, f"the folder cannot be read: {error.strerror}"))
        return []


def _is_new(folder: os.DirEntry[str], read: set[str]) -> bool:
    """Whether nothing of this folder is read by another way; `read` are the real paths of root and linked folders."""
    if not folder.is_symlink():
        return True
    target = os.path.realpath(folder.path)
    for known in read:
        outside = Path(os.path.relpath(target, known)).parts
        # Upward only: it holds the known folder. Downward only: it is read there, unless it is hidden.
        if set(outside) <= {".."} or not any(part.startswith(".") for part in outside):
            return False
    read.add(target)
    return True


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, links followed; a link to itself is none."""
    with suppress(OSError):
        return entry.is_dir()
    return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file, links followed; a link to itself is none."""
    with suppress(OSError):
        return entry.is_file()
    return False


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a Path for each of a million files is slow
    if suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES:
        return suffix in IMAGE_SUFFIXES
    with suppress(OSError):
        if entry.is_file():
            with open(entry.path, "rb") as file:  # noqa: PTH123
                return sniff(file.read(32)) is not None
    return False


def _unusable(entry: os.DirEntry[str], name: str) -> str | None:
    """Why this image file, of this path, cannot be used, as far as one can tell without opening it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the {'file name' if name == entry.name else 'path'} is not valid UTF-8"
    if is_file(entry):
        return None
    return "a link to a file that is not there" if entry.is_symlink() else "not a regular file"


def parted(
    root: Path, found: Found, parsed: Sequence[object], why: str, *, lacks: str, wanted: str, do: str
) -> tuple[list[int], list[Skipped]]:
    """Positions of the names of which something was parsed, and all that is skipped: the others too, for this reason.

    Raises CueError, with what every image `lacks`, where nothing could be parsed of any name.
    """
    good = [i for i, known in enumerate(parsed) if known]
    if not good:
        raise CueError(f"no image in '{root}' {lacks} (such as '{found.names[0]}')", wanted=wanted, do=do)
    return good, [*found.skipped, *(Skipped(found.names[i], why) for i, known in enumerate(parsed) if not known)]


def spread(total: int, limit: int | None) -> np.ndarray:
    """Positions of at most `limit` of `total` things, evenly spread: the first ones would all be of one class.

    >>> spread(10, 4).tolist()
    [0, 2, 5, 7]
    """
    if limit is None or limit >= total:
        return np.arange(total)
    if limit < 1:
        raise CueError(f"limit {limit}", wanted="a number of images of at least 1", do="give a larger limit")
    return np.arange(limit) * total // limit


class FileSet(ImageSet):
    """Image files below a folder; an id is the path relative to it. Labels index `classes`, -1 where unknown.

    `real` holds, for some ids, all the labels that are right, `real_from` where these come from.
    """

    def __init__(
        self,
        root: Path,
        names: Names,
        *,
        name: str = "",
        labels: np.ndarray | None = None,
        classes: ClassSpace | None = None,
        real: Mapping[str, tuple[int, ...]] | None = None,
        real_from: str = "ReaL",
        notes: Sequence[str] = (),
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.root, self.names, self.source = root, names, printable(str(root.absolute()))
        self.name = name or printable(Path(os.path.realpath(root)).name)
        self.labels = labels if labels is not None and (labels >= 0).any() else None
        self.classes = classes if self.labels is not None or real else None
        self.real, self.real_from = real or {}, real_from
        if self.classes is not None:
            self.knows = frozenset({"label", "labels"} if self.real else {"label"})
        self.notes, self.skipped = tuple(notes), tuple(skipped)

    def __len__(self) -> int:
        return len(self.names)

    def id(self, index: int) -> str:
        return self.names[index]

    def label(self, index: int) -> int | None:
        return None if self.labels is None or self.labels[index] < 0 else int(self.labels[index])

    def read(self, index: int) -> Sample:
        name, source = self.id(index), self.real_from if self.real else ""
        return Sample(name, decode(self.root / name), self.label(index), self.real.get(name, ()), source)

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Over each file's path, size, time of change and labels: some seconds for a million files."""
        total = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for index, name in enumerate(self.names):
            try:
                status = os.stat(f"{self.root}/{name}")  # noqa: PTH116 - a Path for each of a million files is slow
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:
                size = changed = -1
            about = (name, size, changed, self.label(index), self.real.get(name, ()))
            total.update(repr(about).encode())
        return total.hexdigest()


def subset(images: ImageSet, limit: int | None) -> ImageSet:
    """At most `limit` of the images, evenly spread. Raises CueError for a limit below 1."""
    at = spread(len(images), limit).tolist()
    return images if len(at) == len(images) else Subset(images, at)
