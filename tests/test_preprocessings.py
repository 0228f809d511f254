"""A preprocessing that a user gives: files, models' names, transforms, single values; equal to the library's own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from commands import call
from cuescope.api.audit import audit
from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import known, load, preprocessings
from cuescope.core.errors import CueError
from cuescope.core.user_code import load_file
from cuescope.data.images import Sample
from cuescope.runs.options import AuditOptions, check_look
from cuescope.runs.store import Run

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def image(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def given(how: Preprocessing | None, photograph: Image.Image) -> Tensor:
    """What a network gets of an image under this preprocessing."""
    assert how is not None
    classifier = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), preprocessing=how, device="cpu")
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    return classifier.normalize(classifier.prepare([Sample("a.png", pixels)]))[0]


# --- transforms -----------------------------------------------------------------------------------------------

NORMAL = v1.Normalize(**IMAGENET)
FLOAT = v2.ToDtype(torch.float32, scale=True)
CHAINS: dict[str, Any] = {
    "short side": v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), NORMAL]),
    "two sides": v1.Compose([v1.Resize((33, 47)), v1.ToTensor(), NORMAL]),
    "two sides and a crop": v1.Compose([v1.Resize([51, 40]), v1.CenterCrop((33, 31)), v1.ToTensor(), NORMAL]),
    "bicubic, no normalization": v1.Compose(
        [
            v1.Resize(40, v1.InterpolationMode.BICUBIC),
            v1.CenterCrop(31),
            v1.PILToTensor(),
            v1.ConvertImageDtype(torch.float32),
        ]
    ),
    "chain in a chain": v1.Compose([v1.Compose([v1.Resize(40), v1.CenterCrop(32)]), v1.ToTensor(), NORMAL]),
    "version 2": v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.ToImage(), FLOAT, v2.Normalize(**IMAGENET)]),
    "version 2, unscaled": v2.Compose(
        [v2.Resize(40), v2.CenterCrop(32), v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize([120.0], [60.0])]
    ),
    "one mean": v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize([0.5], [0.25])]),
    "preset": torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms(),
    "timm": timm.data.create_transform((3, 64, 64), interpolation="bicubic", crop_pct=0.9),  # type: ignore[attr-defined]
    "timm, not square": timm.data.create_transform((3, 64, 48), crop_pct=0.9),  # type: ignore[attr-defined]
    "timm, squashed": timm.data.create_transform((3, 64, 64), crop_pct=1.0, crop_mode="squash"),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_transforms_gives_the_same_pixels(name: str) -> None:
    how = preprocessings.read(CHAINS[name])
    for shape in ((97, 131), (300, 301), (64, 211)):
        wanted = torch.as_tensor(CHAINS[name](image(*shape)))
        assert torch.allclose(given(how, image(*shape)), wanted, rtol=1e-5, atol=1e-5), shape


@pytest.mark.parametrize(
    ("chain", "found"),
    [
        (v1.ColorJitter(0.1), "ColorJitter"),
        (v1.Compose([v1.RandomResizedCrop(224), v1.ToTensor()]), "RandomResizedCrop"),
        (v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.Grayscale(3), v1.ToTensor()]), "Grayscale"),
        (v1.Compose([v1.Resize(40), v1.CenterCrop(32), v1.RandomHorizontalFlip(), v1.ToTensor()]), "RandomHorizontal"),
        (v1.Compose([v1.Resize(40), v1.Lambda(lambda x: x)]), "Lambda"),
        (v1.Compose([v1.CenterCrop(32), v1.Resize(40), v1.ToTensor()]), "CenterCrop comes before"),
        (v1.Compose([v1.Resize(64), v1.Resize(40), v1.CenterCrop(32)]), "Resize comes after another"),
        (v1.Compose([v1.Resize(40, max_size=90), v1.CenterCrop(32), v1.ToTensor()]), "max_size=90"),
        (v1.Compose([v1.Resize(40), v1.ToTensor()]), "images of any shape"),
        (v1.Compose([v1.ToTensor(), NORMAL]), "no Resize"),
        (v1.Compose([v1.Resize(40), v1.CenterCrop(32)]), "not tensors"),
        (v2.Compose([v2.ToImage(), v2.Resize(40, antialias=False), v2.CenterCrop(32)]), "antialias=False"),
        (timm.data.create_transform((3, 64, 64), crop_mode="border"), "longest"),  # type: ignore[attr-defined]
        (nn.Linear(3, 2), "Linear"),
        (torchvision.models.ResNet50_Weights, "preprocessing"),
        (lambda x: x, "preprocessing"),
        (3, "preprocessing 3"),
        ("timm", "preprocessing 'timm'"),
        ("resnet50", "preprocessing 'resnet50'"),
        ([], "preprocessing"),
    ],
)
def test_what_changes_an_image_is_refused_by_name(chain: Any, found: str) -> None:
    with pytest.raises(CueError, match=found):
        preprocessings.read(chain)


# --- models' names and files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "vit_base_patch16_224", "convnext_tiny.fb_in22k_ft_in1k_384"])
def test_that_of_a_model_of_timm_needs_no_weights(name: str) -> None:
    how = preprocessings.read(f"timm/{name}")
    assert how is not None
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())  # type: ignore[union-attr, attr-defined]
    chain = timm.data.create_transform(**config)  # type: ignore[attr-defined]
    assert torch.allclose(given(how, image(397, 523)), torch.as_tensor(chain(image(397, 523))), rtol=1e-5, atol=1e-5)
    assert name in how.source


def test_that_of_a_model_of_torchvision() -> None:
    how = preprocessings.read("torchvision/mobilenet_v2.IMAGENET1K_V2")
    assert how is not None
    assert (how.size, how.resize) == ((224, 224), 232)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"size": 448}, {"size": (448, 448), "resize": 512}),
        ({"size": [64, 32], "resize": [70, 40]}, {"size": (64, 32), "resize": (70, 40)}),
        ({"size": 32, "keep_aspect": False}, {"size": (32, 32), "resize": (32, 32), "keep_aspect": False}),
        ({"mean": [0.5, 0.4, 0.3], "channels": "BGR"}, {"mean": (0.5, 0.4, 0.3), "channels": "BGR", "resize": 256}),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 48}, {"size": (48, 48), "keep_aspect": False}),
        ({"image_processor": {"image_processor_type": "CLIPImageProcessor"}}, {"resize": 224, "rounding": "down"}),
        (
            {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 95, 95], "crop_pct": 0.95}},
            {"size": (95, 95), "resize": 100, "interpolation": "bicubic"},
        ),
        ({"architecture": "resnet18", "input_size": [3, 95, 95], "mean": [0, 0, 0]}, {"size": (95, 95)}),
        (
            {"model_cfg": {"vision_cfg": {"image_size": 48}}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}},
            {"size": (48, 48), "resize": 48, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5)},
        ),
        (
            {"preprocess_cfg": {"size": [40, 48], "resize_mode": "squash", "interpolation": "bilinear"}},
            {"size": (40, 48), "resize": (40, 48), "interpolation": "bilinear", "keep_aspect": False},
        ),
    ],
)
def test_json_of_every_kind(tmp_path: Path, content: dict[str, Any], wanted: dict[str, Any]) -> None:
    (tmp_path / "how.json").write_text(json.dumps(content))
    how = preprocessings.read(tmp_path / "how.json")
    assert {name: getattr(how, name) for name in wanted} == wanted
    assert how is not None
    assert "assumed" not in how.source


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "no JSON"),
        ("[1]", "no object"),
        ("{}", "holds no preprocessing"),
        ('{"men": [0.5, 0.5, 0.5]}', "called men"),
        ('{"size": "large"}', "holds no preprocessing|size"),
        ('{"mean": [0.5]}', "mean"),
        ('{"preprocess_cfg": {"resize_mode": "longest"}}', "longest"),
        ('{"image_processor_type": "DonutImageProcessor"}', "DonutImageProcessor"),
        ('{"pretrained_cfg": {}}', "names no architecture"),
    ],
)
def test_json_that_holds_no_preprocessing(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "how.json").write_text(content)
    with pytest.raises(CueError, match=found):
        preprocessings.read(tmp_path / "how.json")


# --- single values --------------------------------------------------------------------------------------------


def test_single_values_overrule_what_is_known() -> None:
    how = preprocessings.overruled(Preprocessing(source="timm's"), mean=[0.5], std=(0.1, 0.2, 0.3), size=[64, 32])
    assert (how.mean, how.std, how.size) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3), (64, 32))
    assert how.source == "timm's, but mean, std, size as given"
    for pair in ({"size": [1, 2, 3]}, {"std": [0.0]}, {"resize": 0}, {"mean": [1.0, 2.0]}):
        with pytest.raises(CueError):
            preprocessings.overruled(Preprocessing(), **pair)  # type: ignore[arg-type]


def test_what_is_given_is_no_longer_assumed() -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert "mean" in "".join(load(own, device="cpu", size=64).assumed)
    partly = load(own, device="cpu", mean=(0.5,), std=(0.5,)).assumed
    assert partly == ("preprocessing: assumed: ImageNet's usual size, resize and interpolation; mean, std as given",)
    assert load(own, device="cpu", preprocessing=CHAINS["short side"]).assumed == ()
    assert load(own, device="cpu", preprocessing=Preprocessing()).assumed == ()


# --- before torch is imported ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nowhere.json", "no file 'nowhere.json'"),
        ("timm/resnet5O", "unknown model"),
        ("timm/resnet50@w.safetensors", "preprocessing"),
        ("torchvision/resnet-50", "unknown model"),
        ("cuescope/bagnet33", "preprocessing"),
        ("timm/local-dir:nowhere", "no folder 'nowhere'"),
        ("resnet50", "preprocessing 'resnet50'"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    text: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a new process: of a library that is loaded, the library itself is asked.
    for library in ("timm", "torchvision"):
        monkeypatch.delitem(sys.modules, library)
    (tmp_path / "images").mkdir()
    image(8, 8).save(tmp_path / "images" / "a.png")
    options = AuditOptions.of(images=str(tmp_path / "images"), preprocessing=text, out=tmp_path / "run")
    start = time.perf_counter()
    with pytest.raises(CueError, match=found):
        known.check_preprocessing(text)
    with pytest.raises(CueError, match=found):
        options.check(["timm/resnet50@random"])
    with pytest.raises(CueError, match=found):
        check_look(
            "occlusion", "timm/resnet50@random", tmp_path / "images" / "a.png", None, {}, {"preprocessing": text}
        )
    assert time.perf_counter() - start < 5


def test_right_names_pass(tmp_path: Path) -> None:
    (tmp_path / "how.json").write_text("{}")
    for text in (tmp_path / "how.json", "timm/resnet50", "torchvision/resnet50", Preprocessing(), None, CHAINS["timm"]):
        known.check_preprocessing(text)


# --- folders of timm ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As timm's push_to_hf_hub writes it: an argument, names, and an input size of its own."""
    network = timm.create_model("test_resnet", num_classes=3, act_layer="gelu").eval()
    (tmp_path / "mine").mkdir()
    save_file(network.state_dict(), tmp_path / "mine" / "model.safetensors")
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "num_features": 96,
        "model_args": {"act_layer": "gelu"},
        "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n1": "cat", "n2": "dog", "n3": "owl"},
        "pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5], "tag": "mine"},
    }
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    return tmp_path / "mine"


