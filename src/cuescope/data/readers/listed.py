"""Which image of a folder is meant by a path in a table: relative, absolute, of Windows, in the other Unicode form?"""

import functools
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.data.readers.tables import file_id


class Listed:
    r"""The images of a folder, each found by what a table calls it.

    Exactly by its path in the folder; else the same in another Unicode form, or without its suffix; a path that holds
    the folder counts from there. Where several fit, none is meant.

    >>> Listed(Path("photos"), ["cat/1.png", "2.png"]).find("C:\\data\\photos\\cat\\1.png")
    'cat/1.png'
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.names = dict.fromkeys(names)
        self.roots = tuple({f"{path.as_posix()}/" for path in (root.absolute(), root.resolve())})
        self.folder = root.resolve().name

    @functools.cached_property
    def _formed(self) -> dict[str, str]:
        return _unique((unicodedata.normalize("NFC", name), name) for name in self.names)

    @functools.cached_property
    def _stems(self) -> dict[str, str]:
        return _unique((posixpath.splitext(form)[0], name) for form, name in self._formed.items() if name)

    def find(self, text: str) -> str | None:
        """The name of the image that is meant; None where there is none."""
        if text in self.names:
            return text
        path = posixpath.normpath(file_id(text))
        inside = next((path.removeprefix(root) for root in self.roots if path.startswith(root)), None)
        parts = path.split("/")
        tails = ["/".join(parts[i + 1 :]) for i, part in enumerate(parts) if part == self.folder]
        for name in (inside, None if inside else path, *tails):
            if name in self.names:
                return name
            form = unicodedata.normalize("NFC", name or "")
            if found := self._formed.get(form) or self._stems.get(form):
                return found
        return None


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The one name of each key; "" where there are several."""
    found: dict[str, str] = {}
    for key, name in pairs:
        found[key] = "" if key in found else name
    return found


def of_images(index: dict[str, int], listed: Listed, table: str) -> tuple[dict[str, int], list[str]]:
    """The label of each image that a table names, and the files that are no image of the folder.

    Raises CueError where two rows name one image with different labels.
    """
    found: dict[str, tuple[int, str]] = {}
    absent = []
    for file, label in index.items():
        name = listed.find(file)
        if name is None:
            absent.append(file)
        elif found.setdefault(name, (label, file))[0] != label:
            both = f"'{found[name][1]}' and '{file}' in {table} are both '{name}', with different labels"
            raise CueError(both, wanted="one row an image", do="remove one of them")
    return {name: label for name, (label, _) in found.items()}, absent


def is_outside(file: str, roots: Sequence[str]) -> bool:
    """Whether a path in a table lies outside of the folder."""
    path = posixpath.normpath(file_id(file))
    absolute = path.startswith("/") or re.match(r"[A-Za-z]:/", path)
    return path.startswith("..") or bool(absolute and not path.startswith(tuple(roots)))
