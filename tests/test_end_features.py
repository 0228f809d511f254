"""What the first and the last layer of a network see, whatever it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.methods.end_features import EndFeatures
from cuescope.models.zfnet import ZFNet
from toys import COLORS, MeanColor, plain, toy


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_pooled_network_and_its_pass() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
    )
    network = nn.Sequential(network, nn.Flatten(), nn.Linear(5, 3)).eval()
    ends, pixels = EndFeatures.of(toy(network)), noise(2, 3, 16, 16)
    features, logits = ends.look(pixels)
    assert (ends.low.name, ends.high.name) == ("0.0, after its nonlinearity", "what 2 reads")
    with torch.no_grad():
        assert torch.allclose(features["low"], network[0][:2](pixels).flatten(1), atol=1e-5)  # type: ignore[index]
        assert torch.allclose(features["high"], network[0](pixels).flatten(1), atol=1e-5)
        assert torch.allclose(logits, network(pixels), atol=1e-5)


def test_hidden_layers_are_layer_7_of_the_paper() -> None:
    with torch.random.fork_rng():
        network = ZFNet(3, widths=(4, 4, 4, 4, 4), hidden=8).eval()
    ends, pixels = EndFeatures.of(toy(network, size=224)), noise(1, 3, 224, 224)
    features, _ = ends.look(pixels)
    with torch.no_grad():
        wanted = network.classifier[:5](network.features(pixels).flatten(1))
    assert ends.high.name == "what classifier.fc8 reads"
    assert torch.allclose(features["high"], wanted, atol=1e-6)
    assert features["low"].shape == (1, 4 * 110 * 110)
    assert features["low"].min() >= 0


def test_a_last_convolution_reads_a_map_that_is_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ends, pixels = EndFeatures.of(toy(network)), noise(2, 3, 16, 16)
    features, _ = ends.look(pixels)
    with torch.no_grad():
        assert torch.allclose(features["high"], network[:2](pixels).mean((2, 3)), atol=1e-6)
    assert ends.high.name == "what 2 reads, averaged over positions"


def test_a_last_linear_layer_on_every_position() -> None:
    """Channels come last, as in a BagNet."""

    class Everywhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.fc(F.relu(self.conv(pixels)).permute(0, 2, 3, 1)).mean((1, 2))

    network = Everywhere()
    ends, pixels = EndFeatures.of(toy(network)), noise(2, 3, 16, 16)
    features, _ = ends.look(pixels)
    with torch.no_grad():
        assert torch.allclose(features["high"], F.relu(network.conv(pixels)).mean((2, 3)), atol=1e-6)
    assert features["low"].shape == (2, 4 * 14 * 14)
    assert ends.low.name == "conv"


def test_other_layers_by_name() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    classifier, pixels = toy(network), noise(2, 3, 16, 16)
    features, logits = EndFeatures.of(classifier, "0", "2").look(pixels)
    with torch.no_grad():
        assert torch.allclose(features["low"], network[0](pixels).flatten(1), atol=1e-6)
        assert torch.allclose(features["high"], network[:3](pixels).mean((2, 3)), atol=1e-6)
    assert torch.allclose(logits, classifier.logits(pixels))
    mixed, _ = EndFeatures.of(classifier, "2").look(pixels)
    assert mixed["low"].shape == (2, 5 * 12 * 12)
    assert mixed["high"].shape == (2, 5)
    with pytest.raises(CueError, match="layer of toy"):
        EndFeatures.of(classifier, "conv1")
    with pytest.raises(CueError, match="layer of toy"):
        EndFeatures.of(classifier, high="5")


def test_ends_that_are_not_there_say_why() -> None:
    nothing = EndFeatures.of(toy(MeanColor()))
    assert "neither a convolution" in nothing.low.why
    assert "no linear layer" in nothing.high.why
    features, logits = nothing.look(noise(2, 3, 16, 16))
    assert (features, logits.shape) == ({}, (2, 3))
    box = EndFeatures.of(Classifier(lambda x: x.mean((2, 3)), classes=COLORS, preprocessing=plain(16), name="box"))
    assert box.low.why == box.high.why != ""
    assert box.look(noise(2, 3, 16, 16))[0] == {}
    counting = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    counting.differentiable = False  # type: ignore[assignment]
    assert "counts visual words" in EndFeatures.of(toy(counting)).low.why
    single = EndFeatures.of(toy(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())))
    assert "only layer" in single.high.why
    assert list(single.look(noise(1, 3, 16, 16))[0]) == ["low"]


def test_without_a_convolution_the_first_map_is_the_low_layer() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 64, 3))
    ends = EndFeatures.of(toy(network))
    assert ends.low.name == "0"
    features, _ = ends.look(noise(1, 3, 16, 16))
    assert features["low"].shape == features["high"].shape == (1, 192)
