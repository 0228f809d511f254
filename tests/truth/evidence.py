"""Planted classifiers for evidence: patches that speak where the object is, and patches that do not."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.evidence import MARGIN, Evidence
from toys import COLORS, toy
from truth.table import breaks, planted, sayable


class Patches(nn.Module):
    """Each patch of 4 x 4 px speaks for red, green and blue by its own mean."""

    receptive_field_px, stride_px = 4, 4

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return F.avg_pool2d(pixels, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Brighter(Patches):
    """The same with a constant and the patch's brightness added to all its logits, which changes no answer."""

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return super().patch_logits(pixels) + 3 + 5 * F.avg_pool2d(pixels, 4).mean(1, keepdim=True)


class Corner(Patches):
    """Whatever it sees, the first patch speaks."""

    def patch_logits(self, pixels: Tensor) -> Tensor:
        maps = torch.zeros_like(super().patch_logits(pixels))
        maps[:, 0, 0, 0] = 1
        return maps


class Padded(nn.Sequential):
    """Each position sees beyond its place."""

    def __init__(self) -> None:
        see = nn.Conv2d(3, 3, 5, padding=2)
        see.weight.data = torch.rand(see.weight.shape, generator=torch.Generator().manual_seed(0))
        super().__init__(see, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def samples(count: int, there: bool = True) -> list[Sample]:
    """A red patch on noise, and a mask of it, or of any but the first patch."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for i in range(count):
        pixels = torch.randint(60, 120, (3, 16, 16), generator=generator, dtype=torch.uint8)
        y, x = 4 * (i % 4), 4 * (i // 4 % 4)
        pixels[:, y : y + 4, x : x + 4] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
        mask = pixels[0] == 255
        if not there:
            place = torch.zeros(16, dtype=torch.bool)
            place[1 + i % 15] = True
            mask = place.view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
        made.append(Sample(f"{i}.png", pixels, 0, mask=mask, framing="stimulus"))
    return made


def conclude(module: nn.Module, images: list[Sample]) -> Conclusion:
    tool, classifier = Evidence(), toy(module, COLORS)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images, [s.label for s in images])) if images else tool.empty  # type: ignore[misc]
    return tool.conclude(rows, About("toy", "toys", COLORS.names, facts=observer.facts))


SHOWN = ("pointing_game", "beyond_chance", "top_patches")


@planted(
    "evidence",
    "truth",
    "adds up patches, of which the red ones speak for red",
    "adds up patches, and the strongest lies on the red object",
    holds=lambda said: said.verdict.names == ("adds_up", "strongest", "on_object") and said["pointing_game"].value == 1,
    broken=breaks("cuescope.instruments.evidence.objects_in", lambda sample, how, of_label: ~sample.mask.numpy()),
    shows=SHOWN,
)
def red() -> Conclusion:
    return conclude(Patches(), samples(32))


@planted(
    "evidence",
    "absence",
    "speaks by its first patch, where the object never is",
    "lies on the object no more often than by chance",
    holds=lambda said: said.verdict.names[-1] == "not_on_object",
    broken=breaks("cuescope.instruments.evidence.MARGIN", -1.0),
    shows=SHOWN,
)
def corner() -> Conclusion:
    return conclude(Corner(), samples(128, there=False))


@planted(
    "evidence",
    "absence",
    "lies on the object in 1 of 4 images of which the object fills a quarter",
    "cannot tell from 12 images",
    holds=lambda said: said.verdict.names[-1] == "object_cannot_tell",
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: measure.value > bound - 0.01),
    shows=SHOWN,
)
def by_chance() -> Conclusion:
    quarters = torch.zeros(4, 16, 16, dtype=torch.bool)
    for i in range(4):
        quarters[i, 8 * (i // 2) : 8 * (i // 2) + 8, 8 * (i % 2) : 8 * (i % 2) + 8] = True
    return conclude(Corner(), [replace(s, mask=quarters[i % 4]) for i, s in enumerate(samples(12))])


@planted(
    "evidence",
    "absence",
    "adds up the same patches, with a constant and their brightness added to all logits",
    "the very same numbers, since no answer differs",
    holds=lambda said: all(abs(said[name].value - red()[name].value) < 1e-5 for name in SHOWN),
    broken=breaks("cuescope.instruments.evidence.relative", lambda logits, raw: logits),
    shows=SHOWN,
)
def brighter() -> Conclusion:
    return conclude(Brighter(), samples(32))


@planted(
    "evidence",
    "absence",
    "sees beyond the place of each position",
    "is no sum of local patches",
    holds=lambda said: said.verdict.names[0] == "not_local" and said.verdict.said == "no",
    broken=breaks(
        "cuescope.instruments.evidence.Evidence._verdict", lambda self, n, local, *more: self.say("adds_up", seen="")
    ),
    shows=("receptive_field",),
)
def padded() -> Conclusion:
    return conclude(Padded(), samples(6))


def low_and_high(said: Conclusion) -> tuple[float, float]:
    return said["beyond_chance"].interval or (-1.0, 1.0)


sayable("evidence", "nothing", lambda said: said["top_patches"].value is None, lambda: conclude(Patches(), []))
sayable("evidence", "adds_up", lambda said: said["identity_gap"].value < 1e-3, red)
sayable("evidence", "not_local", lambda said: said["receptive_field"].value != 4, padded)
sayable("evidence", "strongest", lambda said: said["top_patches"].value > 0, red)
sayable("evidence", "on_object", lambda said: low_and_high(said)[0] > 0, red)
sayable("evidence", "not_on_object", lambda said: low_and_high(said)[1] < MARGIN, corner)
sayable(
    "evidence",
    "object_cannot_tell",
    lambda said: low_and_high(said)[0] <= 0 and low_and_high(said)[1] >= MARGIN,
    by_chance,
)
