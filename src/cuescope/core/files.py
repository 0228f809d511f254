"""Files written whole or not at all, and JSON that holds numbers only."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError


def why_not(error: OSError | ValueError) -> str:
    """Why a folder cannot be made or written to, in words.

    >>> why_not(FileExistsError(17, "File exists"))
    'it is a file'
    """
    return "it is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or str(error)


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises CueError where the disk is full or forbids it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _discard(temporary)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CueError(
            f"cannot write '{path}': {'the disk is full' if full else error.strerror}",
            wanted="room and permission to write; every chunk that was finished is kept",
            do="make room (or mend the folder) and run the same command again: it continues",
        ) from None


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # The folder itself is gone or forbidden: there is nothing of ours left to remove.
        return


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """JSON with no NaN in it: a missing number is null with its reason beside it."""
    write(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises CueError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CueError(
            f"cannot read '{path}': {error}", wanted="a JSON file of a run", do="remove it, audit again"
        ) from None
