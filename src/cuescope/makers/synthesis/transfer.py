"""Style transfer by search: an image changed until its features are one image's and its statistics another's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.makers.synthesis.gram import gram
from cuescope.makers.synthesis.lbfgs import minimize
from cuescope.network import hooks

MEMORY = 20


class Transfer:
    """What does this image look like in that one's style? Gatys, Ecker and Bethge 2016, section 2.

    The loss is that of the content plus `style_weight` times that of the style. Content: the mean squared difference of
    the content layer's features, relative to the mean square of the content's own. Style: over the style layers, the
    mean of ||G - G*||^2 / ||G*||^2, G = F F^T / M. Both are relative, so that a weight means the same for any network;
    the authors' weights are for the scale of their VGG. As in their later code the search begins with the content.

    Without names the layers are the paper's for a VGG of torchvision: relu4_2; relu1_1, 2_1, 3_1, 4_1 and 5_1.

    Raises CueError for a black box, and for layers that the network has not.

    >>> from cuescope.classifier.sources import load
    >>> net = load("torchvision/squeezenet1_1@random", device="cpu")
    >>> transfer = Transfer(net, content_layer="features.6", style_layers=["features.1", "features.4"])
    >>> transfer(torch.rand(3, 64, 64), torch.rand(3, 48, 48), steps=2).shape
    torch.Size([3, 64, 64])
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        content_layer: str = "",
        style_layers: Sequence[str] = (),
        style_weight: float = 10.0,
    ) -> None:
        if classifier.network is None:
            do = "give the network itself, as an nn.Module or file.py:factory"
            raise CueError(f"{classifier.name} is a black box without layers", wanted="a torch network", do=do)
        if not content_layer or not style_layers:
            content, styles = paper_layers(classifier.network, classifier.name)
            content_layer, style_layers = content_layer or content, list(style_layers) or styles
        for name in (content_layer, *style_layers):
            if name not in classifier.layers:
                raise unknown("layer", name, classifier.layers)
        self.classifier, self.network = classifier, classifier.network
        self.content_layer, self.style_layers, self.style_weight = content_layer, list(style_layers), style_weight
        self._known: dict[torch.Size, list[hooks.Layer]] = {}

    def __call__(self, content: Tensor, style: Tensor, *, steps: int) -> Tensor:
        """(3, H, W) of a content (3, H, W) and a style (3, h, w), all in [0, 1], after so many steps of L-BFGS."""
        with torch.no_grad():
            wanted = self._maps(content[None])[self.content_layer]
            scale = wanted.square().mean().clamp(min=1e-12)
            found = self._maps(style[None])
            grams = {name: gram(found[name].flatten(2)) for name in self.style_layers}
        norms = {name: g.square().sum().clamp(min=1e-12) for name, g in grams.items()}

        def loss(pixels: Tensor) -> Tensor:
            maps = self._maps(pixels)
            of_content = (maps[self.content_layer] - wanted).square().mean() / scale
            parts = [(gram(maps[n].flatten(2)) - g).square().sum() / norms[n] for n, g in grams.items()]
            return of_content + self.style_weight * torch.stack(parts).mean()

        def measure(x: Tensor, _: list[int]) -> tuple[Tensor, Tensor]:
            pixels = x.view(1, *content.shape).detach().requires_grad_()
            value = loss(pixels)
            (slope,) = torch.autograd.grad(value, pixels)
            return value.detach()[None], slope.flatten(1)

        start = content.flatten()[None]
        low, high = start.new_zeros(1, 1), start.new_ones(1, 1)
        return minimize(measure, start, low, high, steps=steps, memory=MEMORY).x.view(content.shape)

    def _maps(self, pixels: Tensor) -> dict[str, Tensor]:
        normalized = self.classifier.normalize(pixels)
        with hooks.evaluating(self.network):
            maps = hooks.capture(self.network, normalized, self._layers(normalized))
        return {name: found.float() for name, found in maps.items()}

    def _layers(self, normalized: Tensor) -> list[hooks.Layer]:
        """The layers, surveyed once for each size of image."""
        size = normalized.shape[2:]
        if size not in self._known:
            with torch.no_grad():
                known = hooks.survey(self.network, normalized.detach().expand(2, -1, -1, -1))
            names = dict.fromkeys([self.content_layer, *self.style_layers])
            if missing := [name for name in names if name not in known]:
                found = f"layer '{missing[0]}' has no map over an image of {size[1]} x {size[0]} px"
                raise CueError(found, wanted="layers that still see places", do="give larger images or earlier layers")
            self._known[size] = [known[name] for name in names]
        return self._known[size]


def paper_layers(network: nn.Module, name: str) -> tuple[str, list[str]]:
    """relu4_2, and relu1_1 to relu5_1, of a VGG of torchvision. Raises CueError for any other network.

    >>> import torchvision
    >>> with torch.device("meta"):
    ...     network = torchvision.models.vgg19(init_weights=False)
    >>> paper_layers(network, "vgg19")
    ('features.22', ['features.1', 'features.6', 'features.11', 'features.20', 'features.29'])
    """
    trunk = getattr(network, "features", None)
    if type(network).__name__ == "VGG" and isinstance(trunk, nn.Sequential):
        rectified: list[list[int]] = [[]]
        for i, part in enumerate(trunk):
            if isinstance(part, nn.ReLU):
                rectified[-1].append(i)
            elif isinstance(part, nn.MaxPool2d):
                rectified.append([])
        blocks = [block for block in rectified if block]
        if len(blocks) == 5 and len(blocks[3]) > 1:
            return f"features.{blocks[3][1]}", [f"features.{block[0]}" for block in blocks]
    raise CueError(
        f"{name} is no VGG, for which the layers are known",
        wanted="the names of the layers to measure",
        do="give --content-layer NAME and --style-layers NAME,NAME,...",
    )
