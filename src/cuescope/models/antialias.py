"""Any convolutional classifier into its BlurPool version (Zhang 2019): the same parameters, no bare subsampling."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.blurpool import FILTERS, AvgBlurPool2d, BlurPool2d, MaxBlurPool2d, SamePad2d, is_same, surround
from cuescope.models.places import Place, example_of, places
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import difference, tensor_of
from cuescope.network.hooks import pair

TOLERANCE = 1e-4
"""Of the largest logit: how far a network may change when its blurs are of size 1, which is to say not at all."""


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
