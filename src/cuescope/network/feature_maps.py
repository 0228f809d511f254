"""The maps of a classifier's stages as a network of their own: what a detector stands on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cuescope.core.errors import RAISED, CueError
from cuescope.network import hooks
from cuescope.network.stages import stages

LEAST_STRIDE = 3.5
"""Maps finer than the usual 4 px are left out where there are coarser ones: they cost much and tell little."""
MOST_LEVELS = 4


class FeatureMaps(nn.Module):
    """A network that runs no farther than its `layers` and gives their maps (B, C, h, w), the finest first.

    Where `frozen_norms` its batch norms keep their statistics and weights. What lies behind the last layer is dropped.
    """

    def __init__(self, network: nn.Module, layers: Sequence[hooks.Layer], frozen_norms: bool) -> None:
        super().__init__()
        self.network, self.layers, self.frozen_norms = network, list(layers), frozen_norms
        norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms if frozen_norms else ():
            norm.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(hooks.capture(self.network, pixels, self.layers).values())

    def train(self, mode: bool = True) -> FeatureMaps:
        super().train(mode)
        if self.frozen_norms:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.training = False
        return self


class Levels:
    """Which layers give the levels of a feature pyramid: the last of each stride, for images of this (H, W).

    `fixed` says that the network takes images of this size alone. Raises CueError where there are none.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], name: str, own: tuple[int, int]) -> None:
        self.size, self.fixed = size, False
        layers = _levels(network, size)
        if not layers or any(layer.layout == "tokens" for layer in layers) or not _takes_any(network, size, layers):
            self.size, self.fixed = own, True
            layers = _levels(network, own)
        if not layers:
            do = "choose a convolutional network, or a vision transformer of timm"
            found = f"{name} gives no maps over the image at any of its layers"
            raise CueError(found, wanted="a backbone with feature maps", do=do)
        self.layers = layers

    @property
    def strides(self) -> list[float]:
        """Pixels of the image from one position of a level to the next."""
        return [self.size[0] / layer.size[0] for layer in self.layers]


def _levels(network: nn.Module, size: tuple[int, int]) -> list[hooks.Layer]:
    """The layers of the levels; none where the network takes no images of this size."""
    try:
        maps = hooks.survey(network, torch.zeros(2, 3, *size))
    except RAISED:  # a network's own code, which may take images of one size only
        return []
    # What is pooled to a fixed size has no stride.
    pooled = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    own = {name: layer for name, layer in maps.items() if not isinstance(network.get_submodule(name), pooled)}
    found = [own[name] for name in stages(network, own)]
    coarse = [layer for layer in found if size[0] / layer.size[0] >= LEAST_STRIDE]
    return sorted(coarse or found, key=lambda layer: -layer.size[0] * layer.size[1])[-MOST_LEVELS:]


def _takes_any(network: nn.Module, size: tuple[int, int], layers: Sequence[hooks.Layer]) -> bool:
    """Whether the network takes wider images too, and gives wider maps of them."""
    try:
        with torch.no_grad(), hooks.evaluating(network):
            wide = hooks.capture(network, torch.zeros(2, 3, size[0], size[1] + 64), layers)
    except RAISED:  # as above
        return False
    return all(maps.shape[3] > layer.size[1] for maps, layer in zip(wide.values(), layers, strict=True))


def without_head(network: nn.Module, layers: Sequence[hooks.Layer], size: tuple[int, int]) -> list[list[nn.Parameter]]:
    """Drop the modules that the layers do not need, in place; the parameters that are new in each of the levels."""
    found: list[list[nn.Parameter]] = []
    with torch.enable_grad(), hooks.evaluating(network):
        used: set[int] = set()
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        for maps in hooks.capture(network, torch.zeros(1, 3, *size), layers).values():
            some = [parameter for parameter in parameters if id(parameter) not in used]
            grads = torch.autograd.grad(maps.sum(), some, retain_graph=True, allow_unused=True)
            found.append([parameter for parameter, grad in zip(some, grads, strict=True) if grad is not None])
            used |= {id(parameter) for parameter in found[-1]}
    needed, gone = {layer.name for layer in layers}, set[str]()
    for name, module in list(hooks.named(network).items()):
        own = {id(parameter) for parameter in module.parameters()}
        inside = any(one == name or one.startswith(f"{name}.") for one in needed)
        if own and not own & used and not inside and not any(name.startswith(f"{one}.") for one in gone):
            network.set_submodule(name, nn.Identity())
            gone.add(name)
    return found
