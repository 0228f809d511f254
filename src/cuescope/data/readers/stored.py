"""Sets of images inside other files: webdataset's tars, and Parquet tables as Hugging Face's datasets have them."""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from cuescope.core.classes import BY_INDEX, STORED, ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.readers.decode import decode
from cuescope.data.readers.far import FarFile
from cuescope.data.readers.labels import MAX_INDEX
from cuescope.data.readers.peek import looked_at, peek

TEXTS = pl.String, pl.Categorical, pl.Enum
PEEKED = 64
"""Images that are looked into for notes: each may be a block of a large file."""


class Store(ABC):
    """Where the bytes of images are: positions count over all files."""

    @abstractmethod
    def bytes(self, index: int) -> bytes:
        """The file of an image. Raises UnreadableError with the reason where there is none."""

    @abstractmethod
    def states(self) -> Iterable[object]:
        """Of each file what changes with its bytes, in a form whose repr tells."""

    def ahead(self, indices: Sequence[int]) -> None:  # noqa: B027 - what lies near has nothing to do
        """As `ImageSet.ahead`."""


def state(path: Path | FarFile) -> tuple[str, int, int | str]:
    """What of a file changes with its bytes: its name, its size, and its time of change or its tag."""
    if isinstance(path, FarFile):
        return path.state
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


class StoredSet(ImageSet):
    """Images inside other files, each read alone when asked for. `labels` index `classes`, -1 where unknown."""

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        store: Store,
        labels: np.ndarray,
        classes: ClassSpace | None,
        notes: Sequence[str] = (),
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.name, self.names, self.store = name, names, store
        self.labels = labels
        self.classes = classes if (labels >= 0).any() else None
        self.knows = frozenset({"label"}) if self.classes is not None else frozenset()
        unlabeled = int((labels < 0).sum()) if self.classes is not None else 0
        said = f"without a label: {unlabeled:,} of {len(labels):,} images"
        lacking = [said] if unlabeled and said not in notes else []
        store.ahead(looked_at(len(names), PEEKED))
        self.notes = (*notes, *lacking, *peek(len(names), store.bytes, PEEKED))
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self.names)

    def id(self, index: int) -> str:
        return self.names[index]

    def label(self, index: int) -> int | None:
        return None if self.classes is None or self.labels[index] < 0 else int(self.labels[index])

    def read(self, index: int) -> Sample:
        return Sample(self.id(index), decode(self.store.bytes(index)), self.label(index))

    def ahead(self, indices: Sequence[int]) -> None:
        self.store.ahead(indices)

    @functools.cached_property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Over each file's name, size and time of change (or tag), and the names and labels of the images."""
        total = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for known in self.store.states():
            total.update(repr(known).encode())
        total.update(self.labels.tobytes())
        for name in self.names:
            total.update(name.encode() + b"\0")
        return total.hexdigest()


def check_index(label: int) -> None:
    """Raise CueError for a label that is the number of no class."""
    if label >= MAX_INDEX:
        wanted = f"a number of a class below {MAX_INDEX:,}"
        raise CueError(f"the label {label}", wanted=wanted, do="correct it, or leave the labels out")


def mixed_labels() -> CueError:
    """The error of labels that cannot be told apart."""
    return CueError("labels that are indices and labels that are names", wanted="one of both", do="correct them")


def labels_of(found: pl.Series, names: Sequence[str] = ()) -> tuple[np.ndarray, ClassSpace | None]:
    """Labels as they stand in a file, indices or names, as places in a class space; `names` are those of the indices.

    >>> labels_of(pl.Series(["dog", None, "cat"]))[0].tolist()
    [1, -1, 0]
    """
    if found.dtype in TEXTS:
        texts = found.cast(pl.String)
        known = texts.drop_nulls().unique().sort()
        places = texts.cast(pl.Enum(known)).to_physical().cast(pl.Int32)
        space = ClassSpace("labels", tuple(known), tuple(known)) if len(known) else None
        return places.fill_null(-1).to_numpy(writable=True), space
    indices = found.cast(pl.Int128).fill_null(-1)
    most = max(cast(int, indices.max()), -1) + 1 if len(indices) else 0
    check_index(most - 1)
    labels = indices.clip(lower_bound=-1).cast(pl.Int32).to_numpy(writable=True)
    if not most:
        return labels, None
    if most <= len(names):
        return labels, ClassSpace(STORED, tuple(names))
    return labels, ClassSpace(BY_INDEX, tuple(f"class {i}" for i in range(most)))
