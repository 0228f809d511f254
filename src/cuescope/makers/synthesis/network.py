"""A texture's statistics in the layers of a trained network: Gatys, Ecker and Bethge 2015."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.makers.synthesis.gram import Target, gram
from cuescope.network import hooks

POOLS = 4
"""Of VGG's five: the paper stops at the fourth."""


class NetworkFeatures:
    """Which features of these layers occur together in an image?

    The distance is the paper's: over the layers, the sum of 1/4 ||G - G*||^2 / N^2, where G = F F^T / M for N
    features over M places, each layer with the same weight. The paper's VGG-19 was rescaled so that every feature
    is 1 on average; for any other weights each layer is divided by its mean over the source, to the same effect.
    `average_pooling` puts means in the place of maxima in all pooling, as the paper does. `layers` are the
    paper's for a VGG of torchvision (conv1_1 rectified, pool1 to pool4) where none are given.

    Raises CueError for a black box, and for layers that the network has not, with the nearest names.

    >>> from cuescope.classifier.sources import load
    >>> features = NetworkFeatures(load("torchvision/squeezenet1_1@random", device="cpu"), ["features.1"])
    >>> features.target(torch.rand(1, 3, 64, 64))(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1])
    """

    threads = False
    """Layers are read through hooks, of which a network has one set: one thread at a time."""

    def __init__(self, classifier: Classifier, layers: Sequence[str] = (), *, average_pooling: bool = True) -> None:
        if classifier.network is None:
            do = "give the network itself, as an nn.Module or file.py:factory"
            raise CueError(f"{classifier.name} is a black box without layers", wanted="a torch network", do=do)
        self.classifier, self.average_pooling = classifier, average_pooling
        self.layers = tuple(layers) or paper_layers(classifier.network, classifier.name)
        for name in self.layers:
            if name not in classifier.layers:
                raise unknown("layer", name, classifier.layers)
        self.network = averaged(classifier.network) if average_pooling else classifier.network

    @property
    def about(self) -> Mapping[str, Any]:
        """What decides about the statistics, for a manifest."""
        return {
            "features": self.classifier.name,
            "digest": self.classifier.digest,
            "layers": list(self.layers),
            "average pooling": self.average_pooling,
        }

    def start(self, noise: Tensor, source: Tensor) -> Tensor:
        """White noise of mean 0 and variance 1 as the network takes it, as pixels."""
        how = self.classifier.preprocessing
        mean, std = (torch.tensor(v, device=noise.device).view(1, 3, 1, 1) for v in (how.mean, how.std))
        return mean + std * noise

    def target(self, source: Tensor) -> Target:
        """The distance of images (B, 3, H, W) from the texture of `source`, one for one.

        Raises CueError where the network cannot take images of this size.
        """
        known = self._survey(source)
        with torch.no_grad():
            wanted = [maps.flatten(2) for maps in self._maps(source, known)]
            means = [maps.mean((1, 2)).clamp(min=1e-12) for maps in wanted]
            grams = [gram(maps) for maps in wanted]
        scales = [1 / (4 * g.shape[1] ** 2 * m**4) for g, m in zip(grams, means, strict=True)]

        def distance(pixels: Tensor) -> Tensor:
            found = [gram(maps.flatten(2)) for maps in self._maps(pixels, known)]
            parts = [s * (g - w).square().sum((1, 2)) for g, w, s in zip(found, grams, scales, strict=True)]
            return torch.stack(parts).sum(0)

        return distance

    def _maps(self, pixels: Tensor, layers: Sequence[hooks.Layer]) -> list[Tensor]:
        with hooks.evaluating(self.network):
            found = hooks.capture(self.network, self.classifier.normalize(pixels), layers)
        return [found[layer.name].float() for layer in layers]

    def _survey(self, source: Tensor) -> list[hooks.Layer]:
        pair = source[:1].expand(2, -1, -1, -1)
        try:
            with torch.no_grad(), hooks.evaluating(self.network):
                known = hooks.survey(self.network, self.classifier.normalize(pair))
        except RuntimeError as error:
            found = (
                f"{self.classifier.name} cannot be run on images of {source.shape[2]} x {source.shape[3]} px: {error}"
            )
            raise CueError(found, wanted="a size that the network takes", do="give another size_px") from None
        if missing := [name for name in self.layers if name not in known]:
            found = f"layer '{missing[0]}' has no map over an image of {source.shape[2]} x {source.shape[3]} px"
            raise CueError(found, wanted="layers that still see places", do="give larger images or earlier layers")
        return [known[name] for name in self.layers]


def paper_layers(network: nn.Module, name: str) -> tuple[str, ...]:
    """The layers that the paper takes of a VGG. Raises CueError for any other network.

    >>> import torchvision
    >>> with torch.device("meta"):
    ...     network = torchvision.models.vgg19(init_weights=False)
    >>> paper_layers(network, "vgg19")
    ('features.1', 'features.4', 'features.9', 'features.18', 'features.27')
    """
    trunk = getattr(network, "features", None)
    if type(network).__name__ == "VGG" and isinstance(trunk, nn.Sequential):
        # Caffe's ReLUs work in place: what the paper calls conv1_1 is rectified.
        first = next(i for i, part in enumerate(trunk) if isinstance(part, nn.ReLU))
        pools = [i for i, part in enumerate(trunk) if isinstance(part, nn.MaxPool2d)][:POOLS]
        return tuple(f"features.{i}" for i in (first, *pools))
    raise CueError(
        f"{name} is no VGG, for which the layers are known",
        wanted="the names of the layers to measure",
        do="give --layers NAME,NAME,...",
    )


def averaged(network: nn.Module) -> nn.Module:
    """A copy of the network that takes means where it took maxima."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode))
    return network
