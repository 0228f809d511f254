"""How the embedded stylizer learns what of an image is shape: drawn scenes, and the same scenes without texture."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.progress import Progress, quiet
from cuescope.models.seeding import seeded
from cuescope.models.surfaces import Surfaces
from cuescope.training.loop import train
from cuescope.training.settings import Settings
from cuescope.world.draw import draw
from cuescope.world.procedural import scenes
from cuescope.world.scenes import scene

SETTINGS = Settings(2500, 16, "adamw", 2e-3, warmup_steps=50, weight_decay=0.0, precision="bfloat16")
# Far from the small seeds that images are audited with.
TRAINING_SEED = 1_000_003
SCENES = 1000
SCENE_PX, CROP_PX = 128, 80
WORLD_EVERY = 3
"""One batch of so many is of the world's images, by turns as they are and twice as large."""
LONGEST_GRADIENT = 1.0
"""The largest norm of a gradient that is followed at its full length."""


def train_surfaces(progress: Progress = quiet, settings: Settings = SETTINGS) -> Surfaces:
    """A network that paints the surfaces of an image in plain colors, learned from drawn images only.

    The loss is the mean absolute difference of pixels, and of the differences between neighbors, from the scene
    drawn without textures. A function of the code, the settings, the machine and its number of threads. Raises
    CueError where the loss is no longer finite.
    """
    network = seeded(settings.seed, Surfaces)

    def loss(network: nn.Module, seen: Tensor, plain: Tensor) -> tuple[Tensor, Callable[[], str]]:
        value = difference(network(seen).float(), plain)
        return value, lambda: f"loss {float(value.detach()):.4f}"

    batches = pairs(settings)
    return train(network, batches, settings, progress, loss=loss, longest_gradient=LONGEST_GRADIENT, every=1)


def difference(painted: Tensor, plain: Tensor) -> Tensor:
    """Mean absolute difference of pixels, and of the steps from each pixel to the next across and down.

    >>> difference(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.0, 0.0]]]]))
    tensor(1.5000)
    """
    error = painted - plain
    across, down = error.diff(dim=3), error.diff(dim=2)
    total = error.abs().mean()
    return total + sum(step.abs().mean() for step in (across, down) if step.numel())


def pairs(settings: Settings = SETTINGS) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images and of what is left of them without texture: (B, 3, 80, 80) in [0, 1] each.

    Crops of `SCENES` procedural scenes, turned and mirrored; world images are new each time, and are 64 px wide
    every other time.
    """
    seen, plain = map(torch.from_numpy, scenes(SCENES, SCENE_PX, TRAINING_SEED + settings.seed))
    generator = torch.Generator().manual_seed(settings.seed)
    for step in itertools.count():
        if step % WORLD_EVERY == 0:
            numbers = np.arange(step * settings.batch, (step + 1) * settings.batch)
            yield _world(numbers, settings.seed, twice=step % (2 * WORLD_EVERY) == 0)
        else:
            yield _crops(seen, plain, settings.batch, generator)


def _crops(seen: Tensor, plain: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = []
    for _ in range(count):
        limits = (len(seen), SCENE_PX - CROP_PX + 1, SCENE_PX - CROP_PX + 1, 4, 2)
        which, top, left, turns, mirrored = (int(torch.randint(limit, (), generator=generator)) for limit in limits)
        both = torch.stack([seen[which], plain[which]])[:, :, top : top + CROP_PX, left : left + CROP_PX]
        both = torch.rot90(both, turns, (2, 3))
        chosen.append(both.flip(3) if mirrored else both)
    batch = torch.stack(chosen, 1).float() / 255
    return batch[0], batch[1]


def _world(numbers: np.ndarray, seed: int, twice: bool) -> tuple[Tensor, Tensor]:
    """World images, and the same with the object in the mean color that its texture had."""
    textured, bare = (scene(v, "uniform", TRAINING_SEED + seed, numbers) for v in ("crossed", "shape-only"))
    pixels, visible = draw(textured.backdrop, textured.things)
    seen, plain = pixels.float() / 255, draw(bare.backdrop, bare.things)[0].float() / 255
    mask = visible[:, -1:].float()
    plain = plain + mask * ((seen - plain) * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    if twice:
        margin = (2 * seen.shape[3] - CROP_PX) // 2
        inner = slice(margin, margin + CROP_PX)
        seen, plain = (F.interpolate(v, scale_factor=2, mode="bilinear") for v in (seen, plain))
        seen, plain = seen[:, :, inner, inner], plain[:, :, inner, inner]
    return seen, plain
