"""A texture's statistics without any learned weights: which random filters fire together, at several scales."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.makers.synthesis.gram import Features, Target, gram


@dataclass(frozen=True)
class RandomFilters(Features):
    """Which filters fire together in an image, at scales that are octaves apart? Ustyuzhaninov et al. 2016.

    `count` random filters of `size_px` over three colors, zero on average and of length one, then a ReLU, and a
    constant beside them, whose products with them are their means; on the image and on up to `levels` - 1 halvings of
    it, for the paper's filters of several sizes. The distance is the sum over the levels of ||G - G*||^2 / ||G*||^2.
    The image that is searched is wrapped at its borders, so that its edges are as good as its middle.

    >>> target = RandomFilters().target(torch.rand(1, 3, 32, 32))
    >>> target(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1])
    """

    count: int = 48
    size_px: int = 5
    levels: int = 4
    seed: int = 0

    @property
    def about(self) -> dict[str, Any]:
        digest = hashlib.blake2b(self.weights().numpy().tobytes(), digest_size=16).hexdigest()
        return {"features": "random filters", "digest": digest}

    def weights(self) -> Tensor:
        """(count, 3 size_px size_px), each row a filter."""
        return _filters(self.count, self.size_px, self.seed)

    def start(self, noise: Tensor, source: Tensor) -> Tensor:
        """See `Features`: noise of the source's mean and variance a channel."""
        return source.mean((2, 3), keepdim=True) + noise * source.std((2, 3), keepdim=True)

    def target(self, source: Tensor) -> Target:
        """See `Features`. Raises CueError where the image is smaller than two filters."""
        height, width = source.shape[2:]
        if min(height, width) < 2 * self.size_px:
            wanted = f"sides of at least {2 * self.size_px} px, two of the filters"
            raise CueError(f"an image of {width} x {height} px", wanted=wanted, do="give a larger size_px")
        weights = self.weights().to(source.device)
        middle = source.mean((2, 3), keepdim=True)
        contrast = (source - middle).square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1 / 255)
        # As many as there are, less those that no longer hold two filters.
        levels = sum(min(height, width) >> level >= 2 * self.size_px for level in range(self.levels))

        def statistics(pixels: Tensor, wrap: bool) -> list[Tensor]:
            x = (pixels - middle) / contrast
            found = [_together(x, weights, self.size_px, wrap)]
            for _ in range(levels - 1):
                x = _halved(x, wrap)
                found.append(_together(x, weights, self.size_px, wrap))
            return found

        with torch.no_grad():
            wanted = statistics(source, wrap=False)
            scales = [1 / g.square().sum((1, 2)).clamp(min=1e-12) for g in wanted]

        def distance(pixels: Tensor) -> Tensor:
            found = statistics(pixels, wrap=True)
            parts = [s * (g - w).square().sum((1, 2)) for g, w, s in zip(found, wanted, scales, strict=True)]
            return torch.stack(parts).sum(0)

        return distance


@functools.lru_cache(8)
def _filters(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(count, 3 * size * size, generator=generator) - 0.5
    weights -= weights.mean(1, keepdim=True)
    return weights / weights.square().sum(1, keepdim=True).sqrt()


def _together(x: Tensor, weights: Tensor, size: int, wrap: bool) -> Tensor:
    """(B, count + 1, count + 1): how often two filters fire together, the last one being a constant 1."""
    if wrap:
        x = F.pad(x, (size // 2, (size - 1) // 2) * 2, mode="circular")
    return cast(Tensor, _RectifiedGram.apply(F.unfold(x, size), weights))


class _RectifiedGram(torch.autograd.Function):
    """`gram` of the rectified responses of filters to patches (B, K, M), with one product of matrices less.

    Convolution's own gradient takes three times as long on a CPU for so few channels.
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, weights: Tensor) -> Tensor:
        features = patches.new_empty(len(patches), len(weights) + 1, patches.shape[2])
        for image, rows in zip(patches, features, strict=True):
            torch.mm(weights, image, out=rows[:-1])
        features[:, :-1].relu_()
        features[:, -1] = 1
        ctx.save_for_backward(features, weights)
        return gram(features)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weights = ctx.saved_tensors
        both = (slope + slope.transpose(1, 2))[:, :-1] / features.shape[2]
        fired = torch.ops.aten.threshold_backward(both @ features, features[:, :-1], 0)
        return weights.T @ fired, None


def _halved(x: Tensor, wrap: bool) -> Tensor:
    """Half the size: a binomial blur and every second pixel, as one product of matrices along each axis."""
    down, across = (_halving(side, wrap).to(x) for side in x.shape[2:])
    return down @ x @ across.T


@functools.lru_cache(64)
def _halving(side: int, wrap: bool) -> Tensor:
    """(side // 2, side): row i weighs the pixels near 2 i with 1 4 6 4 1; beyond the border come the opposite one's,
    with `wrap`, or the last pixel again.
    """
    matrix = torch.zeros(side // 2, side)
    for row in range(side // 2):
        for offset, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
            at = 2 * row + offset
            matrix[row, at % side if wrap else min(max(at, 0), side - 1)] += weight / 16
    return matrix
