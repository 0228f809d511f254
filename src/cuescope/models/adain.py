"""AdaIN: one image's shapes in another's texture, by giving features the other's means and deviations."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.reflected import cheaper
from cuescope.models.seeding import seeded
from cuescope.network import identity
from cuescope.network.executor import one_thread_each

EPSILON = 1e-5
"""Added to every variance, as by the authors."""
SMALLEST_PX = 32
"""Of contents and styles: below, the deepest features would be fewer than 4 x 4."""
POOL = 0
VGG = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, 256, POOL, 512)
"""Channels of VGG-19's convolutions up to relu4_1."""
LEVELS = (4, 11, 18, 31)
"""Modules of the encoder up to relu1_1, relu2_1, relu3_1 and relu4_1."""
CONVOLUTIONS = ("0", "2", "5", "9", "12", "16", "19", "22", "25", "29")
"""The encoder's convolutions among its modules, the first one that of the colors."""
TORCHVISION = tuple(f"features.{number}" for number in (0, 2, 5, 7, 10, 12, 14, 16, 19))
"""The same in torchvision's VGG-19, which has none of the colors."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's VGG-19 is normalized with."""


@dataclass(frozen=True)
class Style:
    """What a stylizer takes of style images: means (B, C) and deviations (B, C) of features, a pair a layer.

    >>> style = Style((torch.zeros(2, 3),), (torch.ones(2, 3),))
    >>> len(style), len(style.at([1, 1, 0])), len(Style.joined([style, style]))
    (2, 3, 4)
    """

    mean: tuple[Tensor, ...]
    std: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.mean[0])

    def at(self, positions: Sequence[int]) -> Style:
        """The styles at these positions, in their order."""
        return self._each(lambda values: values[list(positions)])

    def to(self, device: torch.device | str) -> Style:
        return self._each(lambda values: values.to(device))

    @staticmethod
    def joined(styles: Sequence[Style]) -> Style:
        """Many styles as one batch."""
        means, stds = zip(*((style.mean, style.std) for style in styles), strict=True)
        return Style(tuple(map(torch.cat, zip(*means, strict=True))), tuple(map(torch.cat, zip(*stds, strict=True))))

    def mixed(self, other: Style, alpha: float) -> Style:
        """`alpha` parts of this style and 1 - `alpha` of the other."""
        if alpha == 1:
            return self
        own, others = (*self.mean, *self.std), (*other.mean, *other.std)
        values = tuple(alpha * a + (1 - alpha) * b for a, b in zip(own, others, strict=True))
        return Style(values[: len(self.mean)], values[len(self.mean) :])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Style:
        return Style(tuple(map(change, self.mean)), tuple(map(change, self.std)))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, C) of features (B, C, H, W) over places; the variance is the unbiased one."""
    variance, mean = torch.var_mean(features.float(), (2, 3))
    return mean, (variance + EPSILON).sqrt()


def adain(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Features (B, C, H, W) with these means and deviations (B, C) in place of their own.

    t = std(s) (c - mean(c)) / std(c) + mean(s); Huang and Belongie 2017, equation 8.

    >>> adain(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[10.0]]), torch.tensor([[2.0**0.5]]))
    tensor([[[[ 9.0000, 11.0000]]]])
    """
    own_mean, own_std = moments(features)
    scale = std / own_std
    shift = mean - own_mean * scale
    return torch.addcmul(shift[:, :, None, None], features, scale[:, :, None, None])


class StyleNetwork(nn.Module):
    """What a Stylizer consists of: `network(content, style, alpha)` gives images (B, 3, H, W) for images."""

    def statistics(self, pixels: Tensor) -> Style:
        """What the network takes of style images (B, 3, H, W) in [0, 1]."""
        raise NotImplementedError

    def fast(self, dtype: torch.dtype) -> StyleNetwork | None:
        """A copy that runs as fast as can be in this precision, from float32 to float32; None if there is no way."""
        return None


class AdaIN(StyleNetwork):
    """VGG-19 up to relu4_1, AdaIN, and a decoder that mirrors the encoder (Huang and Belongie 2017).

    Modules are numbered as in the common files `vgg_normalised.pth` (its first 31, of which a 1x1 convolution of the
    colors normalizes) and `decoder.pth`. Images are (B, 3, H, W) in [0, 1].

    >>> net = AdaIN()
    >>> style = net.statistics(torch.rand(1, 3, 32, 32))
    >>> len(net.encoder), len(net.decoder), net(torch.rand(1, 3, 37, 32), style).shape
    (31, 29, torch.Size([1, 3, 37, 32]))
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.encoder = seeded(seed, _encoder)
        self.decoder = seeded(seed + 1, _decoder)

    def encode(self, pixels: Tensor) -> Tensor:
        """relu4_1: (B, 512, h, w), h an eighth of H, rounded up."""
        return self.encoder(pixels.to(self._dtype))

    def features(self, pixels: Tensor) -> list[Tensor]:
        """relu1_1, relu2_1, relu3_1 and relu4_1, which the style loss of the training compares."""
        found, start = [], 0
        for end in LEVELS:
            pixels = self.encoder[start:end](pixels)
            found.append(pixels)
            start = end
        return found

    def decode(self, features: Tensor) -> Tensor:
        """(B, 3, 8 h, 8 w) of features (B, 512, h, w)."""
        return self.decoder(features.to(self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return next(iter(self.state_dict().values())).dtype

    def statistics(self, pixels: Tensor) -> Style:
        """Mean and deviation of relu4_1."""
        return _style(self.encode(pixels))

    def forward(self, content: Tensor, style: Style, alpha: float = 1.0) -> Tensor:
        """The content in the style's texture: (B, 3, H, W), a little outside of [0, 1] here and there.

        decode(alpha t + (1 - alpha) c), which mixed statistics give as well; what pooling rounded up is cut off.
        """
        features = self.encode(content)
        style = style if alpha == 1 else style.mixed(_style(features), alpha)
        return self.decode(adain(features, style.mean[0], style.std[0]))[:, :, : content.shape[2], : content.shape[3]]

    def fast(self, dtype: torch.dtype) -> AdaIN:
        """With fewer products on a processor (`reflected`), and all of it in `dtype`, with no casts between layers."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if next(network.parameters()).device.type == "cpu":
            network.encoder = cheaper(network.encoder, dtype)
            network.decoder = cheaper(network.decoder, dtype)
        return network.to(dtype)


