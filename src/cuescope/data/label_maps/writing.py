"""Writing label-map files: whole or not at all, map by map, in bounded memory."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from cuescope.core.errors import CueError
from cuescope.data.label_maps.layout import END, MAGIC, PREFIX, RECORD, Header, crc, encode
from cuescope.data.label_maps.reading import open_label_maps

FILL = 64
"""The header is filled up to a multiple of this many bytes."""
PLACES = ("count", "bytes", "index_at", "index_crc")

Encoded = tuple[str, int, int, bytes]
"""Image id, height, width and the bytes of its map."""


def write_label_maps(path: str | Path, header: Header, maps: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Path:
    """Write (image id, scores (k, h, w), classes (k, h, w)) to one file, in their order, whole or not at all.

    `maps` may be a generator: one is held at a time. Sizes may differ. Scores are kept in `header.bits` bits between
    the lowest and the highest of each map and rank. Raises ValueError for what is no map of this header and for an
    image that comes twice, CueError where the file cannot be written.

    >>> import tempfile
    >>> from cuescope.core.classes import ClassSpace
    >>> path = Path(tempfile.mkdtemp(), "label_maps.cuemaps")
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
    with open_label_maps(parts[0]) as first:
        header = first.header

    def encoded() -> Iterator[Encoded]:
        for part in parts:
            with open_label_maps(part) as maps:
                if replace(maps.header, about=header.about) != header:
                    wanted = "the same classes, k, bits, images and annotator"
                    raise CueError(f"'{part}' and '{parts[0]}' differ", wanted=wanted, do="put together others")
                for position, name in enumerate(maps.ids):
                    yield name, *maps.size(position), maps.data(position)

    return _written(Path(path).expanduser(), header, encoded())


def _encoded(header: Header, maps: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> Iterator[Encoded]:
    for name, scores, classes in maps:
        try:
            data, height, width = encode(header, scores, classes)
        except ValueError as error:
            raise ValueError(f"'{name}': {error}") from None
        yield name, height, width, data


def _written(path: Path, header: Header, maps: Iterable[Encoded]) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            _dump(file, header, maps)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        found = f"cannot write '{path}': {error.strerror}"
        raise CueError(found, wanted="room and permission to write", do="make room, or choose another file") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _dump(file: BinaryIO, header: Header, maps: Iterable[Encoded]) -> None:
    room = -(-(PREFIX.size + len(_json(header, [(1 << 64) - 1] * len(PLACES)))) // FILL) * FILL
    file.write(bytes(room))
    records, ends, names, at, seen = bytearray(), bytearray(), bytearray(), room, set[str]()
    for name, height, width, data in maps:
        if name in seen:
            raise ValueError(f"two maps of the image '{name}'")
        seen.add(name)
        file.write(data)
        records += np.array([(at, crc(data), height, width)], RECORD).tobytes()
        names += name.encode()
        ends += np.array([len(names)], END).tobytes()
        at += len(data)
    tail = bytes(records + ends + names)
    file.write(tail)
    told = _json(header, [len(seen), at + len(tail), at, crc(tail)]).ljust(room - PREFIX.size)
    file.seek(0)
    file.write(PREFIX.pack(MAGIC, len(told), crc(told)) + told)
    file.seek(0, io.SEEK_END)


def _json(header: Header, places: Sequence[int]) -> bytes:
    return json.dumps({**header.to_json(), **dict(zip(PLACES, places, strict=True))}, ensure_ascii=False).encode()
