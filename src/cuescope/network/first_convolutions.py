"""Which parts of any network play the parts of the papers' layers: the first convolution, the next one on a coarser
map, and the last layer with weights. Found by running, so that it holds whatever the network's code looks like.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from cuescope.network import hooks
from cuescope.network.executor import Executor
from cuescope.network.hooks import HookPoint
from cuescope.network.receptive import fields

_SCALES = (_NormBase, nn.GroupNorm, nn.LayerNorm)
"""What only shifts and scales, so that a nonlinearity may still be to come."""
_NEXT = (nn.modules.conv._ConvNd, nn.Linear, nn.LocalResponseNorm)
_NEXT += (_MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd)
"""Where the first layer ends at the latest."""


@dataclass(frozen=True)
class First:
    """The first convolution that is run, and its map as the next layer reads it."""

    name: str
    active: HookPoint
    """Where that map passes by: after the nonlinearity, be it a module or not."""
    nonlinear: bool
    """False where none follows before the next layer (patches of a transformer, say)."""


@dataclass(frozen=True)
class Second:
    """The first convolution whose map is coarser than that of the first one."""

    name: str
    steps: tuple[int, int]
    """Positions of the first map between two of its own, along rows and columns, with all pooling on the way."""
    shift_px: tuple[int, int]
    """Pixels of the image between two positions of the first map."""


def first_convolution(network: nn.Module, images: Tensor) -> First | None:
    """Which convolution meets the image? None where no nn.Conv2d is run. `images` are normalized, (B, 3, H, W).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    >>> first_convolution(net.eval(), torch.rand(1, 3, 8, 8))
    First(name='0', active=HookPoint(name='2', before=False), nonlinear=True)
    """
    walk = _Walk(hooks.named(network))
    hooks.watched_pass(network, images, walk.seen, walk.entered)
    return walk.first


class _Walk:
    """Follows the map of the first convolution until something other than a plain normalization changes it."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.first: First | None = None
        self.last: Tensor | None = None
        """A copy of the map as it was last seen; None before the convolution and once the walk is over."""

    def entered(self, name: str, inputs: tuple[Any, ...]) -> None:
        goes_on = self._goes_on(inputs[0] if inputs else None, HookPoint(name, before=True))
        if goes_on and isinstance(self.modules[name], _NEXT):
            self.last = None

    def seen(self, name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        if self.first is None:
            if isinstance(self.modules[name], nn.Conv2d):
                self.first, self.last = First(name, HookPoint(name), nonlinear=False), output.clone()
        elif self.last is not None and isinstance(part := self.modules[name], _SCALES) and not list(part.children()):
            self.last = output.clone() if output.shape == self.last.shape else None
        else:
            self._goes_on(output, HookPoint(name))

    def _goes_on(self, tensor: Any, point: HookPoint) -> bool:
        """Whether the map passes this point as it was; the walk is over where it does not."""
        if self.last is None or self.first is None:
            return False
        if not isinstance(tensor, Tensor) or tensor.shape != self.last.shape:
            self.last = None
            return False
        if torch.equal(tensor, self.last):
            return True
        self.first, self.last = First(self.first.name, point, nonlinear=True), None
        return False


def second_convolution(network: nn.Module, images: Tensor, first: First) -> Second | None:
    """Which convolution works on the first coarser map? None where there is none.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 2)).eval()
    >>> images = torch.rand(1, 3, 40, 40)
    >>> second_convolution(net, images, first_convolution(net, images))
    Second(name='3', steps=(4, 4), shift_px=(2, 2))
    """
    shapes: dict[str, torch.Size] = {}

    def note(name: str, _inputs: tuple[Any, ...], output: Tensor) -> None:
        shapes.setdefault(name, output.shape)

    hooks.watched_pass(network, images, note, kinds=nn.Conv2d)
    known = fields(network, images)

    def strides(name: str) -> tuple[int, int]:
        field = known.get(name)
        if field is not None and field.rows is not None and field.columns is not None:
            return field.rows.stride_px, field.columns.stride_px
        return tuple(max(1, round(images.shape[a] / shapes[name][a])) for a in (2, 3))  # type: ignore[return-value]

    rows, columns = strides(first.name)
    for name, shape in list(shapes.items())[1:]:
        down, across = strides(name)
        if len(shape) == 4 and shape[2] * shape[3] > 1 and (down > rows or across > columns):
            return Second(name, (max(1, down // rows), max(1, across // columns)), (rows, columns))
    return None


def last_weights(network: nn.Module, images: Tensor) -> str | None:
    """Which linear layer or convolution is run last? None where none is run.

    >>> last_weights(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU()), torch.rand(1, 3, 2, 2))
    '1'
    """
    called: list[str] = []

    def note(name: str, _inputs: tuple[Any, ...], _output: Any) -> None:
        called.append(name)

    hooks.watched_pass(network, images, note, kinds=nn.Linear | nn.Conv2d)
    return called[-1] if called else None


def unstrided(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution at every position: the same weights, a stride of 1."""
    # A shallow copy keeps class and settings: timm pads in one subclass and standardizes weights in another.
    every = copy.copy(convolution)
    every.stride = (1, 1)
    return every


def filters(convolution: nn.Conv2d) -> Tensor:
    """The filters as they act, (N, C, h, w) float32 on the CPU: the response to single lit pixels.

    The same as its `weight`, but for subclasses that do something to it first.

    >>> plain = nn.Conv2d(3, 4, 5, stride=2, padding=1)
    >>> bool((filters(plain) - plain.weight).abs().max() < 1e-6)
    True
    """
    every, weight = unstrided(convolution), convolution.weight
    reach = [(k - 1) * d + 1 for k, d in zip(convolution.kernel_size, convolution.dilation, strict=True)]
    dark = torch.zeros(convolution.in_channels, convolution.in_channels, *(2 * r + 1 for r in reach))
    lit = dark.clone()
    for channel in range(len(lit)):
        lit[channel, channel, reach[0], reach[1]] = 1
    with torch.no_grad():
        response = every(lit.to(weight)) - every(dark.to(weight))
    response = response.float().cpu()
    index: list[Tensor] = []
    for axis, r in enumerate(reach):
        padding = (response.shape[2 + axis] - (2 * r + 1) + r - 1) // 2
        index.append(r + padding - convolution.dilation[axis] * torch.arange(convolution.kernel_size[axis]))
    return response[:, :, index[0]][..., index[1]].transpose(0, 1).contiguous()


def response_everywhere(executor: Executor, images: Tensor, second: Second) -> Tensor:
    """What the second convolution gives of one normalized image (1, 3, H, W) if no position of the first map is left
    out: (C, h, w) float32, h and w `steps` times those of its map.

    The image is shifted by one position of the first map after another and the responses are interleaved, which holds
    for whatever commutes with such a shift, but not to the last digit near a padded border.
    """
    (down, across), (rows, columns) = second.steps, second.shift_px
    height, width = images.shape[2:]
    wider = F.pad(images, (0, columns * (across - 1), 0, rows * (down - 1)), mode="replicate")
    shifts = [(i * rows, j * columns) for i in range(down) for j in range(across)]
    views = torch.cat([wider[..., y : y + height, x : x + width] for y, x in shifts])
    if images.is_contiguous(memory_format=torch.channels_last):
        views = views.contiguous(memory_format=torch.channels_last)
    network, point = executor.network, HookPoint(second.name)
    assert network is not None

    def run(start: int, stop: int) -> tuple[Tensor, ...]:
        with hooks.captured(network, [point], enough=True) as found:
            network(views[start:stop])
        return (found[point].float(),)

    with torch.no_grad(), hooks.evaluating(network):
        maps = executor.parts(len(views), run)[0].unflatten(0, (down, across))
    return maps.permute(2, 3, 0, 4, 1).flatten(3, 4).flatten(1, 2)
