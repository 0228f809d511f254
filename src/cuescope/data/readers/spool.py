"""Bytes that take long to get are kept in a temporary file."""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence

import numpy as np

SHARE = 0.5
"""Of what is free on the disk of temporary files, so much may be taken."""


class Spool:
    """Bytes by number, in a file without a name that is gone with the process. Safe in threads.

    Where the disk has no room, nothing more is kept.

    >>> spool = Spool(3)
    >>> spool.keep(1, [b"one", None])
    >>> [spool.get(i) for i in range(3)]
    [None, b'one', None]
    """

    def __init__(self, count: int) -> None:
        self._at, self._size = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        self._lock, self._end = threading.Lock(), 0
        self._file, self._room = None, 0.0

    def __reduce__(self) -> tuple[type["Spool"], tuple[int]]:
        """Another process has one of its own, with nothing in it."""
        return Spool, (len(self._at),)

    def get(self, number: int) -> bytes | None:
        """What is kept under this number; None for nothing."""
        if self._file is None or self._at[number] < 0:
            return None
        with self._lock:
            self._file.seek(int(self._at[number]))
            return self._file.read(int(self._size[number]))

    def keep(self, first: int, rows: Sequence[bytes | None]) -> None:
        """Keep these under the numbers from `first` on, None as nothing."""
        sizes = np.array([len(row or b"") for row in rows], np.int64)
        ends = self._end + sizes.cumsum()
        try:
            with self._lock:
                if self._file is None:
                    # Without a buffer, which a full disk would make trouble of when it is read.
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the spool
                    weakref.finalize(self, self._file.close)
                    self._room = SHARE * shutil.disk_usage(tempfile.gettempdir()).free
                self._file.seek(self._end)
                if ends[-1] > self._room or self._file.write(b"".join(row or b"" for row in rows)) < sizes.sum():
                    return
        except OSError:
            return
        part = slice(first, first + len(rows))
        self._size[part], self._end = sizes, int(ends[-1])
        self._at[part] = np.where([row is None for row in rows], -1, ends - sizes)
