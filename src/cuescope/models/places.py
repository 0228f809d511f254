"""Where does a network subsample, and where would a blur go? Placement as in Zhang 2019 and the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.blurpool import Surrounded, is_same
from cuescope.network.flow import Call, Flow, record
from cuescope.network.hooks import pair

ACTIVATIONS = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish"),
    *("hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus"),
}
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm"}
PASSING = {"dropout", "dropout2d", "feature_dropout", "permute", "contiguous", "to", "float", "type_as"}
"""What may stand between a convolution and its activation and treats every position alike."""

PATCHES_PX = 8
"""Convolutions of this stride and more cut the image into patches: what follows is no map to be blurred."""

Kind = Literal["max pool", "average pool", "convolution", "shortcut"]


@dataclass(frozen=True)
class Place:
    """One subsampling layer of a network, and where the blur goes that takes over its stride.

    `at` are the modules that are surrounded: the blur runs after each where `after` is True, else before it. Where
    nothing can be done, or nothing is to be done, `why` says so and `at` is empty.
    """

    name: str
    kind: Kind
    stride: int = 2
    """What the blur subsamples by."""
    keeps: int = 1
    """The stride that the layer itself keeps."""
    at: tuple[str, ...] = ()
    after: bool = True
    why: str = ""


def places(module: nn.Module, *, stem: bool = False, example: Tensor | None = None) -> tuple[Place, ...]:
    """Where does a network subsample, and where would `antialias` put a blur? In the order of the forward pass.

    Raises CueError for a network that has nothing to antialias.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> [(place.name, place.kind) for place in places(net)]
    [('2', 'max pool')]
    """
    flow = _recorded(module, example_of(module) if example is None else example)
    parts = dict(module.named_modules())
    calls = [call for call in sorted(flow.calls, key=lambda call: call.first) if _steps(flow, call, parts) > 1]
    # Several convolutions can be the first: branches that begin at the same map.
    start = calls[0].takes if calls else None
    found = [_place(flow, call, parts, first=call.takes == start and not stem) for call in calls]
    found += _in_code(flow, parts)
    if not any(place.at and not _cuts(parts[place.name]) for place in found):
        cut = "it cuts the image into patches"
        reasons = sorted({f"{place.name}: {cut if place.at else place.why}" for place in found})
        nothing = "; ".join([f"{type(module).__name__} has nothing to antialias", *reasons[:3]])
        wanted = "a convolutional network with pooling or strided convolutions"
        raise CueError(nothing, wanted=wanted, do="choose another network")
    return tuple(found)


def describe(found: Sequence[Place], filter_size: int) -> tuple[str, ...]:
    """What was antialiased and what was not, in words."""
    blurred = [place for place in found if place.at]
    left = [f"{place.name or 'the network'}: {place.why}" for place in found if not place.at]
    done = f"antialiased in {len(blurred)} place{'s' * (len(blurred) > 1)} by blurs of size {filter_size}"
    return (done, *(f"not antialiased: {what}" for what in left))


def _recorded(module: nn.Module, example: Tensor) -> Flow:
    try:
        return record(module, example)[1]
    except Exception as error:  # the network's own code, which may refuse a size in any way
        size = f"{example.shape[-2]} x {example.shape[-1]} px"
        found = f"{type(module).__name__} cannot be run on an image of {size}: {type(error).__name__}: {error}"
        raise CueError(found, wanted="an image of a size it takes", do="give example=, (1, 3, H, W)") from error


def _steps(flow: Flow, call: Call, parts: dict[str, nn.Module]) -> int:
    """The stride of a module call that subsamples; 1 for one that does not, or that averages all there is."""
    part: Any = parts[call.name]
    if _kind(part) is None or isinstance(part, Surrounded) or call.gives is None or call.first == call.last:
        return 1
    whole = _kind(part) == "average pool" and flow.ops[call.last - 1].sizes[1][-2:] == (1, 1)
    return 1 if whole else max(pair(part.stride))


def _place(flow: Flow, call: Call, parts: dict[str, nn.Module], *, first: bool) -> Place:
    """What is to be done about one module that subsamples."""
    part: Any = parts[call.name]
    kind, steps = _kind(part), pair(part.stride)
    assert kind is not None
    why = _why_not(flow, call, part, kind, steps)
    if why:
        return Place(call.name, kind, steps[0], why=why)
    if kind != "convolution":
        return Place(call.name, kind, steps[0], at=(call.name,))
    return _convolution(flow, call, parts, steps[0], first)


def _kind(part: nn.Module) -> Kind | None:
    if isinstance(part, nn.Conv2d):
        return "convolution"
    if type(part) is nn.MaxPool2d or (isinstance(part, nn.MaxPool2d) and is_same(part)):
        return "max pool"
    return "average pool" if isinstance(part, nn.AvgPool2d) else None


def _why_not(flow: Flow, call: Call, part: Any, kind: Kind, steps: tuple[int, int]) -> str:
    if not flow.once(call):
        return "it is called more than once"
    if steps[0] != steps[1]:
        return f"its stride is {steps[0]} x {steps[1]}"
    if kind == "convolution" and steps[0] >= PATCHES_PX:
        return f"it cuts the image into patches of {steps[0]} px"
    if kind == "max pool" and part.return_indices:
        return "its indices are used"
    if kind == "average pool" and is_same(part):
        return "its padding is of another kind"
    return ""


def _convolution(flow: Flow, call: Call, parts: dict[str, nn.Module], stride: int, first: bool) -> Place:
    """A convolution with a stride: the blur comes after its activation, or before it in a shortcut."""
    part: Any = parts[call.name]
    assert call.gives is not None
    keeps = 1
    if first:
        if stride < 4:
            return Place(call.name, "convolution", stride, why="the first convolution keeps its stride")
        stride, keeps = 2, stride // 2
    activated = _activated(flow, call.gives, parts)
    if activated is not None:
        at, after = _surrounded(flow, activated, parts)
        if at:
            return Place(call.name, "convolution", stride, keeps, at, after)
        why = "what follows its activation is no module that a blur could stand before"
        return Place(call.name, "convolution", stride, why=why)
    if pair(part.kernel_size) == (1, 1) and keeps == 1 and pair(part.padding) == (0, 0):
        return Place(call.name, "shortcut", stride, at=(call.name,), after=False)
    return Place(call.name, "convolution", stride, keeps, (call.name,))


def _cuts(part: Any) -> bool:
    """Whether it is a convolution of patches side by side, as transformers begin with."""
    return isinstance(part, nn.Conv2d) and pair(part.kernel_size) == pair(part.stride) and part.in_channels == 3


def _activated(flow: Flow, value: int, parts: dict[str, nn.Module]) -> int | None:
    """The value after the activation that alone reads this one, norms and the like between; None without any."""
    while True:
        readers = flow.readers(value)
        for call in sorted(flow.calls, key=lambda call: -call.last):
            inside = call.takes == value and call.gives not in (None, value) and all(map(call.holds, readers))
            if readers and inside and _is_activation(parts[call.name]):
                return call.gives
        if len(readers) != 1:
            return None
        op = flow.ops[readers[0]]
        if op.name in ACTIVATIONS:
            return op.gives[0]
        if op.name not in NORMS | PASSING:
            return None
        value = op.gives[0]


def _is_activation(part: nn.Module) -> bool:
    return "activation" in type(part).__module__ and not any(True for _ in part.parameters())


def _surrounded(flow: Flow, value: int, parts: dict[str, nn.Module]) -> tuple[tuple[str, ...], bool]:
    """The modules after which, or else before which, a blur changes this value for all who read it."""
    readers = flow.readers(value)
    for call in flow.calls:
        if call.gives == value and all(op >= call.last for op in readers) and _can_surround(flow, call, parts):
            return (call.name,), True
    takers = [call for call in flow.calls if call.takes == value and _can_surround(flow, call, parts)]
    for call in sorted(takers, key=lambda call: -call.outer):
        if readers and all(map(call.holds, readers)):
            return (call.name,), False
    innermost = [next((call for call in flow.inside(op) if call in takers), None) for op in readers]
    names = {call.name for call in innermost if call is not None}
    return (tuple(sorted(names)), False) if names and None not in innermost else ((), False)


def _can_surround(flow: Flow, call: Call, parts: dict[str, nn.Module]) -> bool:
    """Containers hand their children on, a blur among them; a compiled module has no class to be changed."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict, torch.jit.ScriptModule)
    return flow.once(call) and not isinstance(parts[call.name], containers)


def _in_code(flow: Flow, parts: dict[str, nn.Module]) -> list[Place]:
    """Pools that are called as functions: what calls them would have to be written anew."""
    found = []
    for i, op in enumerate(flow.ops):
        kind: Any = {"max_pool2d": "max pool", "avg_pool2d": "average pool"}.get(op.name)
        calls = flow.inside(i)
        smaller = op.sizes[1][-1] < op.sizes[0][-1] / 1.5 and op.sizes[1][-1] > 1
        if kind and smaller and not (calls and _kind(parts[calls[0].name])):
            found.append(Place(calls[0].name if calls else "", kind, why=f"its {kind} is no module of its own"))
    return found


def example_of(module: nn.Module, size: tuple[int, int] | None = None) -> Tensor:
    """Noise of this size, else of the input size that timm states for a network, else of 224 px: (1, 3, H, W)."""
    config = getattr(module, "pretrained_cfg", None) or {}
    height, width = size or tuple(config.get("input_size", (3, 224, 224)))[-2:]
    first = next(module.parameters(), torch.zeros(1))
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise.to(first.device, first.dtype if first.is_floating_point() else torch.float32)
