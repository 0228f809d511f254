"""Folders that stand for several classes each, as a table folder,class says: ObjectNet's, say."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import encoding_of, regular
from cuescope.core.wording import counted
from cuescope.data.readers.tables import SEPARATORS, file_id, read_rows

CALLED = {"class": ("wnid", "class_name", "name", "label", "index")}
"""Other names of the column of classes."""


class FolderClasses(NamedTuple):
    """The classes that each folder stands for, as places in `classes`."""

    of: dict[str, tuple[int, ...]]
    classes: ClassSpace

    def of_image(self, name: str) -> tuple[int, ...]:
        """The classes of the innermost folder that has some; none where none has.

        >>> one = FolderClasses({"chair": (0, 2)}, ClassSpace("labels", ("a", "b", "c")))
        >>> one.of_image("images/chair/1.png"), one.of_image("sofa/1.png")
        ((0, 2), ())
        """
        folders = name.split("/")[:-1]
        ends = range(len(folders), 0, -1)
        named = (self.of.get(key) for end in ends for key in ("/".join(folders[:end]), folders[end - 1]))
        return next((found for found in named if found), ())

    def said(self, table: str, of_images: Sequence[tuple[int, ...]]) -> list[str]:
        """Notes on where the labels are from, and on the images in other folders."""
        several = sum(len(places) > 1 for places in self.of.values())
        notes = [f"labels from {table}: {counted(len(self.of), 'folder')}, {several:,} of them of several classes"]
        if lacking := sum(not places for places in of_images):
            notes.append(f"{counted(lacking, 'image')} in folders that {table} does not name: without a label")
        return notes


def names_folders(path: Path) -> bool:
    """Whether a table's header has the column folder, and not the files that a table of labels has."""
    try:
        with regular(path).open("rb") as raw:
            text = raw.read(4096)
    except OSError:
        return False  # reading it tells why
    lines = text.decode(encoding_of(text[:4]), "ignore").lower().splitlines()[:1] or [""]
    return "folder" in {cell.strip(' "\ufeff') for cell in re.split(f"[{SEPARATORS}]", lines[0])}


def read_folder_classes(path: Path) -> FolderClasses:
    """Which classes does each folder stand for? A row for each folder and class, by name or by WordNet id.

    Raises CueError, with the line, where the table is malformed.
    """
    wanted, found = "a CSV with the columns folder,class, a row for each class of a folder", {}
    for line, row in read_rows(path, ("folder", "class"), "classes of folders", wanted, CALLED):
        folder, name = file_id(row["folder"]).strip("/"), row["class"]
        if not folder or not name:
            raise CueError(f"'{path}', line {line}: an empty value", wanted=wanted, do="correct the line")
        found.setdefault(folder, {})[name] = None
    if not found:
        raise CueError(f"'{path}' has no row", wanted=wanted, do="add the rows")
    names = tuple(sorted({name for own in found.values() for name in own}))
    place = {name: i for i, name in enumerate(names)}
    return FolderClasses(
        {folder: tuple(place[name] for name in own) for folder, own in found.items()},
        ClassSpace("labels", names, names),
    )
