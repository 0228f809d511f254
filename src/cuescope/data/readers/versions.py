"""Images beside a version that a maker wrote of them, under the same names in another folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.derived import DerivedSet
from cuescope.data.images import ImageSet, Sample
from cuescope.data.readers.decode import decode
from cuescope.data.readers.files import checked_folder, scan


def read_versions(images: ImageSet, kind: str, folder: str | Path) -> "Versions":
    """Which images have a version of this kind in `folder`? Those alone, each with it in `Sample.versions`.

    A version is found by the image's path without its suffix: `cat/a.png` is one of `cat/a.jpg`. Raises CueError
    where there is no such folder, or no image has a version there.
    """
    root = checked_folder(folder)
    files = {_stem(name): name for name in scan(root).names}
    found = [(i, files[stem]) for i in range(len(images)) if (stem := _stem(images.id(i))) in files]
    if not found:
        none = f"no image of {images.name} has its {kind} version in '{root}', as '{_stem(images.id(0))}.png' would be"
        wanted = "a folder made of these images, with their names"
        raise CueError(none, wanted=wanted, do=f"make it: cuescope make {kind} IMAGES {root}")
    return Versions(images, kind, root, found)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - for a million names


class Versions(DerivedSet):
    """Images that have a version of a kind."""

    def __init__(self, images: ImageSet, kind: str, root: Path, found: list[tuple[int, str]]) -> None:
        super().__init__(images, [image for image, _ in found])
        self.kind, self.root, self.found = kind, root, found
        self.files = {images.id(image): file for image, file in found}
        self.name, self.knows = f"{images.name}, {kind}", images.knows | {kind}
        self.notes, self.skipped = (f"{len(found):,} of {len(images):,} images have their {kind} version",), ()

    def changed(self, sample: Sample) -> Sample:
        return sample.but(versions={self.kind: self._decoded(sample.id)})

    def version(self, index: int) -> Tensor:
        """The version of an image, (3, h, w) uint8, without the image. Raises UnreadableError as `read` does."""
        return self._decoded(self.id(index))

    def _decoded(self, name: str) -> Tensor:
        return decode(self.root / self.files[name])

    def hashed(self) -> tuple[str, Iterator[object]]:
        states = ((image, file, (self.root / file).stat()) for image, file in self.found)
        return self.kind, ((image, file, status.st_size, status.st_mtime_ns) for image, file, status in states)
