"""A small ResNet on random crops of the world's images of several objects, with label maps or one label an image.

A crop of such an image often shows another object than the largest, whose class is the image's label. The maps are
those of the world's congruent network, which has learned from single objects (Yun et al. 2021). With targets="label"
the same network learns from the same crops with the image's label: what the maps are to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.annotator import Annotator
from cuescope.classifier import Classifier
from cuescope.preprocessing import Preprocessing
from cuescope.training.label_pooling import LabelPooling, RandomResizedCropWithCoords
from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.world.draw import SIZE_PX
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.models import MEAN, STD, build_world, load_world


@dataclass(frozen=True)
class Relabeled(Settings):
    """Settings of the loop, and of the targets."""

    targets: Literal["maps", "label"] = "maps"
    """The annotator's map in the region of the crop, or the image's one label whatever the crop shows."""
    top: int = 5
    """Classes that are kept at each position of a map."""
    least: float = 0.08
    """The least share of an image that a crop takes; 1 at most."""


IMAGES = False
NAME = "world-relabel"
ANNOTATOR = "world-congruent"
SETTINGS = Relabeled(
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
TRAINING_SEED = 3_000_003


def fits(settings: Relabeled) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Relabeled | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    images = WorldImages("several", placement="uniform", seed=TRAINING_SEED + how.seed)
    return train(build_world(fits(how), how.seed), crops(images, how), how, now_and_then(show, how))


def crops(images: WorldImages, how: Relabeled) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of random crops (B, 3, 64, 64) uint8 with soft targets (B, 16), or with labels (B,).

    Crops are drawn from torch's global generator, which the training loop seeds: the same ones for either target.
    """
    crop = RandomResizedCropWithCoords(SIZE_PX, scale=(how.least, 1.0), antialias=True)
    annotator, pooling = annotated_by(ANNOTATOR), LabelPooling(len(CLASSES))
    start = 0
    while True:
        pixels, labels = images.render(np.arange(start, start + how.batch))
        start += how.batch
        cut, places = zip(*(crop(image) for image in pixels), strict=True)
        if how.targets == "label":
            yield torch.stack(cut), labels
        else:
            scores, ids = annotator.logits(pixels.float() / 255).topk(how.top, 1)
            yield torch.stack(cut), pooling(ids.numpy(), scores.numpy(), places)


def annotated_by(name: str) -> Annotator:
    """A model of the world as an annotator."""
    model = load_world(name)
    how = Preprocessing(model.input_size, SIZE_PX, mean=model.mean, std=model.std, source="the world's")
    return Annotator.of(Classifier(model.module, classes=model.classes, preprocessing=how, name=name, device="cpu"))
