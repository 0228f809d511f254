"""Planted classifiers for picture_sanity: an edge detector that nothing learned moves, and a network that looks where
it learned to look."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.picture_sanity import ALIKE, DIFFERENT, PictureSanity
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("two", ("a", "b"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name)


class Edges(nn.Module):
    """Fixed edges of the image; what is learned is how much of them speaks for a class, which no picture shows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, pixels: Tensor) -> Tensor:
        gray = pixels.mean(1, keepdim=True)
        kernel = gray.new_tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])[None, None]
        return self.head(F.conv2d(gray, kernel, padding=1).square().flatten(1).mean(1, keepdim=True))


class Corner(nn.Module):
    """It learned to look at one corner: its weight lies there, and random weights lie anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3, 8, 8))
        self.weight.data[0, :, :3, :3], self.weight.data[1, :, :3, :3] = 1.0, -1.0

    def forward(self, pixels: Tensor) -> Tensor:
        return F.conv2d(pixels, self.weight).flatten(1)


def samples(count: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 8, 8)
    return [
        Sample(f"{i}", torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), framing="stimulus")
        for i in range(count)
    ]


def asked(module: nn.Module, count: int = 6) -> Conclusion:
    tool, classifier = PictureSanity(steps=2), toy(module, CLASSES, size=8)
    return tool.conclude(tool.start(classifier).observe(classifier.see(samples(count))), ABOUT)


def by_hand(values: list[float]) -> Conclusion:
    """One picture of such similarities to that of random weights."""
    tool, n = PictureSanity(), len(values)
    columns = {"id": list(map(str, range(n))), "method": ["saliency"] * n, "why": [""] * n, "alike": values}
    return tool.conclude(tool.table({**columns, "like_edges": [0.0] * n}), ABOUT)


@planted(
    "picture_sanity",
    "truth",
    "fixed edges of the image, whatever it learned",
    "the gradient's picture is the same with random weights: 1",
    holds=lambda said: said["saliency"].value > 0.999 and "identical" in said.verdict.names,
    broken=breaks("cuescope.methods.picture_sanity.rank_correlation", lambda a, b: 0.0),
    shows=("saliency", "integrated_gradients"),
)
def edge_detector() -> Conclusion:
    return asked(Edges())


@planted(
    "picture_sanity",
    "absence",
    "learned to look at one corner",
    "no picture is called independent of the weights",
    holds=lambda said: said.verdict.said == "yes" and said["integrated_gradients"].below(DIFFERENT),
    broken=breaks("cuescope.methods.picture_sanity.randomized", lambda classifier, seed: classifier),
    shows=("saliency", "integrated_gradients"),
)
def corner() -> Conclusion:
    return asked(Corner())


def spans(said: Conclusion) -> list[tuple[float, float] | None]:
    return [m.interval for m in said.measures if m.value is not None]


def holds(interval: tuple[float, float] | None, low: float, high: float) -> bool:
    return interval is not None and low < interval[0] and interval[1] < high


sayable("picture_sanity", "nothing", lambda said: not spans(said), lambda: by_hand([]))
sayable("picture_sanity", "depends", lambda said: any(holds(one, -2, DIFFERENT) for one in spans(said)), corner)
sayable(
    "picture_sanity",
    "partly",
    lambda said: any(holds(one, DIFFERENT, 2) and not holds(one, ALIKE, 2) for one in spans(said)),
    lambda: by_hand([0.6, 0.62, 0.64, 0.66, 0.7, 0.63]),
)
sayable(
    "picture_sanity",
    "independent",
    lambda said: any(holds(one, ALIKE, 2) for one in spans(said)),
    lambda: by_hand([0.9, 0.92, 0.94, 0.96, 0.97, 0.93]),
)
sayable("picture_sanity", "identical", lambda said: any((m.value or 0) > 0.999 for m in said.measures), edge_detector)
sayable(
    "picture_sanity",
    "cannot_tell",
    lambda said: any(one is None or one[0] <= DIFFERENT <= one[1] for one in spans(said)),
    lambda: by_hand([0.1, 0.9, 0.3, 0.7, 0.5, 0.6]),
)
