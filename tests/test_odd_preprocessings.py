"""Preprocessings that cannot be meant: refused, with the values that are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from cuescope.classifier.classifier import Preprocessing
from cuescope.classifier.sources import load, preprocessings
from cuescope.cli.models import numbers
from cuescope.core.errors import CueError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": (123.675, 116.28, 103.53), "std": (58.4, 57.1, 57.4)}, ["divide by 255", "(0.485, 0.456, 0.406)"]),
        ({"std": (58.395, 57.12, 57.375)}, ["divide by 255", "(0.229, 0.224, 0.225)"]),
        ({"mean": (float("nan"), 0.5, 0.5)}, ["three numbers"]),
        ({"std": (float("inf"),) * 3}, ["three numbers"]),
        ({"std": (0.2, 0.0, 0.2)}, ["std above 0"]),
        ({"size": (224.5, 224.5)}, ["whole px", "size=(224, 224)"]),
        ({"size": 224}, ["size=(224, 224)"]),
        ({"resize": 256.5}, ["whole px"]),
        ({"size": (100_000, 100_000), "resize": 100_000}, ["8,192"]),
        ({"size": (0, 224)}, ["1 to"]),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CueError) as error:
        Preprocessing(**values)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        {"mean": (0, 0, 0), "std": (1 / 255,) * 3},
        {"mean": (103.939 / 255, 0.45, 0.4), "std": (1 / 255,) * 3, "channels": "BGR"},
        {"size": (np.int64(64), 80), "resize": (64, 80)},
        {"size": (64, 64), "resize": 50, "whole": True},
        {"size": (224, 224), "resize": 224},
    ],
)
def test_others_are_left_alone(values: dict[str, Any]) -> None:
    assert Preprocessing(**values).source == "given"


@pytest.mark.parametrize(
    ("key", "text", "right"),
    [
        ("size", "224x224", "--size 224,224"),
        ("size", "224 px", "--size 224"),
        ("size", "224.5", "--size 224"),
        ("size", "(224, 192)x", "--size 224,192"),
        ("mean", "0.5 0.4 0.3", "--mean 0.5,0.4,0.3"),
        ("std", "[0.5;0.4;0.3]", "--std 0.5,0.4,0.3"),
        ("mean", "imagenet", "--mean 0.5,0.5,0.5"),
    ],
)
def test_the_right_spelling_is_told(key: str, text: str, right: str) -> None:
    with pytest.raises(CueError) as error:
        numbers({key: text})
    assert error.value.do == f"write {right}"
    assert numbers({key: right.split()[1]})[key]


@pytest.mark.parametrize(
    "given", [{"size": 224.5}, {"size": (224.5, 300)}, {"resize": 100}, {"mean": (124, 116, 104)}, {"size": 100_000}]
)
def test_single_values_are_refused_too(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CueError):
        preprocessings.overruled(Preprocessing(), **given)
    with pytest.raises(CueError):
        load(nn.Flatten(), **given)
    (tmp_path / "how.json").write_text(json.dumps(given))
    with pytest.raises(CueError):
        preprocessings.read(tmp_path / "how.json")


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ({"size": (384, 384)}, "resize=384 or more"),
        ({"size": (224, 224), "resize": 200}, "resize=224 or more"),
        ({"size": (64, 96), "resize": (64, 90)}, "resize=(64, 96) or more"),
        ({"size": (64, 64), "resize": 60, "keep_aspect": False}, "resize=64 or more"),
    ],
)
def test_a_crop_that_is_larger_than_the_image_is_refused(values: dict[str, Any], right: str) -> None:
    with pytest.raises(CueError) as error:
        load(nn.Flatten(), preprocessing=Preprocessing(**values))
    assert error.value.do == f"give {right}"


def test_a_library_may_leave_black_borders_and_it_is_said() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    how = Preprocessing((64, 64), 50, source="timm's")
    assert any("black" in text for text in load(net, preprocessing=how, device="cpu").assumed)
    usual = Preprocessing((64, 64), 64, source="timm's")
    assert not any("black" in text for text in load(net, preprocessing=usual, device="cpu").assumed)
