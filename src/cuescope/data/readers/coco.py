"""Objects of images from COCO's JSON: annotations/instances_*.json beside folders of images (Lin et al. 2014)."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError, printable
from cuescope.core.files import read_bytes, regular
from cuescope.data.images import Box, Skipped, UnreadableError
from cuescope.data.marked import Entry, MarkedImages, Thing

ANNOTATIONS, PREFIX = "annotations", "instances_"
MOST_BYTES = 1 << 31
"""No file of annotations is longer: train2017's has 470 MB."""


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    area: float = 0.0
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _Category(msgspec.Struct):
    id: int
    name: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def files_of(root: Path) -> list[Path]:
    """The files of annotations of a folder in COCO's layout, or beside its images."""
    return sorted([*(root / ANNOTATIONS).glob(f"{PREFIX}*.json"), *root.glob(f"{PREFIX}*.json")])


def folds_of(files: list[Path]) -> list[str]:
    """What stands after "instances_": train2017, val2017."""
    return [file.stem.removeprefix(PREFIX) for file in files]


def is_fold(name: str, kind: str) -> bool:
    """Whether a fold is that of `kind` of any year.

    >>> is_fold("train2017", "train"), is_fold("trainval", "train")
    (True, False)
    """
    rest = name.removeprefix(kind)
    return name.startswith(kind) and (not rest or rest.isdigit())


def read_coco(root: Path, fold: str, masks: bool) -> MarkedImages:
    """The images of a fold with their objects.

    Boxes are clipped at the image's border; one that is empty then, or of a category that is not in the file, is left
    out and listed; so is an image without a file. Raises CueError where the file cannot be read, or no image is left.
    """
    (path,) = [file for file in files_of(root) if file.stem == f"{PREFIX}{fold}"]
    told = _decoded(path)
    names = {one.id: printable(one.name) for one in told.categories}
    of_image: dict[int, list[_Annotation]] = {}
    for one in told.annotations:
        of_image.setdefault(one.image_id, []).append(one)
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    counts = {"clipped": 0, "crowds": 0, "left_out": 0}
    for image in told.images:
        name = printable(image.file_name)
        file, why = _file_of(root, fold, image)
        if file is None:
            skipped.append(Skipped(name, why))
            continue
        things = []
        for one in of_image.pop(image.id, ()):
            thing, why = _thing(one, names, image, masks)
            if thing is None:
                skipped.append(Skipped(name, f"{why}; it is left out"))
                counts["left_out"] += 1
                continue
            x0, y0, wide, high = one.bbox
            counts["clipped"] += x0 < 0 or y0 < 0 or x0 + wide > image.width or y0 + high > image.height
            counts["crowds"] += thing.crowd
            things.append(thing)
        entries.append(Entry(name, file, (image.width, image.height), tuple(things)))
    # What is left belongs to images that are not listed, or have no file.
    listed = {image.id for image in told.images}
    strange = sum(len(found) for number, found in of_image.items() if number not in listed)
    boxes = sum(len(entry.things) for entry in entries)
    if not any(not thing.crowd for entry in entries for thing in entry.things):
        why = f": '{skipped[0].id}', {skipped[0].why}" if skipped else ""
        wanted, do = "images with boxes of their objects", "check the folder"
        raise CueError(f"'{path}' has no box of an image that is there{why}", wanted=wanted, do=do)
    notes = {
        f"{fold}: {boxes:,} boxes of {len(entries):,} images": 1,
        f"{fold}: {len(told.images) - len(entries):,} listed images are not there": len(told.images) - len(entries),
        f"{fold}: {counts['clipped']:,} boxes that leave their image are clipped": counts["clipped"],
        f"{fold}: {counts['crowds']:,} crowd regions teach nothing, and what is found in them is not counted": counts[
            "crowds"
        ],
        f"{fold}: {counts['left_out']:,} objects cannot be used and are listed": counts["left_out"],
        f"{fold}: {strange:,} boxes of images that are not listed": strange,
    }
    return MarkedImages(f"{root.resolve().name}/{fold}", entries, mask_of, notes, skipped)


def _decoded(path: Path) -> _File:
    wanted, do = "COCO's images, annotations with bbox, and categories", "check the file"
    try:
        found = msgspec.json.decode(read_bytes(regular(path).resolve(), MOST_BYTES), type=_File)
    except OSError as error:
        raise CueError(
            f"cannot read '{path}': {(error.strerror or str(error)).lower()}", wanted=wanted, do=do
        ) from None
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise CueError(f"'{path}' is no file of COCO's: {error}", wanted=wanted, do=do) from None
    all_of = {
        "categories of the id": [one.id for one in found.categories],
        "categories of the name": [one.name for one in found.categories],
        "images of the id": [one.id for one in found.images],
        "images of the name": [one.file_name for one in found.images],
    }
    for kind, values in all_of.items():
        if twice := [value for value, times in Counter(values).items() if times > 1]:
            raise CueError(f"'{path}' has two {kind} '{twice[0]}'", wanted="each once", do="remove or rename one")
    return found


def _file_of(root: Path, fold: str, image: _Image) -> tuple[Path | None, str]:
    """Where the image lies, or why it cannot be used."""
    name = PurePosixPath(image.file_name)
    if name.is_absolute() or ".." in name.parts or not name.parts or "\0" in image.file_name:
        return None, "its name leaves the folder"
    if image.width < 1 or image.height < 1:
        return None, f"it is said to have {image.width} x {image.height} px"
    for folder in (root / fold, root / "images" / fold, root / "images", root):
        if (folder / name).is_file():
            return folder / name, ""
    return None, "it is listed, but not there"


def _thing(one: _Annotation, names: dict[int, str], image: _Image, masks: bool) -> tuple[Thing | None, str]:
    """An object, or why it cannot be used."""
    if one.category_id not in names:
        return None, f"an object of the category {one.category_id}, which the file does not name"
    name, (x0, y0, wide, high) = names[one.category_id], one.bbox
    box = Box(max(x0, 0.0), max(y0, 0.0), min(x0 + wide, image.width), min(y0 + high, image.height), name)
    if not all(map(math.isfinite, box[:4])) or box.x0 >= box.x1 or box.y0 >= box.y1:
        told = ",".join(f"{value:g}" for value in one.bbox)
        return None, f"the box {told} of {name} is empty or not in the image"
    outline = msgspec.json.decode(one.segmentation) if masks else None
    if masks and not outline:
        return None, f"an object of {name} without a mask"
    return Thing(box, bool(one.iscrowd), one.area, outline), ""


def mask_of(entry: Entry, thing: Thing) -> Tensor:
    """(H, W) bool of COCO's polygons or run lengths. Raises UnreadableError where they make no sense."""
    from pycocotools import mask

    width, height = (round(side) for side in entry.size)
    outline: Any = thing.outline
    try:
        if isinstance(outline, list):
            coded = mask.merge(mask.frPyObjects(outline, height, width))
        elif isinstance(outline["counts"], list):
            if sum(outline["counts"]) != height * width or min(outline["counts"], default=0) < 0:
                raise ValueError("run lengths of another number of pixels")
            coded = mask.frPyObjects(outline, height, width)
        else:
            coded = outline
        found = mask.decode(coded).astype(np.bool_)
        if found.shape != (height, width):
            raise ValueError("a mask of another size")
    except Exception as error:  # whatever nonsense makes the library stumble over
        raise UnreadableError(f"the mask of {thing.box.name} makes no sense ({error})") from None
    return torch.from_numpy(found)
