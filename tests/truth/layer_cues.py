"""Planted networks for layer_cues: layers that hold the color of a lit quarter, its place, both, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.layer_cues import DEPTH_MARGIN, MARGIN, LayerCues
from cuescope.methods.crossed_readout import crossed
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcd"))
SIZE, EACH = 4, 3
COLORS = torch.tensor([[160, 0, 80], [0, 160, 80], [120, 120, 0], [40, 40, 160]])
"""Of each texture; all are equally bright. A shape is which quarter of the image is lit."""


class Colors(nn.Module):
    """How much there is of each color: the texture, and not where it is. Its weights are the first of many channels."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.Conv2d(3, 32, 1, bias=False)
        self.channels.weight.data = torch.eye(32, 3)[:, :, None, None]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.channels(pixels)[:, :3]


class Places(nn.Module):
    """How bright each quarter is: the shape, and not its color. It has no weights."""

    def forward(self, pixels: Tensor) -> Tensor:
        quarters = nn.functional.adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 2).flatten(1)
        return quarters[:, :, None, None].expand(-1, -1, SIZE, SIZE)


class Hash(nn.Module):
    """Other numbers for every image, whatever it shows."""

    def __init__(self, salt: float = 1e4) -> None:
        super().__init__()
        self.salt = salt

    def forward(self, pixels: Tensor) -> Tensor:
        total = pixels.double().flatten(1) @ torch.arange(1, 3 * SIZE**2 + 1).double().sqrt()
        numbers = torch.sin(total[:, None] * self.salt * torch.arange(1, 4)).float()
        return numbers[:, :, None, None].expand(-1, -1, SIZE, SIZE)


class Both(nn.Module):
    """Color and place, with so much of the hash."""

    def __init__(self, noise: float = 0.0, salt: float = 1e4) -> None:
        super().__init__()
        self.noise, self.hash = noise, Hash(salt)

    def forward(self, pixels: Tensor) -> Tensor:
        found = torch.cat([pixels.mean((2, 3), keepdim=True).expand(-1, -1, SIZE, SIZE), Places()(pixels)], 1)
        other = torch.cat([self.hash(pixels), self.hash(pixels.flip(2)), self.hash(pixels.flip(3))[:, :1]], 1)
        return found + self.noise * other


class Instances(nn.Module):
    """Which texture image it is, as numbers that have nothing to do with categories."""

    def forward(self, pixels: Tensor) -> Tensor:
        code = (pixels.amax((2, 3)).double() * 255).round() @ torch.tensor([1.0, 7.0, 31.0]).double()
        numbers = torch.sin(code[:, None] * torch.arange(1, 13) * 97.3).float()
        return numbers[:, :, None, None].expand(-1, -1, SIZE, SIZE)


class Layers(nn.Module):
    """Layers that all see the image, one after another."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = [*layers]
        for i, layer in enumerate(layers):
            self.add_module(f"{type(layer).__name__.lower()}{i}", layer)

    def forward(self, pixels: Tensor) -> Tensor:
        return sum(layer(pixels).mean((2, 3))[:, :1] for layer in self.layers) * torch.ones(4)


def samples(each: int, named: bool = True) -> list[Sample]:
    """So many objects of each shape, with so many texture images of each other category.

    Texture images differ in brightness, objects in a pixel of the margin.
    """
    found = []
    for s, t, i, j in np.ndindex(4, 4, each, each):
        if s != t:
            pixels, (down, right) = torch.zeros(3, SIZE, SIZE), divmod(s, 2)
            pixels[:, 2 * down : 2 * down + 2, 2 * right : 2 * right + 2] = COLORS[t][:, None, None] * (1 - 0.04 * j)
            pixels[:, -2 * down + 1, -2 * right + 1] += 2 * i
            cues = {"shape": CLASSES.names[s], "texture": CLASSES.names[t]}
            sources = {"object": f"{cues['shape']}{i}", "texture_image": f"{cues['texture']}{j}"} if named else {}
            name = f"{s}{i}-{t}{j}"
            found.append(Sample(name, pixels.to(torch.uint8), cues={**cues, **sources}, framing="stimulus"))
    return found


def conclude(*layers: nn.Module, each: int = EACH, named: bool = True, **how: Any) -> Conclusion:
    """The instrument's answer about a network with these layers."""
    tool, classifier = LayerCues(**{"control": False, **how}), toy(Layers(*layers), CLASSES, size=SIZE)
    observer, shown = tool.start(classifier), samples(each, named)
    rows = observer.observe(classifier.see(shown)) if shown else tool.empty
    return tool.conclude(rows, replace(About("toy", "toys", CLASSES.names), facts=observer.facts))


