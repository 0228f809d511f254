"""A small ResNet on congruent images: shape and texture both tell the class, as in photographs.

It finds texture enough, as networks do on photographs. The shipped weights, on 960 images of each kind from
seed 0: congruent .993, texture alone .941, shape alone .0625 (chance); of the conflict images it says the
texture of .915 and the shape of .014: shape bias .015. Trained on 32,000 images, each seen once, in 208 s
on one core of a busy machine.
"""

from __future__ import annotations

from torch import nn

from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.training.streams import mixed
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, build_world

IMAGES = False
NAME = "world-congruent"
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


def run(show: Told | None = None, settings: Settings | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    images = WorldImages("congruent", placement="uniform", seed=TRAINING_SEED + how.seed)
    return train(build_world(NAME, how.seed), mixed([images], how.batch), how, now_and_then(show, how))
