"""Any convolutional classifier into its BlurPool version (Zhang 2019): the same parameters, no bare subsampling."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models import blurpool
from cuescope.models.blurpool import FILTERS, AvgBlurPool2d, BlurPool2d, MaxBlurPool2d, SamePad2d, is_same, surround
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import difference, tensor_of
from cuescope.network.flow import Call, Flow, record
from cuescope.network.hooks import pair

TOLERANCE = 1e-4
"""Of the largest logit: how far a network may change when its blurs are of size 1, which is to say not at all."""

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


def antialias(
    module: nn.Module, filter_size: int = 4, *, stem: bool = False, example: Tensor | None = None
) -> nn.Module:
    """What would this network be if it blurred before it subsampled? A copy with BlurPools, its weights as they are.

    A max pool gets stride 1 and a BlurPool after it; a convolution with a stride gets stride 1 and a BlurPool after
    the activation that follows it; an average pool becomes a BlurPool; a shortcut's 1x1 convolution with a stride gets
    a BlurPool before it. The first convolution keeps a stride of 2 unless `stem`; a stride of 4 becomes one of 2 and a
    BlurPool. The max pool of a ResNet gets a kernel of 2. So the authors do it (Zhang 2019, section 3.2, and code).

    A state dict of either fits the other. `filter_size` is 1 to 7; with 1 the network is the original. What reads what
    is found by running `example`, (1, 3, H, W), by default noise of the input size that timm states or 224 px, where
    the outcome is checked, too. Raises CueError for a filter size that does not exist, a network without anything to
    antialias, one that states which patches its positions see (a BagNet: a blur would enlarge them), and one that does
    not give the same logits with filters of size 1.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> [name for name, part in antialias(net).named_modules() if isinstance(part, BlurPool2d)]
    ['2.blur']
    """
    if filter_size not in FILTERS:
        wanted = f"a size from {FILTERS[0]} to {FILTERS[-1]}"
        raise CueError(f"a blur filter of size {filter_size}", wanted=wanted, do="choose 4, as the authors do")
    patch_px = getattr(module, "receptive_field_px", None)
    if isinstance(patch_px, int):
        stated = f"{type(module).__name__} states that its positions see {patch_px} px, and a blur would enlarge that"
        raise CueError(stated, wanted="a network that promises no patches", do="choose another network")
    example = example_of(module) if example is None else example
    found = places(module, stem=stem, example=example)
    plain = _built(module, found, 1)
    with torch.no_grad(), hooks.evaluating(plain), hooks.evaluating(module):
        gap = difference(tensor_of(plain(example)), tensor_of(module(example)))
    if gap > TOLERANCE:
        other = f"{type(module).__name__} with blurs of size 1 gives other logits, by {gap:.0e} of the largest"
        wanted = "a network whose layers with a stride do nothing but convolve, pool and subsample"
        raise CueError(other, wanted=wanted, do="antialias it by hand, with cuescope.models.blurpool")
    if filter_size == 1:
        return plain
    del plain  # its weights need not lie in memory a third time
    return _built(module, found, filter_size)


def _built(module: nn.Module, found: Sequence[Place], filter_size: int) -> nn.Module:
    """A copy of the network with blurs of this size."""
    network = copy.deepcopy(module)
    for place in found:
        if not place.at:
            continue
        part: Any = network.get_submodule(place.name)
        if place.kind == "max pool":
            # The authors' ResNets pool 2x2 here; with no blur at all it is the original network that is wanted.
            kernel = 2 if type(module).__name__ == "ResNet" and filter_size > 1 else None
            network.set_submodule(place.name, MaxBlurPool2d(part, filter_size, kernel))
        elif place.kind == "average pool":
            if filter_size > 1:
                network.set_submodule(place.name, AvgBlurPool2d(part, filter_size))
        else:
            _slow(network, place.name, part, place.keeps)
            for name in place.at:
                blur = BlurPool2d(filter_size, place.stride)
                before, after = (None, blur) if place.after else (blur, None)
                surround(network.get_submodule(name), before, after)
    return network


def _slow(network: nn.Module, name: str, conv: nn.Conv2d, keeps: int) -> None:
    """Take a convolution's stride away, all but `keeps`."""
    if is_same(conv):
        # timm pads these by their stride: pad as before, and convolve as torch does.
        extent = tuple((k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
        steps = pair(conv.stride)
        conv.__class__ = nn.Conv2d
        conv.padding = (0, 0)
        surround(conv, before=SamePad2d((extent[0], extent[1]), steps))
    conv.stride = (keeps, keeps)


@dataclass(frozen=True)
class Place:
    """One subsampling layer of a network, and where the blur goes that takes over its stride."""

    name: str
    kind: Kind
    stride: int = 2
    """What the blur subsamples by."""
    keeps: int = 1
    """The stride that the layer itself keeps."""
    at: tuple[str, ...] = ()
    """The modules after which the blur runs, or else before; empty where nothing is done: `why` says why."""
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
    if _kind(part) is None or isinstance(part, blurpool.Surrounded) or call.gives is None or call.first == call.last:
        return 1
    whole = _kind(part) == "average pool" and flow.ops[call.last - 1].sizes[1][-2:] == (1, 1)
    return 1 if whole else max(pair(part.stride))


def _place(flow: Flow, call: Call, parts: dict[str, nn.Module], *, first: bool) -> Place:
    """What is to be done about one module that subsamples."""
    part: Any = parts[call.name]
    kind, steps = _kind(part), pair(part.stride)
    assert kind is not None
    if why := _why_not(flow, call, part, kind, steps):
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
    if first and stride < 4:
        return Place(call.name, "convolution", stride, why="the first convolution keeps its stride")
    if first:
        stride, keeps = 2, stride // 2
    if (activated := _activated(flow, call.gives, parts)) is not None:
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
            part = parts[call.name]
            is_activation = "activation" in type(part).__module__ and not list(part.parameters())
            if readers and inside and is_activation:
                return call.gives
        if len(readers) != 1:
            return None
        op = flow.ops[readers[0]]
        if op.name in ACTIVATIONS:
            return op.gives[0]
        if op.name not in NORMS | PASSING:
            return None
        value = op.gives[0]


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
