"""Images with the labels that an annotator's label maps give them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.derived import DerivedSet
from cuescope.data.images import ImageSet, Sample
from cuescope.data.label_maps import LabelMapFile, open_label_maps
from cuescope.data.label_maps.corrected import LEAST, MOST, WHOLE, labels_in, places_in
from cuescope.data.label_maps.pooling import LabelPooling


def with_label_maps(images: ImageSet, path: str | Path) -> ImageSet:
    """Which images have a label map in the file (or the folder of `cuescope make label-maps`) `path`? Those alone.

    Their `labels` are those of the soft target of the whole image (`labels_in`), as in the corrected labels that lie
    beside the maps; `label_map` gives the soft target of any crop. Labels become those of the annotator's classes.
    Raises CueError where no image has a map, and as `open_label_maps`.
    """
    maps = open_label_maps(path)
    found = [i for i in range(len(images)) if images.id(i) in maps]
    if not found:
        about = f"{maps.header.images}, such as '{maps.ids[0]}'" if len(maps) else "no image"
        none = f"'{maps.path}' has no map of any of the {len(images):,} images of {images.name}, as '{images.id(0)}'"
        wanted = f"the maps that were made of these images; these are of {about}"
        raise CueError(none, wanted=wanted, do="give others, or make them: cuescope make label-maps IMAGES FOLDER")
    return _Annotated(images, maps, found)


class _Annotated(DerivedSet):
    def __init__(self, images: ImageSet, maps: LabelMapFile, found: Sequence[int]) -> None:
        super().__init__(images, found)
        self.maps, self.skipped = maps, ()
        self.name, self.classes = f"{images.name}, label maps", maps.classes
        self.pooling = LabelPooling(len(maps.classes))
        annotator = maps.header.annotator or "an unknown annotator"
        self.labels_from = f"label maps of {annotator}"
        notes = [f"{len(found):,} of {len(images):,} images have a label map, made by {annotator}"]
        self._place = places_in(images, maps.classes)
        if images.classes and not self._place:
            notes.append("the labels of the images are none of the annotator's classes")
        self.knows = images.knows - {"label"} | {"labels", "regions"} | ({"label"} if self._place else set())
        self.notes = tuple(notes)

    def label(self, index: int) -> int | None:
        return self._label(self.images.label(self.at[index]))

    def _label(self, label: int | None) -> int | None:
        """The annotator's class for a label of the images."""
        found = self._place[label] if self._place and label is not None else -1
        return None if found < 0 else found

    def changed(self, sample: Sample) -> Sample:
        scores, ids = self.maps[sample.id]

        def pooled(crops: ArrayLike) -> Tensor:
            places = np.asarray(crops, dtype=np.float64)
            # The same map for all of them: repeated without a copy.
            index, values = (np.broadcast_to(part, (len(places), *part.shape)) for part in (ids, scores))
            return self.pooling(index, values, places)

        labels = tuple(label for label, _ in labels_in(pooled([WHOLE])[0]))
        known = self._label(sample.label)
        return sample.but(label=known, labels=labels, label_map=pooled, labels_from=self.labels_from)

    def hashed(self) -> tuple[str, Iterable[object]]:
        return "label maps", (self.maps.digest, len(self.at), LEAST, MOST)
