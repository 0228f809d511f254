"""Planted classifiers for masking_sensitivity: one cell, colors that masks keep, and nothing in particular."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.masking_sensitivity import MARGIN, SEEN, MaskingSensitivity
from toys import toy
from truth.table import breaks, planted, sayable

TWO = ClassSpace("two", ("this", "that"))


class OneCell(nn.Module):
    """Says this by how rough the four pixels at (8, 4) are."""

    def forward(self, pixels: Tensor) -> Tensor:
        rough = 100 * pixels[:, :, 8:10, 4:6].var((1, 2, 3)) - 2
        return torch.stack([rough, -rough], 1)


class Color(nn.Module):
    """Says this by how red the whole image is."""

    def forward(self, pixels: Tensor) -> Tensor:
        red = 40 * (pixels[:, 0].mean((1, 2)) - 0.48)
        return torch.stack([red, -red], 1)


class Roughness(nn.Module):
    """Says this by how rough the image is, each cell as much as any other."""

    def forward(self, pixels: Tensor) -> Tensor:
        cells = pixels.unfold(2, 2, 2).unfold(3, 2, 2)
        rough = 90 * cells.var((1, 4, 5)).mean((1, 2)) - 3
        return torch.stack([rough, -rough], 1)


class Either(nn.Module):
    """Reads one cell of an image whose last pixel is bright, else how rough it is."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright = pixels[:, 0, 15, 15] > 0.99
        return torch.where(bright[:, None], OneCell()(pixels), Roughness()(pixels))


def samples(count: int, even: bool = False) -> list[Sample]:
    """Reddish noise; `even` where each cell has the same four pixels, turned."""
    generator = torch.Generator().manual_seed(6)
    made = []
    for i in range(count):
        pixels = torch.randint(30, 226, (3, 16, 16), generator=generator, dtype=torch.uint8)
        if even:
            pixels = torch.tensor([[20, 220], [220, 20]], dtype=torch.uint8).repeat(3, 8, 8)
        pixels[:, 8, 4] = 10
        pixels[:, 9, 5] = 250
        pixels[:, 15, 15] = 20 if i else 255
        made.append(Sample(f"{i}.png", pixels, framing="stimulus"))
    return made


def conclude(module: nn.Module, images: list[Sample], **more: Any) -> Conclusion:
    tool, classifier = MaskingSensitivity(parts=8, most=16, points=3, steps=4, draws=2, **more), toy(module, TWO)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images)) if images else tool.empty
    return tool.conclude(rows, About("toy", "toys", TWO.names, facts=observer.facts))


SHOWN = ("mean_area", "found", "lost_with_all")


@planted(
    "masking_sensitivity",
    "truth",
    "reads one cell",
    "a heatmap finds it",
    holds=lambda said: said.verdict.names == ("finds",) and said["found"].value > 0.5,
    broken=breaks("cuescope.instruments.masking_sensitivity.cell_sums", lambda values, px: -values[::px, ::px].abs()),
    shows=SHOWN,
)
def one_cell() -> Conclusion:
    return conclude(OneCell(), samples(8))


@planted(
    "masking_sensitivity",
    "absence",
    "reads the mean color, which cells of their own mean color keep",
    "cannot tell: masks hide nothing that it reads",
    holds=lambda said: said.verdict.names == ("hidden",) and abs(said["lost_with_all"].value) < 1e-3,
    broken=breaks("cuescope.instruments.masking_sensitivity.SEEN", -1.0),
    shows=SHOWN,
)
def color() -> Conclusion:
    return conclude(Color(), samples(8))


@planted(
    "masking_sensitivity",
    "absence",
    "reads how rough the image is, each cell alike",
    "no heatmap finds more than a random order",
    holds=lambda said: said.verdict.names == ("no_better",),
    broken=breaks("cuescope.instruments.masking_sensitivity.MARGIN", -1.0),
    shows=SHOWN,
)
def evenly() -> Conclusion:
    return conclude(Roughness(), samples(8, even=True))


def low_and_high(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def seen(said: Conclusion) -> bool:
    return low_and_high(said, "lost_with_all")[0] > SEEN


sayable("masking_sensitivity", "nothing", lambda said: said["found"].n == 0, lambda: conclude(Color(), []))
sayable("masking_sensitivity", "hidden", lambda said: not seen(said), color)
sayable("masking_sensitivity", "finds", lambda said: seen(said) and low_and_high(said, "found")[0] > MARGIN, one_cell)
sayable(
    "masking_sensitivity",
    "no_better",
    lambda said: seen(said) and low_and_high(said, "found")[0] <= MARGIN and low_and_high(said, "found")[1] < MARGIN,
    evenly,
)
sayable(
    "masking_sensitivity",
    "cannot_tell",
    lambda said: seen(said) and low_and_high(said, "found")[0] <= MARGIN and low_and_high(said, "found")[1] >= MARGIN,
    lambda: conclude(Either(), samples(8, even=True)),
)
