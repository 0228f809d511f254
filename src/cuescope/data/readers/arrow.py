"""Datasets that Hugging Face's save_to_disk wrote: Arrow streams, of which one batch of rows is read at a time."""

import bisect
import io
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.core.progress import Progress, quiet
from cuescope.core.tables import DAMAGED
from cuescope.core.wording import counted
from cuescope.data.images import Lock, UnreadableError
from cuescope.data.readers.decode import unreached
from cuescope.data.readers.far import FarFile
from cuescope.data.readers.files import Names
from cuescope.data.readers.parquet import bytes_in, image_column, label_column, labels_in
from cuescope.data.readers.stored import Store, StoredSet, state

INFO = "dataset_info.json"
_MARK, _END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
_BATCH = 3
"""The kind of a message that holds rows."""


class _Stream:
    """Where the batches of rows lie in an Arrow stream: its schema as bytes, and (start, length, rows) of each."""

    def __init__(self, path: Path) -> None:
        self.path, self.batches = path, list[tuple[int, int, int]]()
        self.schema = b""
        size = path.stat().st_size
        with path.open("rb") as file:
            while len(start := file.read(8)) == 8 and start != _END:
                if start[:4] != _MARK:
                    raise ValueError("it is no Arrow stream")
                count = struct.unpack("<i", start[4:])[0]
                if not 0 < count <= size - file.tell():
                    raise ValueError("it is cut off")
                message = file.read(count)
                kind, body, rows, packed = _message(message)
                at, length = file.tell() - len(message) - 8, len(message) + 8 + body
                if body < 0 or at + length > size:
                    raise ValueError("it is cut off")
                if packed or rows > body:
                    what = "are packed" if packed else f"hold {rows:,} rows in {body:,} bytes"
                    raise ValueError(f"its batches {what}, which save_to_disk does not write")
                if not self.schema:
                    self.schema = start + message
                elif kind == _BATCH:
                    self.batches.append((at, length, rows))
                else:
                    raise ValueError("it has dictionaries, which are not read")
                file.seek(at + length)

    def read(self, batch: int) -> pl.DataFrame:
        at, length, _ = self.batches[batch]
        with self.path.open("rb") as file:
            file.seek(at)
            return pl.read_ipc_stream(io.BytesIO(self.schema + file.read(length) + _END))

    def empty(self) -> pl.DataFrame:
        """No rows, with the schema. Raises PolarsError where that cannot be read."""
        return pl.read_ipc_stream(io.BytesIO(self.schema + _END))


def _message(data: bytes) -> tuple[int, int, int, bool]:
    """The kind of a message, the bytes of its body, its rows, and whether they are packed: of its flatbuffer."""

    def at(table: int, field: int) -> int:
        """Where a field of a table lies; 0 where it has its default."""
        vtable = table - struct.unpack_from("<i", data, table)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        offset = struct.unpack_from("<H", data, vtable + 4 + 2 * field)[0] if 4 + 2 * field < size else 0
        return table + offset if offset else 0

    def number(place: int) -> int:
        return struct.unpack_from("<q", data, place)[0] if place else 0

    root = struct.unpack_from("<I", data)[0]
    kind, header, body = (at(root, field) for field in (1, 2, 3))
    if not kind or data[kind] != _BATCH or not header:
        return data[kind] if kind else 0, number(body), 0, False
    batch = header + struct.unpack_from("<I", data, header)[0]
    if buffers := at(batch, 2):
        first = buffers + struct.unpack_from("<I", data, buffers)[0]
        places = struct.unpack_from(f"<{2 * struct.unpack_from('<I', data, first)[0]}q", data, first + 4)
        starts_sizes = zip(places[::2], places[1::2], strict=True)
        # Polars asks for a buffer's memory before it looks whether so much is there.
        if any(min(start, size) < 0 or start + size > number(body) for start, size in starts_sizes):
            raise ValueError("its buffers are larger than it is")
    return _BATCH, number(body), number(at(batch, 0)), at(batch, 3) > 0


class _Batches(Store):
    """The bytes of images in the batches of streams; two batches are kept."""

    def __init__(self, streams: Sequence[_Stream], column: pl.Expr) -> None:
        self.paths = [stream.path for stream in streams]
        self.column = column
        self.batches = [(stream, k) for stream in streams for k in range(len(stream.batches))]
        self.bounds = [0, *itertools.accumulate(stream.batches[k][2] for stream, k in self.batches)]
        self._held: dict[int, list[bytes | None]] = {}
        self._lock = Lock()

    def states(self) -> Iterable[object]:
        return map(state, self.paths)

    def bytes(self, index: int) -> bytes:
        number = bisect.bisect_right(self.bounds, index) - 1
        with self._lock:
            if (rows := self._held.get(number)) is None:
                stream, batch = self.batches[number]
                try:
                    rows = stream.read(batch).select(self.column).to_series().to_list()
                except OSError as error:
                    raise unreached(stream.path, error, "its Arrow file") from None
                except DAMAGED as error:
                    raise UnreadableError(f"its Arrow file cannot be read: {error}") from None
                self._held = {**dict([*self._held.items()][-1:]), number: rows}
        if (data := rows[index - self.bounds[number]]) is None:
            raise UnreadableError("its row holds no bytes, at most the path of a file")
        return data


def read_arrow(paths: Sequence[Path], name: str, progress: Progress = quiet) -> StoredSet:
    """Which images are in these Arrow streams, and what are their labels? As `read_parquet`, and named alike.

    Names of classes are those of the dataset_info.json beside them. Raises CueError where a file cannot be read, or
    there is no column of images.
    """
    streams = []
    for number, path in enumerate(paths):
        progress(0, 0, f"reading what lies in the Arrow files, {number + 1:,} of {len(paths):,}")
        if isinstance(path, FarFile):
            do = "write it as Parquet: datasets.load_from_disk(DIR).to_parquet(FILE)"
            raise CueError(f"'{path}' is an Arrow file at an address", wanted="a Parquet file there", do=do)
        with _readable(path):
            streams.append(_Stream(path))
            streams[-1].empty()
    schema, features = dict(streams[0].empty().schema), _features(paths[0].parent)
    column = image_column(paths[0], schema, features)
    label, classes = label_column(schema, features)
    labels: list[pl.Series] = []
    names = Names()
    for stream in streams:
        folder = f"{stream.path.parent.name}/" if len({path.parent for path in paths}) > 1 else ""
        total = 0
        for k, (_, _, rows) in enumerate(stream.batches):
            with _readable(stream.path):
                labels += [] if label is None else [stream.read(k)[label]]
            total += rows
        for row in range(total):
            names.append(f"{folder}{stream.path.stem}/{row}")
    if not names:
        raise CueError(f"'{paths[0]}' has no row", wanted="a row an image", do="check the path")
    notes = [f"in the rows of {counted(len(paths), 'Arrow file')}"]
    places, space = labels_in(label, classes, labels, len(names), notes)
    return StoredSet(name, names, _Batches(streams, bytes_in(schema, column)), places, space, notes)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise CueError for what a damaged file makes of reading it."""
    try:
        yield
    except (struct.error, IndexError, *DAMAGED) as error:
        found = f"'{path}' cannot be read as an Arrow stream: {error}"
        do = "write it as Parquet: datasets.load_from_disk(DIR).to_parquet(FILE)"
        raise CueError(found, wanted="a dataset as save_to_disk writes it", do=do) from None


def _features(folder: Path) -> dict[str, Any]:
    try:
        found = parsed((folder / INFO).read_text(encoding="utf-8"))["features"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
