"""A folder of images with marked objects, in COCO's or in VOC's layout: which it is, and its folds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cuescope.core.errors import CueError
from cuescope.data.marked import MarkedImages
from cuescope.data.readers import coco, voc_objects
from cuescope.data.readers.files import checked_folder
from cuescope.data.readers.voc import voc_folders

WANTED = (
    "COCO's layout (annotations/instances_*.json beside the images), "
    "or VOC's (JPEGImages, Annotations and maybe ImageSets)"
)


class Fold(NamedTuple):
    """Images to learn from, and those held out; None where the folder has but one fold."""

    learned: MarkedImages
    held_out: MarkedImages | None
    layout: str


def read_marked(path: str | Path, folds: tuple[str, str] | None = None, masks: bool = False) -> Fold:
    """The images of a folder with their objects. `folds` name what is learned from and what is held out.

    By default train and val of COCO's, and of VOC's trainval and test, or else train and val. `masks` asks for those
    images whose objects have masks. Raises CueError where the folder has neither layout, or both, where a fold is
    missing, and where none of its images can be used.
    """
    root = checked_folder(path)
    files, folders = coco.files_of(root), voc_folders(root)
    if files and folders:
        found = f"'{root}' has {files[0].name} and a folder of VOC's annotations: two layouts"
        raise CueError(found, wanted="one layout", do="give each a folder of its own")
    if not files and not folders:
        raise CueError(f"'{root}' has no marked objects", wanted=WANTED, do="check the folder")
    names = coco.folds_of(files) if files else voc_objects.folds_of(root, masks)
    learned, held_out = _chosen(names, folds, root)

    def read(fold: str) -> MarkedImages:
        return coco.read_coco(root, fold, masks) if files else voc_objects.read_voc(root, fold, masks)

    return Fold(read(learned), read(held_out) if held_out else None, "coco" if files else "voc")


def _chosen(names: list[str], folds: tuple[str, str] | None, root: Path) -> tuple[str, str]:
    """The names of both folds; "" for none held out."""
    if folds is not None:
        for fold in folds:
            if fold not in names:
                there = ", ".join(names) or "none"
                found = f"'{root}' has no fold '{fold}', but {there}"
                raise CueError(found, wanted="the folds " + " and ".join(folds), do="check the folder, or the preset")
        return folds
    for first, second in (("trainval", "test"), ("train", "val")):
        one = [name for name in names if name == first or (first == "train" and coco.is_fold(name, first))]
        two = [name for name in names if name == second or (second == "val" and coco.is_fold(name, second))]
        if len(one) > 1 or len(two) > 1:
            found = f"'{root}' has several folds to learn from or to hold out: {', '.join([*one, *two])}"
            raise CueError(found, wanted="one of each", do="leave the others out, or choose a preset")
        if one and two:
            return one[0], two[0]
    if len(names) > 1:
        found = f"'{root}' has the folds {', '.join(names)}"
        raise CueError(found, wanted="train and val, or trainval and test", do="leave others out, or choose a preset")
    return (names[0] if names else ""), ""
