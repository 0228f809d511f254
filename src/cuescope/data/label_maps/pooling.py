"""LabelPooling: from a map of labels and a crop's place to that crop's soft target (Yun et al. 2021, section 3.2)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet

Floats = NDArray[np.float64]
Pair = tuple[NDArray[Any], NDArray[Any]]
"""A label map: scores (k, h, w) and class ids (k, h, w)."""
Mapped = tuple[Tensor, Sequence[float], Pair]
"""A crop, its place, and the label map of its image."""


@dataclass(frozen=True)
class LabelPooling:
    """What does this crop show? The labels in its region of the map, averaged, as a soft target.

    A map holds the k highest logits at each of its positions and the classes that they are of; all other classes have
    the logit 0. The average over the region is torchvision's `roi_align` of the dense map with one output cell, as the
    authors take it: a weight for each row times one for each column, so that only what is stored is ever touched. A
    softmax over the classes makes it a target. A horizontal flip after the crop does not change an average.

    `transposed` reads maps that are stored with their columns first (see docs/label_maps.md).

    >>> ids = np.array([[[[3, 3], [7, 7]]]])
    >>> scores = np.full((1, 1, 2, 2), 8.0)
    >>> upper = LabelPooling(classes=10)(ids, scores, [(0.0, 0.0, 0.5, 1.0)])
    >>> upper.argmax().item(), round(float(upper.max()), 3)
    (3, 0.997)
    """

    classes: int
    transposed: bool = False

    def __call__(self, ids: ArrayLike, scores: ArrayLike, crops: ArrayLike) -> Tensor:
        """Soft targets (B, classes) float32 of maps (B, k, h, w) and crops (B, 4).

        A crop is (top, left, height, width) in shares of the image. Raises ValueError for shapes that do not fit,
        classes that do not exist and crops that leave the image.
        """
        index, values, places = np.asarray(ids), np.asarray(scores), np.asarray(crops, dtype=np.float64)
        self._check(index, values, places)
        if self.transposed:
            index, values = index.swapaxes(2, 3), values.swapaxes(2, 3)
        height, width = index.shape[2:]
        top, left, high, wide = places.T
        # The half cell is the authors' own alignment: roi_align counts from the middles of cells.
        rows = spans(top * height - 0.5, (top + high) * height - 0.5, height)
        columns = spans(left * width - 0.5, (left + wide) * width - 0.5, width)
        weights = rows[:, :, None] * columns[:, None, :]
        keys = index.astype(np.int64) + np.arange(len(index), dtype=np.int64)[:, None, None, None] * self.classes
        parts = values * weights[:, None].astype(np.float32)
        logits = np.bincount(keys.ravel(), parts.ravel(), minlength=len(index) * self.classes)
        found = logits.astype(np.float32).reshape(len(index), self.classes)
        # The softmax by numpy: torch would wake its threads for it, which takes longer than all the rest.
        found -= found.max(1, keepdims=True)
        np.exp(found, out=found)
        found /= found.sum(1, keepdims=True)
        return torch.from_numpy(found)

    def _check(self, index: NDArray[Any], values: NDArray[Any], places: Floats) -> None:
        if index.ndim != 4 or index.shape != values.shape or places.shape != (len(index), 4):
            wanted = "ids and scores (B, k, h, w) and crops (B, 4)"
            raise ValueError(f"{wanted} are needed, not {index.shape}, {values.shape} and {places.shape}")
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self.classes:
            raise ValueError(f"class {int(index.max())} in a map, but there are the classes 0 to {self.classes - 1}")
        corners = places[:, :2] + places[:, 2:]
        if places.size and (places.min() < 0 or corners.max() > 1 + 1e-6 or places[:, 2:].min() <= 0):
            raise ValueError("a crop must lie in the image: top, left, height and width are shares of it")


def spans(start: Floats, end: Floats, length: int) -> Floats:
    """How much each cell of an axis counts in the average over [start, end): (B, length).

    As in torchvision's `roi_align` with `aligned=False` and one cell: an interval is at least one cell long; it is
    sampled at the middles of as many equal parts as it has cells, begun ones counted; a sample lies between two
    cells, and one that is more than a cell outside of the map counts nothing.

    >>> spans(np.array([0.0]), np.array([2.0]), 4).round(3).tolist()
    [[0.25, 0.5, 0.25, 0.0]]
    """
    size = np.maximum(end - start, 1.0)
    count = np.ceil(size).astype(np.int64)
    steps = np.arange(int(count.max(initial=1)))
    at = start[:, None] + (steps + 0.5) * (size / count)[:, None]
    counted = (steps < count[:, None]) & (at >= -1) & (at <= length)
    at = at.clip(0, length - 1)
    low = np.minimum(at.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    share = at - low
    each = counted / count[:, None]
    weights = np.zeros((len(start), length))
    row = np.arange(len(start))[:, None]
    np.add.at(weights, (row, low), each * (1 - share))
    np.add.at(weights, (row, high), each * share)
    return weights


class RandomResizedCropWithCoords(v2.RandomResizedCrop):
    """torchvision's RandomResizedCrop, which also returns where the crop was: (crop, (top, left, height, width)).

    The place is in shares of the image's height and width, as `LabelPooling` takes it. Any flip comes after.
    """

    def forward(self, *inputs: Any) -> tuple[Any, tuple[float, float, float, float]]:
        """One image, a PIL image or a tensor (..., H, W), to its crop and the crop's place."""
        (image,) = inputs
        height, width = F.get_size(image)
        found = self.make_params([image])
        how: Any = {"size": self.size, "interpolation": self.interpolation, "antialias": self.antialias}
        crop = F.resized_crop(image, **found, **how)
        shares = (found["top"] / height, found["left"] / width, found["height"] / height, found["width"] / width)
        return crop, shares


