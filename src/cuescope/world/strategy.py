"""Do the world's models do what they were trained to do? Decisions on images held out from training."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cuescope.models.bagnet import BagNet
from cuescope.models.bow import BagOfWords
from cuescope.world.images import WorldImages
from cuescope.world.models import MEAN, STD

_BATCH = 96


class Strategy(NamedTuple):
    """Shares, 0..1: accuracies, and decisions for either cue of all conflict images.

    `evidence_on_object` is how often the patch that speaks most for the label has its middle on the object; None for a
    model without patch logits.
    """

    congruent: float
    shape_only: float
    texture_only: float
    shape_decisions: float
    texture_decisions: float
    evidence_on_object: float | None

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
    congruent, shape_only, texture_only = (
        _share(*_decisions(module, WorldImages(variant, seed=seed, count=count)))
        for variant in ("congruent", "shape-only", "texture-only")
    )
    decisions, shape = _decisions(module, WorldImages("conflict", seed=seed, count=count))
    texture = (shape + 1 + torch.arange(count) // 16 % 15) % 16
    evidence = _evidence_on_object(module, seed, count) if isinstance(module, BagNet | BagOfWords) else None
    return Strategy(congruent, shape_only, texture_only, _share(decisions, shape), _share(decisions, texture), evidence)


def _share(decisions: Tensor, labels: Tensor) -> float:
    return float((decisions == labels).double().mean())


@torch.no_grad()
def _decisions(module: nn.Module, images: WorldImages) -> tuple[Tensor, Tensor]:
    """(count,) classes with the highest logit, and (count,) labels."""
    pixels, labels = images.render(range(len(images)))
    return torch.cat([module(network_input(some)).argmax(1) for some in pixels.split(_BATCH)]), labels


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
