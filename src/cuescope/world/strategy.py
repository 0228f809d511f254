"""Do the world's models do what they were trained to do? Decisions on images held out from training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.models.bagnet import BagNet
from cuescope.models.bow import BagOfWords
from cuescope.world.images import Variant, WorldImages
from cuescope.world.models import MEAN, STD

_BATCH = 96


@dataclass(frozen=True)
class Strategy:
    """Shares, 0..1. `evidence_on_object` is None for a model without patch logits."""

    congruent: float
    """Accuracy where both cues agree."""
    shape_only: float
    texture_only: float
    shape_decisions: float
    """Share of the conflict images, of all of them."""
    texture_decisions: float
    evidence_on_object: float | None
    """How often the patch that speaks most for the label has its middle on the object."""

    @property
    def shape_bias(self) -> float | None:
        """Shape decisions among those for either cue; None where there are none."""
        either = self.shape_decisions + self.texture_decisions
        return self.shape_decisions / either if either else None


def network_input(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to what the world's models take."""
    return (pixels.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def strategy(module: nn.Module, seed: int = 0, count: int = 960) -> Strategy:
    """What does a model of the world decide by? Measured on `count` images of each kind, drawn from `seed`."""
    said = {v: _decisions(module, WorldImages(v, seed=seed, count=count)) for v in _VARIANTS}
    conflict, shape = said["conflict"]
    texture = (shape + 1 + torch.arange(count) // 16 % 15) % 16
    return Strategy(
        congruent=_share(*said["congruent"]),
        shape_only=_share(*said["shape-only"]),
        texture_only=_share(*said["texture-only"]),
        shape_decisions=_share(conflict, shape),
        texture_decisions=_share(conflict, texture),
        evidence_on_object=_evidence_on_object(module, seed, count)
        if isinstance(module, BagNet | BagOfWords)
        else None,
    )


_VARIANTS: tuple[Variant, ...] = ("congruent", "conflict", "shape-only", "texture-only")


def _share(said: Tensor, meant: Tensor) -> float:
    return float((said == meant).double().mean())


@torch.no_grad()
def _decisions(module: nn.Module, images: WorldImages) -> tuple[Tensor, Tensor]:
    said, labels = [], []
    for start in range(0, len(images), _BATCH):
        pixels, label = images.render(np.arange(start, min(start + _BATCH, len(images))))
        said.append(module(network_input(pixels)).argmax(1))
        labels.append(label)
    return torch.cat(said), torch.cat(labels)


@torch.no_grad()
def _evidence_on_object(module: BagNet | BagOfWords, seed: int, count: int) -> float:
    images = WorldImages("congruent", seed=seed, count=count)
    hits = 0
    for index in range(count):
        sample = images.read(index)
        assert sample.mask is not None
        evidence = module.patch_logits(network_input(sample.pixels[None]))[0, sample.label]
        row, column = divmod(int(evidence.argmax()), evidence.shape[1])
        middle = module.receptive_field_px // 2
        hits += bool(sample.mask[row * module.stride_px + middle, column * module.stride_px + middle])
    return hits / count
