"""The features of a network's first and last layer, in the same pass as its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import unknown
from cuescope.network import first_convolutions, hooks
from cuescope.network.executor import trial
from cuescope.network.hooks import HookPoint


@dataclass(frozen=True)
class EndFeature:
    """Where the features of the first or the last layer are read; `why` they cannot be, empty where they can."""

    name: str
    why: str = ""
    point: HookPoint | None = None
    """Inside the network; None where `layer` is one of `Classifier.layers`."""
    layer: str = ""
    tokens: bool = False
    """Whether channels come last."""


@dataclass(frozen=True)
class EndFeatures:
    """What do the first and the last layer see of these images, and what is the answer?

    The low features are the first convolution's map as the next layer reads it (after the nonlinearity where one
    follows), position by position. The high features are what the last layer with weights reads, averaged over
    positions where it is a map: the pooled map of a ResNet, layer 7 of ZFNet. Either can be another of the
    classifier's `layers` instead.

    >>> import torch
    >>> from cuescope.data.preprocessing import Preprocessing
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> both = EndFeatures.of(Classifier(net, preprocessing=Preprocessing((8, 8), 8)))
    >>> features, logits = both.look(torch.rand(5, 3, 8, 8))
    >>> features["low"].shape, features["high"].shape, logits.shape, both.high.name
    (torch.Size([5, 144]), torch.Size([5, 4]), torch.Size([5, 2]), 'what 4 reads')
    """

    classifier: Classifier
    low: EndFeature
    high: EndFeature

    @classmethod
    def of(cls, classifier: Classifier, low: str = "", high: str = "") -> EndFeatures:
        """Found by running the network once. Raises CueError for an unknown layer, with the nearest names."""
        for name in (low, high):
            if name and name not in classifier.layers:
                raise unknown(f"layer of {classifier.name}", name, classifier.layers)
        return cls(
            classifier,
            EndFeature(low, layer=low) if low else _low(classifier),
            EndFeature(f"{high}, averaged over positions", layer=high) if high else _high(classifier),
        )

    @property
    def places(self) -> Mapping[str, EndFeature]:
        """The layers that can be read."""
        return {side: place for side, place in (("low", self.low), ("high", self.high)) if not place.why}

    def look(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Features {"low": (B, D), "high": (B, C)} and logits (B, K) of (B, 3, H, W) in [0, 1], float32.

        Of a layer that cannot be read there are none.
        """
        inside = {side: place.point for side, place in self.places.items() if place.point is not None}
        network, executor = self.classifier.network, self.classifier.executor

        def run(part: Tensor) -> tuple[Tensor, ...]:
            assert network is not None
            with hooks.captured(network, inside.values()) as seen:
                logits = executor.once(part, network)
            return logits, *(seen[point] for point in inside.values())

        if inside:
            logits, *features = executor.batches(pixels, run)
        else:
            logits, features = self.classifier.logits(pixels), []
        found = dict(zip(inside, features, strict=True))
        named = {side: place.layer for side, place in self.places.items() if place.layer}
        maps = self.classifier.features(pixels, list(named.values())) if named else {}
        found |= {side: maps[layer] for side, layer in named.items()}
        if "high" in found and found["high"].ndim > 2:
            high = found["high"]
            found["high"] = high.flatten(1, -2).mean(1) if self.high.tokens else high.flatten(2).mean(2)
        return {side: features.flatten(1) for side, features in found.items()}, logits


_CLOSED = EndFeature("", why="it has no layers to look at: it is a black box, or counts visual words")


def _low(classifier: Classifier) -> EndFeature:
    if classifier.network is None or "features" not in classifier.capabilities:
        return _CLOSED
    noise = classifier.normalize(trial(classifier.preprocessing))
    first = first_convolutions.first_convolution(classifier.network, noise)
    if first is not None:
        return EndFeature(first.name + (", after its nonlinearity" if first.nonlinear else ""), point=first.active)
    if classifier.layers:
        return EndFeature(classifier.layers[0], layer=classifier.layers[0])
    return EndFeature("", why="it has neither a convolution nor another layer that gives a map")


def _high(classifier: Classifier) -> EndFeature:
    network = classifier.network
    if network is None or "features" not in classifier.capabilities:
        return _CLOSED
    noise = classifier.normalize(trial(classifier.preprocessing))
    last, first = first_convolutions.last_weights(network, noise), first_convolutions.first_convolution(network, noise)
    if last is None:
        return EndFeature("", why="it has no linear layer or convolution")
    if first is not None and first.name == last:
        return EndFeature("", why="its only layer with weights reads the image itself")
    tokens = isinstance(network.get_submodule(last), nn.Linear)
    name = f"what {last} reads" + ("" if tokens else ", averaged over positions")
    return EndFeature(name, point=HookPoint(last, before=True), tokens=tokens)
