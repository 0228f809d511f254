"""Class logits at every position: any network whose head averages the last map, or the tokens of patches, gives them.

In later runs each position of what is averaged last goes on alone, as if there were no other (the principle of class
activation maps, Zhou et al. 2016, section 2). The network's code is not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.errors import RAISED
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import tensor_of
from cuescope.network.place import Place
from cuescope.network.pooling import Finder, Pooling, folded
from cuescope.network.receptive import Extent, Field, Tracker, field_of
from cuescope.network.receptive.spans import Map

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Of the largest logit at any position: the most by which the mean over positions may miss the logits of the mean."""
LOCAL = 0.5
"""The most of the image's side that a position may see for its logits to be called those of a local patch."""


class NoDenseError(Exception):
    """A network without dense class logits; the message is the reason."""


@dataclass(frozen=True)
class Dense:
    """What are the class logits at each position, and what of the image does a position see?

    `additive`: the mean over the positions are the logits. Otherwise the head is not linear, and the map is what it
    gives for each position alone. `local`: additive, and each position sees a square patch of at most half of the
    image's side, without padding (or the module says so itself, with `patch_logits`, `receptive_field_px` and
    `stride_px`). `size` is (h, w) of the map of an image of the usual size, which is `image`.
    """

    field: Field
    additive: bool
    local: bool
    size: tuple[int, int]
    image: tuple[int, int]
    run: Callable[[Any, Tensor], Tensor] = dataclasses.field(compare=False, repr=False)
    """Of the network and normalized images (B, 3, H, W): (B, K, h, w)."""

    @property
    def field_px(self) -> int | None:
        """The longer side of what a position sees; None for the whole image."""
        return self.field.size_px

    def place(self, shape: Sequence[int], size: Sequence[int]) -> Place:
        """Where a map (h, w) lies on an image (height, width) in px: a cell a stride wide around each field's middle.

        >>> net = nn.Sequential(nn.Conv2d(3, 5, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> find(net, torch.rand(2, 3, 10, 10)).place((4, 4), (10, 10)).extent
        (0.1, 0.1, 0.9, 0.9)
        """
        if self.field.rows is None or self.field.columns is None:
            return Place()
        return Place.of_fields(self.field.rows, self.field.columns, shape, size)

    @property
    def description(self) -> str:
        """What a reader of the map should know, in a sentence."""
        (height, width), seen = self.image, "the whole image"
        if not self.field.everywhere and self.field.rows and self.field.columns:
            rows, columns = self.field.rows.size_px, self.field.columns.size_px
            more = "more than the image" if rows >= height and columns >= width else f"of {height} x {width} px"
            seen = f"{rows} x {columns} px ({more})"
        if self.local:
            return f"patch logits: each position sees {seen} and nothing else"
        adds = "" if self.additive else "; its mean is not the logits either, since the head is not linear"
        return f"class activation: each position sees {seen}, so this is no evidence of local patches{adds}"


def find(network: nn.Module, images: Tensor) -> Dense:
    """What dense logits does a network have? Tried on two normalized images (2, 3, H, W), which leaves no trace.

    Raises NoDenseError, with the reason, where it has none: its head averages no map (VGG, AlexNet) or reads the class
    token (ViT), what it averages cannot be laid on the image, or what follows needs the whole map.

    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    >>> found = find(net, torch.rand(2, 3, 8, 8))
    >>> found.run(net, torch.rand(4, 3, 8, 8)).shape, found.field_px, found.additive, found.local
    (torch.Size([4, 7, 6, 6]), 3, True, True)
    """
    # Not in inference mode, and not with tensors from there: see Tracker.
    with torch.inference_mode(False), torch.no_grad(), hooks.evaluating(network):
        images = images.clone()
        return _declared(network, images) or _averaged(network, images)


