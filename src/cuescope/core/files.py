"""Files written whole or not at all, and read from untrusted folders without leaving them."""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cuescope.core.errors import CueError
from cuescope.core.remote import address

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_PIXELS = 2**24
"""The largest picture that is read."""
PART, PROBE = ".part", ".probe-"
"""Suffix of a file that is being written, and prefix of one that is written to try."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the start of a formula."""
MOST_BYTES = 2**28
"""The largest file that is read whole."""
SUM_BYTES = 16
"""Of a checksum."""


def why_not(error: OSError | ValueError) -> str:
    """Why a folder cannot be created or written to, in words."""
    return "it is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or str(error)


def cache() -> Path:
    """The folder for what can be made again, which need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cuescope"


def temporary(owner: object) -> tuple[Path, weakref.finalize[..., Any]]:
    """A new folder that goes with its owner, or at the end; and what makes it go, which can be detached."""
    place = tempfile.mkdtemp(prefix="cuescope-")
    return Path(place), weakref.finalize(owner, shutil.rmtree, place, ignore_errors=True)


def check_folder(path: Path) -> None:
    """Raise CueError where nothing can be written to this folder. Creates nothing."""
    if url := address(path):
        raise CueError(f"'{url}' is an address", wanted="a folder on this machine", do="write it there, and copy it")
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    do = "choose another --out"
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "permission denied" if there.is_dir() else f"'{there.name}' is a file"
        raise CueError(f"cannot write to '{path}': {why}", wanted="a folder that can be written", do=do)


def check_run_folder(path: Path) -> None:
    """Raise CueError where no run can be written to this folder. Creates nothing."""
    check_folder(path)
    check_names(path, {entry.name for entry in path.iterdir()} if path.exists() else set())


def check_names(place: Path | str, names: Set[str]) -> None:
    """Raise CueError where what lies in a folder is no run."""
    names = {name for name in names if not name.startswith(".")}
    if names and not names & {"manifest.json", "cells", "skipped"}:
        wanted = "a new folder, an empty one, or an earlier run"
        raise CueError(f"'{place}' holds files that are not a run", wanted=wanted, do="choose another --out")


def check_writable(folder: Path) -> None:
    """Make a folder and try to write to it. Raises OSError or ValueError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    # Equal process ids meet where two machines or containers share a folder.
    probe = folder / f"{PROBE}{os.getpid()}-{secrets.token_hex(4)}"
    probe.write_bytes(b"")
    probe.unlink()


def is_leftover(name: str) -> bool:
    """Whether a file of this name is what a writer that died has left."""
    return name.startswith(PROBE) or (name.startswith(".") and name.endswith(PART))


@contextmanager
def writing(path: Path, *, wanted: str, do: str) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name once it is whole; a link of this name is replaced, not followed.

    Raises CueError where the disk is full or forbids it.
    """
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise CueError(f"cannot write '{path}': {why}", wanted=wanted, do=do) from None
    finally:
        _discard(temporary)


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises CueError where the disk is full or forbids it."""
    wanted = "room and permission to write; every chunk that was finished is kept"
    do = "make room (or mend the folder) and run the same command again: it continues"
    with writing(path, wanted=wanted, do=do) as file:
        file.write(data)


def check_links(folder: Path) -> None:
    """Raise CueError where a link lies below a folder: what is written there could go elsewhere."""
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if os.path.islink(f"{parent}/{name}"):  # noqa: PTH114 - for a million names
                found, do = (
                    f"'{Path(parent, name)}' is a link",
                    "replace it by a folder or file, or choose another",
                )
                raise CueError(found, wanted="a folder without links, to write to", do=do)


def sweep(folder: Path) -> None:
    """Remove what writers that died have left below a folder that nobody writes to now."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if is_leftover(name):
                _discard(Path(parent, name))


def _discard(path: Path) -> None:
    with suppress(OSError):  # The folder itself is gone or forbidden: there is nothing of ours left to remove.
        path.unlink(missing_ok=True)


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below a folder. Raises CueError where it leaves the folder, also by a link.

    >>> inside(Path("run"), "maps/a.png").as_posix()
    'run/maps/a.png'
    """
    parts = Path(name).parts
    steps = [folder.joinpath(*parts[: i + 1]) for i in range(len(parts))]
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name or any(map(os.path.islink, steps)):
        found, wanted = f"'{name}' leaves the folder '{folder}'", "a path inside it, without links"
        raise CueError(found, wanted=wanted, do="do not trust this folder; audit again")
    return steps[-1]


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A regular file of at most so many bytes; links are not followed, and a pipe is not waited for.

    Raises OSError where it cannot be read, ValueError where it is something else or too large.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no file")
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {most:,}")
        return file.read()


