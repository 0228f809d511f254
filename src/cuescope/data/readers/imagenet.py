"""ReaL: all the right labels of the ILSVRC 2012 validation images (Beyer et al. 2020, "Are we done with ImageNet?")."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cuescope.core.alignment import align
from cuescope.core.classes import ClassSpace, imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.files import parsed, read_text

REAL_COUNT = 50_000
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")

Real = tuple[tuple[int, ...], ...]


def read_real(path: Path | str) -> Real:
    """Which labels are right for each validation image? 50,000 tuples of ImageNet indices.

    An empty tuple (3,163 of them) means that the raters accepted no label: such an image is not scored.
    Raises CueError where the file is not ReaL's real.json.
    """
    path = Path(path).expanduser()
    try:
        lists = parsed(read_text(path))
    except OSError as error:
        raise _not_real(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _not_real(path, f"is not JSON: {error}") from None
    if not isinstance(lists, list) or len(lists) != REAL_COUNT:
        found = f"{len(lists):,} entries" if isinstance(lists, list) else f"a JSON {type(lists).__name__}"
        raise _not_real(path, f"holds {found}")
    for number, labels in enumerate(lists):
        if not isinstance(labels, list) or not all(type(i) is int and 0 <= i < 1000 for i in labels):
            raise _not_real(path, f"has {str(labels)[:40]} as entry {number}")
    return tuple(map(tuple, lists))


def real_position(name: str) -> int | None:
    """The place of an image in real.json. Images count from 1 (the README of ReaL has `i+i` for `i+1`).

    >>> real_position("val/n01751748/ILSVRC2012_val_00000001.JPEG")
    0
    """
    match = _VALIDATION.search(name.rpartition("/")[2])
    return int(match[1]) - 1 if match and 1 <= int(match[1]) <= REAL_COUNT else None


def real_labels(names: Iterable[str], real: Real) -> dict[str, tuple[int, ...]]:
    """ReaL's labels of the images that have any, by id. Raises CueError where no id is a validation image's."""
    places = {name: place for name in names if (place := real_position(name)) is not None}
    if not places:
        found = "ReaL labels for images that are not the ILSVRC 2012 validation images"
        do = "leave real.json out, or give the validation images under their own names"
        raise CueError(found, wanted="file names such as ILSVRC2012_val_00000001.JPEG", do=do)
    return {name: real[place] for name, place in places.items() if real[place]}


def in_imagenet(labels: np.ndarray, classes: ClassSpace | None) -> tuple[np.ndarray, ClassSpace]:
    """Labels of any space as ImageNet indices (-1: none), so that they and ReaL's mean the same."""
    imagenet = imagenet_1k()
    if classes is None:
        return np.full(len(labels), -1, np.int32), imagenet
    place = np.array([*align(classes, imagenet), -1], np.int32)  # the last for label -1
    return place[labels], imagenet


def _not_real(path: Path, found: str) -> CueError:
    wanted = f"real.json of ReaL: a list of {REAL_COUNT:,} lists of ImageNet indices"
    do = "take it from the repository google-research/reassessed-imagenet"
    return CueError(f"'{path}' {found}", wanted=wanted, do=do)
