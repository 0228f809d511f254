"""Stimuli whose shape and texture come from different categories; the file name says which."""

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from cuescope.data.derived import DerivedSet
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.data.readers.cues import CueSet, category_name
from cuescope.data.readers.decode import decode
from cuescope.data.readers.files import FileSet, checked_folder, parted, scan, spread

ORIGINALS = {"object": "original", "texture_image": "textures"}
"""What a stimulus was made of, and in which folder of stimuli of one cue it lies."""
HELD = 512
"""Originals that are kept decoded: each is one of many stimuli."""

# Each category with its number, and in the set of rotated textures an angle after them: the texture is the second.
_NAME = re.compile(r"([^-]*[^-\d])(\d*)-([^-]*[^-\d])(\d*)(?:-[^-]*)?")


def cues_of(name: str) -> dict[str, str] | None:
    """Which shape and texture does a stimulus show, by its file name? None where the name says neither.

    >>> cues_of("airplane1-bicycle2-108.png")
    {'shape': 'airplane', 'texture': 'bicycle'}
    """
    match = _NAME.fullmatch(Path(name).stem)
    return {"shape": category_name(match[1]), "texture": category_name(match[3])} if match else None


def instances_of(name: str) -> dict[str, str]:
    """Which object and which texture image was a stimulus made of, by its file name? {} where it lacks a number.

    >>> instances_of("airplane1-bicycle2.png")
    {'object': 'airplane1', 'texture_image': 'bicycle2'}
    """
    match = _NAME.fullmatch(Path(name).stem)
    if not match or not match[2] or not match[4]:
        return {}
    return {"object": category_name(match[1]) + match[2], "texture_image": category_name(match[3]) + match[4]}


def _instance(stem: str) -> str:
    """A category with its number, as `instances_of` has it."""
    category = stem.rstrip("0123456789")
    return category_name(category) + stem[len(category) :]


class CueConflictSet(FileSet):
    """Cue-conflict stimuli: images made to be seen whole, with the cues "shape" and "texture" and no label.

    Where the name has both numbers, the cues "object" and "texture_image" say what the image was made of.
    """

    knows = frozenset({"shape", "texture"})

    def read(self, index: int) -> Sample:
        name = self.id(index)
        cues = {**(cues_of(name) or {}), **instances_of(name)}
        return Sample(name, decode(self.root / name), cues=cues, framing="stimulus")


def read_cue_conflict(path: Path | str, limit: int | None = None) -> CueConflictSet:
    """Which cue-conflict stimuli lie in a folder, at any depth?

    Names are `airplane1-bicycle2.png`: the shape first, then the texture (Geirhos et al. 2019; the set of
    rotated textures has an angle as third part). Images whose two categories are the same stay in the set. A file
    with another name is recorded in `skipped`. `limit` takes so many images, evenly spread.

    Raises CueError where there is no such folder or no image in it has such a name.
    """
    root = checked_folder(path)
    found = scan(root)
    parsed = [cues_of(name) for name in found.names]
    why = "the file name does not say shape and texture, as in airplane1-bicycle2.png"
    wanted = "file names such as airplane1-bicycle2.png: the shape first, then the texture"
    do = "check the path, or rename the files"
    good, skipped = parted(root, found, parsed, why, lacks="is named by its cues", wanted=wanted, do=do)
    chosen = [good[i] for i in spread(len(good), limit)]
    same = sum(cues["shape"] == cues["texture"] for i in chosen if (cues := parsed[i]))
    notes = [f"{same:,} of {len(chosen):,} images show the same category as shape and as texture"]
    if len(chosen) < len(good):
        notes.append(f"{len(chosen):,} of {len(good):,} images, evenly spread")
    return CueConflictSet(root, found.names.take(chosen), notes=notes, skipped=skipped)


def with_originals(images: ImageSet, originals: CueSet) -> ImageSet:
    """The same cue-conflict images, with the object and the texture image that each was made of in `Sample.versions`.

    Those are the images of `originals` that show all cues, and its textures, found by the names that a stimulus's name
    consists of: airplane1 and bicycle2. Where there are none, the images as they are.
    """
    found: dict[str, dict[str, tuple[ImageSet, int]]] = {key: {} for key in ORIGINALS}
    for (shown, inner), taken in zip(originals.sets, originals.taken, strict=True):
        for key in (key for key, kind in ORIGINALS.items() if kind == shown):
            names = ((_instance(Path(inner.id(int(i))).stem.rpartition("_")[2]), int(i)) for i in taken)
            found[key] |= {name: (inner, i) for name, i in names}
    return _WithOriginals(images, found, originals) if all(found.values()) else images


class _WithOriginals(DerivedSet):
    def __init__(self, images: ImageSet, found: Mapping[str, Mapping[str, tuple[ImageSet, int]]], of: CueSet) -> None:
        super().__init__(images)
        self.found, self.of = found, of
        self.knows = images.knows | {"originals"}
        self.notes = (*images.notes, f"their originals, where {of.name} has them by name")
        self.held: dict[tuple[str, str], Tensor | None] = {}

    def _original(self, key: str, name: str) -> Tensor | None:
        """Its pixels; None where there is none, or none that can be read."""
        if (key, name) in (held := self.held):
            return held[key, name]
        images, index = self.found[key].get(name, (None, 0))
        pixels = None
        if images is not None:
            with contextlib.suppress(UnreadableError):
                pixels = images.read(index).pixels
        # Threads that read at the same time keep what they began with.
        self.held = {(key, name): pixels} if len(held) >= HELD else {**held, (key, name): pixels}
        return pixels

    def changed(self, sample: Sample) -> Sample:
        found = {key: self._original(key, sample.cues[key]) for key in ORIGINALS if key in sample.cues}
        return sample.but(versions={**sample.versions, **{k: p for k, p in found.items() if p is not None}})

    def hashed(self) -> tuple[str, Iterable[object]]:
        return "originals", (self.of.digest,)