def _style(features: Tensor) -> Style:
    mean, std = moments(features)
    return Style((mean,), (std,))


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    inputs = 3
    for width in VGG:
        if width == POOL:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, width, 3), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers)


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = [3, *filter(None, VGG)]
    for width in reversed(VGG):
        if width == POOL:
            layers.append(nn.Upsample(scale_factor=2))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(widths.pop(), widths[-1], 3), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights from those of `vgg_normalised.pth` or of torchvision's VGG-19; what is deeper is left out.

    torchvision's normalization becomes the 1x1 convolution; its network was trained with zeros beyond the maps, not
    reflection. Raises CueError where the tensors are of neither layout.
    """
    own = CONVOLUTIONS
    if all(f"{name}.weight" in state for name in own):
        return {f"{name}.{part}": state[f"{name}.{part}"] for name in own for part in ("weight", "bias")}
    if all(f"{name}.weight" in state for name in TORCHVISION):
        std, mean = torch.tensor(STD), torch.tensor(MEAN)
        folded = {"0.weight": torch.diag(1 / std)[:, :, None, None], "0.bias": -mean / std}
        pairs = zip(own[1:], TORCHVISION, strict=True)
        return folded | {f"{a}.{part}": state[f"{b}.{part}"] for a, b in pairs for part in ("weight", "bias")}
    raise CueError(
        "these weights are no VGG-19: " + ", ".join(list(state)[:4]) + ", ...",
        wanted="keys 0.weight, 2.weight, ... as in vgg_normalised.pth, or features.0.weight, ... of torchvision",
        do="give the encoder's file first, then the decoder's",
    )


@dataclass(frozen=True, eq=False)
class Stylizer:
    """How does this image look in the texture of that one? A network that answers, and nothing else of its state.

    `network` is put into evaluation mode; its weights must not change after the first image. `name` says which it is
    for a manifest. With "bfloat16" the convolutions run in that precision, which moves pixels by about a gray level.
    """

    name: str
    network: StyleNetwork
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of the network's weights and structure, in 32 characters."""
        return identity.of_module(self.network).hex()

    @functools.cached_property
    def _running(self) -> StyleNetwork:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        return self.network.fast(dtype) or self.network

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def statistics(self, styles: Tensor) -> Style:
        """What is taken of style images (B, 3, H, W) in [0, 1]. Raises CueError where they are smaller than 32 px."""
        pixels = self._checked(styles, "style")
        with torch.no_grad(), self._precision():
            return self._running.statistics(pixels)

    def stylize(self, content: Tensor, style: Style, alpha: float = 1.0) -> Tensor:
        """Contents (B, 3, H, W) in the texture of B styles, or all in that of one: (B, 3, H, W) float32 in [0, 1].

        Contents are in [0, 1]; `alpha` 1 is the whole style, 0 the network's own rendering of the content. An image
        comes out the same whatever else is in the batch, from `WCT` bit for bit. Raises CueError where the contents are
        smaller than 32 px, or the number of styles is another.

        >>> from cuescope.models.wct import embedded
        >>> stylizer = embedded()
        >>> style = stylizer.statistics(torch.rand(1, 3, 32, 32))
        >>> stylizer.stylize(torch.rand(2, 3, 40, 33), style).shape
        torch.Size([2, 3, 40, 33])
        """
        pixels = self._checked(content, "content")
        if len(style) not in (1, len(pixels)):
            raise CueError(f"{len(style)} styles for {len(pixels)} images", wanted="one style, or one for each image")
        if not 0 <= alpha <= 1:
            raise CueError(f"alpha {alpha}", wanted="from 0 (no style) to 1 (all of it)")
        style = style.to(self.device)
        if self.device.type != "cpu" or len(pixels) < 2:
            return self._rendered(pixels, style, alpha)
        with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
            most = -(-len(pixels) // threads)
            parts = [range(at, min(at + most, len(pixels))) for at in range(0, len(pixels), most)]
            styles = [style if len(style) == 1 else style.at(part) for part in parts]
            some = [pixels[part.start : part.stop] for part in parts]
            return torch.cat(list(pool.map(self._rendered, some, styles, [alpha] * len(parts))))

    def _rendered(self, pixels: Tensor, style: Style, alpha: float) -> Tensor:
        with torch.no_grad(), self._precision():
            return self._running(pixels, style, alpha).float().clamp(0, 1)

    def _checked(self, pixels: Tensor, what: str) -> Tensor:
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise ValueError(f"{what}s are (B, 3, H, W) floats in [0, 1], not {tuple(pixels.shape)} {pixels.dtype}")
        height, width = pixels.shape[2:]
        if min(height, width) < SMALLEST_PX:
            found, wanted = f"a {what} image of {width} x {height} px", f"sides of at least {SMALLEST_PX} px"
            raise CueError(found, wanted=wanted, do="leave it out, or enlarge it")
        return pixels.to(self.device).float().contiguous(memory_format=torch.channels_last)

    def _precision(self) -> torch.autocast:
        casts = self.precision == "bfloat16" and self._running is self.network
        return torch.autocast(self.device.type, torch.bfloat16, enabled=casts)
