"""The maps of layers that statistics are measured in, over images of any size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.network import hooks


class LayerMaps:
    """What do these layers of a classifier show of images (B, 3, H, W) in [0, 1]? Maps (B, C, h, w) float32 by name.

    Gradients flow through. `network` takes the place of the classifier's own. Raises CueError for a black box, for
    unknown layers, and, when called, for images of a size that the network cannot take or that leaves a layer no map.

    >>> from cuescope.classifier.sources import load
    >>> maps = LayerMaps(load("torchvision/squeezenet1_1@random", device="cpu"), ["features.1"])
    >>> maps(torch.rand(1, 3, 64, 64))["features.1"].shape
    torch.Size([1, 64, 31, 31])
    """

    def __init__(self, classifier: Classifier, names: Sequence[str], network: nn.Module | None = None) -> None:
        for name in names:
            if name not in classifier.layers:
                raise unknown("layer", name, classifier.layers)
        self.classifier, self.network = classifier, network or network_of(classifier)
        self.names = tuple(dict.fromkeys(names))
        self._layers: dict[torch.Size, list[hooks.Layer]] = {}

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        normalized = self.classifier.normalize(pixels)
        with hooks.evaluating(self.network):
            maps = hooks.capture(self.network, normalized, self._surveyed(normalized))
        return {name: found.float() for name, found in maps.items()}

    def _surveyed(self, normalized: Tensor) -> list[hooks.Layer]:
        """The layers, surveyed once for each size of image."""
        size = normalized.shape[2:]
        if size not in self._layers:
            image = f"{size[1]} x {size[0]} px"
            try:
                with torch.no_grad():
                    known = hooks.survey(self.network, normalized[:1].detach().expand(2, -1, -1, -1))
            except RuntimeError as error:
                found = f"{self.classifier.name} cannot be run on images of {image}: {error}"
                raise CueError(found, wanted="a size that the network takes", do="give another size_px") from None
            if missing := [name for name in self.names if name not in known]:
                found = f"layer '{missing[0]}' has no map over an image of {image}"
                raise CueError(found, wanted="layers that still see places", do="give larger images or earlier layers")
            self._layers[size] = [known[name] for name in self.names]
        return self._layers[size]


def network_of(classifier: Classifier) -> nn.Module:
    """The classifier's network. Raises CueError for a black box."""
    if classifier.network is None:
        do = "give the network itself, as an nn.Module or file.py:factory"
        raise CueError(f"{classifier.name} is a black box without layers", wanted="a torch network", do=do)
    return classifier.network


def vgg_blocks(network: nn.Module, name: str, do: str) -> list[tuple[list[str], str]]:
    """The ReLUs and the pooling of each of the five blocks of a VGG of torchvision.

    Raises CueError for any other network, with what to `do`.

    >>> import torchvision
    >>> with torch.device("meta"):
    ...     network = torchvision.models.vgg19(init_weights=False)
    >>> vgg_blocks(network, "vgg19", "give layers")[1]
    (['features.6', 'features.8'], 'features.9')
    """
    parts = dict(network.named_modules()) if type(network).__name__ == "VGG" else {}
    blocks: list[tuple[list[str], str]] = []
    rectified: list[str] = []
    for layer, part in parts.items():
        if isinstance(part, nn.ReLU):
            rectified.append(layer)
        elif isinstance(part, nn.MaxPool2d):
            blocks.append((rectified, layer))
            rectified = []
    if len(blocks) != 5:
        found = f"{name} is no VGG, for which the layers are known"
        raise CueError(found, wanted="the names of the layers to measure", do=do)
    return blocks
