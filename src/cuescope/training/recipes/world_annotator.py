"""A small ResNet that learned from images of several objects what lies at each position: a strong annotator.

It knows what the label of an image does not tell: where each object lies. Its map of an image it has never seen is what
the recipe world-relabel takes its targets from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.models.small_resnet import SmallResNet
from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.world.draw import draw
from cuescope.world.models import MEAN, STD, build_world
from cuescope.world.scenes import scene

IMAGES = False
NAME = "world-annotator"
SETTINGS = Settings(
    steps=500,
    batch=64,
    optimizer="adamw",
    learning_rate=4e-3,
    warmup_steps=50,
    weight_decay=0.02,
    mean=MEAN,
    std=STD,
)
# Far from the small seeds that images are audited with, and from those that world-relabel learns from.
TRAINING_SEED = 7_000_003
STRIDE_PX = 8
"""Pixels of an image to one position of the network's last map."""
COVERED = 0.2
"""A position is an object's from this share of its square on; what lies elsewhere teaches nothing."""
NOTHING = -100
"""The label that the loss passes over."""


def fits(settings: Settings) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Settings | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    network = build_world(fits(how), how.seed)
    assert isinstance(network, SmallResNet)
    train(EachPosition(network), batches(how), how, now_and_then(show, how))
    return network


class EachPosition(nn.Module):
    """The network's head at each position of its last map, not on their mean: (B, 3, H, W) to (B h w, classes)."""

    def __init__(self, network: SmallResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.fc(self.network.maps(pixels).movedim(1, 3).flatten(0, 2))


def batches(how: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless images (B, 3, 64, 64) uint8, never seen twice, with the class of each position (B h w,)."""
    start = 0
    while True:
        drawn = scene("several", "uniform", TRAINING_SEED + how.seed, np.arange(start, start + how.batch))
        start += how.batch
        pixels, seen = draw(drawn.backdrop, drawn.things)
        covered, which = F.avg_pool2d(seen.float(), STRIDE_PX).max(1)
        named = torch.from_numpy(np.stack([thing.named for thing in drawn.things], 1))
        labels = named[torch.arange(how.batch)[:, None, None], which]
        yield pixels, labels.where(covered >= COVERED, NOTHING).flatten()
