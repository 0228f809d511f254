"""Stimuli whose shape and texture come from different categories; the file name says which."""

import re
from pathlib import Path

from cuescope.data.images import Sample
from cuescope.data.readers.decode import decode
from cuescope.data.readers.files import FileSet, checked_folder, parted, scan, spread

# Each category with its number, and in the set of rotated textures an angle after them: the texture is the second.
_NAME = re.compile(r"([^-]*[^-\d])(\d*)-([^-]*[^-\d])(\d*)(?:-[^-]*)?")


def cues_of(name: str) -> dict[str, str] | None:
    """Which shape and texture does a stimulus show, by its file name? None where the name says neither.

    >>> cues_of("airplane1-bicycle2-108.png")
    {'shape': 'airplane', 'texture': 'bicycle'}
    """
    match = _NAME.fullmatch(Path(name).stem)
    return {"shape": match[1].lower(), "texture": match[3].lower()} if match else None


def instances_of(name: str) -> dict[str, str]:
    """Which object and which texture image was a stimulus made of, by its file name? {} where it lacks a number.

    >>> instances_of("airplane1-bicycle2.png")
    {'object': 'airplane1', 'texture_image': 'bicycle2'}
    """
    match = _NAME.fullmatch(Path(name).stem)
    if not match or not match[2] or not match[4]:
        return {}
    return {"object": (match[1] + match[2]).lower(), "texture_image": (match[3] + match[4]).lower()}


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
