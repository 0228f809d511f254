"""Which files hold the images of a set: tars, Parquet tables, Arrow files, or none but the images themselves?"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuescope.core.progress import Progress, quiet
from cuescope.data.readers.arrow import read_arrow
from cuescope.data.readers.class_folders import is_split
from cuescope.data.readers.far import FarFile
from cuescope.data.readers.files import IMAGE_SUFFIXES, is_file, is_folder
from cuescope.data.readers.listing import read_tables
from cuescope.data.readers.stored import StoredSet
from cuescope.data.readers.tars import read_tars

READERS = {".tar": read_tars, ".parquet": read_tables, ".arrow": read_arrow}
DEPTH = 2
"""Levels of folders in which such files are looked for."""


def read_stored(path: str | Path, progress: Progress = quiet) -> StoredSet | None:
    """The images inside a .tar, .parquet or .arrow file, or those in a folder without images; None for none of them.

    Raises CueError where such a file cannot be read.
    """
    path = Path(path).expanduser()
    files = [path] if path.is_file() else _files(path) if path.is_dir() else []
    return of_kinds(files, path.resolve().name, progress)


def of_kinds(files: Sequence[Path] | Sequence[FarFile], name: str, progress: Progress = quiet) -> StoredSet | None:
    """The images inside those of the files that are of the first kind that is read; None where none is of any."""
    for suffix, read in READERS.items():
        if of_kind := [file for file in files if file.suffix.lower() == suffix]:
            images = read(of_kind, name, progress)
            words = {file.stem.split("-")[0] for file in of_kind}
            if len(parents := {file.parent.name for file in of_kind}) > 1:
                words |= parents
            splits = {word for word in words if is_split(word)}
            if len(splits) > 1:
                together = f"{', '.join(sorted(splits))} are read together; give one of them to audit it alone"
                images.notes = (together, *images.notes)
            return images
    return None


def _files(root: Path) -> list[Path]:
    """The tars, Parquet and Arrow files of a folder; none where it has images of its own."""
    found: list[Path] = []
    for file in _walk(root, DEPTH):
        suffix = os.path.splitext(file.name)[1].lower()  # noqa: PTH122 - for many names
        if suffix in IMAGE_SUFFIXES:
            return []
        if suffix in READERS:
            found.append(Path(file.path))
    return sorted(found)


def _walk(root: Path | str, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return
    yield from (entry for entry in visible if is_file(entry))
    for entry in visible if depth else ():
        if is_folder(entry):
            yield from _walk(entry.path, depth - 1)
