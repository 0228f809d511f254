"""CutMix: a rectangle of another image, and as much of its target (Yun et al. 2019), for targets that are soft."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class CutMix:
    """What would a batch look like with a rectangle of one image in another, and its targets accordingly?

    Of each batch, with `probability`, one rectangle whose share of the image is 1 less a draw from Beta(`beta`,
    `beta`), its middle anywhere in the image, what is outside cut off; the images are those of the batch in another
    order. Targets are mixed by the area that was cut in the end. The defaults are those of Yun et al. 2021, label maps.
    Raises ValueError for values that cannot be.

    >>> images, targets = torch.arange(2.0)[:, None, None, None].expand(2, 3, 8, 8), torch.eye(2)
    >>> mixed, soft = CutMix()(images, targets, np.random.default_rng(0))
    >>> bool(torch.isclose(mixed.mean((1, 2, 3)), soft[:, 1]).all()), soft.sum(1).tolist()
    (True, [1.0, 1.0])
    """

    probability: float = 1.0
    beta: float = 1.0
    off_epochs: int = 5
    """The last epochs, in which nothing is mixed."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or self.beta <= 0 or self.off_epochs < 0:
            raise ValueError("probability must be in [0, 1], beta above 0, off_epochs at least 0")

    def is_on(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch, counted from 0, of so many is one to mix in.

        >>> [CutMix().is_on(epoch, 300) for epoch in (0, 294, 295, 299)]
        [True, True, False, False]
        """
        return epoch < epochs - self.off_epochs

    def draw(self, count: int, height: int, width: int, random: np.random.Generator) -> "Cut | None":
        """What to cut out of `count` images (H, W), and which images of; None where nothing is mixed."""
        if count < 2 or random.random() >= self.probability:
            return None
        side = np.sqrt(1 - random.beta(self.beta, self.beta))
        rows, columns = (_cut(length, side, random) for length in (height, width))
        return Cut(rows, columns, torch.from_numpy(random.permutation(count)))

    def __call__(self, images: Tensor, targets: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and soft targets (B, K), mixed; what came in is left as it is."""
        cut = self.draw(len(images), images.shape[2], images.shape[3], random)
        if cut is None:
            return images, targets
        return cut.mixed(images, targets, images[cut.other], targets[cut.other])


class Cut(NamedTuple):
    """A rectangle, and of each image of a batch the one that is seen in it."""

    rows: slice
    columns: slice
    other: Tensor

    def mixed(self, images: Tensor, targets: Tensor, others: Tensor, their: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) with the rectangle of others, and targets (B, K) by the area; what came in is left."""
        height, width = images.shape[2:]
        mixed = images.clone()
        mixed[:, :, self.rows, self.columns] = others[:, :, self.rows, self.columns]
        share = (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start) / (height * width)
        return mixed, targets * (1 - share) + their * share


def _cut(length: int, share: float, random: np.random.Generator) -> slice:
    size, middle = int(length * share), int(random.integers(length))
    return slice(max(middle - size // 2, 0), min(middle + size // 2, length))