class Maps(Protocol):
    """Label maps by image id: a LabelMapFile, PublishedLabelMaps, a dictionary."""

    def __contains__(self, name: str, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Pair: ...


class LabelMapDataset(Dataset[Mapped]):
    """Images with their label maps, for a DataLoader: (crop, its place, (scores, ids)), which `collate` puts together.

    `then` is what else is to be done to the crop, a flip and normalization, say; by default it becomes float32 in
    [0, 1]. Images without a map are left out, and named in `missing`. Raises CueError where none has one, and
    UnreadableError when an image is asked for that cannot be decoded.
    """

    def __init__(
        self,
        images: ImageSet,
        maps: Maps,
        crop: RandomResizedCropWithCoords,
        then: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images, self.maps, self.crop = images, maps, crop
        self.then = then or v2.ToDtype(torch.float32, scale=True)
        there = [images.id(i) in maps for i in range(len(images))]
        self.positions = [i for i, known in enumerate(there) if known]
        self.missing = tuple(images.id(i) for i, known in enumerate(there) if not known)
        if not self.positions:
            found = f"no label map of an image of {images.name}"
            raise CueError(found, wanted="the maps that were made of these images", do="give others")

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Mapped:
        sample = self.images.read(self.positions[index])
        crop, place = self.crop(sample.pixels)
        return self.then(crop), place, self.maps[sample.id]


def collate(samples: Sequence[Mapped], pooling: LabelPooling) -> tuple[Tensor, Tensor]:
    """A batch for a training loop: of (crop, place, (scores, ids)) to images (B, 3, H, W) and soft targets (B, K)."""
    targets, alike = torch.empty(len(samples), pooling.classes), defaultdict(list)
    for i, (_, _, (scores, _)) in enumerate(samples):
        alike[np.shape(scores)].append(i)
    for which in alike.values():
        scores, ids = (np.stack([np.asarray(samples[i][2][part]) for i in which]) for part in (0, 1))
        targets[which] = pooling(ids, scores, [samples[i][1] for i in which])
    return torch.stack([crop for crop, _, _ in samples]), targets
