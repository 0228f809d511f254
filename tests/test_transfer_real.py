"""Features of ImageNet's networks against random ones, on real small images."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuescope.api.transfer import transfer


@pytest.mark.real
@pytest.mark.slow
def test_learned_features_beat_random_ones_and_deeper_layers_tell_more(tmp_path: Path, data: Path) -> None:
    models = (
        f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}",
        "torchvision/squeezenet1_1@random",
    )
    settings = {
        "layer_probe.control": False,
        "layer_probe.svm": False,
        "layer_probe.layers": ("features.3", "features.12"),
    }
    images = data / "cifar10-sample" / "train"
    found = transfer("probe", *models, images=images, limit=200, settings=settings, out=tmp_path / "run")
    assert [one.classifier for one in found.ranking] == list(models)
    assert found.ranking[0].beats
    assert found.ranking[0].measures["deeper"].above(0)


@pytest.mark.real
@pytest.mark.slow
def test_few_images_of_learned_features_tell_more_than_many_of_random_ones(tmp_path: Path, data: Path) -> None:
    model = f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}"
    found = transfer("few-shot", model, images=data / "cifar10-sample" / "train", limit=200, out=tmp_path / "run")
    (one,) = found.ranking
    assert one.measures["ahead_6"].above(0), "six images of each class tell more than fifteen of shuffled weights"
