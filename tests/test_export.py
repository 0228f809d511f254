"""An exported classifier is the same classifier: its logits, its classes, its preprocessing, what is assumed of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from commands import call
from cuescope.api import export as api
from cuescope.api.export import export
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing

NAMES = ("red", "gréen", "blue")
HOW = Preprocessing((10, 12), (11, 13), "bicubic", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "mine", False, "BGR", "down", True)


def classifier(**how: object) -> Classifier:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(body, nn.Linear(8, 3)).eval()
    nn.init.normal_(body[1].get_buffer("running_mean"))
    given = {"classes": NAMES, "preprocessing": HOW, "name": "mine", "device": "cpu", **how}
    return Classifier(net, **given)  # pyright: ignore[reportArgumentType]


@pytest.mark.extra
def test_the_file_is_the_same_classifier_and_nothing_is_assumed(tmp_path: Path) -> None:
    one = classifier()
    done = export(one, tmp_path / "net.onnx")
    two = load(done.path, device="cpu")
    images = torch.rand(5, 3, 10, 12)
    assert torch.allclose(one.logits(images), two.logits(images), atol=1e-5)
    assert done.gap < 1e-5
    assert (two.classes.name, two.classes.names) == (one.classes.name, NAMES)
    assert two.preprocessing == Preprocessing(**{**vars(HOW), "source": "as it was trained"})
    assert two.assumed == ()


@pytest.mark.extra
def test_what_was_assumed_of_the_network_is_not_forgotten(tmp_path: Path) -> None:
    one = classifier(preprocessing=Preprocessing((8, 8), 8, source="assumed: the usual"), notes=("a head is guessed",))
    again = load(export(one, tmp_path / "net.onnx").path, device="cpu")
    assert again.assumed == ("preprocessing: assumed: the usual", "a head is guessed")


@pytest.mark.extra
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call("export", "cuescope/world-shape", "net.onnx", "--device", "cpu", capsys=capsys)
    assert status == 0, err
    assert "next: cuescope audit net.onnx --images IMAGES" in out
    assert load("net.onnx").classes == load("cuescope/world-shape", device="cpu").classes


@pytest.mark.extra
def test_what_is_no_such_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Preprocessing((8, 8), 8)
    box = Classifier(lambda x: x.mean((2, 3)), preprocessing=how, name="box", device="cpu")
    with pytest.raises(CueError, match="box is a black box"):
        export(box, tmp_path / "net.onnx")

    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if images.sum() > -1e9 else images.amax((2, 3))

    odd = Classifier(Odd(), preprocessing=how, name="odd", device="cpu")
    with pytest.raises(CueError, match="odd cannot be exported as ONNX"):
        export(odd, tmp_path / "net.onnx")
    monkeypatch.setattr(api, "TOLERANCE", 0.0)
    with pytest.raises(CueError, match="gives other logits as ONNX"):
        export(classifier(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lacking", api.NEEDED)
def test_a_lacking_package_and_a_wrong_name_are_said(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CueError, match=r"'net\.pt'"):
        export("cuescope/world-shape", "net.pt")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lacking else found(name))
    with pytest.raises(CueError, match=rf"needs {lacking}(.|\n)*pip install 'cuescope\[onnx\]'"):
        export("cuescope/world-shape", "net.onnx")
