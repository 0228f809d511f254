"""Planted banks for filters: faults that are there, and random weights that only look like faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.filters import Filters
from toys import COLORS, toy
from truth.table import breaks, planted, sayable

ABOUT = About("toy", "toys", COLORS.names)
CHECKERBOARD = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]]).expand(3, 3, 3)


NONE = -torch.ones(2), torch.ones(2), None
"""Responses that are nowhere above 0."""


def bank(count: int = 12) -> Tensor:
    return torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def conclude(weight: Tensor, bias: Tensor | None = None, images: int = 6, stride: int = 2, **how: Any) -> Conclusion:
    """The instrument's answer about a first layer of these filters, on noise of which the first image is bright."""
    convolution = nn.Conv2d(3, len(weight), 3, stride)
    convolution.weight.data = weight.clone()
    convolution.bias.data = torch.zeros(len(weight)) if bias is None else bias  # type: ignore[union-attr]
    follows = nn.ReLU() if how.get("nonlinear", True) else nn.MaxPool2d(2)
    rest = nn.Linear(len(weight), 3)
    module = nn.Sequential(convolution, follows, nn.AdaptiveAvgPool2d(1), nn.Flatten(), rest)
    classifier, tool = toy(module, size=16), Filters()
    noise = torch.randint(0, 100, (images, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    samples = [Sample(f"{i}", pixels + 155 * (i == 0)) for i, pixels in enumerate(noise)]
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(samples)) if images else tool.empty
    return tool.conclude(rows, replace(ABOUT, facts=observer.facts))


@planted(
    "filters",
    "truth",
    "of 16 filters 2 are never above 0, 1 is hardly there, 2 repeat another and 6 are checkerboards",
    "2 silent, 1 weak, and more repeated and of extreme frequency than of random weights",
    holds=lambda said: (
        said.verdict.names == ("silent", "weak", "repeats", "extreme", "folds")
        and [said[f"{name}_filters"].count for name in ("silent", "weak", "high")] == [2, 1, 6]
    ),
    broken=breaks("cuescope.data.ops.spectrum.bands", lambda bank: [torch.ones(len(bank)).double()] * 3),
    shows=("silent_filters", "weak_filters", "high_filters", "repeated_filters"),
)
def faults() -> Conclusion:
    weight, bias = bank(16), torch.zeros(16)
    weight[8:14] = CHECKERBOARD + 0.5 * bank(6)
    weight[2], weight[3] = -2 * weight[0], 3 * weight[1]
    bias[:2], weight[4] = -99, weight[4] * 1e-5
    return conclude(weight, bias + torch.where(torch.arange(16) == 4, 1.0, 0.0))


@planted(
    "filters",
    "absence",
    "64 filters of random weights, 3 x 3 px",
    "what is of extreme frequency among them may be chance, and none repeats another",
    holds=lambda said: {"extreme", "repeats"}.isdisjoint(said.verdict.names) and said["high_filters"].count > 0,
    broken=breaks(
        "cuescope.data.ops.spectrum.of_random_weights",
        lambda *_: dict.fromkeys(("low", "high", "saturated", "repeated", "middle"), 0.0),
    ),
    shows=("saturated_filters", "repeated_filters"),
)
def random_weights() -> Conclusion:
    return conclude(bank(64))


@planted(
    "filters",
    "absence",
    "a filter that one image in six wakes",
    "none is silent",
    holds=lambda said: said.verdict.names[0] == "all_respond",
    broken=breaks(
        "cuescope.instruments.filters.FirstLayers.responses", lambda *_: (-torch.ones(2), torch.ones(2), None)
    ),
    shows=("silent_filters",),
)
def woken_once() -> Conclusion:
    weight = torch.ones(2, 3, 3, 3)
    return conclude(weight, torch.tensor([0.0, -20.0]))


def of(said: Conclusion, name: str) -> Any:
    return said[f"{name}_filters"]


def surely_more(said: Conclusion, name: str) -> bool:
    measure = of(said, name)
    return measure.interval is not None and measure.interval[0] > measure.chance


sayable("filters", "nothing", lambda said: of(said, "weak").value is None, lambda: conclude(bank(), images=0))
sayable("filters", "silent", lambda said: of(said, "silent").count > 0, faults)
sayable("filters", "all_respond", lambda said: of(said, "silent").count == 0, woken_once)
sayable("filters", "linear", lambda said: of(said, "silent").value is None, lambda: conclude(bank(), nonlinear=False))
sayable("filters", "weak", lambda said: of(said, "weak").count > 0, faults)
sayable("filters", "repeats", lambda said: surely_more(said, "repeated"), faults)
sayable("filters", "extreme", lambda said: surely_more(said, "saturated"), faults)
sayable(
    "filters",
    "extreme_chance",
    lambda said: of(said, "saturated").count > 0 and not surely_more(said, "saturated"),
    random_weights,
)
sayable("filters", "folds", lambda said: said["aliasing_layer1"].chance > 0, faults)
sayable("filters", "keeps_all", lambda said: said["aliasing_layer1"].value == 0, lambda: conclude(bank(), stride=1))
