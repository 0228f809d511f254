"""Every kind of model, one row each: it loads, its logits are its library's own, and what else is known of it.

The models are small and random, made on the spot by the real libraries.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import NUMBERED
from cuescope.models.saved import Saved, to_bytes
from cuescope.models.seeding import seeded

pytestmark = [
    pytest.mark.extra,
    pytest.mark.filterwarnings("ignore"),  # those of the libraries, which export and convert in their own ways
]

SIDE = 64
NAMES = ("cat", "dog", "emu")


class Made(NamedTuple):
    """What to load, with what else, and its library's own logits of normalized images."""

    spec: Any
    own: Callable[[Tensor], Any]
    how: dict[str, Any] = {}  # noqa: RUF012


def small() -> nn.Module:
    return seeded(
        0,
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 3),
        ).eval(),
    )  # fmt: skip


def of_timm(folder: Path) -> Made:
    import timm

    net = seeded(0, lambda: timm.create_model("resnet10t")).eval()
    save_file(net.state_dict(), folder / "w.safetensors")
    return Made(f"timm/resnet10t@{folder}/w.safetensors", net)


def of_timms_folder(folder: Path) -> Made:
    import timm

    net: Any = seeded(0, lambda: timm.create_model("resnet10t", num_classes=3)).eval()
    save_file(net.state_dict(), folder / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 3, "label_names": NAMES}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {"input_size": [3, SIDE, SIDE]}}))
    return Made(f"timm/local-dir:{folder}", net)


def of_torchvision(folder: Path) -> Made:
    import torchvision

    net = seeded(0, lambda: torchvision.models.squeezenet1_1(weights=None)).eval()
    save_file(net.state_dict(), folder / "w.safetensors")
    return Made(f"torchvision/squeezenet1_1@{folder}/w.safetensors", net)


def of_cuescope(folder: Path) -> Made:
    from cuescope.world.models import load_world

    return Made("cuescope/world-congruent", load_world("world-congruent").eval())


def transformers_network() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=dict(enumerate(NAMES))
    )
    return seeded(0, lambda: transformers.ResNetForImageClassification(config)).eval()


def of_transformers(folder: Path) -> Made:
    import transformers

    net = transformers_network()
    net.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return Made(f"hf/{folder}", lambda x: net(x).logits)


def of_transformers_object(folder: Path) -> Made:
    net = transformers_network()
    return Made(net, lambda x: net(x).logits)


def of_open_clip(folder: Path) -> Made:
    open_clip: Any = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "kinds-ViT.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    model = seeded(0, lambda: open_clip.create_model("kinds-ViT", load_weights=False)).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "w.safetensors")
    tokens = open_clip.get_tokenizer("kinds-ViT")

    def own(images: Tensor) -> Tensor:
        words: Any = open_clip.build_zero_shot_classifier(model, tokens, NAMES, [lambda c: f"a {c}."], device="cpu")
        return model.logit_scale.exp() * model.encode_image(images, normalize=True) @ words

    return Made(f"open_clip/kinds-ViT@{folder}/w.safetensors", own, {"classes": NAMES, "templates": ["a {}."]})


def keras_model() -> Any:
    keras: Any = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="first"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="logits"),
        ]
    )


def of_keras(folder: Path) -> Made:
    load_first()
    net = keras_model()
    net.save(folder / "net.keras")
    return Made(folder / "net.keras", lambda x: net.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0))


def of_keras_application(folder: Path) -> Made:
    load_first()
    keras: Any = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    net = keras.applications.MobileNet(
        weights=None, input_shape=(SIDE, SIDE, 3), alpha=0.25, classifier_activation=None
    )
    net.save_weights(folder / "w.weights.h5")
    net.save(folder / "net.keras")
    return Made(folder / "net.keras", lambda x: net.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0))


def load_first() -> None:
    """Keras takes its backend from the environment when it is imported first; cuescope's source sets it."""
    import os

    os.environ["KERAS_BACKEND"] = "torch"


def of_onnx(folder: Path) -> Made:
    net = small()
    torch.onnx.export(net, (torch.zeros(2, 3, SIDE, SIDE),), folder / "net.onnx", dynamo=False)
    return Made(folder / "net.onnx", net)


