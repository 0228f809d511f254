"""Planted classifiers for visual_words: one word that speaks, words that say the same, and words that say nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.visual_words import VisualWords
from toys import COLORS, toy
from truth.table import breaks, planted, sayable

WORDS = 12


class Words(nn.Module):
    """A patch of 4 x 4 px is the word that its red says; so much each word speaks for red, green and blue."""

    receptive_field_px, stride_px, vocabulary = 4, 4, WORDS + 4

    def __init__(self, red: Tensor) -> None:
        super().__init__()
        self.says = torch.stack([red, torch.zeros(WORDS), torch.zeros(WORDS)], 1)

    def words(self, pixels: Tensor) -> Tensor:
        return (pixels[:, 0, ::4, ::4] * 255 / 20).round().long() % len(self.says)

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return self.says[self.words(pixels)].permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Brighter(Words):
    """The same with a constant and the patch's brightness added to all its logits, which changes no answer."""

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return super().patch_logits(pixels) + 2 + 9 * pixels[:, :1, ::4, ::4]


ONE = torch.zeros(WORDS).index_fill(0, torch.tensor([3]), 6.0)
"""Only word 3 speaks."""


def conclude(module: nn.Module, count: int = 12) -> Conclusion:
    generator = torch.Generator().manual_seed(7)
    made = []
    for i in range(count):
        words = torch.cat([torch.arange(WORDS), torch.randint(0, WORDS, (4,), generator=generator)])
        red = (20 * words).byte().view(1, 4, 4).repeat_interleave(4, 1).repeat_interleave(4, 2)
        made.append(
            Sample(f"{i}.png", torch.cat([red, torch.zeros(2, 16, 16, dtype=torch.uint8)]), 0, framing="stimulus")
        )
    tool, classifier = VisualWords(top=1), toy(module, COLORS)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(made, [0] * count)) if made else tool.empty
    return tool.conclude(rows, About("toy", "toys", COLORS.names, facts=observer.facts))


def hears_all(patch: pytest.MonkeyPatch) -> None:
    """Raw logits, and no word that is silent."""
    patch.setattr("cuescope.instruments.visual_words.relative", lambda logits: logits)
    patch.setattr("cuescope.instruments.visual_words.SILENT", -1.0)


SHOWN = ("top_words", "words_in_use", "entropy")


@planted(
    "visual_words",
    "truth",
    "knows 16 words, of which 12 occur in every image, and only one of them speaks for red",
    "the strongest word holds all the evidence, and 12 of 16 words occur",
    holds=lambda said: (said["top_words"].value or 0) > 1 - 1e-6 and said["words_in_use"].count == 12,
    broken=breaks("cuescope.instruments.visual_words.relative", lambda logits: -logits),
    shows=SHOWN,
)
def one_word() -> Conclusion:
    return conclude(Words(ONE))


@planted(
    "visual_words",
    "absence",
    "the same words, with a constant and their brightness added to all logits",
    "the very same numbers, since no answer differs",
    holds=lambda said: all(abs(said[name].value - one_word()[name].value) < 1e-5 for name in SHOWN),
    broken=hears_all,
    shows=SHOWN,
)
def brighter() -> Conclusion:
    return conclude(Brighter(ONE))


@planted(
    "visual_words",
    "absence",
    "has words that raise all logits alike",
    "no word speaks for the class, and none is the strongest",
    holds=lambda said: said.verdict.names[1] == "silent" and said["top_words"].value is None,
    broken=hears_all,
    shows=SHOWN,
)
def silent() -> Conclusion:
    return conclude(Brighter(torch.zeros(WORDS)))


sayable("visual_words", "nothing", lambda said: said["entropy"].value is None, lambda: conclude(Words(ONE), 0))
sayable("visual_words", "consists", lambda said: 0 <= said["entropy"].value <= math.log(16) + 1e-9, one_word)
sayable("visual_words", "strongest", lambda said: said["top_words"].value > 0, one_word)
sayable("visual_words", "silent", lambda said: said["top_words"].value is None and said["entropy"].n > 0, silent)
sayable("visual_words", "occur", lambda said: said["words_in_use"].n == WORDS + 4, one_word)
