"""A small ResNet on random crops of the world's images of several objects, with label maps or one label an image.

A crop of such an image often shows another object than the largest, whose class is the image's label. The maps are
made once, by an annotator that has learned from other images (Yun et al. 2021): that of the recipe world-annotator.
With targets="label" the same network learns from the same crops of the same images with the image's label: what the
maps are to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.label_maps.pooling import LabelPooling, RandomResizedCropWithCoords
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.patch_annotator import Annotator
from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.world.draw import SIZE_PX
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, build_world, load_world, unpacked


@dataclass(frozen=True)
class Relabeled(Settings):
    """Settings of the loop, and of the targets."""

    targets: Literal["maps", "label"] = "maps"
    """The annotator's map in the region of the crop, or the image's one label whatever the crop shows."""
    annotator: str = ""
    """File of weights that `cuescope train world-annotator` made; without one world-congruent annotates."""
    images: int = 2000
    """Images to learn from, seen again and again in other crops."""
    top: int = 5
    """Classes that are kept at each position of a map."""
    least: float = 0.08
    """The least share of an image that a crop takes; 1 at most."""


IMAGES = False
NAME = "world-relabel"
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
TOGETHER = 50
"""Images that are annotated at once."""


def fits(settings: Settings) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Relabeled | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    return train(build_world(fits(how), how.seed), batches(how), how, now_and_then(show, how))


def batches(how: Relabeled) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of random crops (B, 3, 64, 64) uint8 with soft targets (B, 16), or with labels (B,).

    Crops are drawn from torch's global generator, which the training loop seeds: the same ones for either target.
    """
    several = WorldImages("several", placement="uniform", seed=TRAINING_SEED + how.seed)
    pixels, labels = several.render(np.arange(how.images))
    scores, ids = label_maps(pixels, how) if how.targets == "maps" else (None, None)
    crop, pooling = RandomResizedCropWithCoords(SIZE_PX, scale=(how.least, 1.0), antialias=True), LabelPooling(16)
    chance = np.random.default_rng(how.seed)
    order = np.empty(0, np.int64)
    while True:
        while len(order) < how.batch:
            order = np.concatenate([order, chance.permutation(how.images)])
        chosen, order = order[: how.batch], order[how.batch :]
        cut, places = zip(*(crop(pixels[i]) for i in chosen), strict=True)
        if scores is None or ids is None:
            yield torch.stack(cut), labels[chosen]
        else:
            yield torch.stack(cut), pooling(ids[chosen], scores[chosen], places)


def label_maps(pixels: Tensor, how: Relabeled) -> tuple[np.ndarray, np.ndarray]:
    """The annotator's maps of images (N, 3, 64, 64) uint8: the highest scores and their classes, (N, k, h, w) each."""
    annotator = annotated_by(how.annotator)
    parts = [annotator.logits(some.float() / 255).topk(how.top, 1) for some in pixels.split(TOGETHER)]
    return torch.cat([part.values for part in parts]).numpy(), torch.cat([part.indices for part in parts]).numpy()


def annotated_by(weights: str = "") -> Annotator:
    """The world's congruent network as an annotator, with its own weights or those of a file."""
    model = load_world("world-congruent")
    if weights:
        model.module.load_state_dict(unpacked(load_file(weights)))
    how = Preprocessing(model.input_size, SIZE_PX, mean=model.mean, std=model.std, source="the world's")
    return Annotator.of(Classifier(model.module, classes=model.classes, preprocessing=how, device="cpu"))
