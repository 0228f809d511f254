"""Stimuli that show one cue of an object: folders of silhouettes, edges and textures, named by category."""

import bisect
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from cuescope.core.classes import SIXTEEN
from cuescope.core.errors import CueError
from cuescope.core.published import CUES
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.data.readers.files import FileSet, checked_folder, scan, spread

FOLDERS = dict(zip(CUES, CUES, strict=True)) | {
    "originals": "original",
    "grayscale": "greyscale",
    "silhouette": "silhouettes",
    "filled-silhouettes": "silhouettes",
    "edge": "edges",
    "texture": "textures",
}
"""What a folder of this name shows: ours, those of texture-vs-shape, those of model-vs-human."""

_CATEGORY = re.compile(r"([^-]*?[^-\d])\d*(?:-.*)?")


def category_of(name: str) -> str | None:
    """Which object does a stimulus show, by its file name? None where the name says none.

    >>> category_of("edges/airplane/airplane1.png"), category_of("edge/0001_edg_s01_0_oven_00_oven10.png")
    ('airplane', 'oven')
    """
    match = _CATEGORY.fullmatch(Path(name).stem.rpartition("_")[2])
    return category_name(match[1]) if match else None


def category_name(text: str) -> str:
    """A category as a file name or a table has it, in one Unicode form; the sixteen are known whatever their case.

    >>> category_name("Airplane"), category_name("C")
    ('airplane', 'C')
    """
    return text.lower() if text.lower() in SIXTEEN else unicodedata.normalize("NFC", text)


class CueSet(ImageSet):
    """Image sets one after the other, by what they show: each sample has the cues "shown" and "category".

    The category is the shape's or texture's where an image knows one, as the world's do, else the file name's.
    """

    def __init__(self, name: str, sets: Mapping[str, ImageSet], limit: int | None = None) -> None:
        self.sets = [(shown, sets[shown]) for shown in CUES if shown in sets]
        share = None if limit is None else max(1, limit // len(self.sets))
        self.taken = [spread(len(images), share) for _, images in self.sets]
        self.bounds = [0, *itertools.accumulate(map(len, self.taken))]
        self.name, self.knows = name, frozenset({"shown"})
        counts = (f"{shown} ({len(taken):,})" for (shown, _), taken in zip(self.sets, self.taken, strict=True))
        self.notes = ("images by what they show: " + ", ".join(counts),)
        self.skipped = tuple(lost for _, images in self.sets for lost in images.skipped)

    def __len__(self) -> int:
        return self.bounds[-1]

    def _at(self, index: int) -> tuple[str, ImageSet, int]:
        k = bisect.bisect_right(self.bounds, index) - 1
        return *self.sets[k], int(self.taken[k][index - self.bounds[k]])

    def id(self, index: int) -> str:
        shown, images, at = self._at(index)
        return f"{shown}/{images.id(at)}"

    def read(self, index: int) -> Sample:
        shown, images, at = self._at(index)
        sample = images.read(at)
        category = sample.cues.get("shape") or sample.cues.get("texture") or category_of(sample.id)
        if category is None:
            raise UnreadableError("the file name does not say what it shows, as in airplane1.png")
        cues = {"shown": shown, "category": category}
        return sample.but(id=self.id(index), label=None, cues=cues, framing="stimulus")

    @property
    def digest(self) -> str:
        both = zip(self.sets, self.taken, strict=True)
        parts = [(shown, images.digest, len(taken)) for (shown, images), taken in both]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def read_cues(path: Path | str, limit: int | None = None) -> CueSet:
    """Which folders of stimuli lie in this folder, by what they show?

    Known are original, greyscale, silhouettes, edges and textures, and the names that the authors' sets have; the
    files in them, at any depth, are named by category, as airplane1.png. `limit` takes so many images, of each alike.

    Raises CueError where there is no such folder, or two of the same kind.
    """
    root = checked_folder(path)
    found: dict[str, Path] = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        shown = FOLDERS.get(folder.name.lower())
        if shown in found:
            both = f"'{found[shown].name}' and '{folder.name}' in '{root}' both show {shown}"
            raise CueError(both, wanted="one folder of each kind", do="move one of them away")
        if shown:
            found[shown] = folder
    if not found:
        wanted = "folders named by what they show: " + ", ".join(CUES)
        raise CueError(f"no folder of stimuli in '{root}'", wanted=wanted, do="check the path, or rename the folders")
    files = {shown: (folder, scan(folder)) for shown, folder in found.items()}
    sets = {shown: FileSet(folder, inner.names, skipped=inner.skipped) for shown, (folder, inner) in files.items()}
    return CueSet(root.resolve().name, sets, limit)
