"""Objects and files that are almost a model: run, or refused with what was found and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from test_outputs import PIXELS, Linear, small
from toys import Constant, Images, MeanColor, colored, plain, toy


def pruned() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.ln_structured(net[4], "weight", 0.4, n=2, dim=1)
    prune.random_unstructured(net[4], "bias", 0.3)
    return net.eval()


def test_a_pruned_network_is_run_as_it_is_pruned_and_left_alone() -> None:
    net = pruned()
    net(PIXELS)
    held: Any = net[0].weight
    classifier = small(net)
    assert torch.allclose(classifier.logits(PIXELS), net(PIXELS), atol=1e-5)
    assert classifier.executor.folded
    assert any("PruningMethod" in note or "L1Unstructured" in note for note in classifier.notes)
    assert prune.is_pruned(net)
    assert held.requires_grad


def test_features_that_a_network_holds_do_not_keep_it_from_being_copied() -> None:
    class Holding(Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.held = {"last": [super().forward(x)]}
            return self.held["last"][0]

    net = Holding()
    net(PIXELS)
    assert torch.allclose(small(net).logits(PIXELS), Linear()(PIXELS))
    assert net.held["last"][0].requires_grad


class Exiting(MeanColor):
    """Ends Python where it meets what it was not written for."""

    calls = 0

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        Exiting.calls += 1
        if Exiting.calls > self.after:
            raise SystemExit("bad shape")
        return super().forward(x)


def test_a_network_that_calls_exit_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    Exiting.calls = 0
    with pytest.raises(CueError, match="bad shape"):
        toy(Exiting(0))
    for spared in range(9):  # while it is looked at, while a few images are timed, and later
        Exiting.calls = 0
        classifier = toy(Exiting(10**9))
        Exiting.calls = 10**9 - spared
        run = cuescope.audit(
            classifier, images=Images(colored(40)), only=("accuracy", "occlusion"), out=tmp_path / f"{spared}"
        )
        assert {cell.status for cell in run.cells} <= {"failed", "done"}
        assert any("bad shape" in cell.why for cell in run.cells)


class Keyword(Linear):
    def forward(self, *, pixel_values: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pixel_values)


class Two(Linear):
    def forward(self, x: Tensor, meta: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + meta


class Flagged(Linear):
    """Planted: what it takes beside the image has a default."""

    def forward(self, x: Tensor, scale: float = 1.0, *, debug: bool = False) -> Tensor:
        return super().forward(x) * scale


@pytest.mark.parametrize(
    ("model", "found", "do"),
    [
        (Keyword(), "by keyword only (pixel_values)", "pixel_values=x"),
        (lambda *, image: image, "by keyword only (image)", "image=x"),
        (Two(), "2 inputs (x, meta)", "wrap it"),
        (lambda x, meta: x, "2 inputs (x, meta)", "wrap it"),
        (lambda: Linear(), "takes no input", "factory"),
        (nn.Sequential(nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "takes 4 channels", "makes 4"),
        (Linear, "Linear is a class", "Linear()"),
    ],
)
@pytest.mark.parametrize("way", [small, lambda model: load(model, preprocessing=plain(), device="cpu")])
def test_what_takes_no_images_says_why(way: Callable[[Any], Any], model: Any, found: str, do: str) -> None:
    with pytest.raises(CueError) as error:
        way(model)
    assert found in error.value.found
    assert do in error.value.do


def test_a_forward_with_defaults_runs() -> None:
    assert torch.allclose(small(Flagged()).logits(PIXELS), Linear()(PIXELS))


FILE = """
import torch
from torch import nn
WIDTHS = {"small": 4}
print("hello from the file")
class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.classes = classes
    def forward(self, x):
        print("hello from forward")
        return 10 * x.mean((2, 3))
def make_net(classes=3):
    print("hello from the factory")
    return Net(classes)
def make_wide(classes, width):
    return Net(classes)
def give_class():
    return Net
def predict(images):
    return images.mean((2, 3))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(FILE)
    return tmp_path / "m.py"


@pytest.mark.parametrize(
    ("name", "found", "do"),
    [
        ("nosuch", "nosuch", "make_net"),
        ("make_nett", "make_nett", "did you mean make_net"),
        ("make_wide", "wants classes, width", "make_wide(classes=..., width=...)"),
        ("Net", "the network", "return Net(classes=...)"),
        ("predict", "wants images", "return predict"),
        ("give_class", "gives a type", "return Net()"),
        ("WIDTHS", "is a dict", "function"),
    ],
)
def test_what_is_no_factory_says_what_it_is(file: Path, name: str, found: str, do: str) -> None:
    with pytest.raises(CueError) as error:
        load(f"{file}:{name}")
    assert found in error.value.found
    assert do in error.value.do
    assert "Tensor" not in error.value.do


def test_a_file_without_functions(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("SIZE = 3\n")
    with pytest.raises(CueError, match="defines no function"):
        load(f"{tmp_path}/empty.py:make")


def test_what_a_model_prints_is_no_part_of_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cuescope.cli.list import list_
    from cuescope.cli.models import ModelOptions

    list_("model", f"{file}:make_net", json=True, how=ModelOptions(device="cpu", size="16"))
    out, err = capsys.readouterr()
    assert json.loads(out)["classes"] == 3
    assert "hello from the factory" in err
    assert "hello from forward" in err


@pytest.mark.extra
def test_look_and_list_miss_the_classes_of_a_zero_shot_model_before_it_is_loaded(tmp_path: Path) -> None:
    from PIL import Image

    from cuescope.cli.list import list_
    from cuescope.runs.options import check_look

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def look(model: str, **how: Any) -> Path:
        return check_look("occlusion", model, tmp_path / "a.png", None, {}, how)

    with pytest.raises(CueError, match="without classes"):
        look("open_clip/ViT-B-32@random")
    with pytest.raises(CueError, match="without classes"):
        list_("model", "open_clip/ViT-B-32@random")
    with pytest.raises(CueError, match="no file"):
        look("timm/resnet50@random", classes=tmp_path / "none.txt")
    assert look("timm/resnet50@random").suffix == ".png"
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert look("open_clip/ViT-B-32@random", classes=tmp_path / "names.txt").suffix == ".png"


def test_a_constant_answer_is_said() -> None:
    assert any("may not look at the image" in note for note in small(Constant()).assumed)
    assert not any("may not look" in note for note in small(MeanColor()).assumed)
    assert isinstance(small(Constant()), Classifier)
