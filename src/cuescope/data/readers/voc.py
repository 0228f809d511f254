"""Boxes of objects from XML, as in PASCAL VOC and ILSVRC: Annotations/NAME.xml beside JPEGImages/NAME.jpg."""

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cuescope.core.class_names import ClassNames
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.derived import DerivedSet
from cuescope.data.images import Box, ImageSet, Sample, Skipped, UnreadableError
from cuescope.data.readers.decode import size_of
from cuescope.data.readers.files import FileSet, checked_folder

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"
MOST_BYTES = 1 << 20
"""No annotation of an image is longer: one of 500 objects has some 200 kB."""


@dataclass(frozen=True)
class Annotation:
    """What an XML file says: boxes in pixels of an image of `size` (width, height), how many were `clipped` at its
    border, and why others cannot be used.
    """

    boxes: tuple[Box, ...]
    size: tuple[float, float]
    clipped: int = 0
    unusable: tuple[str, ...] = ()
    objects: tuple[tuple[int, bool], ...] = ()
    """Of each box which object of the file it is, from 1 on, and whether it is marked as difficult."""


def voc_folders(path: str | Path) -> tuple[Path, Path] | None:
    """The images and the annotations of a folder in VOC's layout, or of its JPEGImages; None where it is none."""
    path = Path(path).expanduser()
    for root in (path, path.parent) if path.name == IMAGES else (path,):
        if (root / IMAGES).is_dir() and (root / ANNOTATIONS).is_dir():
            return root / IMAGES, root / ANNOTATIONS
    return None


def with_boxes(images: FileSet, folder: str | Path) -> ImageSet:
    """The images with the boxes of their objects, from XML files of the images' names in `folder`.

    The file of `a/b.jpg` is `a/b.xml`, or else `b.xml`. Corners are counted from 1 and inclusive, as VOC does. A box
    that leaves its image is clipped, one that is empty then or reversed is left out and listed, and so is a file that
    cannot be read. Where the image has another size than its annotation says, boxes are scaled; where it has other
    proportions, it is left out when it is read.

    Images without labels get those of their boxes: `label` is the class of the largest box, and `labels` are the
    classes of all. Of labeled ones the boxes of the label's class come first. Raises CueError where no image has a box.
    """
    root = checked_folder(folder)
    found: dict[str, Annotation] = {}
    skipped: list[Skipped] = []
    none = 0
    for name in images.names:
        path = _file_of(root, name)
        if path is None:
            none += 1
            continue
        try:
            found[name] = read_annotation(path, functools.partial(size_of, images.root / name))
        except ValueError as error:
            file = f"{root.name}/{path.relative_to(root).as_posix()}"
            skipped.append(Skipped(file, f"{error}: no boxes of '{name}'"))
    skipped += [Skipped(name, f"{why}; it is left out") for name, known in found.items() for why in known.unusable]
    boxes = {name: known for name, known in found.items() if known.boxes}
    if not boxes:
        none_as = f", as '{Path(images.id(0)).stem}.xml' would have"
        why = f": '{skipped[0].id}', {skipped[0].why}" if skipped else none_as
        wanted = "XML files with the objects of these images, under their names"
        raise CueError(f"'{root}' has no box of an image of {images.name}{why}", wanted=wanted, do="check the folder")
    count = sum(len(known.boxes) for known in boxes.values())
    clipped = sum(known.clipped for known in boxes.values())
    notes = {
        f"{count:,} boxes of {len(boxes):,} of {len(images):,} images from {root.name}": count,
        f"without an annotation: {none:,} images": none,
        f"{clipped:,} boxes that leave their image are clipped": clipped,
        f"{len(skipped):,} annotations or boxes cannot be used and are listed": len(skipped),
    }
    return _Boxed(images, boxes, [note for note, number in notes.items() if number], skipped)


def _file_of(root: Path, name: str) -> Path | None:
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - for a million names
    return next((path for s in (stem, stem.rpartition("/")[2]) if (path := root / f"{s}.xml").is_file()), None)


