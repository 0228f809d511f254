"""A convolutional network that no cyclic shift changes: adaptive polyphase sampling (Chaman & Dokmanic 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.antialias import Place, example_of, places
from cuescope.models.blurpool import surround
from cuescope.models.circular import circular
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import difference, tensor_of

EXACT = 1e-5
"""Of the largest logit: the most by which a cyclic shift may change any, a few times what rounding does."""
SHIFTS = ((1 / 64, 0.0), (0.0, 1 / 64), (0.11, 0.52), (0.49, 0.3))
"""Cyclic shifts by which a network is tried, as shares of the image's height and width: small ones and large."""


class Choice:
    """Which phase each image of a batch keeps at one level of a network: all that subsamples there must agree."""

    phases: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}


class PolyphaseSampling2d(nn.Module):
    """Of a map (B, C, H, W), every second row and column: of the four ways to begin, the one of the largest l2 norm.

    Each image has its own; of equal norms the first counts, in the order (0, 0), (1, 0), (0, 1), (1, 1) of the first
    row and column. A cyclic shift of the map can thus only shift what is kept. The layer that `leads` chooses; others
    on the same grid (a shortcut beside it) keep the phase of its `choice`. Raises CueError for sides that are not even.
    Chaman & Dokmanic 2021, Truly shift-invariant convolutional neural networks, section 3.

    >>> PolyphaseSampling2d()(torch.tensor([[[[0.0, 3.0], [1.0, 2.0]]]])).tolist()
    [[[[3.0]]]]
    """

    traced_whole: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.choice, self.leads = Choice(), True

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2:
            found = f"a map of {x.shape[2]} x {x.shape[3]} positions, which cannot be split into four phases"
            wanted = "an input whose sides are divisible by the network's whole stride"
            raise CueError(found, wanted=wanted, do="choose another input size, 224 px for most networks")
        phases = torch.stack([x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)], 1)
        if self.leads:
            # Squares are summed, not their root: the largest is the same.
            self.choice.phases = phases.square().sum((2, 3, 4), dtype=torch.float64).argmax(1)
        assert self.choice.phases is not None
        return phases[torch.arange(len(x), device=x.device), self.choice.phases]

    def extra_repr(self) -> str:
        return f"leads={self.leads}"


def adaptive_polyphase(module: nn.Module, *, example: Tensor | None = None) -> nn.Module:
    """What would this network be if no cyclic shift could change its answer? A copy with its weights as they are.

    All layers are padded by the map itself (`models.circular`). What has a stride runs at stride 1; after its
    activation `PolyphaseSampling2d` keeps one position of four (twice for a stride of 4), and what lies beside it, as a
    shortcut does, keeps the same. Where the first phase is chosen and the border is far, the logits are the original's.
    A state dict of either fits the other.

    `example`, (1, 3, H, W), is as `models.antialias` has it. Raises CueError for a network that has no strides, one
    with a stride that cannot be taken out, and one that cyclic shifts of the example change, as where what comes after
    the last map tells its places apart.

    >>> from cuescope.models.seeding import seeded
    >>> conv = seeded(0, lambda: nn.Conv2d(3, 4, 3, 2, 1))
    >>> net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> exact, x = adaptive_polyphase(net), torch.rand(1, 3, 8, 8)
    >>> bool(torch.allclose(exact(x), exact(x.roll((3, 1), (2, 3))), atol=1e-6))
    True
    """
    example = example_of(module) if example is None else example
    found = places(module, stem=True, example=example)
    network = circular(module, _slowed(module, found))
    for place in found:
        for name in place.at:
            steps = [PolyphaseSampling2d() for _ in range(place.stride.bit_length() - 1)]
            sampling = steps[0] if len(steps) == 1 else nn.Sequential(*steps)
            before, after = (None, sampling) if place.after else (sampling, None)
            surround(network.get_submodule(name), before, after)
    _share_choices(network, example)
    if (gap := change_under_shifts(network, example)) > EXACT:
        changed = f"cyclic shifts still change {type(module).__name__}, by {gap:.0e} of the largest logit"
        wanted = "convolutions and pools of torch, and an average of the whole last map before any dense layer"
        raise CueError(changed, wanted=wanted, do="choose another network, or +blur4")
    return network


def describe(network: nn.Module, example: Tensor) -> tuple[str, ...]:
    """What was done to a network, in words."""
    count = sum(isinstance(part, PolyphaseSampling2d) for part in network.modules())
    gap = change_under_shifts(network, example)
    return (
        f"circular padding, and adaptive polyphase sampling in {count} place{'s' * (count > 1)}",
        f"checked: cyclic shifts change no logit by more than {max(gap, 1e-7):.0e} of the largest",
    )


def change_under_shifts(network: nn.Module, example: Tensor) -> float:
    """By how much `SHIFTS` change the logits, as a share of the largest."""
    height, width = example.shape[2:]
    moved = [example.roll((math.ceil(down * height), math.ceil(right * width)), (2, 3)) for down, right in SHIFTS]
    with torch.no_grad(), hooks.evaluating(network):
        plain = tensor_of(network(example))
        return max(difference(tensor_of(network(one)), plain) for one in moved)


def _slowed(module: nn.Module, found: Sequence[Place]) -> tuple[str, ...]:
    """The layers that lose their stride. Raises CueError for one that cannot."""
    for place in found:
        if not place.at or place.stride & (place.stride - 1):
            why = place.why or f"its stride is {place.stride}"
            stays = f"{type(module).__name__} subsamples at {place.name or 'its top'} in a way that stays: {why}"
            raise CueError(
                stays, wanted="strides of 2 and 4, in layers of torch", do="choose another network, or +blur4"
            )
    return tuple(place.name for place in found)


def _share_choices(network: nn.Module, example: Tensor) -> None:
    """Let all that subsamples maps of one size, and so of one grid, keep the phase that the first of them chooses."""
    first: dict[tuple[int, int], PolyphaseSampling2d] = {}

    def seen(name: str, inputs: tuple[Any, ...], _output: Any) -> None:
        part, size = network.get_submodule(name), (inputs[0].shape[2], inputs[0].shape[3])
        assert isinstance(part, PolyphaseSampling2d)
        leader = first.setdefault(size, part)
        part.choice, part.leads = leader.choice, part is leader

    hooks.watched_pass(network, example, seen, kinds=PolyphaseSampling2d)
