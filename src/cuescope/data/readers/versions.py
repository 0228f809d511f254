"""Images beside a version that a maker made of them, under the same names in another folder."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import replace
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.data.derived import DerivedSet
from cuescope.data.images import ImageSet, Sample
from cuescope.data.readers.decode import decode
from cuescope.data.readers.files import checked_folder, scan


def read_versions(images: ImageSet, kind: str, folder: str | Path) -> ImageSet:
    """Which images have a version of this kind in `folder`? Those alone, each with it in `Sample.versions`.

    A version is found by the image's path without its suffix: `cat/a.png` is one of `cat/a.jpg`. Raises CueError
    where there is no such folder, or no image has a version there.
    """
    root = checked_folder(folder)
    files = {os.path.splitext(name)[0]: name for name in scan(root).names}  # noqa: PTH122 - for a million names
    found = [(i, files[stem]) for i in range(len(images)) if (stem := _stem(images.id(i))) in files]
    if not found:
        raise CueError(
            f"no image of {images.name} has its {kind} version in '{root}', as '{_stem(images.id(0))}.png' would be",
            wanted="a folder made of these images, with their names",
            do=f"make it: cuescope make {kind} IMAGES {root}",
        )
    return _Versions(images, kind, root, found)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


class _Versions(DerivedSet):
    def __init__(self, images: ImageSet, kind: str, root: Path, found: list[tuple[int, str]]) -> None:
        self.base, self.kind, self.root = images, kind, root
        self.positions, self.files = [i for i, _ in found], [file for _, file in found]
        self.name, self.classes = f"{images.name}, {kind}", images.classes
        self.knows = images.knows | {kind}
        self.notes = (f"{len(found):,} of {len(images):,} images have their {kind} version",)

    def derive(self, sample: Sample, index: int) -> Sample:
        return replace(sample, versions={self.kind: decode(self.root / self.files[index])})

    @property
    def digest(self) -> str:
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        total = hashlib.blake2b(f"{self.base.digest} {self.kind}".encode(), digest_size=16)
        for image, file in zip(self.positions, self.files, strict=True):
            status = (self.root / file).stat()
            total.update(repr((image, file, status.st_size, status.st_mtime_ns)).encode())
        return total.hexdigest()
