"""Planted networks for invariance: one that turns do not move, one that they do, and one that sees nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.transform import TRANSFORMS
from cuescope.instruments.invariance import MARGIN, Invariance
from toys import COLORS, Constant, MeanColor, toy
from truth.table import breaks, planted, sayable

SIZE = 8
TOOL = Invariance(translation_px=56, translation_step_px=56, scale_step=0.8, rotation_step=120.0, rotation_most=240.0)


class Upper(nn.Module):
    """The main color of the upper half: a turn brings another one there."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels[:, :, : SIZE // 2].mean((2, 3))


class Scaled(nn.Module):
    """The mean of each channel, as features that are large or small, and far from 0 or not."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.first, self.scale, self.offset = nn.Conv2d(3, 3, 1), scale, offset
        self.first.weight.data = torch.eye(3)[:, :, None, None]
        self.last = nn.Linear(3, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last(self.first(pixels).mean((2, 3)) * self.scale + self.offset)


def conclude(module: nn.Module, images: int) -> Conclusion:
    """The instrument's answer; in each image the upper half is of one color, the lower half of another."""
    classifier, colors = toy(module, size=SIZE), 200 * torch.eye(3, dtype=torch.uint8) + 20
    halves = [colors[[k % 3] * (SIZE // 2) + [(k + 1) % 3] * (SIZE // 2)] for k in range(images)]
    samples = [Sample(f"{k:03}", rows.T[:, :, None].expand(3, SIZE, SIZE)) for k, rows in enumerate(halves)]
    observer = TOOL.start(classifier)
    rows = observer.observe(classifier.see(samples)) if images else TOOL.empty
    return TOOL.conclude(rows, About("toy", "toys", COLORS.names, facts=observer.facts))


def turns(apply: Any) -> Any:
    """A breaking: the image is turned by this."""
    rotation = replace(TRANSFORMS["rotation"], apply=apply)
    return breaks("cuescope.instruments.invariance.TRANSFORMS", {**TRANSFORMS, "rotation": rotation})


@planted(
    "invariance",
    "truth",
    "says the main color of the upper half of images with two colors",
    "the answer does not stay when the image is turned",
    holds=lambda said: said.verdict.names == ("moves",) and said["stays_far_rotation"].value < 0.5,
    broken=turns(lambda pixels, degrees, color: pixels),
    shows=("stays_far_rotation",),
)
def upper_half() -> Conclusion:
    return conclude(Upper(), 24)


class Brightest(MeanColor):
    """The main color of the brighter half of the pixels, wherever it is."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) * torch.tensor([1.0, 1.3, 1.7])


@planted(
    "invariance",
    "truth",
    "says the main color of the whole image",
    "the answer stays when the image is turned",
    holds=lambda said: said.verdict.names == ("stays",),
    broken=turns(lambda pixels, degrees, color: pixels.roll(1, 0)),
    shows=("stays_far_rotation",),
)
def whole_image() -> Conclusion:
    return conclude(Brightest(), 96)


@planted(
    "invariance",
    "absence",
    "always gives the same answer",
    "cannot tell, not 'the answer stays when the image is turned'",
    holds=lambda said: said.verdict.names == ("one_answer",),
    broken=breaks("cuescope.instruments.invariance.same_answer", lambda answers: 0.0),
    shows=("stays_far_rotation",),
)
def constant() -> Conclusion:
    return conclude(Constant(), 96)


@planted(
    "invariance",
    "absence",
    "the last layer's features are a hundred times as large and lie ten times as far from 0",
    "they move as far as without that",
    holds=lambda said: abs(said["high_vertical"].value - conclude(Scaled(1, 0), 6)["high_vertical"].value) < 0.01,
    broken=breaks("cuescope.methods.moved_features.distance_to_others", lambda own: np.linalg.norm(own, axis=1)),
    shows=("high_vertical",),
)
def far_from_zero() -> Conclusion:
    return conclude(Scaled(100, 1000), 6)


def span(said: Conclusion) -> tuple[float, float]:
    return said["stays_far_rotation"].interval or (0.0, 1.0)


def alike(said: Conclusion) -> float:
    """How often two images of three colors, in turn, have the same answer; always, for the constant one."""
    return said["stays_far_rotation"].chance or 0.0


sayable("invariance", "nothing", lambda said: said["stays_far_rotation"].value is None, lambda: conclude(Upper(), 0))
sayable("invariance", "moves", lambda said: span(said)[1] < 1 - MARGIN, upper_half)
sayable("invariance", "stays", lambda said: span(said)[0] > max(1 - MARGIN, alike(said)), whole_image)
sayable("invariance", "one_answer", lambda said: 1 - MARGIN < span(said)[0] <= alike(said), constant)
sayable(
    "invariance", "unsure", lambda said: span(said)[0] <= 1 - MARGIN <= span(said)[1], lambda: conclude(MeanColor(), 6)
)
sayable("invariance", "features", lambda said: said["high_vertical"].value is not None, far_from_zero)
