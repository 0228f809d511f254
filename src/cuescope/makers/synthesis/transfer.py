"""Style transfer by search: an image changed until its features are one image's and its statistics another's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.makers.synthesis.gram import gram
from cuescope.makers.synthesis.layers import LayerMaps, network_of, vgg_blocks
from cuescope.makers.synthesis.lbfgs import minimize


class Transfer:
    """What does this image look like in that one's style? Gatys, Ecker and Bethge 2016, section 2.

    The loss is that of the content plus `style_weight` times that of the style. Content: the mean squared difference of
    the content layer's features, relative to the mean square of the content's own. Style: over the style layers, the
    mean of ||G - G*||^2 / ||G*||^2, G = F F^T / M. Both are relative, so that a weight means the same for any network;
    the authors' weights are for the scale of their VGG. As in their later code the search begins with the content.

    Empty layers are the paper's for a VGG of torchvision: relu4_2; relu1_1, 2_1, 3_1, 4_1 and 5_1. Raises CueError for
    a black box, and for layers that the network does not have.

    >>> from cuescope.classifier.sources import load
    >>> net = load("torchvision/squeezenet1_1@random", device="cpu")
    >>> transfer = Transfer(net, content_layer="features.6", style_layers=["features.1", "features.4"])
    >>> transfer(torch.rand(3, 64, 64), torch.rand(3, 48, 48), steps=2).shape
    torch.Size([3, 64, 64])
    """

    def __init__(
        self, classifier: Classifier, content_layer: str, style_layers: Sequence[str], style_weight: float = 10.0
    ) -> None:
        if not content_layer or not style_layers:
            options = "give --content-layer NAME and --style-layers NAME,NAME,..."
            blocks = vgg_blocks(network_of(classifier), classifier.name, options)
            content_layer = content_layer or blocks[3][0][1]
            style_layers = style_layers or [rectified[0] for rectified, _ in blocks]
        self.classifier, self.content_layer = classifier, content_layer
        self.style_layers, self.style_weight = list(style_layers), style_weight
        self.maps = LayerMaps(classifier, [content_layer, *style_layers])

    @property
    def about(self) -> dict[str, Any]:
        """The network and its layers, for a manifest."""
        layers = {"content layer": self.content_layer, "style layers": self.style_layers}
        layers["variant"] = "losses relative to the originals, not by the published weights"
        return {"name": self.classifier.name, "digest": self.classifier.digest, **layers}

    def __call__(self, content: Tensor, style: Tensor, *, steps: int) -> Tensor:
        """(3, H, W) of a content (3, H, W) and a style (3, h, w), all in [0, 1], after so many steps of L-BFGS."""
        with torch.no_grad():
            wanted = self.maps(content[None])[self.content_layer]
            scale = wanted.square().mean().clamp(min=1e-12)
            found = self.maps(style[None])
            grams = {name: gram(found[name].flatten(2)) for name in self.style_layers}
        norms = {name: g.square().sum().clamp(min=1e-12) for name, g in grams.items()}

        def loss(pixels: Tensor) -> Tensor:
            maps = self.maps(pixels)
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
        return minimize(measure, start, low, high, steps=steps).x.view(content.shape)
