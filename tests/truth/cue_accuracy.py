"""Planted classifiers for cue_accuracy: one that knows silhouettes alone, and one that guesses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.cue_accuracy import MARGIN, CueAccuracy
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcdefgh"))


class Red(torch.nn.Module):
    """The class is how red the image is: it is written there in silhouettes, and in textures it is not."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return -(pixels[:, 0].mean((1, 2))[:, None] * 255 / 20 - torch.arange(8)).abs()


def sample(shown: str, i: int) -> Sample:
    pixels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    pixels[0] = 20 * (i % 8) if shown == "silhouettes" else 20 * (i // 8 % 8)
    return Sample(f"{shown}{i}", pixels, cues={"shown": shown, "category": "abcdefgh"[i % 8]}, framing="stimulus")


def conclude(shown: str, n: int) -> Conclusion:
    """The instrument's answer about n images of each of these kinds, each class as often as any other."""
    tool, classifier = CueAccuracy(), toy(Red(), CLASSES, size=4)
    seen = classifier.see([sample(kind, i) for kind in shown.split() for i in range(n)])
    return tool.conclude(tool.observe(classifier, seen), About("toy", "toys", CLASSES.names, CLASSES.name))


@planted(
    "cue_accuracy",
    "truth",
    "reads the class off silhouettes",
    "recognizes silhouettes, and textures tell it nothing",
    holds=lambda said: said.verdict.names == ("recognizes", "not") and said["silhouettes"].value == 1,
    broken=breaks(
        "cuescope.instruments.cue_accuracy.categories",
        lambda space, shown: ({c: (7 - i,) for i, c in enumerate("abcdefgh")}, {c: c for c in "abcdefgh"}),
    ),
    shows=("silhouettes", "textures"),
)
def knows_silhouettes() -> Conclusion:
    return conclude("silhouettes textures", 512)


@planted(
    "cue_accuracy",
    "absence",
    "always says the one category that all 100 silhouettes show",
    "cannot tell, though it is right on all of them: its only answer fits",
    holds=lambda said: said.verdict.names == ("cannot_tell",) and said["silhouettes"].chance == 1,
    broken=breaks("cuescope.instruments.cue_accuracy.agreement_by_chance", lambda shown, said: 1 / 8),
    shows=("silhouettes",),
)
def has_one_answer() -> Conclusion:
    one = [replace(sample("silhouettes", 0), id=f"{i}") for i in range(100)]
    tool, classifier = CueAccuracy(), toy(Red(), CLASSES, size=4)
    return tool.conclude(tool.observe(classifier, classifier.see(one)), About("toy", "toys", CLASSES.names))


@planted(
    "cue_accuracy",
    "absence",
    "guesses textures: 2 of 16 right, as by chance",
    "cannot tell from 16 images, not 'it recognizes 12.5 %'",
    holds=lambda said: said.verdict.said == "cannot tell",
    broken=breaks("cuescope.core.stats.wilson", lambda k, n: (k / n, k / n)),
    shows=("textures",),
)
def guesses_textures() -> Conclusion:
    return conclude("textures", 16)


def kinds(said: Conclusion) -> list:
    return [m for m in said.measures if m.value is not None]


def low(measure: Any) -> float:
    return measure.interval[0] if measure.interval else 0.0


def high(measure: Any) -> float:
    return measure.interval[1] if measure.interval else 1.0


sayable("cue_accuracy", "nothing", lambda said: not kinds(said), lambda: conclude("", 0))
sayable("cue_accuracy", "recognizes", lambda said: any(low(m) > m.chance for m in kinds(said)), knows_silhouettes)
sayable(
    "cue_accuracy",
    "not",
    lambda said: any(low(m) <= m.chance <= 0.5 and high(m) < m.chance + MARGIN for m in kinds(said)),
    knows_silhouettes,
)
sayable(
    "cue_accuracy",
    "cannot_tell",
    lambda said: any(low(m) <= m.chance and (m.chance > 0.5 or high(m) >= m.chance + MARGIN) for m in kinds(said)),
    guesses_textures,
)
