"""The world's congruent network made to blur before it subsamples (Zhang 2019), and trained on for a little.

Its weights are carried over. With filter_size=1 the same network is trained on as it is: what blurs are to be compared
with.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cuescope.models.antialias import antialias
from cuescope.models.places import example_of
from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.training.streams import mixed
from cuescope.world.draw import SIZE_PX
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, load_world


@dataclass(frozen=True)
class Blurred(Settings):
    """Settings of the loop, and the blurs'."""

    filter_size: int = 4
    """Size of the blurs, 1 to 7; 1 is no blur."""


IMAGES = False
NAME = "world-blur"
SETTINGS = Blurred(
    steps=200,
    batch=64,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_steps=20,
    weight_decay=0.02,
    mean=MEAN,
    std=STD,
)
# Far from the small seeds that images are audited with, and from those that the network has learned from.
TRAINING_SEED = 2_000_003


def fits(settings: Blurred) -> str:
    """The network that the weights are loaded into."""
    return f"world-congruent+blur{settings.filter_size}"


def run(show: Told | None = None, settings: Blurred | None = None) -> nn.Module:
    """Train on; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    plain = load_world("world-congruent").module
    network = antialias(plain, how.filter_size, example=example_of(plain, (SIZE_PX, SIZE_PX)))
    images = WorldImages("congruent", placement="uniform", seed=TRAINING_SEED + how.seed)
    return train(network, mixed([images], how.batch), how, now_and_then(show, how))
