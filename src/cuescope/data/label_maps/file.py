"""Label maps of a whole image set in one safetensors file, mapped into memory: any map by its image's id.

Its tensors are `maps`, the bytes of all maps one after the other (`layout`), and `index`, a Parquet table with a row
for each map: `id` of the image, where the map starts (`at`), its CRC-32 (`crc`), `height` and `width`. The metadata
hold `header` (JSON) and `digest`, BLAKE2b (16 bytes) of the header and the index, and so of the whole file.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, nearest
from cuescope.core.files import parsed, writing
from cuescope.core.parquet_file import read_table
from cuescope.core.tables import DAMAGED
from cuescope.data.images import ImageSet
from cuescope.data.label_maps.layout import Arrays, Header, decode, encode

FILE = "label_maps.safetensors"
"""The file's name in a folder that `cuescope make label-maps` made."""

INDEX = {"id": pl.String, "at": pl.UInt64, "crc": pl.UInt32, "height": pl.UInt16, "width": pl.UInt16}

Encoded = tuple[str, int, int, Any]
"""Image id, height, width and the bytes of its map."""


def open_label_maps(path: str | Path) -> "LabelMapFile":
    """The label maps of an image set, by image id, in a file or in the folder that `cuescope make label-maps` made.

    Raises CueError where there is none, or it is of another format or schema, truncated or damaged.
    """
    path = Path(path).expanduser()
    return LabelMapFile(path / FILE if path.is_dir() else path)


