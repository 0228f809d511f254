"""Planted classifiers for interaction: sums of parts, what only looks like a sum, and the colors that masks keep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.interaction import LEAST, MARGIN, Interaction
from toys import toy
from truth.table import breaks, planted, sayable

TWO = ClassSpace("two", ("this", "that"))
SIZE, PART = 24, 6


def rough(pixels: Tensor) -> Tensor:
    """How rough is each of the 16 parts? (B, 16)."""
    parts = pixels.unfold(2, PART, PART).unfold(3, PART, PART)
    return parts.var((1, 4, 5)).flatten(1)


def logits(first: Tensor) -> Tensor:
    return torch.stack([first, torch.full_like(first, -1.0)], 1)


class Sum(nn.Module):
    """The sum over the parts of how rough each is."""

    def forward(self, pixels: Tensor) -> Tensor:
        return logits(rough(pixels).sum(1))


class Power(nn.Module):
    """The eighth power of that sum: together the parts take half of what they take one by one."""

    def forward(self, pixels: Tensor) -> Tensor:
        return logits((2 * rough(pixels).sum(1)) ** 8 / 100)


class Largest(nn.Module):
    """How rough the roughest of four far parts is: where it is masked, another takes its place."""

    def forward(self, pixels: Tensor) -> Tensor:
        return logits(100 * rough(pixels).unflatten(1, (4, 4))[:, ::2, ::2].amax((1, 2)))


class Color(nn.Module):
    """The mean color, which masks keep but for rounding."""

    def forward(self, pixels: Tensor) -> Tensor:
        return logits(10 * pixels.mean((1, 2, 3)))


class Nearly(nn.Module):
    """The sum, bent a little where it is large."""

    def forward(self, pixels: Tensor) -> Tensor:
        total = rough(pixels).sum(1)
        return logits(total + 0.55 * total**2)


class Neighbors(nn.Module):
    """How rough each part is, times how rough its neighbor to the right is, which no mask covers with it."""

    def forward(self, pixels: Tensor) -> Tensor:
        parts = rough(pixels).unflatten(1, (4, 4))
        return logits(100 * (parts[:, :, ::2] * parts[:, :, 1::2]).sum((1, 2)))


class Brightness(Largest):
    """The same with the square of the brightness added to all logits, which changes no answer."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) + 100 * pixels.square().mean((1, 2, 3))[:, None]


def images(count: int) -> list[Sample]:
    """Noise of a contrast that differs from part to part and from image to image."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for i in range(count):
        noise = torch.rand(3, SIZE, SIZE, generator=generator) - 0.5
        contrast = torch.rand(1, SIZE // PART, SIZE // PART, generator=generator) * (0.5 + (i % 8) / 16)
        whole = contrast.repeat_interleave(PART, 1).repeat_interleave(PART, 2)
        made.append(Sample(f"{i}.png", ((noise * whole + 0.5) * 255).byte(), framing="stimulus"))
    return made


def conclude(module: nn.Module, count: int = 24, raw: bool = False) -> Conclusion:
    tool, classifier = Interaction(parts_px=(PART,), raw=raw), toy(module, TWO, size=SIZE)
    observer = tool.start(classifier)
    return tool.conclude(
        observer.observe(classifier.see(images(count))), About("toy", "toys", TWO.names, facts=observer.facts)
    )


SHOWN = ("residual", "slope", "correlation")


@planted(
    "interaction",
    "truth",
    "adds up how rough its parts are",
    "adds up its parts",
    holds=lambda said: said.verdict.names == ("additive",) and abs(said["slope"].value - 1) < 1e-3,
    broken=breaks("cuescope.instruments.interaction.losses", lambda *_, **__: (1.0, 2.0)),
    shows=SHOWN,
)
def sums() -> Conclusion:
    return conclude(Sum())


@planted(
    "interaction",
    "absence",
    "goes by the mean color alone, which masks keep",
    "nothing to add up, no correlation of rounding errors",
    holds=lambda said: said.verdict.names == ("unmoved",) and said["correlation"].value is None,
    broken=breaks("cuescope.instruments.interaction.NOTHING", 0.0),
    shows=SHOWN,
)
def color() -> Conclusion:
    return conclude(Color())


@planted(
    "interaction",
    "absence",
    "goes by the eighth power of the energy: r is above .9, and together its parts take far less than one by one",
    "is no sum of its parts",
    holds=lambda said: said.verdict.names == ("together",) and said["correlation"].value > 0.9,
    broken=breaks("cuescope.instruments.interaction.MARGIN", 2.0),
    shows=SHOWN,
)
def power() -> Conclusion:
    return conclude(Power())


@planted(
    "interaction",
    "absence",
    "goes by the roughest of four parts alone",
    "is no sum of its parts",
    holds=lambda said: said.verdict.names == ("together",) and said["residual"].value > 0.1,
    broken=breaks(
        "cuescope.instruments.interaction._moved",
        lambda rows: (*[rows["alone"].to_numpy()] * 2, 0 * rows["alone"].to_numpy()),
    ),
    shows=SHOWN,
)
def largest() -> Conclusion:
    return conclude(Largest())


@planted(
    "interaction",
    "absence",
    "the same, with the square of the brightness added to all logits",
    "the very same numbers, since no answer differs",
    holds=lambda said: all(abs(said[name].value - largest()[name].value) < 1e-3 for name in SHOWN),
    broken=breaks("cuescope.methods.part_losses.relative", lambda logits, raw: logits),
    shows=SHOWN,
)
def brightness() -> Conclusion:
    return conclude(Brightness())


@planted(
    "interaction",
    "absence",
    "multiplies each part by its neighbor, which no mask covers with it",
    "says of parts that lie apart alone that they add up, and that their neighbors are not seen",
    holds=lambda said: said.verdict.names == ("additive",) and any("neighbors is not seen" in c for c in said.caveats),
    broken=breaks("cuescope.instruments.interaction._caveats", lambda *_: ()),
    shows=SHOWN,
)
def neighbors() -> Conclusion:
    return conclude(Neighbors())


def low_and_high(said: Conclusion) -> tuple[float, float]:
    return said["residual"].interval or (0.0, 2.0)


sayable("interaction", "nothing", lambda said: said["residual"].value is None, lambda: conclude(Color(), LEAST - 1))
sayable("interaction", "unmoved", lambda said: said["residual"].value is None, color)
sayable("interaction", "additive", lambda said: said["residual"].value < MARGIN and said["residual"].n >= LEAST, sums)
sayable("interaction", "together", lambda said: low_and_high(said)[0] > MARGIN, power)
sayable("interaction", "nearly", lambda said: low_and_high(said)[1] < MARGIN, lambda: conclude(Nearly()))
sayable(
    "interaction",
    "cannot_tell",
    lambda said: low_and_high(said)[0] <= MARGIN <= low_and_high(said)[1] or said["residual"].n < LEAST,
    lambda: conclude(Largest(), 1),
)
