"""The first filters of a network, how they respond to an image, and how much of the responses folds back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.spectrum import folded_shares
from cuescope.network import first_convolutions, hooks
from cuescope.network.executor import trial
from cuescope.network.first_convolutions import First, Second
from cuescope.network.hooks import HookPoint


@dataclass(frozen=True, eq=False)
class FirstLayers:
    """Layer 1, the first convolution that is run, and layer 2, the first one on a coarser map (None without)."""

    classifier: Classifier
    first: First
    second: Second | None
    convolution: nn.Conv2d

    @classmethod
    def of(cls, classifier: Classifier) -> FirstLayers | None:
        """Found by running the network; None where it has no 2-D convolution.

        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> layers = FirstLayers.of(Classifier(net))
        >>> layers.first.name, layers.second, layers.filters.shape
        ('0', None, torch.Size([4, 3, 3, 3]))
        """
        network = classifier.network
        assert network is not None
        noise = classifier.normalize(trial(classifier.preprocessing))
        first = first_convolutions.first_convolution(network, noise)
        if first is None:
            return None
        convolution = network.get_submodule(first.name)
        assert isinstance(convolution, nn.Conv2d)
        return cls(classifier, first, first_convolutions.second_convolution(network, noise, first), convolution)

    @property
    def filters(self) -> Tensor:
        """Those of layer 1 as they act, (N, C, h, w) float32 on the CPU."""
        return first_convolutions.filters(self.convolution)

    def responses(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """To one image (3, H, W) in [0, 1]: the highest of each filter after its nonlinearity, and what folds back.

        That is the share of a response's energy, computed at every position, above the Nyquist frequency of the map
        that is kept: of each channel of layers 1 and 2 (None without), NaN where a response does not vary.
        """
        image = self.classifier.normalize(pixels[None])
        active, response = self._seen(image)
        peak = active.float().amax((1, 2))
        folded = folded_shares(response, (self.convolution.stride[0], self.convolution.stride[1]))
        if self.second is None:
            return peak, folded, None
        response = first_convolutions.response_everywhere(self.classifier.executor, image, self.second)
        return peak, folded, folded_shares(response, self.second.steps)

    def maps(self, pixels: Tensor) -> Tensor:
        """The response of each filter to one image (3, H, W) in [0, 1], after its nonlinearity: (N, h, w) float32."""
        return self._seen(self.classifier.normalize(pixels[None]))[0].float().cpu()

    def _seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The responses after the nonlinearity, and before it at every position."""
        network = self.classifier.network
        assert network is not None
        before, executor = HookPoint(self.first.name, before=True), self.classifier.executor

        def run(_: int) -> tuple[Tensor, Tensor]:
            with hooks.captured(network, (before, self.first.active), enough=True) as seen:
                network(image)
            return seen[self.first.active][0], first_convolutions.unstrided(self.convolution)(seen[before])[0]

        with torch.no_grad(), hooks.evaluating(network):
            return executor.fitted(run, 1)[0]
