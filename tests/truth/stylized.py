"""Planted classifiers for stylized: one reads the shape, one the texture, one the border, and one nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.stylized import MARGIN, Stylized
from toys import toy
from truth.table import breaks, planted, sayable

SPACE = ClassSpace("letters", tuple("abcdefgh"))
HERE = "cuescope.instruments.stylized"


TEXTURES = np.random.default_rng(0).integers(0, 8, 800)


class Reads(torch.nn.Module):
    """Names what is written in one channel of the pixel in the corner: red is the shape, green the texture."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, pixels: Tensor) -> Tensor:
        return 9.0 * torch.nn.functional.one_hot((pixels[:, self.channel, 0, 0] * 12.75).round().long() % 8, 8)


def image(shape: int, texture: int, size: int = 4) -> Tensor:
    pixels = torch.zeros(3, size, size, dtype=torch.uint8)
    pixels[0], pixels[1] = 20 * shape, 20 * texture
    return pixels


def conclude(channel: int, n: int, other: Callable[[int, int], int]) -> Conclusion:
    """n images of a to h in turn; `other` gives the texture of the stylized version from number and class."""
    samples = [
        Sample(f"{i}", image(i % 8, i % 8), label=i % 8, versions={"stylized": image(i % 8, other(i, i % 8))})
        for i in range(n)
    ]
    return said_of(channel, samples, 4)


def said_of(channel: int, samples: list[Sample], size: int) -> Conclusion:
    tool, classifier = Stylized(), toy(Reads(channel), SPACE, size=size)
    rows = tool.empty
    if samples:
        rows = tool.observe(
            classifier, classifier.see(samples, [s.label if s.label is not None else -1 for s in samples])
        )
    return tool.conclude(rows, About("toy", "toys", SPACE.names, SPACE.name))


def drawn(i: int, label: int) -> int:
    """A texture that says nothing of the class."""
    return int(TEXTURES[i])


@planted(
    "stylized",
    "truth",
    "reads the shape",
    "does without texture: 1 as they are, 1 stylized",
    holds=lambda said: said.verdict.names == ("keeps",) and said["lost"].value == 0,
    broken=breaks(f"{HERE}.versions_of", lambda batch, kind: [Sample("", image(0, 0))] * len(batch)),
    shows=("clean", "stylized", "lost"),
)
def reads_shape() -> Conclusion:
    return conclude(0, 200, drawn)


@planted(
    "stylized",
    "truth",
    "reads the texture, of single pixels",
    "loses all: 1 as they are, 1/8 stylized",
    holds=lambda said: said.verdict.names == ("loses_all",) and said["lost"].value > 0.8,
    broken=breaks(f"{HERE}.versions_of", lambda batch, kind: list(batch.samples)),
    shows=("clean", "stylized", "lost"),
)
def reads_texture() -> Conclusion:
    return conclude(1, 800, drawn)


@planted(
    "stylized",
    "absence",
    "always says the same, and so loses nothing",
    "nothing can be lost, not 'it does without texture'",
    holds=lambda said: said.verdict.names == ("unrecognized",),
    broken=breaks(f"{HERE}.agreement_by_chance", lambda labels, said: 0.0),
    shows=("clean", "stylized", "lost"),
)
def constant() -> Conclusion:
    return conclude(2, 200, drawn)


@planted(
    "stylized",
    "absence",
    "reads the border of the image, which makers cut away",
    "nothing is said of texture: in the frame of the versions it recognizes nothing clean either",
    holds=lambda said: said.verdict.names == ("unrecognized",) and said["clean"].value == 0.125,
    broken=breaks(f"{HERE}.logits_in_frame_of", lambda classifier, batch, kind: batch.logits),
    shows=("clean", "stylized", "lost"),
)
def reads_the_border() -> Conclusion:
    samples = []
    for i in range(64):
        pixels = image(i % 8, i % 8, 16)
        pixels[:, 1:-1, 1:-1] = 0
        samples.append(Sample(f"{i}", pixels, label=i % 8, versions={"stylized": torch.zeros(3, 14, 14).byte()}))
    return said_of(0, samples, 16)


def few() -> Conclusion:
    return conclude(1, 16, lambda i, label: label if i else 7)


def half() -> Conclusion:
    return conclude(1, 200, lambda i, label: label if i % 2 else drawn(i, label))


def low(m: Any) -> float:
    return m.interval[0] if m.interval else -1.0


def high(m: Any) -> float:
    return m.interval[1] if m.interval else 1.0


def little(said: Conclusion) -> float:
    return MARGIN * (said["clean"].value - said["clean"].chance)


def known(said: Conclusion) -> bool:
    return low(said["clean"]) > said["clean"].chance


def keeps(said: Conclusion) -> bool:
    return high(said["lost"]) < little(said)


def loses_all(said: Conclusion) -> bool:
    stylized = said["stylized"]
    return not keeps(said) and stylized.chance <= 0.5 and high(stylized) < stylized.chance + little(said)


CONDITIONS = {
    "nothing": (lambda said: said["clean"].value is None, lambda: said_of(0, [], 4)),
    "unrecognized": (lambda said: not known(said), constant),
    "keeps": (lambda said: known(said) and keeps(said), reads_shape),
    "loses_all": (lambda said: known(said) and loses_all(said), reads_texture),
    "loses": (lambda said: known(said) and low(said["lost"]) > 0 and not keeps(said) and not loses_all(said), half),
    "cannot_tell": (lambda said: known(said) and low(said["lost"]) <= 0 and high(said["lost"]) >= little(said), few),
}
for name, (when, example) in CONDITIONS.items():
    sayable("stylized", name, when, example)
