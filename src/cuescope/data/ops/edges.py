"""The edges of an image as lines of one pixel (Canny 1986)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIGMA_PX = math.sqrt(2)
NOT_EDGES = 0.7
"""Share of pixels that are surely no edge: the upper threshold is this quantile of the gradient's strength."""
LOWER = 0.4
"""The lower threshold, of the upper one."""
FLAT = 1e-3
"""Of the range from black to white, per px: a weaker gradient is rounding."""


def edges(gray: NDArray[np.float64], sigma_px: float = SIGMA_PX) -> NDArray[np.bool_]:
    """Which pixels of a gray image (H, W) in [0, 1] lie on an edge? (H, W) bool.

    Smoothed by a Gaussian; the gradient by Sobel's kernels; kept where it is strongest across the edge, to the nearest
    of four directions; kept where it is above the upper threshold, or above the lower one and joined to such a pixel by
    a chain of neighbors. Smoothing and thresholds are those that MATLAB's `edge` takes by default.

    >>> edges(np.repeat([[0.0] * 8 + [1.0] * 8], 16, 0)).sum(1).tolist() == [1] * 16
    True
    """
    smooth = _smoothed(torch.from_numpy(np.ascontiguousarray(gray))[None, None].double(), sigma_px)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=torch.float64) / 8
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    x, y = (F.conv2d(padded, kernel[None, None])[0, 0] for kernel in (across, across.T))
    strength = (x * x + y * y).sqrt()
    thin = strength * _strongest(strength, x, y)
    upper = max(float(strength.quantile(NOT_EDGES)), FLAT)
    found, weak = thin > upper, thin > max(LOWER * upper, FLAT)
    while True:
        grown = (F.max_pool2d(found[None, None].double(), 3, 1, 1)[0, 0] > 0) & weak
        if torch.equal(grown, found):
            return found.numpy()
        found = grown


def _smoothed(gray: Tensor, sigma_px: float) -> Tensor:
    reach = min(max(1, math.ceil(3 * sigma_px)), *(side - 1 for side in gray.shape[2:]))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / sigma_px) ** 2)
    kernel /= kernel.sum()
    padded = F.pad(gray, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


def _strongest(strength: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether a pixel's gradient is no weaker than that of its two neighbors across the edge, (H, W) bool."""
    height, width = strength.shape
    padded = F.pad(strength, (1, 1, 1, 1))
    # Eighths of a turn from the x axis, opposite ones alike: 0 across, 1 down to the right, 2 down, 3 to the left.
    direction = (torch.atan2(y, x) / (math.pi / 4)).round().long() % 4
    best = torch.zeros_like(strength, dtype=torch.bool)
    for k, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        behind = padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        # Of two equal ones only the first is kept, so that lines are one pixel wide.
        best |= (direction == k) & (strength >= ahead - 1e-12) & (strength > behind + 1e-12)
    return best
