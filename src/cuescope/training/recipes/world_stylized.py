"""A small ResNet on congruent images and stylized ones, which have the texture of others (Geirhos et al. 2019).

Texture alone solves the congruent images. In the stylized ones the texture is that of an image of any class, and only
the shape tells the class. With share=0 the same network learns from congruent images alone, for as long: what it is to
be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.data.ops.convert import as_bytes
from cuescope.models.wct import embedded
from cuescope.training.loop import Settings, Told, now_and_then, train
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD, build_world


@dataclass(frozen=True)
class Stylized(Settings):
    """Settings of the loop, and of the images."""

    share: float = 0.75
    """Of each batch that is stylized, from 0 to 1."""
    pool: int = 4096
    """Stylized images: made before the training, and seen again and again, mirrored half of the time."""
    styles: int = 256
    """Images of textures that the stylized ones are in the texture of, of all classes alike."""


IMAGES = False
NAME = "world-stylized"
SETTINGS = Stylized(
    steps=1500,
    batch=64,
    optimizer="adamw",
    learning_rate=4e-3,
    warmup_steps=50,
    weight_decay=0.02,
    mean=MEAN,
    std=STD,
)
# Far from the small seeds that images are audited with, and apart from each other.
CONGRUENT_SEED, POOL_SEED, STYLES_SEED = 4_000_003, 5_000_003, 6_000_003
TOGETHER = 32
"""Images that are stylized at once."""


def fits(settings: Stylized) -> str:
    """The network that the weights are loaded into."""
    return "world-congruent"


def run(show: Told | None = None, settings: Stylized | None = None) -> nn.Module:
    """Train from scratch; the result is a function of the code, the machine and its number of threads."""
    how = settings or SETTINGS
    return train(build_world(fits(how), how.seed), batches(how, show), how, now_and_then(show, how))


def batches(how: Stylized, show: Told | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches: congruent images that are never seen twice, and `share` of them from the stylized pool."""
    of_pool = round(how.batch * how.share)
    pool, labels = stylized(how, show) if of_pool else (None, None)
    congruent = WorldImages("congruent", placement="uniform", seed=CONGRUENT_SEED + how.seed)
    chance = np.random.default_rng(how.seed)
    order, start = np.empty(0, np.int64), 0
    while True:
        pixels, said = congruent.render(np.arange(start, start + how.batch - of_pool))
        start += how.batch - of_pool
        if pool is None or labels is None:
            yield pixels, said
            continue
        while len(order) < of_pool:
            order = np.concatenate([order, chance.permutation(how.pool)])
        chosen, order = torch.from_numpy(order[:of_pool]), order[of_pool:]
        mirrored = torch.from_numpy(chance.random(of_pool) < 0.5)[:, None, None, None]
        seen = torch.where(mirrored, pool[chosen].flip(3), pool[chosen])
        yield torch.cat([pixels, seen]), torch.cat([said, labels[chosen]])


def stylized(how: Stylized, show: Told | None = None) -> tuple[Tensor, Tensor]:
    """The pool: congruent images (N, 3, 64, 64) uint8, each in the texture of another image, and their labels (N,)."""
    stylizer = embedded()
    textures, _ = WorldImages("texture-only", seed=STYLES_SEED + how.seed).render(np.arange(how.styles))
    styles = stylizer.statistics(textures.float() / 255)
    pixels, labels = WorldImages("congruent", seed=POOL_SEED + how.seed).render(np.arange(how.pool))
    which = np.random.default_rng(how.seed).integers(0, how.styles, how.pool)
    made = []
    for start in range(0, how.pool, TOGETHER):
        if show is not None:
            show(start, how.pool, "stylizing")
        part = slice(start, start + TOGETHER)
        made.append(as_bytes(stylizer.stylize(pixels[part].float() / 255, styles.at(which[part].tolist()))))
    return torch.cat(made), labels