def of_export(folder: Path) -> Made:
    net = small()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, SIDE, SIDE),)), folder / "net.pt2")
    return Made(folder / "net.pt2", net)


def of_torchscript(folder: Path) -> Made:
    net = small()
    torch.jit.trace(net, torch.zeros(2, 3, SIDE, SIDE)).save(str(folder / "net.pt"))
    return Made(folder / "net.pt", net, {"size": SIDE})


def of_factory(folder: Path) -> Made:
    (folder / "net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))\n"
    )
    net = seeded(
        0, lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    )
    return Made(f"{folder}/net.py:make", net)


def of_module(folder: Path) -> Made:
    net = small()
    return Made(net, net)


def of_function(folder: Path) -> Made:
    net = small()
    return Made(lambda images: net(images).numpy(), net)


def of_training(folder: Path) -> Made:
    from cuescope.core.classes import ClassSpace
    from cuescope.data.preprocessing import Preprocessing
    from cuescope.world.models import build_world

    net = build_world("world-congruent", 3).eval()
    net.fc = nn.Linear(net.fc.in_features, 3)  # pyright: ignore[reportArgumentType]
    saved = Saved("world-congruent", ClassSpace("given", NAMES), Preprocessing((32, 32), 36))
    (folder / "best.safetensors").write_bytes(to_bytes(net, saved))
    return Made(folder, net)


class Row(NamedTuple):
    make: Callable[[Path], Made]
    inside: bool
    """It has layers and gradients."""
    named: bool
    """Its classes have names."""
    known: bool
    """Its preprocessing is known, not assumed."""


TABLE = {
    "timm/NAME@FILE": Row(of_timm, True, True, True),
    "timm/local-dir:FOLDER": Row(of_timms_folder, True, True, True),
    "torchvision/NAME@FILE": Row(of_torchvision, True, True, True),
    "cuescope/NAME": Row(of_cuescope, True, True, True),
    "hf/FOLDER": Row(of_transformers, True, True, True),
    "a module of transformers": Row(of_transformers_object, True, True, False),
    "open_clip/ARCH@FILE": Row(of_open_clip, True, True, False),
    "FILE.keras": Row(of_keras, True, False, False),
    "FILE.keras of an application": Row(of_keras_application, True, False, False),
    "FILE.onnx": Row(of_onnx, False, False, False),
    "FILE.pt2": Row(of_export, False, False, False),
    "TorchScript": Row(of_torchscript, False, False, False),
    "file.py:factory": Row(of_factory, True, False, False),
    "nn.Module": Row(of_module, True, False, False),
    "a function": Row(of_function, False, False, False),
    "a training's folder": Row(of_training, True, True, True),
}


@pytest.mark.parametrize("kind", TABLE)
def test_a_kind_of_model(kind: str, tmp_path: Path) -> None:
    row = TABLE[kind]
    made = row.make(tmp_path)
    found = load(made.spec, device="cpu", **made.how)
    pixels = torch.rand(3, 3, *found.preprocessing.size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        own = made.own(found.normalize(pixels).contiguous())
    own = torch.from_numpy(np.array(own)) if not isinstance(own, Tensor) else own
    assert (found.logits(pixels) - own).abs().max() <= 1e-5 * max(1.0, float(own.abs().max()))
    assert own.std() > 0
    assert bool(found.layers) == row.inside
    assert ("gradients" in found.capabilities) == row.inside
    if row.inside:
        assert bool(gradient(found, pixels).abs().sum() > 0)
    assert (found.classes.name != NUMBERED) == row.named
    assert ("assumed" in found.preprocessing.source) == (not row.known)
    assert row.known or any("preprocessing" in text for text in found.assumed)


def gradient(classifier: Classifier, pixels: Tensor) -> Tensor:
    pixels = pixels.clone().requires_grad_()
    classifier.forward(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    return pixels.grad


def test_the_names_of_a_kind_are_its_own(tmp_path: Path) -> None:
    for kind in ("timm/local-dir:FOLDER", "hf/FOLDER", "open_clip/ARCH@FILE", "a training's folder"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        made = TABLE[kind].make(folder)
        assert load(made.spec, device="cpu", **made.how).classes.names == NAMES
