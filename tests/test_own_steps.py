"""Modules that resize, cut or normalize their images by themselves: it is respected, said, and not done twice."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, InterpolationMode, Normalize, Resize, v2
from torchvision.transforms._presets import ImageClassification

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import load
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from cuescope.models.seeding import seeded
from cuescope.network import own_steps

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def network() -> Any:
    return seeded(0, lambda: timm.create_model("test_resnet.r160_in1k")).eval()


def pixels(classifier: Classifier) -> Tensor:
    return torch.rand(2, 3, *classifier.preprocessing.size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [Normalize, v2.Normalize])
def test_a_normalize_before_a_librarys_network_replaces_its_own(kind: Any) -> None:
    inside = network()
    classifier = load(nn.Sequential(kind(MEAN, STD), inside), device="cpu")
    x = pixels(classifier)
    wanted = inside((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    assert torch.allclose(classifier.logits(x), wanted, atol=1e-4)
    # The rest is timm's.
    assert classifier.preprocessing.size == (160, 160)
    assert classifier.classes.name == "imagenet-1k"
    assert any("normalizes by itself" in text for text in classifier.assumed)


def test_a_preset_before_a_network_gets_what_it_resizes_and_cuts() -> None:
    inside = network()
    preset = ImageClassification(crop_size=96, resize_size=112, mean=tuple(MEAN), std=tuple(STD))
    classifier = load(nn.Sequential(preset, inside), device="cpu")
    assert (classifier.preprocessing.size, classifier.preprocessing.resize) == ((112, 112), 112)
    assert classifier.preprocessing.mean == (0, 0, 0)
    x = pixels(classifier)
    wanted = inside((x[:, :, 8:104, 8:104] - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    assert torch.allclose(classifier.logits(x), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("front", "size", "resize", "mean"),
    [
        ([Resize((64, 96), InterpolationMode.BICUBIC)], (64, 96), (64, 96), IMAGENET_MEAN),
        ([Resize(80), CenterCrop(64), Normalize(MEAN, STD)], (80, 80), 80, (0, 0, 0)),
        ([CenterCrop(64)], (256, 256), 256, IMAGENET_MEAN),
        # Planted: nothing of the kind.
        ([nn.Identity()], (224, 224), 256, IMAGENET_MEAN),
    ],
)
def test_transforms_one_by_one(front: list[nn.Module], size: Any, resize: Any, mean: Any) -> None:
    net = nn.Sequential(*front, nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    how = Classifier(net, device="cpu").preprocessing
    assert (how.size, how.resize, how.mean) == (size, resize, mean)
    assert how.keep_aspect == isinstance(resize, int)


class Buffers(nn.Module):
    """Normalizes by buffers of its own, or holds them for nothing."""

    def __init__(self, names: tuple[str, str], white: float = 1.0, kept: bool = False) -> None:
        super().__init__()
        for name, values in zip(names, (IMAGENET_MEAN, IMAGENET_STD), strict=True):
            tensor = torch.tensor(values).view(1, 3, 1, 1) * white
            if kept:
                setattr(self, name, tensor)
            else:
                self.register_buffer(name, tensor)
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (getattr(self, name) for name in self.names)
        return (x - mean) / std


@pytest.mark.parametrize(
    ("front", "std"),
    [
        (Buffers(("mean", "std")), 1.0),
        (Buffers(("pixel_mean", "pixel_std"), 255.0), 1 / 255),
        (Buffers(("mu", "sigma"), kept=True), 1.0),
    ],
)
@pytest.mark.parametrize("around", [network, lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())])
def test_a_mean_and_a_deviation_of_its_own(front: nn.Module, std: float, around: Any) -> None:
    inside = around()
    classifier = load(nn.Sequential(front, inside), device="cpu")
    assert classifier.preprocessing.mean == (0, 0, 0)
    assert classifier.preprocessing.std == (std,) * 3
    assert any("normalizes by itself" in text and "Buffers" in text for text in classifier.assumed)
    x = pixels(classifier)
    wanted = inside((x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1))
    assert torch.allclose(classifier.logits(x), wanted, atol=1e-4)


def test_values_that_are_no_normalization_or_are_not_used_are_left_alone() -> None:
    class Holds(nn.Module):
        def __init__(self, used: bool) -> None:
            super().__init__()
            self.preset = ImageClassification(crop_size=96) if not used else nn.Identity()
            self.front = Buffers(("mean", "std"))
            self.register_buffer("mean", torch.tensor(IMAGENET_MEAN))
            self.register_buffer("std", torch.tensor(IMAGENET_STD))
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    for used in (False, True):
        classifier = load(Holds(used), device="cpu")
        assert classifier.preprocessing == load(network(), device="cpu").preprocessing
        assert not any("by itself" in text for text in classifier.assumed)

    class Back(Buffers):
        def forward(self, x: Tensor) -> Tensor:
            mean, std = (getattr(self, name) for name in self.names)
            return x * std.to(x) + mean[:]

    assert own_steps.find(nn.Sequential(Back(("mean", "std")), network())) is None
    assert own_steps.find(network()) is None
    assert own_steps.find(lambda x: x) is None


def test_a_given_preprocessing_stays_and_what_is_done_twice_is_said() -> None:
    net = nn.Sequential(Buffers(("mean", "std")), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    given = Preprocessing((16, 16), 16)
    classifier = load(net, preprocessing=given, device="cpu")
    assert classifier.preprocessing == given
    assert any("twice" in text for text in classifier.assumed)
    bare = Preprocessing((16, 16), 16, mean=(0, 0, 0), std=(1, 1, 1))
    assert not any("twice" in text for text in load(net, preprocessing=bare, device="cpu").assumed)
    assert not any("twice" in text for text in load(net[1:], preprocessing=given, device="cpu").assumed)
