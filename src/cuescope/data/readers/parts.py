"""Images with boxes of their named parts, from a CSV file,part,x0,y0,x1,y1."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from cuescope.core.errors import CueError, nearest
from cuescope.data.derived import DerivedSet
from cuescope.data.images import Box, ImageSet, Sample, UnreadableError
from cuescope.data.readers.decode import size_of
from cuescope.data.readers.files import FileSet, spread
from cuescope.data.readers.listed import Listed
from cuescope.data.readers.tables import file_id, read_rows

CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = ("file", "part", *CORNERS)
MOST_COMPARED = 20_000
"""So many names are searched for one like a mistyped one: it takes seconds."""
MOST_NAMED = 6


def read_parts(images: ImageSet, path: str | Path, *, limit: int | None = None) -> ImageSet:
    """Which images have boxes of their parts in a CSV? Those alone, each with them in `Sample.parts`.

    `file` is the id of an image: its path in the folder. A box is in pixels of the decoded image, far edges excluded;
    numbers may have fractions. `limit` takes so many of the images, evenly spread. Raises CueError, with the line, for
    an unknown image, a second box of a part, and a box that is empty, reversed or not in its image.
    """
    path = Path(path).expanduser()
    rows = list(read_rows(path, COLUMNS, "parts", f"a CSV with the columns {','.join(COLUMNS)}"))
    position = {images.id(i): i for i in range(len(images))}
    listed = Listed(images.root if isinstance(images, FileSet) else Path(images.name), position)
    parts: dict[int, dict[str, Box]] = {}
    size: dict[int, tuple[float, float]] = {}
    for line, row in rows:
        index = position.get(listed.find(row["file"]) or "")
        if index is None:
            raise _unknown(path, line, file_id(row["file"]), images)
        if index not in size:
            size[index] = _size(images, index)
        box = _box(path, line, row, size[index])
        if parts.setdefault(index, {}).setdefault(box.name, box) is not box:
            raise _malformed(path, line, f"'{row['file']}' has a box of '{box.name}' already", "one box a part")
    if not parts:
        raise CueError(f"'{path}' has no row", wanted="a row for each part of each image", do="add the rows")
    order = sorted(parts)
    return _Parts(images, {order[k]: parts[order[k]] for k in spread(len(order), limit)}, path.name)


def _size(images: ImageSet, index: int) -> tuple[float, float]:
    """(width, height) of an image; no bounds where it cannot be read: then it is going to be skipped."""
    try:
        if isinstance(images, FileSet):
            return size_of(images.root / images.id(index))
        height, width = images.read(index).pixels.shape[1:]
    except UnreadableError:
        return math.inf, math.inf
    return width, height


def _box(path: Path, line: int, row: Mapping[str, str], size: tuple[float, float]) -> Box:
    if not row["part"]:
        raise _malformed(path, line, "the part has no name", "a name such as left eye")
    try:
        x0, y0, x1, y1 = (float(row[corner]) for corner in CORNERS)
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    text = ",".join(row[corner] for corner in CORNERS)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise _malformed(path, line, f"the box {text}", "four numbers x0,y0,x1,y1 in pixels")
    if x0 >= x1 or y0 >= y1:
        raise _malformed(path, line, f"the box {text} is empty or reversed", "x0 below x1 and y0 below y1")
    if min(x0, y0) < 0 or x1 > size[0] or y1 > size[1]:
        wanted = f"a box in the image, which is {size[0]} px wide and {size[1]} px high"
        raise _malformed(path, line, f"the box {text} is not in '{row['file']}'", wanted)
    return Box(x0, y0, x1, y1, row["part"])


def _unknown(path: Path, line: int, file: str, images: ImageSet) -> CueError:
    names, last = [images.id(i) for i in range(len(images))], file.rpartition("/")[2]
    alike = [name for name in names if name.rpartition("/")[2] == last] or nearest(file, names[:MOST_COMPARED])
    do = f"did you mean {' or '.join(alike[:4])}?" if alike else "correct the line"
    wanted = f"a path relative to the folder of images, such as '{names[0]}'" if names else "an image"
    return CueError(f"'{path}', line {line}: no image '{file}' in {images.name}", wanted=wanted, do=do)


def _malformed(path: Path, line: int, found: str, wanted: str) -> CueError:
    return CueError(f"'{path}', line {line}: {found}", wanted=wanted, do="correct the line")


class _Parts(DerivedSet):
    def __init__(self, images: ImageSet, parts: Mapping[int, Mapping[str, Box]], file: str) -> None:
        super().__init__(images, list(parts))
        self.parts = parts
        self.by_id = {images.id(image): boxes for image, boxes in parts.items()}
        self.name, self.knows = f"{images.name}, parts", images.knows | {"parts"}
        counts = Counter(name for boxes in parts.values() for name in boxes)
        named = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(MOST_NAMED))
        more = f" and {len(counts) - MOST_NAMED:,} more" if len(counts) > MOST_NAMED else ""
        self.notes = (f"parts of {len(parts):,} of {len(images):,} images from {file}: {named}{more}",)
        self.skipped = ()

    def changed(self, sample: Sample) -> Sample:
        return sample.but(parts=self.by_id[sample.id])

    def hashed(self) -> tuple[str, tuple[()]]:
        return f"parts {[(image, sorted(parts.items())) for image, parts in self.parts.items()]}", ()
