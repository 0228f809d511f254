"""Images with one cue taken away: shape by tiles that trade places, texture by smoothing, color by graying.

The transforms of Burgert et al. 2025 ("ImageNet-trained CNNs are not biased towards texture"), which work on bytes:
all take and give (B, 3, H, W) uint8 on any device. Strengths are those of an image of 224 px; on another size the
filters reach as large a share of its short side, and grids cut it into as many tiles.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.fft import fftfreq, rfftfreq
from torch.nn import functional as F

from cuescope.core.seeds import seed_of
from cuescope.data.ops.spectrum import column_weights
from cuescope.data.ops.tilings import Rule, nudged, rotated, shuffled

PAPER_PX = 224
"""Side of the images for which the strengths are given."""
SIGMA_SPACE = 75.0
"""Of the bilateral filter, in px: so wide that it hardly falls within the window."""


class Change(NamedTuple):
    """What is done to an image, and how strongly.

    `level` is the number of tiles along a side (shuffle, cuts, rotation), the width of the published window in px
    (bilateral, gaussian), the share of gray (greyscale) or the most levels of 255 that a value changes by (noise);
    channels has none. `sigma` is the deviation of the Gaussian, or that of the bilateral filter's color weight, in
    levels of 255.
    """

    transform: str
    level: float = 0.0
    sigma: float = 0.0


def _series(transform: str, levels: str, sigmas: str = "") -> tuple[Change, ...]:
    pairs = zip(levels.split(), sigmas.split() or ["0"] * len(levels.split()), strict=True)
    return tuple(Change(transform, float(level), float(sigma)) for level, sigma in pairs)


PUBLISHED: dict[str, tuple[Change, ...]] = {
    "shuffle": _series("shuffle", "2 4 6 8 10 12 14 16"),
    "rotation": _series("rotation", "2 4 6 8 10 12 14 16"),
    "bilateral": _series("bilateral", "4 6 8 10 12 14", "50 80 110 140 170 200"),
    "gaussian": _series("gaussian", "3 5 7 9 11 13 15", ".33 .66 1 1.33 1.66 2 2.33"),
    "greyscale": _series("greyscale", ".2 .4 .6 .8 1"),
}
"""The published levels, the mildest first. People were shown shuffles of 3 and 6, bilateral 12 and full gray."""


def suppress(pixels: Tensor, change: Change, names: Sequence[str], seed: int = 0, rule: Rule = "published") -> Tensor:
    """These images (B, 3, H, W) uint8, of these names, changed so.

    Chance is drawn for each image from the seed, the change and the image's name. Raises KeyError for an unknown
    transform.

    >>> red = torch.tensor([200, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> suppress(red, Change("greyscale", 1), ["a.jpg"]).flatten()
    tensor([60, 60, 60], dtype=torch.uint8)
    """
    name, level, sigma = change

    def randoms() -> list[np.random.Generator]:
        return [np.random.default_rng(seed_of(seed, f"{name} {level:g} {image}")) for image in names]

    ways: dict[str, Callable[[], Tensor]] = {
        "shuffle": lambda: shuffled(pixels, int(level), randoms(), rule),
        "cuts": lambda: nudged(pixels, int(level), randoms()),
        "rotation": lambda: rotated(pixels, int(level), randoms()),
        "bilateral": lambda: bilateral(pixels, int(level), sigma),
        "gaussian": lambda: gaussian(pixels, int(level), sigma),
        "greyscale": lambda: greyscale(pixels, level),
        "channels": lambda: torch.stack([p[r.permutation(3)] for p, r in zip(pixels, randoms(), strict=True)]),
        "noise": lambda: noisy(pixels, int(level), randoms()),
    }
    return ways[name]()


def bilateral(pixels: Tensor, d: int, sigma_color: float, sigma_space: float = SIGMA_SPACE) -> Tensor:
    """Smoothed where neighbors are alike, as OpenCV's bilateralFilter: edges stay (Tomasi & Manduchi 1998).

    A pixel becomes the mean of those within d // 2 px, in a circle, weighted by exp(-c^2 / 2 sigma_color^2) for a
    difference in color c, the sum over channels of absolute differences, and by a Gaussian of their distance. Borders
    are mirrored.
    """
    share = min(pixels.shape[2:]) / PAPER_PX
    reach, sigma_space = max(1, round(d // 2 * share)), sigma_space * share
    offsets = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1) if y * y + x * x <= reach**2]
    # What the processor's cache holds is filtered at once.
    parts = pixels.split(1 if pixels.device.type == "cpu" else 16)
    return torch.cat([_bilateral(part, reach, offsets, sigma_color, sigma_space) for part in parts])


def _bilateral(
    pixels: Tensor, reach: int, offsets: Sequence[tuple[int, int]], sigma_color: float, sigma_space: float
) -> Tensor:
    height, width = pixels.shape[2:]
    padded, own = F.pad(pixels.float(), (reach,) * 4, mode="reflect"), pixels.float()
    total, weights = torch.zeros_like(own), torch.zeros_like(own[:, :1])
    for y, x in offsets:
        there = padded[:, :, reach + y : reach + y + height, reach + x : reach + x + width]
        away = (there - own).abs_().sum(1, keepdim=True)
        far = (y * y + x * x) / (2 * sigma_space**2)
        weight = away.square_().mul_(-1 / (2 * sigma_color**2)).sub_(far).exp_()
        total.addcmul_(there, weight)
        weights += weight
    return total.div_(weights).round_().to(torch.uint8)


def gaussian(pixels: Tensor, width_px: int, sigma_px: float) -> Tensor:
    """Blurred by a Gaussian that ends at (width - 1) / 2 px, borders mirrored, as OpenCV's GaussianBlur."""
    share = min(pixels.shape[2:]) / PAPER_PX
    reach = max(1, round(width_px // 2 * share))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0, device=pixels.device) ** 2) / (2 * (sigma_px * share) ** 2))
    kernel /= kernel.sum()
    planes = F.pad(pixels.float(), (reach,) * 4, mode="reflect").flatten(0, 1)[:, None]
    blurred = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return blurred.view(pixels.shape).round_().to(torch.uint8)


def luma(pixels: Tensor) -> Tensor:
    """(B, 1, H, W) uint8: .299 R + .587 G + .114 B, rounded, as OpenCV's RGB2GRAY."""
    red, green, blue = pixels.int().unbind(1)
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).to(torch.uint8)[:, None]


def greyscale(pixels: Tensor, share: float) -> Tensor:
    """(1 - share) x + share Y, cut to whole levels (not rounded), as published; at 1 the luma in all channels."""
    if share == 1:
        return luma(pixels).expand_as(pixels).contiguous()
    return ((1 - share) * pixels.double() + share * luma(pixels).double()).to(torch.uint8)


def noisy(pixels: Tensor, most: int, randoms: Sequence[np.random.Generator]) -> Tensor:
    """Each value changed by a whole number from -most to most, alike often: no cue is lost where that is little."""
    shape = tuple(pixels.shape[1:])
    noise = np.stack([random.integers(-most, most + 1, shape, dtype=np.int16) for random in randoms])
    return (pixels.short() + torch.from_numpy(noise).to(pixels.device)).clamp_(0, 255).to(torch.uint8)


def fine_structure(pixels: Tensor) -> Tensor:
    """How much texture do these images have? (B, 2) float64: local variance, and the share of fine energy.

    The first is the mean variance of gray in all windows of 11 px of 224; the second the share of the spectrum's energy
    at 11 cycles an image and above, the mean counted in the whole. Burgert et al. 2025 (section C) divide both by those
    of the image as it was, to tell what a transform has taken away.
    """
    weights = torch.tensor([0.2125, 0.7154, 0.0721], dtype=torch.float64, device=pixels.device)
    gray = (pixels.double() / 255 * weights.view(3, 1, 1)).sum(1)
    height, width = gray.shape[1:]
    window = min(height, width, max(2, round(11 * min(height, width) / PAPER_PX)))
    mean, square = (F.avg_pool2d(values[:, None], window, 1) for values in (gray, gray * gray))
    energy = torch.fft.rfft2(gray).abs().square() * column_weights(width, gray.device)
    down, across = (f(side, 1 / side, device=gray.device) for f, side in ((fftfreq, height), (rfftfreq, width)))
    fine = (down[:, None] ** 2 + across[None] ** 2).sqrt() >= 11
    share = (energy * fine).sum((1, 2)) / energy.sum((1, 2)).clamp_min(1e-12)
    return torch.stack([(square - mean * mean).clamp_min(0).mean((1, 2, 3)), share], 1)
