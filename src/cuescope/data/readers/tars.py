"""Webdataset's tars: 0001.jpg beside 0001.cls or 0001.json; or tars of class folders."""

import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.images import Skipped
from cuescope.data.readers.class_folders import labels_from_folders
from cuescope.data.readers.decode import MAX_BYTES, unreached
from cuescope.data.readers.files import IMAGE_SUFFIXES, Names
from cuescope.data.readers.stored import StoredSet, labels_of

LABELS = (".cls", ".json")
KEYS = ("label", "cls", "class", "class_id", "class_index", "index", "target", "class_name", "label_name", "category")
MOST = 1 << 20
"""Bytes of a file that holds a label."""

Label = int | str | None


class _Tars:
    """Where the images lie in their tars; each is read alone, from its place."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.file, self.start, self.size = array("I"), array("Q"), array("Q")

    def bytes(self, index: int) -> bytes:
        try:
            with self.paths[self.file[index]].open("rb") as file:
                file.seek(self.start[index])
                return file.read(self.size[index])
        except OSError as error:
            raise unreached(self.paths[self.file[index]], error, "its tar") from None


def read_tars(paths: Sequence[Path], name: str) -> StoredSet:
    """Which images are in these tars, and what are their labels?

    An image's label is the number or the name in the file of the same key that ends in .cls, or under "label" and the
    like in that of .json; where no image has such a file, the class is the folder, as in a folder of images. Names have
    the tar before them where there are several tars. Raises CueError where a tar cannot be read, or holds no image.
    """
    store, names, keys = _Tars(paths), Names(), list[tuple[int, str]]()
    said: dict[tuple[int, str], Label] = {}
    skipped: list[Skipped] = []
    seen: set[str] = set()
    others = 0
    for number, path in enumerate(paths):
        prefix = f"{path.name}/" if len(paths) > 1 else ""
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    member_name = member.name.removeprefix("./")
                    folder, _, base = member_name.rpartition("/")
                    if not member.isreg() or base.startswith("."):
                        continue
                    stem, _, suffix = base.partition(".")
                    last, key = "." + suffix.lower().rpartition(".")[2], (number, f"{folder}/{stem}")
                    if last in LABELS and member.size <= MOST:
                        file = tar.extractfile(member)
                        said[key] = said.get(key) if file is None else _label(file.read(), last, said.get(key))
                    elif last not in IMAGE_SUFFIXES:
                        others += 1
                    elif (why := _unusable(member, prefix + member_name, seen)) is not None:
                        skipped.append(Skipped(member_name.encode(errors="backslashreplace").decode(), why))
                    else:
                        names.append(prefix + member_name)
                        keys.append(key)
                        store.file.append(number)
                        store.start.append(member.offset_data)
                        store.size.append(member.size)
        except (tarfile.TarError, OSError, EOFError) as error:
            found, wanted = f"'{path}' cannot be read as a tar: {error}", "a tar that is whole and not compressed"
            raise CueError(found, wanted=wanted, do="write it again, or unpack it to a folder") from None
    if not names:
        found = f"no image in '{paths[0]}'"
        raise CueError(found, wanted="tars of images, 0001.jpg with 0001.cls or 0001.json", do="check the path")
    several = "" if len(paths) == 1 else f" in {len(paths):,} tars"
    notes = [f"{len(names):,} images{several}"]
    labels = [said.get(key) for key in keys]
    if any(label is not None for label in labels):
        places, classes = labels_of(labels)
        notes.append("labels from the .cls and .json files beside the images")
    else:
        places, classes = labels_from_folders(Names(n.partition("/")[2] for n in names) if several else names, notes)
    if others:
        notes.append(f"{others:,} files that are no image passed over")
    return StoredSet(name, names, store, places, classes, notes, skipped)


def _unusable(member: tarfile.TarInfo, name: str, seen: set[str]) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the file name is not valid UTF-8"
    if name in seen:
        return "a second file of this name in its tar"
    seen.add(name)
    if member.size > MAX_BYTES:
        return f"too large: a file of {member.size / 2**30:.1f} GiB, the limit is {MAX_BYTES >> 30} GiB"
    return None


def _label(data: bytes, suffix: str, before: Label) -> Label:
    """The label that a file holds, or the one known `before`."""
    text = data.decode(errors="replace").strip()
    if suffix == ".json":
        try:
            found = parsed(text)
        except ValueError:
            return before
        value = next((found[key] for key in KEYS if key in found), None) if isinstance(found, dict) else found
        if isinstance(value, bool) or not isinstance(value, int | str):
            return before
        text = str(value).strip()
    if not text:
        return before
    return int(text) if text.isascii() and text.isdecimal() else text
