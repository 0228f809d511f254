"""An image moved by a little, without wrapping."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor


def neighbors(pixels: Tensor, shift_px: int = 1) -> Iterator[Tensor]:
    """Images (B, 3, H, W) moved to their eight neighbors, one after the other; the border repeats what is there.

    >>> import torch
    >>> row = torch.tensor([1.0, 2.0, 3.0]).expand(1, 3, 3, 3)
    >>> [view[0, 0, 1].tolist() for view in neighbors(row)][:3]
    [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 3.0]]
    """
    d, (height, width) = shift_px, pixels.shape[-2:]
    wide = F.pad(pixels, (d, d, d, d), "replicate")
    for top in (0, d, 2 * d):
        for left in (0, d, 2 * d):
            if (top, left) != (d, d):
                yield wide[:, :, top : top + height, left : left + width]