def regular(path: Path) -> Path:
    """The path of a regular file, links followed. Raises OSError where there is none: a pipe could be waited for."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "Is a directory" if path.is_dir() else "it is no regular file")
    return path


def encoding_of(data: bytes) -> str:
    r"""The encoding of a text that begins with these bytes: UTF-8, or what its byte order mark says.

    >>> encoding_of("\ufeffcat".encode("utf-16-le"))
    'utf-16'
    """
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, or in UTF-16 with a byte order mark, which is left out.

    Raises OSError where it cannot be read, ValueError where it is something else or too large.
    """
    data = read_bytes(regular(path).resolve())
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def parsed(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError where it is none, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def plain_cell(text: str) -> str:
    """A cell of a CSV for people, which no spreadsheet takes for a formula; `cell_text` takes it back.

    >>> plain_cell("=1+1"), cell_text("'=1+1"), plain_cell("cat/a.png")
    ("'=1+1", '=1+1', 'cat/a.png')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def plain_path(file: str) -> str:
    """The same path, which no spreadsheet takes for a formula.

    >>> plain_path("=1+1.png")
    './=1+1.png'
    """
    return f"./{file}" if plain_cell(file) != file else file


def cell_text(cell: str) -> str:
    """What `plain_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def read_object(path: Path, *, wanted: str, do: str) -> dict[str, Any]:
    """A JSON object from a file that a user gives. Raises CueError where it cannot be read or is something else."""
    try:
        values = parsed(read_text(path))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        return values
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CueError(f"cannot read '{path}': {why}", wanted=wanted, do="check the path") from None
    except ValueError as error:
        raise CueError(f"'{path}' is no JSON object: {error}", wanted=wanted, do=do) from None


def is_there(path: Path) -> bool:
    """Whether a file is there; a link is none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):  # A name that cannot be, too.
        return False


def stored_text(path: Path) -> str:
    """A text, "" where there is no file of this name. Raises CueError where it cannot be read."""
    try:
        return read_bytes(path).decode(errors="replace") if is_there(path) else ""
    except (OSError, ValueError) as error:
        raise CueError(f"cannot read '{path}': {error}", wanted="a text that an audit wrote", do="remove it") from None


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """The PNG file of a picture of a finding, (H, W, 3): written fast rather than small."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def read_picture(folder: Path, name: str) -> NDArray[np.uint8]:
    """A PNG below a folder as (H, W, 3) uint8. Raises CueError where it is elsewhere, missing, damaged or huge."""
    import numpy as np
    from PIL import Image

    path = inside(folder, name)
    try:
        data = io.BytesIO(read_bytes(path))
        with warnings.catch_warnings(action="error"), Image.open(data, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width:,} x {image.height:,} px")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        wanted = f"a PNG of at most {MOST_PIXELS:,} px"
        why = getattr(error, "strerror", None) or error
        raise CueError(f"cannot read '{path}': {why}", wanted=wanted, do="audit again") from None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """JSON with no NaN in it: a missing number is null with its reason beside it."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write(path, text.encode(errors="backslashreplace"))  # paths that are no UTF-8: JSON has the same escapes


def checksum(data: Mapping[str, Any]) -> str:
    """Of what JSON holds, however it is laid out."""
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=SUM_BYTES).hexdigest()


def write_summed(path: Path, data: Mapping[str, Any]) -> None:
    """JSON with a checksum, which `read_summed` looks at."""
    write_json(path, {**data, "checksum": checksum(json.loads(json.dumps(data)))})


def read_summed(path: Path) -> dict[str, Any]:
    """A JSON object from a file, less its checksum. Raises CueError where it is damaged.

    Those that were written before have no checksum.
    """
    data = read_json(path)
    stated = data.pop("checksum", None)
    if stated is not None and stated != checksum(data):
        found, wanted = f"'{path}' was damaged or changed: its checksum is another", "what was written"
        raise CueError(found, wanted=wanted, do="remove it, audit again")
    return data


def digest(path: Path) -> str:
    """A hash of a file; "" where there is none."""
    if not is_there(path):
        return ""
    return hashlib.blake2b(read_bytes(path, 2**40), digest_size=SUM_BYTES).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises CueError where it is damaged."""
    try:
        data = parsed(read_bytes(path))
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
        return data
    except (OSError, ValueError) as error:
        found, wanted = f"cannot read '{path}': {why_not(error)}", "a JSON file of a run"
        raise CueError(found, wanted=wanted, do="remove it, audit again") from None
