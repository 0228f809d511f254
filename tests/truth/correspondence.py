"""Planted classifiers for correspondence: one that relates the patterns of parts, one that knows their colors alone,
and one that finds all places alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.instruments.correspondence import MARGIN, Correspondence
from toys import plain
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("pets", ("cat", "dog"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name, {"layers": ["1", "1:mean"], "rectified": False})
SIDE = 16


def means(filters: torch.Tensor, least: float = 0.0) -> Classifier:
    """The high layer is the mean over places of what these filters (N, 3, h, w) find above some strength."""
    conv = nn.Conv2d(3, len(filters), (filters.shape[2], filters.shape[3]))
    conv.weight.data, conv.bias.data = filters, torch.full((len(filters),), -least)
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(len(filters), 2))
    return Classifier(net, classes=CLASSES, preprocessing=plain(SIDE), name="toy")


def colors() -> Classifier:
    """The three mean colors, and nothing else."""
    return means(torch.eye(3)[:, :, None, None])


FINE, BROAD, EVEN = torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 1, -1, -1]), torch.ones(4)
PATTERNS = [
    torch.outer(a, b) for a in (FINE, BROAD, EVEN) for b in (FINE, BROAD, EVEN) if not (a is EVEN and b is EVEN)
]


def patterns() -> Classifier:
    """Eight patterns of 4 x 4 px, each half black and half white: stripes, checks, fine and broad."""
    return means(torch.stack(PATTERNS)[:, None].expand(-1, 3, -1, -1).clone(), least=12.0)


def samples(count: int, *parts: Sequence[torch.Tensor], between: Sequence[torch.Tensor] = ()) -> list[Sample]:
    """Parts, each drawn from several looks (3, 4, 4), in a column of its own and at some row; others lie between."""
    generator, found = torch.Generator().manual_seed(0), []

    def drawn(below: int) -> int:
        return int(torch.randint(0, below, (1,), generator=generator))

    for i in range(count):
        pixels, boxes = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8), {}
        for top, left in [(4 * k, 4 * j) for k in range(4) for j in range(4)] if between else ():
            pixels[:, top : top + 4, left : left + 4] = between[drawn(len(between))]
        for name, looks, left in zip(("ear", "nose", "tail"), parts, (0, 6, 12), strict=False):
            top = drawn(SIDE - 3)
            pixels[:, top : top + 4, left : left + 4] = looks[drawn(len(looks))]
            boxes[name] = Box(left, top, left + 4, top + 4, name)
        found.append(Sample(f"{i:02}", pixels, 0, parts=boxes, framing="stimulus"))
    return found


def flat(*color: int) -> torch.Tensor:
    return torch.tensor(color, dtype=torch.uint8)[:, None, None].expand(3, 4, 4)


def looks(pattern: torch.Tensor) -> torch.Tensor:
    return ((pattern > 0) * 255).to(torch.uint8).expand(3, 4, 4)


REDS, GREENS = [flat(255, 0, 0)] * 4 + [flat(255, 0, 255)], [flat(0, 255, 0)] * 4 + [flat(0, 255, 255)]
EVERY = [looks(pattern) for pattern in PATTERNS]
EARS, NOSES = [EVERY[0]] * 9 + [EVERY[1]], [EVERY[4]] * 9 + [EVERY[5]]


def asked(classifier: Classifier, images: list[Sample], **settings: Any) -> Conclusion:
    tool = Correspondence(fill="black", layers=("1", "1:mean"), **settings)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(images, [s.label for s in images]))
    return tool.conclude(rows, replace(ABOUT, facts=observer.facts))


@planted(
    "correspondence",
    "truth",
    "finds patterns that are black and white by half; each part has one of them",
    "it relates parts beyond their colors, which both have",
    holds=lambda said: said.verdict.names == ("relates",),
    broken=breaks("cuescope.methods.parts.masking.shuffled", lambda pixels, *_: pixels),
    shows=("part_high", "random_high", "other_part_high", "shuffled_high"),
)
def relates_patterns() -> Conclusion:
    return asked(patterns(), samples(16, EARS, NOSES, between=EVERY))


@planted(
    "correspondence",
    "absence",
    "three mean colors; parts are red, green and blue",
    "by color alone: the part's shuffled pixels do the same",
    holds=lambda said: said.verdict.names == ("color",),
    broken=breaks("cuescope.methods.parts.masking.shuffled", lambda pixels, *_: 1 - pixels),
    shows=("part_high", "random_high", "other_part_high", "shuffled_high"),
)
def three_mean_colors() -> Conclusion:
    return asked(colors(), samples(40, REDS, GREENS))


@planted(
    "correspondence",
    "absence",
    "three mean colors; each part has any color, whatever its name",
    "it does not relate the same part: another part does the same",
    holds=lambda said: said.verdict.names == ("not",),
    broken=breaks("cuescope.methods.parts.pairs.Group.less", lambda self, *_: self.of("high", "part") - 1),
    shows=("part_high", "other_part_high", "difference_other_part_high"),
)
def any_color() -> Conclusion:
    hues = [*REDS[3:], *GREENS[3:], flat(0, 0, 255), flat(255, 255, 0)]
    return asked(colors(), samples(16, hues, hues))


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-2.0, 2.0)


def limit(said: Conclusion, rival: str) -> float:
    return -MARGIN * (said[rival].value or 0)


def known(said: Conclusion) -> bool:
    return said["part_high"].value is not None


RIVALS = {"difference_high": "random_high", "difference_other_part_high": "other_part_high"}
SHUFFLED = {"difference_shuffled_high": "shuffled_high"}


def below(said: Conclusion, rivals: Mapping[str, str]) -> bool:
    return all(span(said, name)[1] < limit(said, rival) for name, rival in rivals.items())


sayable("correspondence", "nothing", lambda said: not known(said), lambda: asked(colors(), samples(1, REDS)))
sayable(
    "correspondence",
    "relates",
    lambda said: below(said, RIVALS | SHUFFLED),
    relates_patterns,
)
sayable(
    "correspondence",
    "color",
    lambda said: (
        below(said, RIVALS)
        and (
            span(said, "difference_shuffled_high")[0] > limit(said, "shuffled_high")
            or span(said, "shuffling_high")[1] < MARGIN
        )
    ),
    three_mean_colors,
)
sayable(
    "correspondence",
    "not",
    lambda said: (
        span(said, "difference_high")[0] > limit(said, "random_high")
        or span(said, "difference_other_part_high")[0] > limit(said, "other_part_high")
    ),
    any_color,
)
sayable(
    "correspondence",
    "cannot_tell",
    lambda said: known(said) and not below(said, RIVALS | SHUFFLED),
    lambda: asked(patterns(), samples(2, EARS, NOSES)),
)