def _declared(network: Any, images: Tensor) -> Dense | None:
    """What a module says of its own patches, as the BagNets do."""
    side, stride = (getattr(network, name, None) for name in ("receptive_field_px", "stride_px"))
    if not callable(getattr(network, "patch_logits", None)) or type(side) is not int or type(stride) is not int:
        return None
    try:
        maps, logits = network.patch_logits(images), tensor_of(network(images))
    except RAISED as error:  # a module's own code
        raise NoDenseError(f"its patch_logits cannot be run ({_short(error)})") from error
    if maps.ndim != 4 or maps.shape[:2] != logits.shape:
        return None
    extent = Extent(0, stride, side)
    additive = _agree(maps.float().mean((2, 3)), logits, maps)
    field, size, image = Field(extent, extent), _sides(maps), _sides(images)
    return Dense(field, additive, True, size, image, lambda network, images: network.patch_logits(images))


def _averaged(network: nn.Module, images: Tensor) -> Dense:
    pooling, seen, logits, token = _last_pooling(network, images[:1])
    try:
        maps, linear = _tried(network, images, pooling)
    except NoDenseError:
        if token:
            raise NoDenseError("its head reads the class token beside the average of patches") from None
        raise
    additive = linear and _agree(maps[:1].float().mean((2, 3)), logits, maps)
    image = _sides(images)
    patches = not seen.padded and seen.rows == seen.columns and (seen.size_px or max(image)) <= LOCAL * min(image)
    return Dense(seen, additive, additive and patches, _sides(maps), image, pooling.dense)


def _last_pooling(network: nn.Module, image: Tensor) -> tuple[Pooling, Field, Tensor, bool]:
    """The last averaging of a whole map, what its positions see, the logits, and whether one token is taken too."""
    tracker = Tracker(network)
    finder = Finder(tracker)
    try:
        with finder:
            logits = tensor_of(tracker.run(network, image))
    except RAISED as error:  # a module's own code runs while watched: it can fail in any way
        raise NoDenseError(f"it cannot be run while its operations are watched ({_short(error)})") from error
    if finder.single and finder.single[-1] == len(finder.found):
        raise NoDenseError("its head reads the class token, not an average of patches")
    if not finder.found:
        raise NoDenseError("its head does not read the average of a whole feature map, as that of a ResNet does")
    pooling, state = finder.found[-1]
    if pooling.positions == 1:
        raise NoDenseError(f"its last map has a single position in images of {image.shape[2]} x {image.shape[3]} px")
    if not isinstance(state, Map) or set(pooling.axes) != set(state.axes):
        raise NoDenseError("the positions that its head averages cannot be laid on the image")
    if state.before:
        raise NoDenseError("its head averages class tokens with the patches")
    axes = state.axes[:1] if state.grid else state.axes
    return replace(pooling, axes=axes, grid=state.grid), field_of(state), logits, bool(finder.single)


def _tried(network: nn.Module, images: Tensor, pooling: Pooling) -> tuple[Tensor, bool]:
    """The dense logits of the images, and whether the head is linear, tried on noise that is far from even."""
    generator = torch.Generator().manual_seed(0)

    def instead(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=generator).to(x) * 10 * (x.abs().max() + 1)
        mean = noise.mean(pooling.axes, keepdim=pooling.keepdim)
        return torch.cat([pooling.singled(x), pooling.singled(noise), mean])

    try:
        output, (count, h, w) = pooling.replaced(network, images, instead)
    except RAISED as error:  # a head's own code meets shapes that it was not written for
        raise NoDenseError(f"what follows its last averaging needs the whole map ({_short(error)})") from error
    single = count * h * w
    if output.ndim != 2 or len(output) != 2 * single + count:
        raise NoDenseError("what follows its last averaging needs the whole map")
    real, noisy, mean = output.split([single, single, count])
    noisy = folded(noisy, (count, h, w))
    return folded(real, (count, h, w)), _agree(noisy.float().mean((2, 3)), mean, noisy)


def _agree(found: Tensor, wanted: Tensor, maps: Tensor) -> bool:
    largest = maps.float().abs().max().clamp_min(1e-12)
    gap = (found.float() - wanted.float()).abs().max() / largest
    return bool(gap <= TOLERANCE.get(maps.dtype, 1e-4))


def _sides(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]


def _short(error: BaseException) -> str:
    line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:120]}"
