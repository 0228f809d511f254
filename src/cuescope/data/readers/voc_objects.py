"""Objects of images from VOC's folder: JPEGImages, Annotations, ImageSets, and masks in SegmentationObject."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError, printable
from cuescope.core.files import read_text
from cuescope.data.images import Skipped, UnreadableError
from cuescope.data.marked import Entry, MarkedImages, Thing
from cuescope.data.readers.decode import check_size, size_of, unreached
from cuescope.data.readers.files import IMAGE_SUFFIXES
from cuescope.data.readers.voc import ANNOTATIONS, IMAGES, read_annotation, voc_folders

LISTS, OBJECTS = "ImageSets", "SegmentationObject"


def _lists(root: Path, masks: bool) -> Path:
    folders = voc_folders(root)
    assert folders is not None, "the layout was found"
    return folders[0].parent / LISTS / ("Segmentation" if masks else "Main")


def folds_of(root: Path, masks: bool) -> list[str]:
    """The lists of images, but those of one class, such as aeroplane_train."""
    return sorted(file.stem for file in _lists(root, masks).glob("*.txt") if "_" not in file.stem)


def read_voc(root: Path, fold: str, masks: bool) -> MarkedImages:
    """The images of a fold, or all where there are no folds, with their objects.

    Images without a file or an annotation that can be read are left out and listed, as are boxes that are empty. With
    `masks` only images that have one are taken. Raises CueError where no image with a box is left.
    """
    lists = _lists(root, masks)
    base = lists.parents[1]
    names = _listed(lists / f"{fold}.txt") if fold else _all(base / IMAGES)
    said = fold or "all"
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    clipped = difficult = unusable = 0
    for name in names:
        file, why = _image(base, name)
        if file is None:
            skipped.append(Skipped(printable(name), why))
            continue
        try:
            known = read_annotation(base / ANNOTATIONS / f"{name}.xml", functools.partial(size_of, file))
        except ValueError as error:
            skipped.append(Skipped(printable(f"{ANNOTATIONS}/{name}.xml"), f"{error}: '{printable(name)}' is left out"))
            continue
        if masks and not (base / OBJECTS / f"{name}.png").is_file():
            skipped.append(Skipped(printable(name), f"it has no mask in {OBJECTS}"))
            continue
        skipped += [Skipped(printable(name), f"{why}; it is left out") for why in known.unusable]
        things = [
            Thing(box._replace(name=printable(box.name)), hard, 0.0, number)
            for box, (number, hard) in zip(known.boxes, known.objects, strict=True)
        ]
        clipped, unusable = clipped + known.clipped, unusable + len(known.unusable)
        difficult += sum(thing.crowd for thing in things)
        entries.append(Entry(printable(name), file, known.size, tuple(things)))
    if not any(not thing.crowd for entry in entries for thing in entry.things):
        why = f": '{skipped[0].id}', {skipped[0].why}" if skipped else ""
        wanted, do = "images with boxes of their objects", "check the folder"
        raise CueError(f"no image of {said} in '{base}' has a box{why}", wanted=wanted, do=do)
    lost = len(names) - len(entries)
    boxes = sum(len(entry.things) for entry in entries)
    notes = {
        f"{said}: {boxes:,} boxes of {len(entries):,} images": 1,
        f"{said}: {lost:,} listed images cannot be used": lost,
        f"{said}: {clipped:,} boxes that leave their image are clipped": clipped,
        f"{said}: {difficult:,} difficult objects teach nothing, and finding them is not counted": difficult,
        f"{said}: {unusable:,} objects cannot be used and are listed": unusable,
    }
    return MarkedImages(f"{base.resolve().name}/{said}", entries, functools.partial(_mask_of, base), notes, skipped)


def _listed(path: Path) -> list[str]:
    """The names in a list, each once."""
    wanted, do = "a name of an image in each line", "check the file"
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise CueError(f"cannot read '{path}': {error}", wanted=wanted, do=do) from None
    names = list(dict.fromkeys(line.split()[0] for line in lines if line.split()))
    if not names:
        raise CueError(f"'{path}' is empty", wanted=wanted, do=do)
    return names


def _all(folder: Path) -> list[str]:
    return sorted({file.stem for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES})


def _image(base: Path, name: str) -> tuple[Path | None, str]:
    """The file of an image, or why it cannot be used."""
    if "/" in name or "\\" in name or name.startswith("."):
        return None, "its name leaves the folder"
    found = next(
        (file for end in (".jpg", ".jpeg", ".png") if (file := base / IMAGES / f"{name}{end}").is_file()), None
    )
    return found, "" if found else "it is listed, but not there"


def _mask_of(base: Path, entry: Entry, thing: Thing) -> Tensor:
    """(H, W) bool: pixels whose number is that of the object. Raises UnreadableError where there is no such file."""
    numbers = _numbers(base / OBJECTS / f"{entry.id}.png")
    if numbers.shape[::-1] != entry.size:
        raise UnreadableError(f"its mask has {numbers.shape[1]} x {numbers.shape[0]} px")
    return torch.from_numpy(numbers == thing.outline)


@functools.lru_cache(maxsize=8)
def _numbers(path: Path) -> np.ndarray:
    """(H, W) uint8 of a PNG with a palette or of gray."""
    from PIL import Image

    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreached(path, error, "its mask") from None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            check_size(*image.size, len(data))
            if image.mode not in ("P", "L"):
                raise ValueError(f"pixels of the mode {image.mode}")
            return np.array(image)
    except UnreadableError:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow stumble over
        raise UnreadableError(f"its mask is no picture of numbers ({error})") from None
