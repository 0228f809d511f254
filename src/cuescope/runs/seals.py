"""Is a file of a run what was written, and of this cell? A checksum and a name stand in each chunk and each finding."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import polars as pl

from cuescope.core.files import SUM_BYTES, checksum

KEY = "cuescope"
"""Of the seal in a Parquet file's metadata: the chunk's name, and a checksum of the file with zeros in its place."""
MARK, DIGITS = " blake2b:", 2 * SUM_BYTES


def sealed_rows(rows: pl.DataFrame, name: str) -> bytes:
    """A Parquet file that says of which chunk it is, with a checksum of all its bytes."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, metadata={KEY: f"<{name}>{MARK}{'0' * DIGITS}"})
    data = buffer.getvalue()
    at = data.rindex(MARK.encode()) + len(MARK)
    return data[:at] + _sum(data).encode() + data[at + DIGITS :]


def check_rows(data: bytes, name: str) -> str:
    """The checksum of a chunk's file. Raises ValueError where it is damaged, or that of another chunk.

    >>> one = sealed_rows(pl.DataFrame({"id": ["a"]}), "cell/000000")
    >>> len(check_rows(one, "cell/000000"))
    32
    >>> check_rows(one, "cell/000001")
    Traceback (most recent call last):
    ...
    ValueError: it holds the rows of another chunk
    """
    mark = MARK.encode()
    start = data.rfind(mark)
    if start < 0:
        raise ValueError("it has no checksum")
    at = start + len(mark)
    stated = data[at : at + DIGITS]
    found = _sum(memoryview(data)[:at], b"0" * DIGITS, memoryview(data)[at + DIGITS :])
    if stated != found.encode():
        raise ValueError("its checksum is another: it was damaged")
    own = f"<{name}>".encode()
    if data[start - len(own) : start] != own:
        raise ValueError("it holds the rows of another chunk")
    return found


def sealed(data: Mapping[str, Any], cell: str, chunks: list[str]) -> dict[str, Any]:
    """A finding's JSON with the cell that it is of, the checksums of the chunks it was concluded from, and its own."""
    whole = {**data, "cell": cell, "chunks": chunks}
    return {**whole, "checksum": checksum(whole)}


def unsealed(data: Mapping[str, Any], cell: str) -> tuple[dict[str, Any], list[str]]:
    """A finding's JSON as it was before, and the checksums of its chunks.

    Raises ValueError where it is damaged, or that of another cell.

    >>> unsealed(sealed({"a": 1}, "cell", ["f0"]), "cell")
    ({'a': 1}, ['f0'])
    """
    rest = dict(data)
    if rest.pop("checksum", None) != checksum(rest):
        raise ValueError("its checksum is another: it was damaged" if "checksum" in data else "it has no checksum")
    if rest.pop("cell", None) != cell:
        raise ValueError("it is the finding of another cell")
    if not isinstance(chunks := rest.pop("chunks", None), list):
        raise ValueError("it does not say of which chunks it is")
    return rest, chunks


def _sum(*parts: bytes | memoryview) -> str:
    total = hashlib.blake2b(digest_size=SUM_BYTES)
    for part in parts:
        total.update(part)
    return total.hexdigest()
