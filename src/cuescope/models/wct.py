"""A stylizer that needs no large network: whitening and coloring of small filters' responses, at several scales."""

from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.models.adain import EPSILON, Style, StyleNetwork, Stylizer
from cuescope.models.seeding import seeded
from cuescope.models.surfaces import Surfaces

LEVELS = 3
"""The image, its half and its quarter; the coarsest comes first."""
ROUNDS = 4
"""A level is projected so many times, each time with other filters."""
FILTERS = 40
SIZE_PX = 5
STEP = 1.5
"""How far beyond the projection to go: 40 of 75 directions hold half of an image's contrast."""
CONTRAST = 0.9
"""Of the content's surfaces, in parts of the style's whole contrast; the rest is for texture."""
LOUDEST = 1.2
"""How far the content's surfaces may go from the mean, in deviations, so that room is left for texture."""
HOLD = 0.5
"""The part of what a round took from the content's shades that is given back after it."""
LARGE_PX = 128
"""From this side on shades are what is left at level 2, means over some 4 px; in smaller images at level 1."""
NOISE = 0.3
"""Deviation of the noise that plain surfaces take their texture from, in parts of the image's contrast."""
NOISE_SIDE = 128
FLOOR = 0.05
"""Of the variance along a style's strongest color: weaker colors than this are taken for no color."""
CONTENT_FLOOR = 0.15
"""The same of a content: its faint hues shall not become as loud as light and dark."""
LEAST = 1e-6
"""Of the largest variance of features: what is taken as the smallest, so that there is an inverse."""


