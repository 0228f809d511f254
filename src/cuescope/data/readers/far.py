"""Files at addresses: read by ranges of bytes, fetched before they are asked for, within a bound of memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, cast

from cuescope.core.errors import CueError
from cuescope.core.remote import Entry, Remote
from cuescope.data.images import OutOfReachError

FETCHERS = 32
"""Requests at a time: an image takes some hundredths of a second to come, and a GPU a thousandth to look at it."""
HELD_BYTES = 128 << 20
"""Of files that were fetched and wait for their use."""
BLOCK = 4 << 20
BLOCKS = 4
"""Bytes of one request where a file is read from its start to its end, and how many such are fetched at a time."""


class FarFile:
    """An object at an address, with the names that a path has."""

    def __init__(self, remote: Remote, entry: Entry) -> None:
        self.remote, self.entry = remote, entry
        path = Path(entry.name or remote.name)
        self.name, self.stem, self.suffix, self.size = path.name, path.stem, path.suffix, entry.size
        self.parent = path.parent if entry.name else Path(remote.name).parent

    def __str__(self) -> str:
        return self.remote.at(self.entry.name).url

    @property
    def state(self) -> tuple[str, int, str]:
        """What changes with its bytes."""
        return self.name, self.size, self.entry.tag

    @property
    def key(self) -> str:
        """A name for what is kept of it."""
        return hashlib.blake2b(repr((str(self), self.size, self.entry.tag)).encode(), digest_size=16).hexdigest()

    def read(self, start: int, size: int) -> bytes:
        """A range of its bytes. Raises OutOfReachError where it cannot be had."""
        try:
            return self.remote.read(self.entry.name, start, size)
        except OSError as error:
            raise out_of_reach(error) from None

    def open(self) -> BinaryIO:
        """The file from its start to its end; seeking forward is cheap. Reading raises OSError."""
        return cast(BinaryIO, io.BufferedReader(_Blocks(self), 1 << 16))


def out_of_reach(error: OSError) -> OutOfReachError:
    """Why an object cannot be read, to be raised: whatever it is, it may be mended, and credentials be renewed."""
    return OutOfReachError(f"it cannot be read: {error.strerror or error}")


@contextlib.contextmanager
def here(remote: Remote, names: Iterable[str]) -> Iterator[Path]:
    """A folder with copies of some small objects, for as long as they are looked at. Raises CueError."""
    with TemporaryDirectory(prefix="cuescope-") as folder:
        for name in names:
            path = Path(folder, name or remote.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.write_bytes(remote.read(name))
            except OSError as error:
                raise remote.at(name).error(error) from None
        yield Path(folder)


class _Blocks(io.RawIOBase):
    """A file in blocks, of which the next ones are on their way."""

    def __init__(self, file: FarFile) -> None:
        self._file, self._at = file, 0
        self._blocks: dict[int, Future[bytes]] = {}
        self._pool = ThreadPoolExecutor(BLOCKS, thread_name_prefix="blocks")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._at >= self._file.size:
            return 0
        number, start = divmod(self._at, BLOCK)
        data = self._block(number)[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        for old in [known for known in self._blocks if known < number]:
            self._blocks.pop(old).cancel()
        for following in range(number, number + BLOCKS):
            start = following * BLOCK
            if following not in self._blocks and start < self._file.size:
                size = min(BLOCK, self._file.size - start)
                read = self._file.remote.read
                self._blocks[following] = self._pool.submit(read, self._file.entry.name, start, size)
        return self._blocks[number].result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


class Fetcher:
    """The files of images, of which those that are wanted next are on their way."""

    def __init__(self, load: Callable[[int], bytes], size: Callable[[int], int]) -> None:
        self._load, self._size = load, size
        self._coming: dict[int, Future[bytes]] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type[Fetcher], tuple[Callable[[int], bytes], Callable[[int], int]]]:
        """Another process has one of its own, with nothing in it."""
        return Fetcher, (self._load, self._size)

    def ahead(self, indices: Sequence[int]) -> None:
        """Fetch these, as far as they fit; none: those that nobody asked for are let go."""
        with self._lock:
            if not indices:
                for index in [*self._coming]:
                    self._drop(index)
                return
            self._pool = self._pool or ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
            for index in indices:
                if index in self._coming:
                    continue
                if self._bytes + self._size(index) > HELD_BYTES:
                    return
                self._coming[index] = self._pool.submit(self._load, index)
                self._bytes += self._size(index)

    def get(self, index: int) -> bytes:
        """The file of an image, waited for where it is on its way."""
        with self._lock:
            coming = self._coming.get(index)
            if coming:
                self._drop(index, cancel=False)
        return coming.result() if coming else self._load(index)

    def _drop(self, index: int, *, cancel: bool = True) -> None:
        coming = self._coming.pop(index)
        self._bytes -= self._size(index)
        if cancel:
            coming.cancel()


def found(remote: Remote, suffixes: Iterable[str]) -> list[FarFile]:
    """The object at the address itself, where its name ends so; else none. Raises CueError where there is nothing."""
    if Path(remote.name).suffix.lower() not in suffixes:
        return []
    try:
        entry = remote.info()
    except OSError as error:
        raise remote.error(error, "a file of images, or a folder") from None
    return [FarFile(remote, entry)] if entry else []


def sized(file: FarFile, most: int, what: str) -> None:
    """Raise CueError where a file is too large to be read whole."""
    if file.size > most:
        found = f"'{file}' has {file.size:,} bytes"
        raise CueError(found, wanted=f"{what} of at most {most:,} bytes", do="check the address")
