"""3 x 3 convolutions over reflected borders with fewer products: the same numbers, but for rounding.

- Winograd's F(4 x 4, 3 x 3) takes 36 products a channel for a tile of 4 x 4 positions instead of 144 (Lavin and Gray
  2016, Fast algorithms for convolutional neural networks, section 4); it pays from 128 channels on.
- After an upsampling by 2 (nearest) each 3 x 3 window holds at most 2 x 2 different pixels: four convolutions of
  2 x 2, one for each parity, with weights summed, need 4/9 of the products and no upsampled image. The reflected
  border of an upsampled image is the repeated border of the small one.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAYS = {torch.float32: 128, torch.bfloat16: 256}
"""Channels, in and out, from which tiles pay. In bfloat16 convolutions are faster, and tiles lose two bits more."""

PARITIES = ((0, 0), (0, 1), (1, 0), (1, 1))
TILE = 4
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
"""The matrices B^T, G and A^T of Lavin and Gray 2016, section 4.3: Y = A^T ((G g G^T) * (B^T d B)) A."""


class Tiled(nn.Module):
    """Reflected border of 1, 3 x 3 convolution, ReLU: (B, C, H, W) to (B, O, H, W), by tiles.

    >>> conv = nn.Conv2d(8, 4, 3)
    >>> x = torch.rand(1, 8, 9, 7)
    >>> wanted = conv(F.pad(x, (1, 1, 1, 1), mode="reflect")).relu()
    >>> torch.allclose(Tiled(conv)(x), wanted, atol=1e-5)
    True
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        dtype, device = conv.weight.dtype, conv.weight.device
        g = torch.tensor(KERNEL, dtype=torch.float64, device=device)
        kernel = torch.einsum("ai,ocij,bj->abco", g, conv.weight.double(), g).flatten(0, 1)
        self.register_buffer("kernel", kernel.to(dtype).contiguous())
        self.register_buffer("bias", conv.bias.detach())
        for name, matrix in (("spread", INPUT), ("gather", OUTPUT)):
            one = torch.tensor(matrix, dtype=dtype, device=device)
            self.register_buffer(name, torch.kron(one, one))

    kernel: Tensor
    bias: Tensor
    spread: Tensor
    gather: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        # One by one: the tiles of one image fit into the cache, and no image depends on its company.
        return torch.cat([self._one(image) for image in pixels.split(1)])

    def _one(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        down, across = -(-height // TILE), -(-width // TILE)
        bordered = F.pad(image, (1, 1, 1, 1), mode="reflect")
        bordered = F.pad(bordered, (0, across * TILE - width, 0, down * TILE - height))
        rows = bordered[0].permute(1, 2, 0).contiguous()
        y, x, c = rows.stride()
        side = TILE + 2
        tiles = rows.as_strided((side, side, down, across, rows.shape[2]), (y, x, TILE * y, TILE * x, c))
        spread = (self.spread @ tiles.reshape(side**2, -1)).view(side**2, down * across, -1)
        products = torch.bmm(spread, self.kernel)
        found = (self.gather @ products.view(side**2, -1)).view(TILE, TILE, down, across, -1)
        found = found.permute(2, 0, 3, 1, 4).reshape(down * TILE, across * TILE, -1)[:height, :width] + self.bias
        return found.relu_().permute(2, 0, 1)[None]


class Upsampled(nn.Module):
    """Upsampling by 2 (nearest), reflected border of 1, 3 x 3 convolution, ReLU: (B, C, H, W) to (B, O, 2 H, 2 W).

    >>> conv = nn.Conv2d(8, 4, 3)
    >>> x = torch.rand(1, 8, 5, 7)
    >>> wanted = conv(F.pad(F.interpolate(x, scale_factor=2), (1, 1, 1, 1), mode="reflect")).relu()
    >>> torch.allclose(Upsampled(conv)(x), wanted, atol=1e-5)
    True
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.register_buffer("bias", conv.bias.detach())
        for down, across in PARITIES:
            weight = _summed(_summed(conv.weight.detach(), 2, down), 3, across)
            self.register_buffer(f"kernel{down}{across}", weight.contiguous(memory_format=torch.channels_last))

    bias: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        batch, _, height, width = pixels.shape
        bordered = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
        shape = (batch, len(self.bias), 2 * height, 2 * width)
        out = torch.empty(shape, dtype=pixels.dtype, device=pixels.device, memory_format=torch.channels_last)
        for down, across in PARITIES:
            view = bordered[:, :, down : down + height + 1, across : across + width + 1]
            found = F.conv2d(view, getattr(self, f"kernel{down}{across}"), self.bias)
            torch.clamp_min(found, 0, out=out[:, :, down::2, across::2])
        return out


def _summed(weight: Tensor, axis: int, parity: int) -> Tensor:
    """Three weights along an axis as two: an even row sees the one above and its own twice, an odd one the reverse."""
    first, second, third = weight.unbind(axis)
    return torch.stack([first, second + third] if parity == 0 else [first + second, third], axis)


def cheaper(layers: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """The same function with fewer products, to be run in `dtype`; the layers themselves stay as they are.

    Of its layers, nn.ReflectionPad2d(1), nn.Conv2d and nn.ReLU in a row are replaced, also behind an nn.Upsample by 2.
    """
    return nn.Sequential(*_replaced(list(layers), PAYS[dtype]))


def _replaced(layers: list[Any], pays: int) -> Iterator[nn.Module]:
    at = 0
    while at < len(layers):
        kinds = [type(layer) for layer in layers[at : at + 4]]
        padded = kinds[:3] == [nn.ReflectionPad2d, nn.Conv2d, nn.ReLU]
        if kinds == [nn.Upsample, nn.ReflectionPad2d, nn.Conv2d, nn.ReLU]:
            yield Upsampled(layers[at + 2])
            at += 4
        elif padded and min(layers[at + 1].in_channels, layers[at + 1].out_channels) >= pays:
            yield Tiled(layers[at + 1])
            at += 3
        else:
            yield nn.ReLU(inplace=True) if kinds[0] is nn.ReLU else layers[at]
            at += 1
