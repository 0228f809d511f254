"""Planted classifiers for top_patches: patches that know the class, patches that know nothing, and loud images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.top_patches import MARGIN, TopPatches
from toys import toy
from truth.table import breaks, planted, sayable

COUNT = 48
CLASSES = ClassSpace("many", tuple(f"class {k}" for k in range(COUNT)))


class Written(nn.Module):
    """Each patch of 4 x 4 px speaks for the class whose number its red is."""

    receptive_field_px, stride_px = 4, 4
    loud = 0.0

    def patch_logits(self, pixels: Tensor) -> Tensor:
        colors = F.avg_pool2d(pixels, 4) * 255
        classes = torch.arange(COUNT).view(-1, 1, 1)
        return -(colors[:, :1] / 5 - classes).abs().clamp(max=2) + self.loud * colors[:, 2:] / 255

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Loud(Written):
    """The same with the patch's blue added to all its logits, which changes no answer."""

    loud = 50.0


class Noise(Written):
    """Each patch says what nothing in it has to do with."""

    def patch_logits(self, pixels: Tensor) -> Tensor:
        colors = (F.avg_pool2d(pixels, 4) * 255).round().double()
        number = (256 * colors[:, 1:2] + colors[:, 2:]) * (torch.arange(COUNT).view(-1, 1, 1) + 2).double().sqrt()
        return (number - number.floor()).float()


def samples(count: int) -> list[Sample]:
    """One patch of an image has its class written in red; blue and green are noise."""
    generator = torch.Generator().manual_seed(4)
    made = []
    for i in range(count):
        patches = torch.randint(0, 256, (3, 4, 4), generator=generator, dtype=torch.uint8)
        patches[0] = 255
        patches[0, i % 4, i // 4 % 4] = 5 * (i % COUNT)
        pixels = patches.repeat_interleave(4, 1).repeat_interleave(4, 2)
        made.append(Sample(f"{i:03d}.png", pixels, i % COUNT, framing="stimulus"))
    return made


def conclude(module: nn.Module, images: list[Sample]) -> Conclusion:
    tool, classifier = TopPatches(), toy(module, CLASSES)
    observer = tool.start(classifier)
    labels = [s.label for s in images]
    rows = observer.observe(classifier.see(images, labels)) if images else tool.empty  # type: ignore[arg-type]
    return tool.conclude(rows, About("toy", "toys", CLASSES.names, facts=observer.facts))


def high(said: Conclusion) -> float:
    return said["misled"].interval[1] if said["misled"].interval else 1.0


def low(said: Conclusion) -> float:
    return said["misled"].interval[0] if said["misled"].interval else 0.0


@planted(
    "top_patches",
    "truth",
    "reads its class off one patch",
    "the strongest patch is of the class itself, less often of others than by chance",
    holds=lambda said: said.verdict.names == ("own",) and said["misled"].value == 0,
    broken=breaks(
        "cuescope.instruments.top_patches._strongest", lambda maps, count: (maps[..., 0], maps[..., 0].long() * 0)
    ),
)
def written() -> Conclusion:
    return conclude(Written(), samples(3 * COUNT))


@planted(
    "top_patches",
    "absence",
    "reads its class off one patch, and adds how blue a patch is to all logits",
    "the same: no class is misled",
    holds=lambda said: said.verdict.names == ("own",) and said["misled"].value == 0,
    broken=breaks("cuescope.instruments.top_patches.relative", lambda logits, raw: logits),
)
def loud() -> Conclusion:
    return conclude(Loud(), samples(3 * COUNT))


@planted(
    "top_patches",
    "absence",
    "its patches have nothing to do with the class",
    "misled as by chance: in 47 of 48 classes another image has the strongest patch",
    holds=lambda said: said.verdict.names == ("by_chance",),
    broken=breaks("cuescope.core.findings.Measure.below", lambda measure, bound: measure.value <= bound + 0.03),
)
def noise() -> Conclusion:
    return conclude(Noise(), samples(3 * COUNT))


sayable("top_patches", "nothing", lambda said: said["misled"].value is None, lambda: conclude(Written(), []))
sayable("top_patches", "own", lambda said: high(said) < said["misled"].chance, written)
sayable(
    "top_patches",
    "by_chance",
    lambda said: low(said) > said["misled"].chance - MARGIN and high(said) >= said["misled"].chance,
    noise,
)
sayable(
    "top_patches",
    "cannot_tell",
    lambda said: low(said) <= said["misled"].chance - MARGIN and high(said) >= said["misled"].chance,
    lambda: conclude(Noise(), [s for s in samples(3 * COUNT) if s.label < 6]),  # type: ignore[operator]
)
