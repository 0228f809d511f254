"""Images with several objects and all that is known of them, written in the layouts of COCO and PASCAL VOC."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuescope.core.files import write
from cuescope.data.ops.encode import encoded
from cuescope.world.draw import draw
from cuescope.world.scenes import scattered
from cuescope.world.shapes import NAMES

Layout = Literal["coco", "voc"]
SIDE_PX = 128
LEAST_PX = 24
"""Of an object that is covered by others so much that fewer pixels are seen nothing is said."""


class Marked(NamedTuple):
    """An image (H, W, 3) uint8, and of each object its class and where it is seen, (n, H, W) bool."""

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    masks: NDArray[np.bool_]

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(x0, y0, x1, y1) of each object, far edges excluded."""
        found = []
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            found.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        return found


def marked(number: int, seed: int = 0, side: int = SIDE_PX) -> Marked:
    """One to three objects of the world's 16 classes anywhere in an image, and the truth on them.

    >>> image = marked(3)
    >>> image.pixels.shape, len(image.labels) == len(image.masks) == len(image.boxes)
    ((128, 128, 3), True)
    """
    backdrop, things = scattered(side, seed, np.array([number], dtype=np.int64))
    pixels, seen = draw(backdrop, things, side)
    masks = seen[0].numpy()
    kept = [k for k, thing in enumerate(things) if thing.present[0] and masks[k].sum() >= LEAST_PX]
    labels = tuple(int(things[k].named[0]) for k in kept)
    return Marked(pixels[0].permute(1, 2, 0).contiguous().numpy(), labels, masks[kept])


def write_marked(folder: Path, layout: Layout, train: int, held_out: int, seed: int = 0, side: int = SIDE_PX) -> None:
    """Write images to learn from and others to try on, as COCO's train2017 and val2017 or VOC's trainval and test.

    Masks are run lengths in COCO's layout, and images of SegmentationObject in VOC's.
    """
    of = {"coco": ("train2017", "val2017"), "voc": ("trainval", "test")}[layout]
    first = 0
    for fold, count in zip(of, (train, held_out), strict=True):
        images = [(f"{number:06}", marked(number, seed, side)) for number in range(first, first + count)]
        (_write_coco if layout == "coco" else _write_voc)(folder, fold, images)
        first += count


def _write_coco(folder: Path, fold: str, images: list[tuple[str, Marked]]) -> None:
    told: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for name, image in images:
        write(folder / fold / f"{name}.png", encoded(image.pixels))
        height, width = image.pixels.shape[:2]
        told["images"].append({"id": int(name), "file_name": f"{name}.png", "width": width, "height": height})
        for label, (x0, y0, x1, y1), mask in zip(image.labels, image.boxes, image.masks, strict=True):
            about = {"id": len(told["annotations"]) + 1, "image_id": int(name), "category_id": label + 1, "iscrowd": 0}
            lengths = {"size": [height, width], "counts": run_lengths(mask)}
            about |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(mask.sum()), "segmentation": lengths}
            told["annotations"].append(about)
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    write(folder / "annotations" / f"instances_{fold}.json", json.dumps({**told, "categories": categories}).encode())


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's lengths of runs down the columns of a mask, of 0 and 1 in turn, the first of 0.

    >>> run_lengths(np.array([[False, True], [False, True]]))
    [2, 2]
    """
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()


def _write_voc(folder: Path, fold: str, images: list[tuple[str, Marked]]) -> None:
    for name, image in images:
        write(folder / "JPEGImages" / f"{name}.jpg", encoded(image.pixels, "jpeg"))
        height, width = image.pixels.shape[:2]
        objects = "".join(
            f"<object><name>{escape(NAMES[label])}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
            f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for label, (x0, y0, x1, y1) in zip(image.labels, image.boxes, strict=True)
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        write(folder / "Annotations" / f"{name}.xml", f"<annotation>{size}{objects}</annotation>".encode())
        numbers = np.zeros((height, width), np.uint8)
        for number, mask in enumerate(image.masks, 1):
            numbers[mask] = number
        write(folder / "SegmentationObject" / f"{name}.png", _palette(numbers))
    for kind in ("Main", "Segmentation"):
        listed = "".join(f"{name}\n" for name, _ in images)
        write(folder / "ImageSets" / kind / f"{fold}.txt", listed.encode())


def _palette(numbers: NDArray[np.uint8]) -> bytes:
    """A PNG of numbers with a palette, as VOC's masks are."""
    image = Image.fromarray(numbers)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
