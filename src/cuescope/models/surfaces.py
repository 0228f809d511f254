"""What is left of an image when its surfaces lose their texture: a small U-Net that keeps outlines and shades."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 96)


class Surfaces(nn.Module):
    """Where does one surface end and the next begin, whatever their texture?

    A U-Net (Ronneberger et al. 2015) without normalization, trained on drawn scenes to paint each surface in its mean
    color under the same light. Images (B, 3, H, W) in [0, 1] to images of the same size; at least 16 px a side.

    >>> Surfaces()(torch.rand(1, 3, 37, 20)).shape
    torch.Size([1, 3, 37, 20])
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.down = nn.ModuleList([_pair(a, b, 1 if a == 3 else 2) for a, b in zip(inputs, WIDTHS, strict=True)])
        self.up = nn.ModuleList([_pair(a + b, a) for a, b in itertools.pairwise(WIDTHS)])
        self.leave = nn.Conv2d(WIDTHS[0], 3, 3, 1, 1, padding_mode="replicate")
        # Untrained, it changes nothing.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, pixels: Tensor) -> Tensor:
        x, maps = (pixels - 0.5) * 4, []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        for layer, skipped in zip(reversed(self.up), reversed(maps[:-1]), strict=True):
            x = layer(torch.cat([skipped, F.interpolate(x, size=skipped.shape[2:])], 1))
        return pixels + self.leave(x)


def _pair(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    first = nn.Conv2d(inputs, outputs, 3, stride, 1, padding_mode="replicate")
    second = nn.Conv2d(outputs, outputs, 3, 1, 1, padding_mode="replicate")
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
