"""One image file in place of a set of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet  # at run time with the image: options are parsed without torch


def find_image(path: str | Path) -> ImageSet:
    """One image file as an image set. Raises CueError where there is none that can be read."""
    from cuescope.data.readers.files import FileSet, Names

    path = check_image(path)
    return FileSet(path.parent, Names([path.name]), name=path.name)


def check_image(path: str | Path) -> Path:
    """The path of one image file. Raises CueError where there is none."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise CueError(f"'{path}' is a folder", wanted="one image file", do="give one of its images, or use `audit`")
    if not path.is_file():
        raise CueError(f"no image '{path}'", wanted="an image file", do="check the path")
    return path