class WCT(StyleNetwork):
    """How does an image look whose surfaces have another's texture?

    Whitening and coloring (Li et al. 2017): all features of a layer get the style's means and covariances. The features
    need no training: they are the two halves (ReLU of w x and of -w x) of orthonormal random filters, which the filters
    themselves undo. From a quarter of the size up, each level is brought to the style's statistics in several rounds,
    every time by the smallest change that does it. The axis along which the content's colors vary most becomes that of
    the style's. What is kept of the content are its outlines and shades, which `Surfaces` finds, the one trained part.
    Images are (B, 3, H, W) in [0, 1], at least 32 px a side.
    """

    filters: Tensor
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.surfaces = Surfaces()
        white = torch.randn(LEVELS, ROUNDS, 3 * SIZE_PX**2, FILTERS)
        self.register_buffer("filters", torch.linalg.qr(white)[0].mT.unflatten(3, (3, SIZE_PX, SIZE_PX)).contiguous())
        self.register_buffer("noise", torch.randn(1, 3, NOISE_SIDE, NOISE_SIDE))

    def statistics(self, pixels: Tensor) -> Style:
        """Of the colors (`color_moments`), then each level and round: means (B, C), roots of covariances (B, C, C)."""
        return Style.joined([self._measured(pixels[row : row + 1], FLOOR) for row in range(len(pixels))])

    def _measured(self, pixels: Tensor, floor: float) -> Style:
        with torch.autocast(pixels.device.type, enabled=False):
            mean, spread = color_moments(pixels, floor)
            means, roots = [mean], [spread]
            for maps, bank in zip(pyramid(uncolored(pixels, mean, spread)), self.filters, strict=True):
                for filters in bank:
                    middle, covariance = covariances(responses(maps, filters))
                    means.append(middle)
                    roots.append(root(covariance))
        return Style(tuple(means), tuple(roots))

    def forward(self, content: Tensor, style: Style, alpha: float = 1.0) -> Tensor:
        """The content in the style's texture: (B, 3, H, W), a little outside of [0, 1] here and there.

        `alpha` mixes all statistics with the content's own and its surfaces with the content itself: at 0 the
        content is returned.
        """
        # One by one: faster than batches, whose maps do not fit the cache, and the same whatever is beside them.
        rows = range(len(content))
        styles = [style.at([row if len(style) > 1 else 0]) for row in rows]
        return torch.cat([self._alone(content[row : row + 1], styles[row], alpha) for row in rows])

    def _alone(self, content: Tensor, style: Style, alpha: float) -> Tensor:
        surfaces = self.surfaces(content).float()
        # Covariances and their inverses are lost in half precision.
        with torch.autocast(content.device.type, enabled=False):
            used = style if alpha == 1 else style.mixed(self._measured(content, CONTENT_FLOOR), alpha)
            return self._woven(torch.lerp(content, surfaces, alpha), used, alpha)

    def _woven(self, kept: Tensor, used: Style, alpha: float) -> Tensor:
        flat = uncolored(kept, *color_moments(kept, CONTENT_FLOOR))
        targets = pyramid(torch.lerp(flat, CONTRAST * LOUDEST * torch.tanh(flat / LOUDEST), alpha))
        x = torch.zeros_like(targets[-1])
        for level in reversed(range(LEVELS)):
            detail = targets[level]
            if level < LEVELS - 1:
                size = detail.shape[2:]
                x = enlarged(x, size)
                detail = detail - enlarged(targets[level + 1], size)
            x = x + detail + alpha * NOISE * self._noise(level, x)
            for number, filters in enumerate(self.filters[level]):
                at = 1 + level * ROUNDS + number
                x = projected(x, filters, used.mean[at], used.std[at])
                x = x + HOLD * _lost(x, targets, level)
        return colored(x, used.mean[0], used.std[0])

    def _noise(self, level: int, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tile = self.noise.roll((17 * level, 31 * level), (2, 3))
        tiled = tile.repeat(1, 1, -(-height // NOISE_SIDE), -(-width // NOISE_SIDE))
        return tiled[:, :, :height, :width]


def pyramid(pixels: Tensor) -> list[Tensor]:
    """The image and its halvings, `LEVELS` in all."""
    maps = [pixels]
    while len(maps) < LEVELS:
        maps.append(halved(maps[-1]))
    return maps


def halved(x: Tensor) -> Tensor:
    """Half the size, rounded up: a binomial blur (1 4 6 4 1 along each axis), then every second pixel."""
    line = torch.tensor([1.0, 4, 6, 4, 1], device=x.device) / 16
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def enlarged(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def responses(x: Tensor, filters: Tensor) -> Tensor:
    """(B, 2 F, H, W): how far each filter responds, and how far its negative does."""
    maps = F.conv2d(F.pad(x, (SIZE_PX // 2,) * 4, mode="reflect"), filters)
    return torch.cat([F.relu(maps), F.relu(-maps)], 1)


def covariances(features: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, C) and covariances (B, C, C) over places of features (B, C, H, W)."""
    flat = features.flatten(2)
    mean = flat.mean(2)
    return mean, flat @ flat.mT / flat.shape[2] - mean[:, :, None] * mean[:, None]


def root(covariance: Tensor, power: float = 0.5, least: float = LEAST) -> Tensor:
    """The symmetric power of covariances (B, C, C), whose variances are taken as at least this part of the largest.

    >>> root(torch.tensor([[[4.0, 0.0], [0.0, 9.0]]])).round(decimals=4)
    tensor([[[2., 0.],
             [0., 3.]]])
    """
    values, axes = torch.linalg.eigh(covariance.double())
    values = torch.maximum(values, least * values[:, -1:]) + least * EPSILON
    return (axes * values[:, None] ** power @ axes.mT).float()


def projected(x: Tensor, filters: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Images (B, 3, h, w) whose responses come nearer to these means (B, C) and roots of covariances (B, C, C).

    Of all linear maps from one covariance to the other the one that moves the features least (Monge's, between
    Gaussians), then back to pixels by the filters themselves, each pixel the mean of all that overlap there.
    """
    features = responses(x, filters)
    own_mean, covariance = covariances(features)
    wide = spread.double()
    # The product's variances are squares: what counts as none has to be, too.
    change = (wide @ root(wide @ covariance.double() @ wide, -0.5, LEAST**2).double() @ wide).float()
    # What is added to a response and to its negative's counts as one: half of the product need not be computed.
    count = len(filters)
    change = change - torch.eye(2 * count, device=x.device)
    shift = mean[:, :, None] - own_mean[:, :, None] - change @ own_mean[:, :, None]
    signed = torch.baddbmm(
        shift[:, :count] - shift[:, count:], change[:, :count] - change[:, count:], features.flatten(2)
    )
    signed = signed.unflatten(2, features.shape[2:])
    # A transposed convolution without what lies beyond the border, written as a plain one, which is faster.
    edge = SIZE_PX // 2
    back = F.conv2d(signed, filters.flip(2, 3).transpose(0, 1), padding=edge)
    overlaps = F.conv2d(torch.ones_like(signed[:1, :1]), torch.ones_like(filters[:1, :1]), padding=edge)
    return x + STEP * back / overlaps


def _lost(x: Tensor, targets: list[Tensor], level: int) -> Tensor:
    """What of the content's shades is not in x any more."""
    held = max(level, 2 if min(targets[0].shape[2:]) >= LARGE_PX else 1)
    shades = x
    for _ in range(held - level):
        shades = halved(shades)
    return enlarged(targets[held] - shades, x.shape[2:])


def color_moments(pixels: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The mean color (B, 3) of images (B, 3, H, W), and the axes (B, 3, 3) along which their colors vary.

    A column is an axis times the deviation along it, the strongest last, each toward the light.
    """
    mean, covariance = covariances(pixels)
    values, axes = torch.linalg.eigh(covariance.double())
    values = torch.maximum(values, floor * values[:, -1:]) + EPSILON
    toward = torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)
    return mean, (axes * toward * values[:, None].sqrt()).float()


def uncolored(pixels: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in these axes (B, 3, 3) about this mean color (B, 3)."""
    return torch.linalg.solve(spread, pixels.flatten(2) - mean[:, :, None]).view(pixels.shape)


def colored(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """The inverse of `uncolored`."""
    return (spread @ x.flatten(2) + mean[:, :, None]).view(x.shape)


def weights_file() -> Path:
    """Where the weights shipped with the package lie."""
    return Path(str(resources.files("cuescope.models"))) / "weights" / "stylizer.safetensors"


def embedded() -> Stylizer:
    """The stylizer that comes with the package: no download, and nothing in it but drawn images."""
    network = seeded(0, WCT)
    weights = safetensors.torch.load_file(weights_file())
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return Stylizer("embedded", network)


def packed(network: WCT) -> bytes:
    """The network as a safetensors file in float16, the same bytes for the same weights."""
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    # No metadata: safetensors writes several entries in random order, and the bytes should repeat.
    return safetensors.torch.save(weights)
