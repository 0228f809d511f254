"""A label map as bytes: scores of 8 or 16 bits between the lowest and the highest of each rank, class ids of 16 bits.

    k lowest scores and k steps (float32), k h w class ids (uint16), k h w codes (uint8 or uint16)

All numbers are little-endian. A score is lowest + step * code, with the lowest and the step of its map and its rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cuescope.core.classes import ClassSpace, from_stored, to_stored

SCHEMA = 2
ID = np.dtype("<u2")
NUMBER = np.dtype("<f4")
CODES = {8: np.dtype("<u1"), 16: np.dtype("<u2")}
FIELDS = ("k", "bits", "images", "images_digest", "annotator", "annotator_digest", "framing", "about")
FIXED = {
    "kind": "label maps",
    "schema": SCHEMA,
    "axes": ["k", "y", "x"],
    "ids": "uint16",
    "scores": "lowest + step * code, float32, for each map and rank",
}

Framing = Literal["squashed", "aspect kept"]
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]
"""A label map: scores (k, h, w) float32 and class ids (k, h, w), the highest score of a position first."""


@dataclass(frozen=True)
class Header:
    """What is common to all maps of a file: the classes, how many a position has, the annotator and its images.

    `k` entries a position, `bits` a score (8 or 16). `framing` is how an image became the annotator's input, `about`
    whatever else should be known. A map covers its whole image. Raises ValueError for numbers that the format cannot
    hold.
    """

    classes: ClassSpace
    k: int
    bits: int = 8
    images: str = ""
    images_digest: str = ""
    annotator: str = ""
    annotator_digest: str = ""
    framing: Framing = "squashed"
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= 1 << 16:
            raise ValueError(f"{len(self.classes)} classes: ids of 16 bits are for 1 to 65,536")
        if type(self.k) is not int or type(self.bits) is not int:
            raise ValueError(f"k is {self.k} and bits {self.bits}: whole numbers are wanted")
        if not 1 <= self.k <= min(255, len(self.classes)):
            raise ValueError(f"k is {self.k}: a position has 1 to 255 entries, and no more than there are classes")
        if self.bits not in CODES:
            raise ValueError(f"{self.bits} bits a score: 8 or 16 are stored")
        if self.framing not in get_args(Framing):
            raise ValueError(f"framing '{self.framing}': squashed or aspect kept")

    def to_json(self) -> dict[str, Any]:
        return {**FIXED, **to_stored(self.classes), **{name: getattr(self, name) for name in FIELDS}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Header":
        """Raises KeyError, TypeError or ValueError where it is none."""
        for name, wanted in FIXED.items():
            if stored[name] != wanted:
                raise ValueError(f"{name} is {stored[name]}, not {wanted}")
        return cls(from_stored(stored), **{name: stored[name] for name in FIELDS})

    def size(self, height: Any, width: Any) -> Any:
        """The bytes of a map of this many rows and columns."""
        return self.k * (2 * NUMBER.itemsize + (ID.itemsize + self.bits // 8) * height * width)


def encode(header: Header, scores: ArrayLike, classes: ArrayLike) -> tuple[bytes, int, int]:
    """The bytes of a map, its height and its width. Raises ValueError for what is no map of this header.

    >>> header = Header(ClassSpace("mine", ("a", "b")), k=1)
    >>> decode(header, *encode(header, [[[2.0, 4.0]]], [[[1, 0]]]))[0].tolist()
    [[[2.0, 4.0]]]
    """
    values, ids = np.asarray(scores, dtype=np.float32), np.asarray(classes)
    if values.ndim != 3 or values.shape != ids.shape or len(values) != header.k or not values.size:
        wanted = f"scores and classes of ({header.k}, h, w)"
        raise ValueError(f"{wanted} are needed, not {values.shape} and {ids.shape}")
    if max(values.shape[1:]) >= 1 << 16 or not np.isfinite(values).all() or ids.dtype.kind not in "iu":
        raise ValueError("sides below 65,536, finite scores and whole class ids are needed")
    beyond = int(ids.min()) if ids.min() < 0 else int(ids.max())
    if not 0 <= beyond < len(header.classes):
        raise ValueError(f"class {beyond} in a map, but there are the classes 0 to {len(header.classes) - 1}")
    flat = values.reshape(header.k, -1)
    lowest, highest = flat.min(1), flat.max(1)
    most = (1 << header.bits) - 1
    step = ((highest.astype(np.float64) - lowest) / most).astype(NUMBER)
    each = np.where(step > 0, step, 1)[:, None]
    codes = ((flat.astype(np.float64) - lowest[:, None]) / each).round().clip(0, most)
    parts = (lowest.astype(NUMBER), step, ids.astype(ID), codes.astype(CODES[header.bits]))
    return b"".join(part.tobytes() for part in parts), values.shape[1], values.shape[2]


def decode(header: Header, data: Any, height: int, width: int) -> Arrays:
    """The map of these bytes: scores (k, h, w) float32 and class ids (k, h, w) int64."""
    k, cells = header.k, header.k * height * width
    lowest, step = np.frombuffer(data, NUMBER, 2 * k).reshape(2, k, 1, 1)
    at = 2 * k * NUMBER.itemsize
    ids = np.frombuffer(data, ID, cells, at).reshape(k, height, width)
    codes = np.frombuffer(data, CODES[header.bits], cells, at + cells * ID.itemsize).reshape(k, height, width)
    return codes.astype(np.float32) * step + lowest, ids.astype(np.int64)
