"""Planted trainings for evolution: units that settle early, units that never do, and units that are all alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.evolution import Evolution
from cuescope.methods.settling import Settling
from toys import COLORS, plain
from truth.table import breaks, planted, sayable

UNITS = 16


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def checkpoint(number: int, weight: Tensor) -> Classifier:
    """Units that are each excited by a mixture of colors: a row of `weight`."""
    body = nn.Sequential(nn.Conv2d(3, UNITS, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(UNITS, 3))
    body[0].weight.data = weight[:, :, None, None].clone()
    return Classifier(body, classes=COLORS, preprocessing=plain(2), name=f"net@{number}")


def conclude(*weights: Tensor, images: int = 40) -> Conclusion:
    """The instrument's answer about checkpoints with these weights."""
    nets = [checkpoint(i, weight) for i, weight in enumerate(weights)]
    colors = torch.randint(0, 256, (images, 3, 1, 1), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    samples = [Sample(f"{i:03}", color.expand(3, 2, 2)) for i, color in enumerate(colors)]
    tool, about = Evolution(layers=("0",), units=UNITS), About("net", "toys", COLORS.names)
    if not images:
        return tool.conclude(tool.empty, about)
    batch = replace(nets[-1].see(samples), peers=tuple(nets[:-1]))
    return tool.conclude(tool.start(nets[-1]).observe(batch), about)


@planted(
    "evolution",
    "truth",
    "all units are from the second of three checkpoints on what they stay",
    "most units have settled before the last one",
    holds=lambda said: said.verdict.names == ("settled",) and said["settled"].value == 1,
    broken=lambda patch: patch.setattr(Settling, "_stay", lambda self, curve: curve > 2),
)
def settles_early() -> Conclusion:
    final = drawn(0, UNITS, 3)
    return conclude(drawn(1, UNITS, 3), final, 0.9 * final)


@planted(
    "evolution",
    "absence",
    "every checkpoint has other random weights",
    "its units still change, although at the last checkpoint all are what they are there",
    holds=lambda said: said.verdict.names == ("changing",),
    broken=lambda patch: patch.setattr(Settling, "_stay", lambda self, curve: np.ones_like(curve, bool)),
)
def never_settles() -> Conclusion:
    return conclude(*(drawn(seed, UNITS, 3) for seed in range(3)))


@planted(
    "evolution",
    "absence",
    "every unit sees how bright the image is, at every checkpoint, with other random weights",
    "cannot tell: each agrees with any other unit as with itself",
    holds=lambda said: said.verdict.names == ("unsure",) and said["settled"].value > 0.9,
    broken=breaks("cuescope.instruments.evolution._sort", lambda m: "settled" if m.above(0.5) else "unsure"),
)
def all_alike() -> Conclusion:
    return conclude(*(1 + 0.05 * drawn(seed, UNITS, 3) for seed in range(3)))


def span(said: Conclusion) -> tuple[float, float]:
    return said["settled"].interval or (0.0, 1.0)


sayable("evolution", "nothing", lambda said: said["settled"].value is None, lambda: conclude(images=0))
sayable("evolution", "settled", lambda said: span(said)[0] > max(0.5, said["settled"].chance), settles_early)
sayable("evolution", "changing", lambda said: span(said)[1] < 0.5, never_settles)
sayable(
    "evolution",
    "unsure",
    lambda said: span(said)[0] <= max(0.5, said["settled"].chance) and span(said)[1] >= 0.5,
    all_alike,
)
