"""Heads of ImageNet's larger sets of classes: which of 21,841 outputs is meant by a label of one of the 1,000."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import cuescope
from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.alignment import align, aligned
from cuescope.core.classes import BY_INDEX, LARGER, ClassSpace, imagenet_1k, larger_imagenet

SHADES = {"red": (250, 9, 9), "green": (9, 250, 9)}
TIGER, ZEBRA = "n02129604", "n02391049"


def large(count: int = 21841) -> ClassSpace:
    found = larger_imagenet(count)
    assert found is not None
    return found


def colors(space: ClassSpace, red: str, green: str) -> Classifier:
    """A classifier of many classes: red images are of the class with one WordNet id, green ones with another."""
    head = nn.Linear(3, len(space))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        for channel, wnid in enumerate((red, green)):
            head.weight[space.keys.index(wnid), channel] = 5.0
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    how = Preprocessing((16, 16), 16, mean=(0, 0, 0), std=(1, 1, 1))
    return Classifier(net, classes=space, preprocessing=how, name="large", device="cpu")


def accuracy(tmp_path: Path, red: str, green: str) -> tuple[float | None, str]:
    """Of a classifier to which red is a tiger and green a zebra, where the folders of these colors have these names."""
    for name, color in ((red, "red"), (green, "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((20, 20, 3), SHADES[color], np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    classifier = colors(large(), TIGER, ZEBRA)
    run = cuescope.audit(classifier, images=tmp_path / "photos", only=["accuracy"], out=tmp_path / "run")
    return run.finding("accuracy")["top1"].value, "; ".join(run.manifest["image_sets"][0]["notes"])


@pytest.mark.parametrize(
    ("red", "green", "right"),
    [
        *((TIGER, ZEBRA, 1.0), (ZEBRA, TIGER, 0.0), ("tiger", "zebra", 1.0), ("zebra", "tiger", 0.0)),
        ("n02129604_tiger", "n02391049_zebra", 1.0),
    ],
)
def test_labels_of_the_thousand_are_found_among_many(tmp_path: Path, red: str, green: str, right: float) -> None:
    value, notes = accuracy(tmp_path, red, green)
    assert value == right
    assert ("they stand for its WordNet ids" in notes) == (red in ("tiger", "zebra"))


def test_names_of_several_classes_are_told_apart_by_imagenets_ids() -> None:
    space, thousand = large(), imagenet_1k()
    twice = [i for i, name in enumerate(thousand.names) if space.names.count(name) > thousand.names.count(name) == 1]
    many = next(i for i in twice if thousand.keys[i] in space.keys)
    name = thousand.names[many]
    found = aligned(ClassSpace("folders", (name, "zebra"), (name, "zebra")), space)
    assert [space.keys[i] for i in found.places] == [thousand.keys[many], ZEBRA]
    # Among names that are not ImageNet's it cannot be told which of the two is meant.
    other = aligned(ClassSpace("folders", (name, "organism"), (name, "organism")), space)
    assert other.places == (-1, space.names.index("organism"))
    assert f"'{name}' names several classes" in other.notes[0]


def test_an_id_that_a_head_has_not_is_no_other_id_of_the_same_name() -> None:
    space, thousand = large(), imagenet_1k()
    lacking = [i for i, key in enumerate(thousand.keys) if key not in space.keys]
    assert lacking
    found = aligned(thousand, space)
    assert [i for i, place in enumerate(found.places) if place < 0] == lacking
    assert all(space.keys[place] == key for key, place in zip(thousand.keys, found.places, strict=True) if place >= 0)
    assert "no class of the classifier" in found.notes[-1]
    copy = ClassSpace("mine", ("organism", "cat"), ("n99999999", "n99999998"))
    assert align(ClassSpace("mine", ("cat",), ("n99999998",)), copy) == (1,)
    assert aligned(ClassSpace("mine", ("organism", "cat"), ("n99999997", "n99999998")), copy).places == (-1, 1)


def test_indices_of_the_thousand_are_found_by_their_names() -> None:
    thousand, space = imagenet_1k(), large()
    names = tuple(name if i in (5, 292, 340) else f"class {i}" for i, name in enumerate(thousand.names))
    found = aligned(ClassSpace(BY_INDEX, names), space)
    assert [space.keys[found.places[i]] for i in (292, 340)] == [TIGER, ZEBRA]
    bare = aligned(ClassSpace(BY_INDEX, tuple(f"class {i}" for i in range(1000))), space)
    assert bare.places == tuple(range(1000))
    assert "index 0 is 'organism'" in bare.notes[0]


@pytest.mark.parametrize("count", LARGER)
def test_every_larger_set_has_most_of_the_thousand(count: int) -> None:
    space = large(count)
    assert len(space) == len(set(space.keys)) == count
    assert len(set(imagenet_1k().keys) & set(space.keys)) >= 990


def test_networks_of_timm_have_the_classes_of_their_outputs() -> None:
    for count, name in ((11821, "imagenet-12k"), (21843, "imagenet-21k-goog")):
        network = timm.create_model("test_resnet", num_classes=count)
        classifier = Classifier(network, preprocessing=Preprocessing((64, 64), 64), device="cpu")
        assert (classifier.classes.name, len(classifier.classes)) == (name, count)
        assert name in "; ".join(classifier.assumed)
    own = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 21843))
    assert Classifier(own, preprocessing=Preprocessing((8, 8), 8), device="cpu").classes.name == "numbered"
    eight = timm.create_model("test_resnet", num_classes=21840)
    assert Classifier(eight, preprocessing=Preprocessing((64, 64), 64), device="cpu").classes.name == "numbered"