def edited(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def test_a_folder_of_timm(folder: Path) -> None:
    known.check(f"timm/local-dir:{folder}")
    classifier = load(f"timm/local-dir:{folder}", device="cpu")
    network = timm.create_model("test_resnet", num_classes=3, act_layer="gelu").eval()
    network.load_state_dict(load(f"timm/local-dir:{folder}", fold=False, device="cpu").module.state_dict())  # type: ignore[union-attr]
    pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network((pixels - 0.5) / torch.tensor(classifier.preprocessing.std).view(3, 1, 1))
    assert torch.allclose(classifier.logits(pixels), wanted, atol=1e-5)
    assert (classifier.classes.names, classifier.classes.keys) == (("cat", "dog", "owl"), ("n1", "n2", "n3"))
    assert (classifier.preprocessing.size, classifier.preprocessing.resize) == ((96, 96), 106)
    assert preprocessings.read(f"timm/local-dir:{folder}") == classifier.preprocessing
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.allclose(load(f"timm/local-dir:{folder}", device="cpu").logits(pixels), wanted, atol=1e-5)
    assert "untrained: random weights" in load(f"timm/local-dir:{folder}@random", device="cpu").notes


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model_args": {"checkpoint_path": "evil.pth"}}, "checkpoint_path"),
        ({"model_args": {"no_such_argument": 1}}, "cannot be built"),
        ({"model_args": 3}, "names no architecture"),
        ({"architecture": "no_such_net"}, "unknown model"),
        ({"num_classes": 5, "label_names": None}, r"of another shape|fit"),
    ],
)
def test_mistakes_in_a_folder_of_timm(folder: Path, change: dict[str, Any], found: str) -> None:
    edited(folder, **change)
    if "num_classes" in change:
        # The file's number of classes wins, as for every source.
        assert len(load(f"timm/local-dir:{folder}", device="cpu").classes) == 3
        return
    with pytest.raises(CueError, match=found):
        load(f"timm/local-dir:{folder}")


