"""A convolutional network whose maps have no border: what leaves on one side is seen on the other.

Then a cyclic shift of the image by the network's whole stride shifts every map, and nothing is lost or padded. It is a
measuring aid and what adaptive polyphase sampling needs; a network that learned with zeros at its border is less right.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.blurpool import BlurPool2d, MaxBlurPool2d, SamePad2d, Surrounded, is_same, same_padding, surround
from cuescope.network.hooks import pair

Sides = tuple[int, int]
"""Of rows and of columns."""


class CircularPad2d(nn.Module):
    """A map (B, C, H, W) continued by itself beyond its border: `before` cells above and to the left, `after` others.

    >>> CircularPad2d((0, 1), (0, 0))(torch.tensor([[[[1.0, 2.0, 3.0]]]])).tolist()
    [[[[3.0, 1.0, 2.0, 3.0]]]]
    """

    traced_whole: ClassVar[bool] = True
    """torch.fx cannot go through code that asks for the size of a map."""

    def __init__(self, before: Sides, after: Sides) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        (top, left), (bottom, right) = self.before, self.after
        height, width = x.shape[2:]
        if max(top, bottom) <= height and max(left, right) <= width:
            return F.pad(x, (left, right, top, bottom), "circular")
        # torch's padding goes around a map only once.
        rows, columns = (
            torch.arange(-a, n + b, device=x.device) % n for a, n, b in ((top, height, bottom), (left, width, right))
        )
        return x[:, :, rows][:, :, :, columns]

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


def circular(module: nn.Module, slowed: Collection[str] = ()) -> nn.Module:
    """A copy of a network whose convolutions, pools and blurs are padded by the map itself, its weights as they are.

    A layer of stride s gives a map of H / s x W / s positions, where H and W are divisible by s; its positions lie
    where they lay. Those whose names are in `slowed` get stride 1, so that every s-th position is the old one. Layers
    that average a whole map stay. Raises CueError for a layer whose padding is its own code.

    >>> net, x = circular(nn.Conv2d(3, 4, 3, padding=1)), torch.rand(1, 3, 8, 8)
    >>> bool(torch.allclose(net(x.roll(2, 3)), net(x).roll(2, 3), atol=1e-6))
    True
    """
    network = copy.deepcopy(module)
    for name, part in list(network.named_modules()):
        if isinstance(part, BlurPool2d):
            part.border = "circular"
        elif isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | MaxBlurPool2d):
            _wrap(part, slowed=name in slowed)
    return network


def _wrap(part: Any, *, slowed: bool) -> None:
    """Let a convolution or a pool, in place, read beyond the border what is on the other side of the map."""
    if any(isinstance(inner, CircularPad2d) for inner in part.modules()):
        return  # it does so already
    extent = _extent(part)
    before = _before(part, pair(part.stride), extent)
    if slowed:
        part.stride = (1, 1)
    steps = (1, 1) if isinstance(part, MaxBlurPool2d) else pair(part.stride)
    after: Sides = (max(0, extent[0] - steps[0] - before[0]), max(0, extent[1] - steps[1] - before[1]))
    if is_same(part):
        _retype(part)
    part.padding = (0, 0)
    if isinstance(part, nn.Conv2d):
        part.padding_mode = "zeros"
    else:
        part.ceil_mode = False
    if isinstance(part, MaxBlurPool2d):
        part.same = False
    if any(before + after):
        outer = part._modules.pop("blur_before", None) if isinstance(part, Surrounded) else None
        surround(part, before=CircularPad2d(before, after))
        if outer is not None:  # a blur that runs before it, and before its padding
            surround(part, before=outer)


def _extent(part: Any) -> Sides:
    """How many cells of a map a window of a layer spans, along rows and columns."""
    sizes, dilations = pair(part.kernel_size), pair(getattr(part, "dilation", 1))
    return (sizes[0] - 1) * dilations[0] + 1, (sizes[1] - 1) * dilations[1] + 1


def _before(part: Any, steps: Sides, extent: Sides) -> Sides:
    """How far the first window reaches beyond the border; what another layer pads for this one is taken back."""
    padded = part._modules.get("blur_before") if isinstance(part, Surrounded) else None
    if isinstance(padded, SamePad2d):
        # Of a convolution that lost its stride: its windows lie as those of the stride did.
        part._modules.pop("blur_before")
        steps, extent = padded.stride, padded.extent
        return tuple(same_padding(s, e, s)[0] for s, e in zip(steps, extent, strict=True))  # type: ignore[return-value]
    if is_same(part) or getattr(part, "same", False) or part.padding == "same":
        return tuple(max(0, e - s) // 2 for s, e in zip(steps, extent, strict=True))  # type: ignore[return-value]
    return (0, 0) if part.padding == "valid" else pair(part.padding)


def _retype(part: Any) -> None:
    """Make one of timm's layers that pad by their stride the layer of torch it stands for. Raises CueError for others.

    Its settings and parameters are the same.
    """
    kinds = {"Conv2dSame": nn.Conv2d, "MaxPool2dSame": nn.MaxPool2d, "AvgPool2dSame": nn.AvgPool2d}
    if (found := kinds.get(type(part).__name__)) is None:
        wanted = "layers of torch, whose padding is known"
        raise CueError(f"{type(part).__name__} pads by its own code", wanted=wanted, do="choose another network")
    part.__class__ = found
