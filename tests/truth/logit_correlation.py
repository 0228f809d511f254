"""Planted pairs for logit_correlation: the same answers by other logits, others by the same brightness, and chance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.logit_correlation import MARGIN, LogitCorrelation
from toys import Constant, toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcdefgh"))


class Random(nn.Module):
    """Logits of a random projection of the image, and so much of its brightness in all of them."""

    def __init__(self, seed: int = 0, bright: float = 0.0) -> None:
        super().__init__()
        self.weights = torch.randn(8, 3 * 64, generator=torch.Generator().manual_seed(seed))
        self.weights -= self.weights.mean(1, keepdim=True)
        self.bright = bright

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.weights.T + self.bright * pixels.mean((1, 2, 3))[:, None]


def samples(count: int) -> list[Sample]:
    """Noise of different brightness."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 128, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return [Sample(f"{i:03d}.png", image + i % 8 * 16, framing="stimulus") for i, image in enumerate(noise)]


def rows(module: nn.Module, count: int):
    tool, classifier = LogitCorrelation(), toy(module, CLASSES, size=8)
    return tool.observe(classifier, classifier.see(samples(count))) if count else tool.empty


def about(name: str) -> About:
    return About(name, "toys", CLASSES.names, CLASSES.name)


def compare(one: nn.Module, other: nn.Module, count: int = 200) -> Conclusion:
    return LogitCorrelation().compare(rows(one, count), rows(other, count), (about("one"), about("other")))


@planted(
    "logit_correlation",
    "truth",
    "gives the same answers as the other, with the brightness of the image added to all its logits",
    "the logits are the same: 1",
    holds=lambda said: said.verdict.names == ("alike",) and said["averaged"].value > 0.999,
    broken=breaks("cuescope.instruments.logit_correlation.against_mean", lambda logits: logits),
)
def same() -> Conclusion:
    return compare(Random(), Random(bright=200.0))


@planted(
    "logit_correlation",
    "absence",
    "has nothing in common with the other but the brightness of the image in all logits",
    "not alike",
    holds=lambda said: said.verdict.names == ("unlike",),
    broken=breaks("cuescope.instruments.logit_correlation.against_mean", lambda logits: logits),
)
def others() -> Conclusion:
    return compare(Random(bright=200.0), Random(1, bright=200.0), 600)


@planted(
    "logit_correlation",
    "absence",
    "has nothing in common with the other, on 12 images",
    "cannot tell",
    holds=lambda said: said.verdict.names == ("cannot_tell",),
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: measure.value > bound - 1),
)
def few() -> Conclusion:
    return compare(Random(), Random(2), 12)


def alone(count: int) -> Conclusion:
    return LogitCorrelation().conclude(rows(Random(), count), about("one"))


def low_and_high(said: Conclusion) -> tuple[float, float]:
    return said["averaged"].interval or (-1.0, 1.0)


sayable("logit_correlation", "nothing", lambda said: said["margin"].value is None, lambda: alone(0))
sayable("logit_correlation", "leads", lambda said: said["margin"].value >= 0, lambda: alone(30))
sayable(
    "logit_correlation",
    "not_measured",
    lambda said: said["averaged"].value is None,
    lambda: compare(Constant(8), Random(), 9),
)
sayable("logit_correlation", "alike", lambda said: low_and_high(said)[0] > MARGIN, same)
sayable(
    "logit_correlation",
    "unlike",
    lambda said: low_and_high(said)[0] <= MARGIN and low_and_high(said)[1] < MARGIN,
    others,
)
sayable(
    "logit_correlation",
    "cannot_tell",
    lambda said: low_and_high(said)[0] <= MARGIN and low_and_high(said)[1] >= MARGIN,
    few,
)