def test_a_folder_of_timm_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CueError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        load(f"timm/local-dir:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(CueError, match="cannot read"):
        load(f"timm/local-dir:{folder}")


# --- a network of one's own, which takes other images than ImageNet's usual ---------------------------------------

OWN = """
import torch, torchvision
from safetensors.torch import load_file
from torch import nn

class Own(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)
    def forward(self, x):
        # Takes bytes as Caffe did: blue, green, red from -128 to 127.
        x = (x.flip(1) + 128) / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        return self.parts(x).flatten(1)

def make():
    inner = torchvision.models.squeezenet1_1()
    inner.load_state_dict(load_file(WEIGHTS))
    return Own([*inner.features, *inner.classifier])
"""
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.real
def test_the_right_preprocessing_gives_the_right_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, photographs = SHARED / "weights" / "squeezenet1_1.safetensors", SHARED / "imagenet-sample"
    if not weights.is_file() or not photographs.is_dir():
        pytest.skip("no real weights and photographs")
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.replace("WEIGHTS", repr(str(weights))))
    values: dict[str, Any] = {"mean": [128 / 255] * 3, "std": [1 / 255] * 3, "channels": "BGR"}
    Path("how.json").write_text(json.dumps(values))
    asked: dict[str, Any] = {
        "images": str(photographs),
        "only": "accuracy",
        "limit": 150,
        "classes": "imagenet-1k",
        "device": "cpu",
    }
    known_one = audit(f"torchvision/squeezenet1_1@{weights}", **asked, out="known").finding("accuracy")["top1"].value
    wrong = audit("own.py:make", **asked, out="wrong")
    assert wrong.finding("accuracy")["top1"].value < 0.5 * known_one, "what is assumed is wrong, and said"
    assert any("preprocessing: assumed" in line for line in wrong.manifest["classifiers"][0]["assumed"])
    in_python = audit(load_file("own.py").make(), **asked, preprocessing=Preprocessing(**values), out="python")
    options = [f"--{name}={value}" for name, value in asked.items()]
    status, _, err = call("audit", "own.py:make", *options, "--preprocessing=how.json", "--out=line", capsys=capsys)
    assert status == 0, err
    in_shell = Run.open("line")
    for run in (in_python, in_shell):
        assert run.finding("accuracy")["top1"].value == known_one
        assert not any("preprocessing" in line for line in run.manifest["classifiers"][0]["assumed"])
    assert in_shell.manifest["classifiers"][0]["preprocessing"]["source"] == "how.json"
