"""Grids of shifts about an image, and images shifted by parts of a pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor

Shift = tuple[float, float]
"""Pixels down and to the right that the view moves: what lay there is now in the first row and column."""


def ring(level: int) -> list[Shift]:
    """The whole shifts whose longer axis is `level` pixels: rings of growing level cover a square, each shift once.

    >>> len(ring(1)), len(ring(2)), ring(1)[:3]
    (8, 16, [(-1, -1), (-1, 0), (-1, 1)])
    """
    side = range(-level, level + 1)
    return [(y, x) for y in side for x in side if max(abs(y), abs(x)) == level]


def half_ring(level: int) -> list[Shift]:
    """The shifts by half pixels along both axes, whose longer axis is `level` - 1/2 (Michaeli et al. 2023).

    >>> half_ring(1)
    [(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)]
    """
    side = [at + 0.5 for at in range(-level, level)]
    return [(y, x) for y in side for x in side if max(abs(y), abs(x)) == level - 0.5]


FRACTIONS: tuple[Shift, ...] = tuple((a / u, b / u) for u in (3, 4) for a in range(1, u) for b in range(1, u))
"""The fractional shifts of Michaeli et al. 2023: thirds and quarters of a pixel on both axes, 13 in all."""


def cyclic(images: Tensor, shift: Shift) -> Tensor:
    """Images (..., H, W) shifted cyclically, by parts of a pixel too: what leaves on one side enters on the other.

    By whole pixels as `torch.roll`. Else each frequency turns by its share of the shift, and the highest one of an even
    side shrinks by the cosine; what results is the one band-limited periodic image there is, without any clipping, so
    values can leave the range of the original. Normalizing before or after gives the same.

    >>> cyclic(torch.tensor([[1.0, 2.0, 3.0]]), (0, 1)).tolist()
    [[2.0, 3.0, 1.0]]
    """
    if all(float(part).is_integer() for part in shift):
        return images.roll([-int(part) for part in shift], (-2, -1))
    spectrum = torch.fft.fft2(images.double())
    down, right = (_turn(side, part).to(images.device) for side, part in zip(images.shape[-2:], shift, strict=True))
    return torch.fft.ifft2(spectrum * down[:, None] * right).real.to(images.dtype)


def _turn(side: int, shift: float) -> Tensor:
    """(side,) what each frequency of a side is multiplied by."""
    turn = torch.exp(2j * torch.pi * torch.fft.fftfreq(side, dtype=torch.float64) * shift)
    if side % 2 == 0:
        turn[side // 2] = torch.cos(torch.tensor(torch.pi * shift, dtype=torch.float64))
    return turn


def windows(images: Tensor, size: Sequence[int], margin: int, shift: Shift) -> Tensor:
    """Of larger images (B, C, H + 2 margin, W + 2 margin) the window of `size` that lies so far from the middle one."""
    (height, width), (top, left) = size, (margin + int(part) for part in shift)
    return images[..., top : top + height, left : left + width]
