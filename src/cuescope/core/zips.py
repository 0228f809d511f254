"""ZIP archives from elsewhere: what reading a damaged one raises, and how much one may unpack to."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, ValueError, NotImplementedError, RuntimeError, MemoryError),
)
"""RuntimeError where a password is asked for, MemoryError where LZMA is told to hold gigabytes."""
LARGEST_PACKED = 64 << 20
"""Bytes that the packed files of an archive hold at most: what torch packs is code."""


def check_packed(entries: Iterable[zipfile.ZipInfo], most: int = LARGEST_PACKED) -> None:
    """Raise ValueError where the packed files of an archive are larger together than `most` bytes.

    Also where they are packed by anything but deflate: zipfile unpacks that without an end, whatever size is stated.
    """
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if any(entry.compress_type != zipfile.ZIP_DEFLATED for entry in packed):
        raise ValueError("it is packed by something other than deflate")
    if sum(entry.file_size for entry in packed) > most:
        raise ValueError("it is packed, and too large")