def read_annotation(path: Path, size_of_image: Callable[[], tuple[int, int]]) -> Annotation:
    """The boxes in one XML file; `size_of_image` is asked where it does not give the image's size.

    Raises ValueError with the reason where it is no annotation that can be used.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        tree = _parsed(path.read_bytes())
        size = _number(tree, "size/width"), _number(tree, "size/height")
        if not (size[0] > 0 and size[1] > 0):
            size = size_of_image()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except (expat.ExpatError, LookupError) as error:  # LookupError: of an encoding that nobody knows
        raise ValueError(f"it is no XML ({error})") from None
    except UnreadableError as error:
        raise ValueError(str(error)) from None
    boxes, objects, unusable, clipped = [], [], [], 0
    for number, thing in enumerate(tree.iter("object"), 1):
        name = " ".join((thing.findtext("name") or "").split())
        x0, y0, x1, y1 = (_number(thing, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax"))
        if not name or not all(map(math.isfinite, (x0, y0, x1, y1))):
            unusable.append("an object without a name or without four corners")
            continue
        # The first pixel is 1 and the last one belongs to the box.
        box = Box(max(x0 - 1, 0.0), max(y0 - 1, 0.0), min(x1, size[0]), min(y1, size[1]), name)
        if box.x0 >= box.x1 or box.y0 >= box.y1:
            unusable.append(f"the box {x0:g},{y0:g},{x1:g},{y1:g} of {name} is empty or not in the image")
            continue
        # Some count from 0: that is no box that leaves the image.
        clipped += x0 < 0 or y0 < 0 or x1 > size[0] or y1 > size[1]
        boxes.append(box)
        objects.append((number, (thing.findtext("difficult") or "").strip() == "1"))
    return Annotation(tuple(boxes), size, clipped, tuple(unusable), tuple(objects))


def _parsed(data: bytes) -> Element:
    """XML without a document type: no entity is ever declared, so none can grow or reach for a file."""
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it declares a document type, which is not read")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()


def _number(element: Element, path: str) -> float:
    try:
        return float(element.findtext(path) or "nan")
    except ValueError:
        return math.nan


class _Boxed(DerivedSet):
    def __init__(
        self, images: FileSet, boxes: Mapping[str, Annotation], notes: Iterable[str], skipped: Iterable[Skipped]
    ) -> None:
        super().__init__(images)
        self.boxes, self.skipped = boxes, (*images.skipped, *skipped)
        self.notes = (*images.notes, *notes)
        own = images.classes is None
        if own:
            names = sorted({box.name for one in boxes.values() for box in one.boxes})
            self.classes = ClassSpace("boxes", tuple(names), tuple(names))
            self.notes += (f"labels: the class of the largest box, of {len(names)}",)
        assert self.classes is not None
        by_key, by_name = ClassNames(self.classes.keys), ClassNames(self.classes.names)
        called = {box.name for one in boxes.values() for box in one.boxes}
        self._index = {
            name: next((i for i in (by_key.find(name), by_name.find(name)) if i >= 0), -1) for name in sorted(called)
        }
        self._labels = {name: self._index[max(one.boxes, key=_area).name] for name, one in boxes.items()} if own else {}
        if not own and (other := sum(self._is_other(i) for i in range(len(images)))):
            self.notes += (f"{other:,} images have no box of their label's class: the largest box stands for it",)
        several = any(len({box.name for box in one.boxes}) > 1 for one in boxes.values())
        self.knows = images.knows | {"label", "boxes", "regions"} | ({"labels"} if several else set())

    def _is_other(self, index: int) -> bool:
        """Whether an image has boxes, but none of its label's class."""
        known, label = self.boxes.get(self.id(index)), self.images.label(index)
        return known is not None and label is not None and all(self._index[box.name] != label for box in known.boxes)

    def label(self, index: int) -> int | None:
        found = self.images.label(index)
        return self._labels.get(self.id(index)) if found is None else found

    def changed(self, sample: Sample) -> Sample:
        known = self.boxes.get(sample.id)
        label = self._labels.get(sample.id) if sample.label is None else sample.label
        if known is None:
            return sample
        height, width = sample.pixels.shape[1:]
        across, down = width / known.size[0], height / known.size[1]
        # A side that was rounded to a whole pixel may be half of one off.
        if abs(width - known.size[0] * down) > 1 + down and abs(height - known.size[1] * across) > 1 + across:
            size = "{:g} x {:g} px".format(*known.size)
            raise UnreadableError(f"it has {width} x {height} px, its annotation is of {size}: other proportions")
        boxes = [Box(b.x0 * across, b.y0 * down, b.x1 * across, b.y1 * down, b.name) for b in known.boxes]
        boxes.sort(key=lambda box: (self._index[box.name] != label, -_area(box)))
        shown = dict.fromkeys(i for box in boxes if (i := self._index[box.name]) >= 0)
        if sample.labels:
            return sample.but(label=label, boxes=tuple(boxes))
        return sample.but(label=label, boxes=tuple(boxes), labels=tuple(shown), labels_from="boxes of objects")

    def hashed(self) -> tuple[str, Iterable[object]]:
        return "boxes", self.boxes.items()


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)
