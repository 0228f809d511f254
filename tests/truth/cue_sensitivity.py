"""Planted classifiers for cue_sensitivity: ranks that are written in the images, a constant, and ties."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.cue_sensitivity import MARGIN, CueSensitivity
from toys import toy
from truth.table import breaks, planted, sayable

SPACE = ClassSpace("letters", tuple("abcdefghijklmnopqrst"))
PAIRS = [(s, t) for s, t in itertools.product(range(20), range(20)) if s != t]
HERE = "cuescope.instruments.cue_sensitivity"


class Second(torch.nn.Module):
    """Red holds the shape, green the texture: the shape comes second of 20 classes, the texture fourth."""

    def forward(self, pixels: Tensor) -> Tensor:
        shape, texture = (pixels[:, :2, 0, 0] * 25.5).round().long().T
        logits = -torch.stack([(torch.arange(20) * 7 + 3) % 20] * len(pixels)).float() - 10
        for label, rank in ((shape, 2), (texture, 4)):
            logits.scatter_(1, label[:, None], -float(rank))
        others = [(shape + step) % 20 for step in (1, 2, 3, 4)]
        free = [[int(o) for o in each if o not in (s, t)] for *each, s, t in zip(*others, shape, texture, strict=True)]
        for i, each in enumerate(free):
            logits[i, each[0]], logits[i, each[1]] = -1.0, -3.0
        return logits


class Same(torch.nn.Module):
    """The same logits whatever it sees: all alike, or each class lower than the one before."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, pixels: Tensor) -> Tensor:
        return -self.step * torch.arange(20.0).expand(len(pixels), 20)


def sample(i: int, pair: tuple[int, int], originals: Mapping[str, int] | None = None) -> Sample:
    """An image; `originals` are the shape and the texture that its originals show, each one image for each class."""
    pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
    pixels[0], pixels[1] = 10 * pair[0], 10 * pair[1]
    shape, texture = (SPACE.names[k] for k in pair)
    cues, versions = {"shape": shape, "texture": texture}, {}
    if originals is not None:
        cues |= {"object": f"{shape}1", "texture_image": f"{texture}1"}
        versions = {key: torch.full((3, 2, 2), 10 * originals[key], dtype=torch.uint8) for key in originals}
    return Sample(f"{i}", pixels, cues=cues, versions=versions, framing="stimulus")


class Names(torch.nn.Module):
    """Red holds what it names."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 9.0 * torch.nn.functional.one_hot((pixels[:, 0, 0, 0] * 25.5).round().long(), 20)


def conclude(module: torch.nn.Module, samples: Sequence[Sample]) -> Conclusion:
    tool, classifier = CueSensitivity(), toy(module, SPACE, size=2)
    rows = tool.observe(classifier, classifier.see(samples)) if samples else tool.empty
    return tool.conclude(rows, About("toy", "toys", SPACE.names, SPACE.name))


def images(module: torch.nn.Module, pairs: Sequence[tuple[int, int]] = PAIRS) -> Conclusion:
    return conclude(module, [sample(i, pair) for i, pair in enumerate(pairs)])


@planted(
    "cue_sensitivity",
    "truth",
    "ranks the shape's label second and the texture's fourth of 20",
    "sensitivities 1/2 and 1/4, both read",
    holds=lambda said: (
        said.verdict.names == ("reads",)
        and said["shape_sensitivity"].value == 0.5
        and said["texture_sensitivity"].value == 0.25
        and said["shape_first"].value == 0
        and said["texture_rank"].value == 4
    ),
    broken=breaks("cuescope.core.ranks.Ranks.expected", 1.0),
)
def ranks_second_and_fourth() -> Conclusion:
    return images(Second())


@planted(
    "cue_sensitivity",
    "truth",
    "names what the red channel shows; the originals of every second image are misread",
    "the sensitivity is of the other half, whose originals it recognizes",
    holds=lambda said: said["recognized"].value == 0.5 and said["shape_sensitivity"].n == len(PAIRS) / 2,
    broken=breaks(f"{HERE}.recognized", lambda *given: None),
    shows=("recognized", "shape_sensitivity"),
)
def misreads_originals() -> Conclusion:
    # The shapes a to j are recognized, and all textures.
    return conclude(
        Names(),
        [sample(i, (s, t), {"object": s if s < 10 else 0, "texture_image": t}) for i, (s, t) in enumerate(PAIRS)],
    )


@planted(
    "cue_sensitivity",
    "absence",
    "has equal logits for all 20 classes",
    "H(20) / 20 = .180 for both, which is chance; read neither",
    holds=lambda said: said.verdict.names == ("not",) and abs(said["shape_sensitivity"].value - 0.17989) < 1e-4,
    broken=breaks(f"{HERE}.EVEN", 0.0),
)
def ties() -> Conclusion:
    return images(Same(0.0))


@planted(
    "cue_sensitivity",
    "absence",
    "always gives the same order of classes, in which those shown come first",
    "reads neither: the same order fits as well with the labels dealt out at random",
    holds=lambda said: said.verdict.names == ("not",) and said["shape_sensitivity"].value > 0.45,
    broken=breaks(f"{HERE}._chance", lambda rows, cue, about: 0.18),
)
def constant() -> Conclusion:
    return images(Same(1.0), [(s, t) for s in range(5) for t in range(5) if s != t] * 72)


def few() -> Conclusion:
    return images(Same(1.0), [(0, 1), (1, 2), (2, 0), (0, 2), (1, 0), (2, 1)] * 2)


def found(said: Conclusion) -> list[Any]:
    return [m for m in (said["shape_sensitivity"], said["texture_sensitivity"]) if m.value is not None]


def ends(m: Any) -> tuple[float, float]:
    return m.interval or (0.0, 1.0)


CONDITIONS = {
    "nothing": (lambda said: not found(said), lambda: images(Second(), [(1, 1)])),
    "reads": (lambda said: any(ends(m)[0] > m.chance for m in found(said)), ranks_second_and_fourth),
    "not": (
        lambda said: any(ends(m)[0] <= m.chance <= 0.5 and ends(m)[1] < m.chance + MARGIN for m in found(said)),
        ties,
    ),
    "cannot_tell": (
        lambda said: any(
            ends(m)[0] <= m.chance and (m.chance > 0.5 or ends(m)[1] >= m.chance + MARGIN) for m in found(said)
        ),
        few,
    ),
}
for name, (when, example) in CONDITIONS.items():
    sayable("cue_sensitivity", name, when, example)
