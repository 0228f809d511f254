"""Reading label-map files: mapped into memory, checked when opened, any map by its image's id."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, nearest
from cuescope.data.images import ImageSet
from cuescope.data.label_maps.layout import END, MAGIC, PREFIX, RECORD, Arrays, Header, crc, decode

FILE = "label_maps.cuemaps"
"""The file's name in a folder that `cuescope make label-maps` made."""


def open_label_maps(path: str | Path) -> LabelMapFile:
    """The label maps of an image set, to be asked for by image id.

    `path` is a file, or the folder that `cuescope make label-maps` made. Nothing of the file is executed, and of the
    maps only what is asked for is read. Raises CueError where there is none, where it is of another format or schema,
    truncated or damaged, and where its index points outside.
    """
    path = Path(path).expanduser()
    return LabelMapFile(path / FILE if path.is_dir() else path)


class LabelMapFile:
    """Which labels does each part of an image show? The maps of a whole set, each read when it is asked for.

    `maps[id]` is (scores (k, h, w) float32, classes (k, h, w) int64), the highest score of a position first, rows from
    the top and columns from the left of the image; `len(maps)`, `id in maps` and iteration over ids work as in a
    dictionary. It can be sent to other processes, which open the file anew. Damage to a map is told by a CueError when
    it is read; so is an id that the file does not hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise self._wrong("is empty") from None
        except OSError as error:
            do = "check the path, or make them: cuescope make label-maps IMAGES FOLDER"
            raise CueError(f"cannot read '{path}': {error.strerror}", wanted="a file of label maps", do=do) from None
        try:
            self.header, places = self._opened()
            self._records, self.ids = self._index(self.header, *places)
        except BaseException:
            self.close()
            raise

    @property
    def classes(self) -> ClassSpace:
        """What the class ids stand for."""
        return self.header.classes

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __getitem__(self, name: str) -> Arrays:
        position = self._find(name)
        if position is None:
            close = nearest(name, self.ids) if len(self) <= 2000 else [self.ids[0]]
            wanted = f"one of its {len(self):,} images" + (f", such as {', '.join(close)}" if close else "")
            raise CueError(f"'{self.path}' has no map of '{name}'", wanted=wanted, do="give the maps of these images")
        return self.read(position)

    def read(self, position: int) -> Arrays:
        """The map of `ids[position]`."""
        height, width = self.size(position)
        scores, classes = decode(self.header, self.data(position), height, width)
        if int(classes.max()) >= len(self.classes):
            beyond = f"class {int(classes.max())} of {len(self.classes)} in the map of '{self.ids[position]}'"
            raise self._wrong(f"is damaged: {beyond}")
        return scores, classes

    def size(self, position: int) -> tuple[int, int]:
        """(height, width) of the map of `ids[position]`."""
        record = self._records[position]
        return int(record["height"]), int(record["width"])

    def data(self, position: int) -> bytes:
        """The bytes of the map of `ids[position]`, checked."""
        at, checked, height, width = self._records[position].tolist()
        data = self._bytes[at : at + self.header.size(height, width)]
        if crc(data) != checked:
            raise self._wrong(f"is damaged: the map of '{self.ids[position]}' is not as it was written")
        return data

    def check(self, images: ImageSet, classes: ClassSpace | None = None) -> None:
        """Raises CueError unless every image of the set has a map here, and the classes are those of the maps."""
        names = (images.id(i) for i in range(len(images)))
        missing = [name for name in names if name not in self]
        if missing:
            found = f"'{self.path}' has no map of {len(missing):,} of {len(images):,} images, such as '{missing[0]}'"
            wanted = f"the maps of {images.name}; these are of {self.header.images or 'other images'}"
            raise CueError(found, wanted=wanted, do="give the maps that were made of these images")
        if classes is not None and (len(classes) != len(self.classes) or _differ(classes, self.classes)):
            found = f"'{self.path}' has label maps of {len(self.classes):,} classes ({self.classes.name})"
            wanted = f"{len(classes):,} classes ({classes.name})"
            raise CueError(found, wanted=wanted, do="make the maps with a classifier of these classes")

    def close(self) -> None:
        """Let go of the file."""
        self._bytes.close()

    def __enter__(self) -> LabelMapFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return LabelMapFile, (self.path,)

    def __repr__(self) -> str:
        return f"<LabelMapFile {self.path}: {len(self):,} maps, top {self.header.k} of {len(self.classes):,} classes>"

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all ids in order, and whose they are: a tenth of a dictionary's memory."""
        hashes = np.fromiter(map(hash, self.ids), np.int64, len(self))
        order = hashes.argsort(kind="stable")
        return hashes[order], order

    def _find(self, name: str) -> int | None:
        hashes, order = self._hashes
        key = np.int64(hash(name))
        at = int(hashes.searchsorted(key))
        while at < len(hashes) and hashes[at] == key:
            if self.ids[position := int(order[at])] == name:
                return position
            at += 1
        return None

    def _opened(self) -> tuple[Header, tuple[int, int, int, int]]:
        data = self._bytes
        if len(data) < PREFIX.size or data[: len(MAGIC)] != MAGIC:
            raise self._wrong("is no file of label maps")
        _, length, checked = PREFIX.unpack(data[: PREFIX.size])
        text = data[PREFIX.size : PREFIX.size + length]
        if len(text) < length:
            raise self._wrong("is truncated")
        if crc(text) != checked:
            raise self._wrong("is damaged: its header is not as it was written")
        try:
            told = json.loads(text)
            header = Header.from_json(told)
            count, size, at, tail = (int(told[name]) for name in ("count", "bytes", "index_at", "index_crc"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._wrong(f"has a header that cannot be used ({error})") from None
        if len(data) < size:
            raise self._wrong(f"is truncated: {len(data):,} of {size:,} bytes")
        return header, (count, size, at, tail)

    def _index(self, header: Header, count: int, size: int, at: int, checked: int) -> tuple[np.ndarray, _Ids]:
        first = PREFIX.size + PREFIX.unpack(self._bytes[: PREFIX.size])[1]
        names = at + count * (RECORD.itemsize + END.itemsize)
        if count < 0 or not first <= at <= names <= size <= len(self._bytes):
            raise self._wrong("is damaged: its index is not where it should be")
        tail = self._bytes[at:size]
        if crc(tail) != checked:
            raise self._wrong("is damaged: its index is not as it was written")
        records = np.frombuffer(tail, RECORD, count)
        ends = np.frombuffer(tail, END, count, count * RECORD.itemsize)
        text = tail[count * (RECORD.itemsize + END.itemsize) :]
        if count and (int(ends[-1]) != len(text) or (np.diff(ends.astype(np.int64)) < 0).any()):
            raise self._wrong("is damaged: its image ids are cut")
        sizes = header.size(records["height"].astype(np.uint64), records["width"].astype(np.uint64))
        empty = count and min(records["height"].min(), records["width"].min()) < 1
        if empty or (records["at"] < first).any() or (records["at"] > at - sizes.clip(max=at)).any():
            raise self._wrong("is damaged: its index points outside of the file")
        return records, _Ids(text, ends)

    def _wrong(self, what: str) -> CueError:
        do = "make it anew: cuescope make label-maps IMAGES FOLDER"
        return CueError(f"'{self.path}' {what}", wanted="a file of label maps, whole", do=do)


class _Ids(Sequence[str]):
    """The image ids, decoded one by one."""

    def __init__(self, text: bytes, ends: np.ndarray) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self._ends[index - 1]) if index else 0
        return self._text[start : int(self._ends[index])].decode()


def _differ(a: ClassSpace, b: ClassSpace) -> bool:
    """Whether both know what their classes are, and these are others."""
    known = [space for space in (a, b) if space.name != "numbered"]
    return len(known) == 2 and (a.keys != b.keys if a.keys and b.keys else a.names != b.names)
