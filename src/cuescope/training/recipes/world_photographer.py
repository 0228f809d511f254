"""The world's congruent network trained on centered images alone, as if a photographer had taken them all."""

from __future__ import annotations

from torch import nn

from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.training.streams import mixed
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, build_world

IMAGES = False
NAME = "world-photographer"
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
# Far from the small seeds that images are audited with.
TRAINING_SEED = 1_000_003


def fits(settings: Settings) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Settings | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    images = WorldImages("congruent", placement="centered", seed=TRAINING_SEED + how.seed)
    return train(build_world(fits(how), how.seed), mixed([images], how.batch), how, now_and_then(show, how))
