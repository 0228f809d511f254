"""The first, the second and the last layer of networks of every make, and their responses at every position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.network import hooks
from cuescope.network.executor import Executor
from cuescope.network.first_convolutions import (
    First,
    Second,
    filters,
    first_convolution,
    last_weights,
    response_everywhere,
    second_convolution,
    unstrided,
)
from cuescope.network.hooks import HookPoint


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Backwards(nn.Module):
    """Its last registered convolution runs first, and its nonlinearity is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(4, 5, 3)
        self.norm = nn.BatchNorm2d(4)
        self.early = nn.Conv2d(3, 4, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(F.relu(self.norm(self.early(x))))


class Patches(nn.Module):
    """As a transformer begins: no nonlinearity meets the map of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 6, 4, 4)
        self.block = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.proj(x).flatten(2).transpose(1, 2))


STEMS: list[tuple[nn.Module, First]] = [
    (Backwards(), First("early", HookPoint("late", before=True), nonlinear=True)),
    (Patches(), First("proj", HookPoint("proj"), nonlinear=False)),
    (
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), nn.MaxPool2d(2)),
        First("0.0", HookPoint("0.2"), nonlinear=True),
    ),
    (nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.LocalResponseNorm(5)), First("0", HookPoint("1"), nonlinear=True)),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU()), First("0", HookPoint("2"), nonlinear=True)),
    (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.Dropout(), nn.GELU()),
        First("0", HookPoint("3"), nonlinear=True),
    ),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 1, 1), nn.ReLU()), First("0", HookPoint("0"), nonlinear=False)),
    (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()), First("0", HookPoint("0"), nonlinear=False)),
]


@pytest.mark.parametrize(("network", "wanted"), STEMS, ids=lambda v: type(v).__name__)
def test_the_first_convolution_and_where_its_map_is_read(network: nn.Module, wanted: First) -> None:
    network.eval()
    found = first_convolution(network, noise(1, 3, 12, 12))
    assert found is not None
    assert found == wanted
    with torch.no_grad(), hooks.captured(network, [found.active], enough=True) as seen:
        network(noise(1, 3, 12, 12, seed=1))
    assert seen[found.active].shape[1] == network.get_submodule(found.name).out_channels
    assert (float(seen[found.active].min()) >= -0.4) or not found.nonlinear


def test_without_a_convolution_there_is_none() -> None:
    assert first_convolution(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), noise(1, 3, 4, 4)) is None
    assert last_weights(nn.Sequential(nn.Flatten()), noise(1, 3, 4, 4)) is None


def test_the_second_works_on_a_coarser_map_and_only_there() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, (2, 1), 2), nn.Conv2d(4, 4, 5), nn.AvgPool2d((3, 2)), nn.Conv2d(4, 4, 3, padding=1)
    )
    images = noise(1, 3, 48, 24)
    first = first_convolution(network, images)
    assert first is not None
    assert second_convolution(network, images, first) == Second("3", (3, 2), (2, 1)), "a valid 5 x 5 only trims the map"
    across = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, (1, 2)))
    first = first_convolution(across, images)
    assert first is not None
    assert second_convolution(across, images, first) == Second("1", (1, 2), (1, 1))
    same = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 3))
    first = first_convolution(same, images)
    assert first is not None
    assert second_convolution(same, images, first) is None


def test_gates_are_no_second_layer() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.gate, self.two = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x)
            return self.two(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    network, images = Gated(), noise(1, 3, 16, 16)
    first = first_convolution(network, images)
    assert first is not None
    assert second_convolution(network, images, first) == Second("two", (2, 2), (1, 1))
    assert last_weights(network, images) == "two"


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2},
        {"stride": 4, "padding": 2},
        {"dilation": 2, "padding": 3},
        {"groups": 3, "stride": (2, 1)},
        {"padding": 2, "padding_mode": "reflect"},
    ],
)
def test_filters_are_the_weights(settings: dict[str, Any]) -> None:
    convolution = nn.Conv2d(3, 6, (5, 3), **settings)
    found, groups = filters(convolution), convolution.groups
    wanted = torch.zeros(6, 3, 5, 3)
    for n in range(6):
        own = 3 // groups
        start = n // (6 // groups) * own
        wanted[n, start : start + own] = convolution.weight[n].detach()
    assert torch.allclose(found, wanted, atol=1e-6)


def test_filters_of_a_convolution_that_standardizes_its_weights() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(input, weight, self.bias, self.stride, self.padding)

    convolution = Standardized(3, 4, 5, 2, 1)
    assert filters(convolution).mean((1, 2, 3)).abs().max() < 1e-6
    assert convolution.stride == (2, 2), "the network's own convolution is left as it is"
    assert unstrided(convolution)(noise(1, 3, 9, 9)).shape[-1] == 7


def test_responses_of_layer_2_are_those_of_the_network_without_subsampling() -> None:
    """The slow twin: pooling at stride 1, then the convolution with holes."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 5, 3, 2, 1),
        nn.ReLU(inplace=True),
    ).eval()
    images = noise(1, 3, 65, 61)
    first = first_convolution(network, images)
    assert first is not None
    second = second_convolution(network, images, first)
    assert second is not None
    assert second == Second("3", (4, 4), (2, 2))
    executor = Executor(network, torch.device("cpu"), 3, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), network=network)
    found = response_everywhere(executor, images, second)
    with torch.no_grad():
        one = network[0](images).relu()
        last = network[3]
        assert isinstance(last, nn.Conv2d)
        wanted = F.conv2d(F.max_pool2d(one, 3, 1), last.weight, last.bias, dilation=2, padding=2)[0]
    assert found.shape == (5, *(4 * side for side in network[:4](images).shape[2:]))
    height, width = wanted.shape[1:]
    inner = (slice(None), slice(4, height - 4), slice(4, width - 4))
    assert torch.allclose(found[:, :height, :width][inner], wanted[inner], atol=1e-5)


def test_taps_copy_the_first_call_and_stop() -> None:
    calls: list[int] = []

    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(1)
            return x

    shared = nn.ReLU(inplace=True)
    network = nn.Sequential(nn.Identity(), shared, nn.Flatten(), shared, Counts())
    x = torch.tensor([[[-1.0, 2.0]]])
    with torch.no_grad(), hooks.captured(network, [HookPoint("1", before=True), HookPoint("1")], enough=True) as found:
        network(x.clone())
    assert (found[HookPoint("1", before=True)].tolist(), found[HookPoint("1")].tolist()) == (
        [[[-1.0, 2.0]]],
        [[[0.0, 2.0]]],
    )
    assert not calls
    with torch.no_grad(), hooks.captured(network, [HookPoint("1")]) as found:
        network(x.clone())
    assert len(calls) == 1
    assert found[HookPoint("1")].shape == (1, 1, 2), "the first of its two calls"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
