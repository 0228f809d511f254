"""Planted networks for nonlinearity: a ReLU on waves, a function that is linear, and too few images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.nonlinearity import MARGIN, Nonlinearity
from toys import plain
from truth.table import breaks, planted, sayable


class Centered(nn.Module):
    """Puts the mean of the waves at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 128 / 255


def conclude(activation: nn.Module, count: int, flat: bool = False) -> Conclusion:
    """Waves of four periods a side of 20 positions, at different phases; or plain gray."""
    images = []
    for i in range(count):
        row = 128 + (0 if flat else 100) * torch.cos(2 * math.pi * torch.arange(20) / 5 + i)
        images.append(Sample(f"{i:03d}", row.round().to(torch.uint8).expand(3, 20, 20).contiguous()))
    module = nn.Sequential(Centered(), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier, tool = Classifier(module.eval(), preprocessing=plain(20), name="toy"), Nonlinearity()
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images))
    return tool.conclude(rows, About("toy", "toys", ("a", "b", "c"), "letters", observer.facts))


@planted(
    "nonlinearity",
    "truth",
    "a ReLU of waves of .2 periods a position",
    "it makes .15 of the energy beyond the limit (Fourier series)",
    holds=lambda said: said.verdict.names[0] == "makes" and abs(said["made"].value - 0.15) < 0.02,
    broken=breaks("cuescope.methods.nonlinearities._bent", lambda part, x: x),
    shows=("made", "before"),
)
def relu() -> Conclusion:
    return conclude(nn.ReLU(), 24)


@planted(
    "nonlinearity",
    "absence",
    "a leaky ReLU of slope 1, which is linear",
    "none to speak of",
    holds=lambda said: said.verdict.names[0] == "none",
    broken=breaks("cuescope.methods.nonlinearities._bent", lambda part, x: x.relu()),
    shows=("made",),
)
def linear() -> Conclusion:
    return conclude(nn.LeakyReLU(1.0), 220)


@planted(
    "nonlinearity",
    "absence",
    "a linear function, but 8 images are all that is seen",
    "cannot tell",
    holds=lambda said: said.verdict.said == "cannot tell",
    broken=breaks("cuescope.core.intervals._score", lambda *_: (0.0, 0.0)),
    shows=("made",),
)
def few() -> Conclusion:
    return conclude(nn.LeakyReLU(1.0), 8)


def bounds(said: Conclusion) -> tuple[float, float]:
    return said["made"].interval or (0.0, 1.0)


def seen(said: Conclusion) -> bool:
    return said["made"].value is not None


sayable("nonlinearity", "nothing", lambda said: not seen(said), lambda: conclude(nn.ReLU(), 6, flat=True))
sayable("nonlinearity", "makes", lambda said: bounds(said)[0] > MARGIN, relu)
sayable("nonlinearity", "none", lambda said: bounds(said)[1] < MARGIN, linear)
sayable("nonlinearity", "cannot_tell", lambda said: seen(said) and bounds(said)[0] <= MARGIN <= bounds(said)[1], few)
sayable(
    "nonlinearity",
    "as_it_is",
    lambda said: said["before"].value is not None and said["after"].value is not None,
    relu,
)