@planted(
    "layer_cues",
    "truth",
    "its first layer holds the color alone, its last the place alone",
    "texture is read from the first layer, shape from the last one",
    holds=lambda said: (
        [said[name].value for name in ("shape", "texture")] == [1, 1]
        and said.verdict.names == ("read", "read", "texture_first")
        and max(at(said, "shape")[0][0], at(said, "texture")[1][0]) < 1 / 3
    ),
    broken=breaks("cuescope.methods.layer_features._pooled", lambda maps, grid: maps[:, :3, :1, :1].flatten(1)),
    shows=("shape_depth", "texture_depth", "deeper"),
)
def texture_then_shape() -> Conclusion:
    return conclude(Colors(), Places())


@planted(
    "layer_cues",
    "absence",
    "no layer holds anything of either cue: other numbers for every image",
    "neither is read at any depth, and no depth is said",
    holds=lambda said: {"read", "texture_first", "shape_first", "same_depth"}.isdisjoint(said.verdict.names),
    broken=breaks("cuescope.methods.cue_readout.CueReadout.told", [True, True]),
    shows=("shape", "texture"),
)
def nothing_to_read() -> Conclusion:
    return conclude(Hash(), Hash(), each=6, grid=2)


@planted(
    "layer_cues",
    "absence",
    "texture images are known again by their brightness, categories are not to be told",
    "texture is not read, as it would be if one image of a texture were learned from and another answered",
    holds=lambda said: "read" not in said.verdict.names,
    broken=breaks("cuescope.instruments.layer_cues.crossed", lambda shape, texture, *sources: crossed(shape, texture)),
    shows=("texture",),
)
def known_again() -> Conclusion:
    return conclude(Instances(), Hash(), each=4)


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def over(said: Conclusion, cue: str) -> bool:
    return span(said, cue)[0] > 1 / 3  # of four categories, the one that the other cue has is excluded


def some(condition: Any) -> Any:
    return lambda said: any(condition(said, cue) for cue in ("shape", "texture"))


def learned(said: Conclusion, cue: str, of: Any) -> bool:
    return over(said, cue) and of(*span(said, f"{cue}_learned"))


def at(said: Conclusion, cue: str) -> list[tuple[float, float]]:
    """The interval at each layer."""
    curves = next((panel.data["series"] for panel in said.panels if panel.name == "by_depth"), ())
    return [pair for one in curves if one["name"] == cue for pair in zip(one["low"], one["high"], strict=True)]


def both(of: Any) -> Any:
    return lambda said: over(said, "shape") and over(said, "texture") and of(*span(said, "deeper"))


sayable("layer_cues", "nothing", lambda said: said["shape"].value is None, lambda: conclude(Hash(), Hash(), each=0))
sayable("layer_cues", "read", some(over), texture_then_shape)
sayable(
    "layer_cues",
    "unread",
    some(lambda said, cue: said[cue].value is not None and all(high < 1 / 3 + MARGIN for _, high in at(said, cue))),
    nothing_to_read,
)
sayable(
    "layer_cues",
    "unsure",
    some(
        lambda said, cue: (
            any(high >= 1 / 3 + MARGIN for _, high in at(said, cue))
            and not all(low > 1 / 3 for low, _ in at(said, cue))
        )
    ),
    lambda: conclude(Hash(), Hash(), each=2),
)
sayable("layer_cues", "texture_first", both(lambda low, high: low > 0), texture_then_shape)
sayable("layer_cues", "shape_first", both(lambda low, high: high < 0), lambda: conclude(Places(), Colors()))
sayable(
    "layer_cues",
    "same_depth",
    both(lambda low, high: -DEPTH_MARGIN <= low <= high <= DEPTH_MARGIN),
    lambda: conclude(Both(), Hash()),
)
sayable(
    "layer_cues",
    "depth_unsure",
    both(lambda low, high: low <= 0 <= high and high - low > 2 * DEPTH_MARGIN),
    lambda: conclude(Both(0.05), Both(0.05, 2e4), each=4),
)
sayable(
    "layer_cues",
    "learned",
    some(lambda said, cue: learned(said, cue, lambda low, high: low > 0)),
    lambda: conclude(Colors(), Places(), layers=("colors0", "places1"), control=True),
)
sayable(
    "layer_cues",
    "not_learned",
    some(lambda said, cue: learned(said, cue, lambda low, high: low <= 0 and high < MARGIN)),
    lambda: conclude(Places(), Hash(), control=True, named=False),
)
sayable(
    "layer_cues",
    "learned_unsure",
    some(lambda said, cue: learned(said, cue, lambda low, high: low <= 0 and high >= MARGIN)),
    lambda: conclude(Places(), Hash(), control=True, each=2),
)
sayable(
    "layer_cues",
    "unnamed",
    lambda said: (
        any("tell no objects" in caveat for caveat in said.caveats) and (over(said, "shape") or over(said, "texture"))
    ),
    lambda: conclude(Places(), Hash(), named=False),
)
