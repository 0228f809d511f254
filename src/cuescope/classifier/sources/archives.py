"""Programs in ZIP files of torch: told by the names in them, TorchScript from torch.export from weights alone."""

import hashlib
import zipfile
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.core.zips import DAMAGED, check_packed

PROGRAMS = (".pt", ".pth", ".bin", ".pt2", ".ts", ".torchscript")
"""The ends of names under which programs are found."""
OLD_PROGRAM = "serialized_exported_program.json"
"""Of torch.export before 2.8."""


def program(path: str | Path) -> str:
    """The module of this folder that opens a file of this kind; "" for a file that holds no program, or is not there.

    >>> program("resnet50")
    ''
    """
    if Path(path).suffix.lower() not in PROGRAMS:
        return ""
    try:
        with zipfile.ZipFile(path) as file:
            names = {inner(name) for name in file.namelist()}
    except DAMAGED:
        return ""
    if any(name.startswith("code/") for name in names) and "constants.pkl" in names:
        return "from_torchscript"
    exported = OLD_PROGRAM in names or any(name.startswith("models/") and name.endswith(".json") for name in names)
    return "from_exported" if exported else ""


def members(path: str | Path, what: str) -> dict[str, bytes]:
    """The files in an archive of torch, by their names without its root.

    Raises CueError for two files of one name, and for packed ones that are larger than code could be.
    """
    found: dict[str, bytes] = {}
    lower: set[str] = set()
    try:
        with zipfile.ZipFile(path) as file:
            check_packed(file.infolist())
            for entry in file.infolist():
                name = inner(entry.filename)
                if name.lower() in lower:
                    raise ValueError(f"it holds '{name}' twice")
                lower.add(name.lower())
                found[name] = file.read(entry)
    except DAMAGED as error:
        raise broken(path, what, str(error)) from None
    return found


def inner(name: str) -> str:
    """A name in an archive of torch without the folder that all are in."""
    return name if name.startswith("serialized_") or name == "version" else name.partition("/")[2]


def identity(files: dict[str, bytes]) -> bytes:
    """A hash of these files."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, data in sorted(files.items()):
        hasher.update(f"{name} {len(data)} ".encode())
        hasher.update(data)
    return hasher.digest()


def broken(path: str | Path, what: str, why: str) -> CueError:
    """The error for a file that cannot be opened."""
    why = (why.strip().splitlines() or [""])[0][:200]
    return CueError(f"'{path}' cannot be loaded: {why}", wanted=what, do="get it again, or save it again")


def refused(path: str | Path, why: str, do: str) -> CueError:
    """The error for a program that could do more than compute."""
    wanted = "a program of torch's own operations on tensors"
    return CueError(f"'{path}' is not run: {why}", wanted=wanted, do=do)
