"""The probability of a class while ever more cells of an image are masked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier


def counts(most: int, points: int, cells: int) -> tuple[int, ...]:
    """How many cells are masked at each point: few at first, where the probability falls most, then ever more.

    >>> counts(100, 10, 784), counts(100, 4, 9)
    ((1, 4, 9, 16, 25, 36, 49, 64, 81, 100), (1, 2, 5, 9))
    """
    most = min(most, cells)
    return tuple(sorted({max(1, round(most * (k / points) ** 2)) for k in range(1, points + 1)}))


def area(masked: Sequence[int], curve: Sequence[float]) -> float:
    """The mean probability along the way: the area under the curve by trapezoids, as a share of the way.

    >>> area([0, 1, 3], [1.0, 0.0, 0.0])
    0.16666666666666666
    """
    return float(np.trapezoid(curve, masked) / masked[-1])


@dataclass(frozen=True, eq=False)
class Masking:
    """An image (3, H, W) in [0, 1] whose cells are masked in some order, and the class that is followed.

    Masked cells of cell_px x cell_px get `color`, red, green and blue in [0, 1], or their own mean where it is None.
    Pixels at the right and bottom border that fill no cell are never masked.
    """

    classifier: Classifier
    pixels: Tensor
    target: int
    cell_px: int
    counts: tuple[int, ...]
    color: Sequence[float] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along y and along x."""
        return self.pixels.shape[-2] // self.cell_px, self.pixels.shape[-1] // self.cell_px

    def follow(self, order: NDArray[Any]) -> list[float]:
        """The probability of the class with the first counts[0], counts[1], ... cells of the order masked."""
        probabilities = self.classifier.logits(self._masked(order)).double().softmax(1)
        return probabilities[:, self.target].tolist()

    def everything(self) -> float:
        """The probability of the class with every cell masked."""
        cells = self.grid[0] * self.grid[1]
        return replace(self, counts=(cells,)).follow(np.arange(cells))[0]

    def _masked(self, order: NDArray[Any]) -> Tensor:
        rank = torch.from_numpy(np.argsort(order)).view(1, *self.grid).to(self.pixels.device)
        hidden = rank < torch.tensor(self.counts, device=rank.device)[:, None, None]
        whole = self._on_pixels(hidden[:, None].float()) > 0
        return torch.where(whole, self._filled(), self.pixels)

    def _filled(self) -> Tensor:
        if self.color is not None:
            return torch.tensor(self.color, device=self.pixels.device).view(3, 1, 1).expand_as(self.pixels)
        return self._on_pixels(F.avg_pool2d(self.pixels[None], self.cell_px))[0]

    def _on_pixels(self, cells: Tensor) -> Tensor:
        """Values of cells (N, C, h, w) on all their pixels, (N, C, H, W); 0 where there is no cell."""
        large = cells.repeat_interleave(self.cell_px, 2).repeat_interleave(self.cell_px, 3)
        height, width = self.pixels.shape[-2:]
        return F.pad(large, (0, width - large.shape[3], 0, height - large.shape[2]))
