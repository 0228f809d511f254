"""Planted classifiers for stickers: a sum of local colors, a layout, and one that anything strange convinces."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.derived import with_another
from cuescope.data.images import Sample
from cuescope.instruments.stickers import MARGIN, Stickers
from toys import COLORS, toy
from truth.table import breaks, planted, sayable

SIDE = 16


class Local(nn.Module):
    """Adds up how red, green and blue each patch of 4 x 4 px is: a bag of patches."""

    receptive_field_px, stride_px = 4, 4

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return F.avg_pool2d(pixels, 4) + F.avg_pool2d(pixels, 4).square().mean(1, keepdim=True)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Layout(nn.Module):
    """Which half of the image is bright: the left one, the upper one, or two quarters across."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.mean(1, keepdim=True) * layouts()).mean((2, 3))


class Strange(nn.Module):
    """The color that there is least of, but some."""

    def forward(self, pixels: Tensor) -> Tensor:
        share = (pixels > 0.5).double().mean((2, 3))
        return torch.where(share > 0, 1 - share, -1.0).float()


def layouts() -> Tensor:
    """(3, H, W): 1 where a layout is bright, -1 where it is dark."""
    half = torch.cat([torch.ones(SIDE // 2), -torch.ones(SIDE // 2)])
    return torch.stack([half.expand(SIDE, SIDE), half.expand(SIDE, SIDE).T, half[:, None] * half])


def spots(count: int) -> list[Sample]:
    """Gray, with one spot of 4 x 4 px of some strength, in turn red, green and blue."""
    generator = torch.Generator().manual_seed(8)
    made = []
    for i in range(count):
        pixels = torch.full((3, SIDE, SIDE), 100, dtype=torch.uint8)
        y, x = torch.randint(0, SIDE - 3, (2,), generator=generator).tolist()
        pixels[i % 3, y : y + 4, x : x + 4] = int(torch.randint(140, 256, (1,), generator=generator))
        made.append(Sample(f"{i}.png", pixels, i % 3, framing="stimulus"))
    return made


def bright(count: int) -> list[Sample]:
    """Noise, brighter where the layout of the class says so."""
    generator = torch.Generator().manual_seed(8)
    made = []
    for i in range(count):
        noise = torch.randint(0, 60, (3, SIDE, SIDE), generator=generator)
        made.append(Sample(f"{i}.png", (noise + 97 * (1 + layouts()[i % 3])).byte(), i % 3, framing="stimulus"))
    return made


def plain(count: int) -> list[Sample]:
    """All of one color."""
    colors = (200 * torch.eye(3)).byte()
    return [replace(s, pixels=colors[i % 3, :, None, None].repeat(1, SIDE, SIDE)) for i, s in enumerate(spots(count))]


def conclude(module: nn.Module, images: list[Sample]) -> Conclusion:
    tool, classifier = Stickers(), toy(module, COLORS)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(with_another(images)))
    return tool.conclude(rows, About("toy", "toys", COLORS.names, facts=observer.facts))


SHOWN = ("top", "random", "blank")


@planted(
    "stickers",
    "truth",
    "adds up the colors of patches",
    "the strongest patch of another image decides, a random one does not",
    holds=lambda said: said.verdict.names == ("chosen",) and said["gain"].value > 0.2,
    broken=breaks("cuescope.methods.stickers.relative", lambda logits: -logits),
    shows=SHOWN,
)
def local() -> Conclusion:
    return conclude(Local(), spots(48))


@planted(
    "stickers",
    "truth",
    "goes by the color that there is least of",
    "any patch of another image decides",
    holds=lambda said: said.verdict.names == ("any",) and said["random"].value > 0.9,
    broken=breaks(
        "cuescope.instruments.stickers.pasted", lambda pixels, places, sticker: pixels.repeat(len(places), 1, 1, 1)
    ),
    shows=SHOWN,
)
def strange() -> Conclusion:
    return conclude(Strange(), plain(36))


@planted(
    "stickers",
    "absence",
    "goes by the layout of the whole image",
    "hardly any patch of another image decides",
    holds=lambda said: said.verdict.names == ("hardly",) and said["top"].value == 0,
    broken=breaks(
        "cuescope.instruments.stickers.pasted", lambda pixels, places, sticker: 1 - pixels.repeat(len(places), 1, 1, 1)
    ),
    shows=SHOWN,
)
def layout() -> Conclusion:
    return conclude(Layout(), bright(40))


class Guess(nn.Module):
    """The answer is drawn from the pixels: whatever is pasted makes it guess again."""

    def forward(self, pixels: Tensor) -> Tensor:
        value = (pixels * 255).double().flatten(1) @ torch.arange(1, 3 * SIDE**2 + 1).double().sqrt()
        return F.one_hot((value * 1000).long() % 3, 3).float()


@planted(
    "stickers",
    "absence",
    "draws its answer from a hash of the pixels",
    "cannot tell: a blank patch flips as many answers",
    holds=lambda said: said.verdict.names == ("cannot_tell",) and said["blank"].value > 0.1,
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: measure.value > bound - 1),
    shows=SHOWN,
)
def guesses() -> Conclusion:
    return conclude(Guess(), spots(48))


def low_and_high(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def some(said: Conclusion) -> bool:
    return said["top"].value is not None and low_and_high(said, "top")[1] >= MARGIN


sayable("stickers", "nothing", lambda said: said["top"].value is None, lambda: conclude(Local(), spots(1)))
sayable("stickers", "hardly", lambda said: not some(said) and said["top"].n > 0, layout)
sayable("stickers", "chosen", lambda said: some(said) and low_and_high(said, "gain")[0] > 0, local)
sayable(
    "stickers",
    "any",
    lambda said: (
        some(said) and max(map(abs, low_and_high(said, "gain"))) <= MARGIN and low_and_high(said, "beyond_blank")[0] > 0
    ),
    strange,
)
sayable(
    "stickers",
    "cannot_tell",
    lambda said: some(said) and low_and_high(said, "gain")[0] <= 0,
    lambda: conclude(Local(), spots(6)),
)
