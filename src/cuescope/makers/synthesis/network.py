"""A texture's statistics in the layers of a trained network: Gatys, Ecker and Bethge 2015."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.makers.synthesis.gram import Features, Target, gram
from cuescope.makers.synthesis.layers import LayerMaps, network_of, vgg_blocks

POOLS = 4
"""Of VGG's five: the paper stops at the fourth."""


class NetworkFeatures(Features):
    """Which features of these layers occur together in an image?

    The distance is the paper's: over the layers, the sum of 1/4 ||G - G*||^2 / N^2, where G = F F^T / M for N
    features over M places, each layer with the same weight. The paper's VGG-19 was rescaled so that every feature
    is 1 on average; for any other weights each layer is divided by its mean over the source, to the same effect.
    `average_pooling` puts means in the place of maxima in all pooling, as the paper does. `layers` are the
    paper's for a VGG of torchvision (conv1_1 rectified, pool1 to pool4) where none are given. Raises CueError for a
    black box, and for layers that the network does not have, with the nearest names.

    >>> from cuescope.classifier.sources import load
    >>> features = NetworkFeatures(load("torchvision/squeezenet1_1@random", device="cpu"), ["features.1"])
    >>> features.target(torch.rand(1, 3, 64, 64))(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1])
    """

    threads = False
    """Layers are read through hooks, of which a network has one set: one thread at a time."""

    def __init__(self, classifier: Classifier, layers: Sequence[str] = (), *, average_pooling: bool = True) -> None:
        network = network_of(classifier)
        self.classifier, self.average_pooling = classifier, average_pooling
        self.layers = tuple(layers) or paper_layers(network, classifier.name)
        self.maps = LayerMaps(classifier, self.layers, averaged(network) if average_pooling else network)

    @property
    def about(self) -> Mapping[str, Any]:
        network = {"features": self.classifier.name, "digest": self.classifier.digest}
        return {**network, "layers": list(self.layers), "average pooling": self.average_pooling}

    def start(self, noise: Tensor, source: Tensor) -> Tensor:
        """White noise of mean 0 and variance 1 as the network takes it, as pixels."""
        how = self.classifier.preprocessing
        mean, std = (torch.tensor(v, device=noise.device).view(1, 3, 1, 1) for v in (how.mean, how.std))
        return mean + std * noise

    def target(self, source: Tensor) -> Target:
        """See `Features`. Raises CueError where the network cannot take images of this size."""
        with torch.no_grad():
            wanted = self._flat(source)
            means = [maps.mean((1, 2)).clamp(min=1e-12) for maps in wanted]
            grams = [gram(maps) for maps in wanted]
        scales = [1 / (4 * g.shape[1] ** 2 * m**4) for g, m in zip(grams, means, strict=True)]

        def distance(pixels: Tensor) -> Tensor:
            found = [gram(maps) for maps in self._flat(pixels)]
            parts = [s * (g - w).square().sum((1, 2)) for g, w, s in zip(found, grams, scales, strict=True)]
            return torch.stack(parts).sum(0)

        return distance

    def _flat(self, pixels: Tensor) -> list[Tensor]:
        maps = self.maps(pixels)
        return [maps[name].flatten(2) for name in self.layers]


def paper_layers(network: nn.Module, name: str) -> tuple[str, ...]:
    """The layers that the paper takes of a VGG. Raises CueError for any other network."""
    blocks = vgg_blocks(network, name, "give --layers NAME,NAME,...")
    # Caffe's ReLUs work in place: what the paper calls conv1_1 is rectified.
    return (blocks[0][0][0], *(pool for _, pool in blocks[:POOLS]))


def averaged(network: nn.Module) -> nn.Module:
    """A copy of the network that takes means where it took maxima."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode))
    return network
