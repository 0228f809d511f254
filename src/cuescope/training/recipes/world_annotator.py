"""A small ResNet on random crops of congruent images: right about single objects of any size, in any surroundings.

Labels of single objects are mostly right in crops. On images of several objects, enlarged by half, its map says what
lies where: the annotator of the recipe world-relabel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.training.streams import mixed
from cuescope.world.draw import SIZE_PX
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, build_world

IMAGES = False
NAME = "world-annotator"
SETTINGS = Settings(
    steps=800,
    batch=64,
    optimizer="adamw",
    learning_rate=4e-3,
    warmup_steps=50,
    weight_decay=0.02,
    mean=MEAN,
    std=STD,
)
# Far from the small seeds that images are audited with.
TRAINING_SEED = 7_000_003
LEAST = 0.15
"""The least share of an image that a crop takes."""


def fits(settings: Settings) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Settings | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    images = WorldImages("congruent", placement="uniform", seed=TRAINING_SEED + how.seed)
    stream = cropped(mixed([images], how.batch))
    return train(build_world(fits(how), how.seed), stream, how, now_and_then(show, how))


def cropped(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image cut at random as torchvision's RandomResizedCrop does, from torch's global generator."""
    crop = v2.RandomResizedCrop(SIZE_PX, scale=(LEAST, 1.0), antialias=True)
    for images, labels in batches:
        yield torch.stack([crop(image) for image in images]), labels