class LabelMapFile:
    """Which labels does each part of an image show? The maps of a whole set, each read when it is asked for.

    `maps[id]` is (scores (k, h, w) float32, classes (k, h, w) int64), the highest score of a position first, rows from
    the top and columns from the left of the image; `len(maps)`, `id in maps` and iteration over ids work as in a
    dictionary. It can be sent to other processes. A damaged map raises CueError, and so does an id that is not here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file: Any = safe_open(str(path), "np")
            metadata, index = file.metadata(), file.get_tensor("index").tobytes()
            self.digest = _digest(metadata["header"], index)
            if self.digest != metadata["digest"]:
                raise ValueError("it is not as it was written")
            self.header = Header.from_json(parsed(metadata["header"]))
            self.classes = self.header.classes
            self._index = read_table(index, schema=INDEX).rechunk()
            if any(column.null_count() for column in self._index):
                raise ValueError("its index has gaps")
            self._maps = file.get_slice("maps")
            self.ids: Sequence[str] = self._index["id"]  # type: ignore[assignment]
            self._places = [self._index[name].to_numpy() for name in list(INDEX)[1:]]
        except OSError as error:
            do = "check the path, or make them: cuescope make label-maps IMAGES FOLDER"
            found = f"cannot read '{path}': {error.strerror or error}"
            raise CueError(found, wanted="a file of label maps", do=do) from None
        except (SafetensorError, LookupError, TypeError, AttributeError, ArithmeticError, *DAMAGED) as error:
            raise self._wrong(f"is truncated, damaged or no file of label maps ({error})") from None
        at, _, height, width = self._places
        total = self._maps.get_shape()[0]
        sizes = self.header.size(height.astype(np.uint64), width.astype(np.uint64))
        if (np.minimum(height, width) < 1).any() or (sizes > total).any() or (at > total - sizes).any():
            raise self._wrong("is damaged: its index points outside of the file")

    def __len__(self) -> int:
        return len(self.ids)

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
        height, width, data = self.encoded(position)
        scores, classes = decode(self.header, data, height, width)
        if (top := int(classes.max())) >= len(self.classes):
            raise self._wrong(f"is damaged: class {top} of {len(self.classes)} in the map of '{name}'")
        return scores, classes

    def encoded(self, position: int) -> tuple[int, int, Any]:
        """Height, width and the bytes, checked, of the map of `ids[position]`."""
        at, crc, height, width = (int(column[position]) for column in self._places)
        data = self._maps[at : at + self.header.size(height, width)]
        if zlib.crc32(data) != crc:
            raise self._wrong(f"is damaged: the map of '{self.ids[position]}' is not as it was written")
        return height, width, data

    def check(self, images: ImageSet, classes: ClassSpace | None = None) -> None:
        """Raises CueError unless every image of the set has a map here, and the classes are those of the maps."""
        missing = [name for name in map(images.id, range(len(images))) if name not in self]
        if missing:
            found = f"'{self.path}' has no map of {len(missing):,} of {len(images):,} images, such as '{missing[0]}'"
            wanted = f"the maps of {images.name}; these are of {self.header.images or 'other images'}"
            raise CueError(found, wanted=wanted, do="give the maps that were made of these images")
        if classes is not None and (len(classes) != len(self.classes) or _differ(classes, self.classes)):
            found = f"'{self.path}' has label maps of {len(self.classes):,} classes ({self.classes.name})"
            wanted = f"{len(classes):,} classes ({classes.name})"
            raise CueError(found, wanted=wanted, do="make the maps with a classifier of these classes")

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
        first, last = (hashes.searchsorted(np.int64(hash(name)), side) for side in ("left", "right"))
        return next((position for position in order[first:last].tolist() if self.ids[position] == name), None)

    def _wrong(self, what: str) -> CueError:
        do = "make it anew: cuescope make label-maps IMAGES FOLDER"
        return CueError(f"'{self.path}' {what}", wanted="a file of label maps, whole", do=do)


def write_label_maps(path: str | Path, header: Header, maps: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Path:
    """Write (image id, scores (k, h, w), classes (k, h, w)) to one file, in their order, whole or not at all.

    Maps are held one at a time; sizes may differ. Raises ValueError for what is no map of this header and for an image
    that comes twice, CueError where the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), FILE)
    >>> header = Header(ClassSpace("mine", ("cat", "dog")), k=1)
    >>> _ = write_label_maps(path, header, [("a.jpg", np.full((1, 3, 4), 2.5), np.ones((1, 3, 4), int))])
    >>> scores, classes = open_label_maps(path)["a.jpg"]
    >>> scores.shape, float(scores[0, 2, 3]), int(classes[0, 2, 3])
    ((1, 3, 4), 2.5, 1)
    """
    return _written(Path(path).expanduser(), header, _encoded(header, maps))


def label_map_bytes(header: Header, maps: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> bytes:
    """The bytes of the file that `write_label_maps` would write."""
    file = io.BytesIO()
    _dump(file, header, _encoded(header, maps))
    return file.getvalue()


def pack_label_maps(path: str | Path, parts: Sequence[Path]) -> Path:
    """One file of the maps of several, in their order and bit for bit, whole or not at all.

    Raises CueError for no part, parts of different headers, a damaged part, and where the file cannot be written;
    ValueError for an image that two of them have.
    """
    if not parts:
        raise CueError("no label maps to put together", wanted="at least one file of them", do="make some first")
    header = open_label_maps(parts[0]).header

    def encoded() -> Iterator[Encoded]:
        for part in parts:
            maps = open_label_maps(part)
            if replace(maps.header, about=header.about) != header:
                wanted = "the same classes, k, bits, images and annotator"
                raise CueError(f"'{part}' and '{parts[0]}' differ", wanted=wanted, do="put together others")
            for position, name in enumerate(maps.ids):
                yield name, *maps.encoded(position)

    return _written(Path(path).expanduser(), header, encoded())


def _encoded(header: Header, maps: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Iterator[Encoded]:
    for name, scores, classes in maps:
        try:
            data, height, width = encode(header, scores, classes)
        except ValueError as error:
            raise ValueError(f"'{name}': {error}") from None
        yield name, height, width, data


def _written(path: Path, header: Header, maps: Iterable[Encoded]) -> Path:
    with writing(path, wanted="room and permission to write", do="make room, or choose another file") as file:
        _dump(file, header, maps)
    return path


def _dump(file: BinaryIO, header: Header, maps: Iterable[Encoded]) -> None:
    """Map by map, in bounded memory: the sizes in the head are known at the end, so room is left for them."""
    text = json.dumps(header.to_json(), ensure_ascii=False)
    room = len(_head(text, 1 << 60, 1 << 60, _digest("", b"")))
    file.write(bytes(room))
    rows: dict[str, tuple[int, int, int, int]] = {}
    end = 0
    for name, height, width, data in maps:
        if name in rows:
            raise ValueError(f"two maps of the image '{name}'")
        file.write(data)
        rows[name] = end, zlib.crc32(data), height, width
        end += len(data)
    buffer = io.BytesIO()
    pl.DataFrame([(name, *row) for name, row in rows.items()], INDEX, orient="row").write_parquet(buffer)
    index = buffer.getvalue()
    file.write(index)
    file.seek(0)
    file.write(_head(text, end, len(index), _digest(text, index), room))
    file.seek(0, io.SEEK_END)


def _digest(header: str, index: bytes) -> str:
    return hashlib.blake2b(header.encode() + index, digest_size=16).hexdigest()


def _head(header: str, maps: int, index: int, digest: str, room: int = 8) -> bytes:
    """The head of a safetensors file of two tensors of bytes, filled up with spaces to `room` bytes."""
    tensors = {
        name: {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
        for name, start, stop in (("maps", 0, maps), ("index", maps, maps + index))
    }
    content = {"__metadata__": {"header": header, "digest": digest}, **tensors}
    data = json.dumps(content, ensure_ascii=False).encode().ljust(room - 8)
    return len(data).to_bytes(8, "little") + data


def _differ(a: ClassSpace, b: ClassSpace) -> bool:
    """Whether both know what their classes are, and these are others."""
    known = [space for space in (a, b) if space.name != "numbered"]
    return len(known) == 2 and (a.keys != b.keys if a.keys and b.keys else a.names != b.names)
