"""load(): every kind of name, every kind of file, and every mistake."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import cuescope.classifier.sources
from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import hub, load, names, weights
from cuescope.core.classes import imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.user_code import load_file
from cuescope.models.seeding import seeded
from cuescope.models.small_resnet import SmallResNet

NAME = "torchvision/squeezenet1_1"


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    return seeded(7, torchvision.models.squeezenet1_1).eval()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return random(1, 3, 224, 224)


@pytest.fixture(scope="module")
def wanted(squeezenet: nn.Module, pixels: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        return squeezenet((pixels - mean) / std)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# --- files of weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "wrap"),
    [
        ("a.safetensors", lambda s: s),
        ("b.pth", lambda s: s),
        ("c.pt", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3}),
        ("d.bin", lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}}),
        ("e.pth", lambda s: {"model_state_dict": s, "optimizer": {"lr": 0.1}}),
    ],
)
def test_weights_of_every_wrapping(tmp_path: Path, file: str, wrap: Callable[[object], dict[str, Any]]) -> None:
    state = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).state_dict()
    path = tmp_path / file
    save_file(wrap(state), path) if path.suffix == ".safetensors" else torch.save(wrap(state), path)
    found = weights.read(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_network_with_weights_from_a_file(
    tmp_path: Path, squeezenet: nn.Module, pixels: Tensor, wanted: Tensor
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state_of(squeezenet), path)
    classifier = load(f"{NAME}@{path}", device="cpu")
    assert torch.allclose(classifier.logits(pixels), wanted, atol=1e-4)
    assert classifier.name == f"{NAME}@{path}"
    assert classifier.classes == imagenet_1k()
    assert classifier.preprocessing.source == "torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert load(NAME, weights=path, device="cpu").digest == classifier.digest


def test_half_precision_files_make_float32_networks(tmp_path: Path, squeezenet: nn.Module, pixels: Tensor) -> None:
    save_file({k: v.half() for k, v in state_of(squeezenet).items()}, tmp_path / "half.safetensors")
    classifier = load(NAME, weights=tmp_path / "half.safetensors", device="cpu")
    assert {p.dtype for p in classifier.module.parameters()} == {torch.float32}  # type: ignore[union-attr]
    assert classifier.logits(pixels).isfinite().all()


def test_wrong_keys_are_named_and_counted(tmp_path: Path, squeezenet: nn.Module) -> None:
    state = state_of(squeezenet)
    for part in ("squeeze", "expand1x1", "expand3x3"):
        del state[f"features.3.{part}.weight"], state[f"features.3.{part}.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(CueError) as caught:
        load(NAME, weights=tmp_path / "wrong.pth")
    text = caught.value.found
    assert "6 missing: features.3.squeeze.weight, features.3.squeeze.bias, " in text
    assert ", ... (2 more)" in text
    assert "1 unexpected: extra.weight" in text
    assert "1 of another shape: features.0.weight (64, 1, 3, 3) in place of (64, 3, 3, 3)" in text


def test_a_head_of_another_size_is_fitted_and_nothing_else_is(tmp_path: Path) -> None:
    tuned = seeded(1, lambda: timm.create_model("test_resnet", num_classes=7))
    save_file(tuned.state_dict(), tmp_path / "seven.safetensors")
    classifier = load("timm/test_resnet", weights=tmp_path / "seven.safetensors", classes=list("abcdefg"), device="cpu")
    assert classifier.classes.names == tuple("abcdefg")
    pixels = random(1, 3, 160, 160)
    with torch.no_grad():
        wanted = tuned.eval()(classifier.normalize(pixels))
    assert torch.allclose(classifier.logits(pixels), wanted, atol=1e-4)
    narrow = {k: v[:, :8] if k == "fc.weight" else v for k, v in tuned.state_dict().items()}
    torch.save(narrow, tmp_path / "narrow.pth")
    with pytest.raises(CueError, match=r"1 of another shape: fc\.weight \(7, 8\) in place of \(7, 96\)"):
        load("timm/test_resnet", weights=tmp_path / "narrow.pth")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


def test_code_in_files_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeezenet: nn.Module) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    Path("raw.bin").write_bytes(pickle.dumps(Evil()))
    torch.save(squeezenet, "whole.pt")
    for file in ("evil.pth", "raw.bin", "whole.pt"):
        with pytest.raises(CueError, match="more than tensors"):
            weights.read(file)
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("page.pth", b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("empty.pth", b"", "cannot be read"),
        ("noise.pth", b"PK\x03\x04" + bytes(40), "cannot be read"),
        ("noise.safetensors", bytes(30), "is broken"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, file: str, content: bytes, found: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CueError, match=found):
        weights.read(tmp_path / file)


def test_a_tensor_alone_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "one.pth")
    with pytest.raises(CueError, match="holds no state_dict"):
        weights.read(tmp_path / "one.pth")


def test_a_missing_file_offers_its_neighbors(tmp_path: Path) -> None:
    (tmp_path / "squeezenet.safetensors").touch()
    with pytest.raises(CueError, match=r"did you mean squeezenet\.safetensors"):
        load(f"{NAME}@{tmp_path / 'sqeezenet.safetensors'}")
    with pytest.raises(CueError, match=r"no weights file 'nowhere/a\.pth'"):
        load(f"{NAME}@nowhere/a.pth")


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("timm/resnet5O", "timm/resnet50"),
        ("timm/resnet50.a1_in1", "timm/resnet50.a1_in1k"),
        ("torchvision/resnet-50", "torchvision/resnet50"),
        ("torchvision/resnet50.IMAGENET1K_V3", "IMAGENET1K_V"),
        ("cuescope/bagnet34", "cuescope/bagnet33"),
        ("squeezenet1_1", "torchvision/squeezenet1_1"),
        ("model.safetensors", "timm/resnet50@model.safetensors"),
        ("model.py", "model.py:make_model"),
        ("", "cuescope list models"),
    ],
)
def test_unknown_names_offer_the_nearest(spec: str, hint: str) -> None:
    with pytest.raises(CueError) as caught:
        load(spec)
    assert hint in caught.value.do


@pytest.mark.parametrize("spec", [3, None, ["timm/resnet50"]])
def test_what_is_no_classifier(spec: object) -> None:
    with pytest.raises(CueError, match="is no classifier"):
        load(spec)  # type: ignore[arg-type]


def test_all_names_are_listed() -> None:
    found = names()
    assert {"cuescope/world-shape", "cuescope/bagnet33", NAME, "timm/resnet50.a1_in1k"} <= set(found)
    assert len(found) > 1000


def test_random_weights_come_from_a_seed_of_their_own() -> None:
    state = torch.random.get_rng_state()
    first = load("timm/test_resnet@random", device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    second = load("timm/test_resnet@random", device="cpu")
    assert first.digest == second.digest
    assert "untrained: random weights" in first.notes


@pytest.mark.parametrize(
    ("spec", "how"),
    [
        ("timm/vit_tiny_patch16_224", ((224, 224), 248, "bicubic", (0.5, 0.5, 0.5))),
        ("timm/resnet10t", ((176, 176), 201, "bicubic", (0.485, 0.456, 0.406))),
        ("torchvision/mobilenet_v2", ((224, 224), 256, "bilinear", (0.485, 0.456, 0.406))),
        ("torchvision/mobilenet_v2.IMAGENET1K_V2", ((224, 224), 232, "bilinear", (0.485, 0.456, 0.406))),
    ],
)
def test_preprocessing_is_the_models_own(spec: str, how: tuple[object, ...]) -> None:
    found = load(f"{spec}@random", device="cpu", fold=False).preprocessing
    assert (found.size, found.resize, found.interpolation, found.mean) == how
    assert found.source.startswith(("timm's data config of ", "torchvision's MobileNet_V2_Weights.IMAGENET1K_V"))


def test_preprocessing_equals_timms_for_every_model() -> None:
    """The resize that timm's own transform does, for one of each configuration that occurs."""
    from timm.data import create_transform

    from cuescope.classifier.sources.from_timm import preprocessing_of

    class Stub:
        def __init__(self, cfg: object) -> None:
            self.pretrained_cfg = cfg.to_dict()  # type: ignore[attr-defined]

    seen = {}
    for name in timm.list_models(pretrained=True):
        cfg = timm.get_pretrained_cfg(name)
        seen[cfg.input_size, cfg.crop_pct, cfg.crop_mode, cfg.interpolation] = cfg
    for cfg in seen.values():
        how = preprocessing_of(Stub(cfg))
        assert how is not None
        twin = create_transform(
            cfg.input_size, interpolation=cfg.interpolation, crop_pct=cfg.crop_pct, crop_mode=cfg.crop_mode
        )
        first = twin.transforms[0]
        if cfg.crop_mode == "border":
            assert "border" in how.source
        else:
            assert how.keep_aspect == (cfg.crop_mode != "squash")
            assert (first.size if isinstance(first.size, int) else tuple(first.size)) == how.resize, cfg


class Silent:
    """A hub that never answers."""

    def __call__(self, *_args: object, **_kwargs: object) -> None:
        raise OSError("[Errno -2] Name or service not known")


def test_a_hub_that_cannot_be_reached_says_so_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    monkeypatch.setattr("urllib.request.urlopen", Silent())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(get_session(), "head", Silent())
    monkeypatch.setattr(socket, "setdefaulttimeout", lambda _: pytest.fail("it is the whole process's"))
    for spec in (NAME, "timm/resnet10t"):
        start = time.perf_counter()
        with pytest.raises(CueError, match="could not be fetched") as caught:
            load(spec)
        assert time.perf_counter() - start < 5
        assert f"{spec}@weights.safetensors" in caught.value.do
    assert not constants.HF_HUB_OFFLINE


def test_weights_come_from_the_hubs_and_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, squeezenet: nn.Module
) -> None:
    """Both hubs played by files; offline mode is read where it is used, so another thread would see a switch."""
    from huggingface_hub import constants

    seen: list[bool] = []
    torch.save(squeezenet.state_dict(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    entry = torchvision.models.get_model_weights("squeezenet1_1").IMAGENET1K_V1

    def answer(request: Any, timeout: float) -> Any:
        assert timeout == hub.PATIENCE_S
        found = io.BytesIO(data)
        found.status, found.headers = 200, {"Content-Length": str(len(data))}  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr("urllib.request.urlopen", answer)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CueError, match="another SHA-256"):
        load(f"torchvision/squeezenet1_1.{entry.name}")
    assert hub.checkpoint(f"https://hub/net-{digest[:8]}.pth") == tmp_path / "checkpoints" / f"net-{digest[:8]}.pth"
    monkeypatch.setattr(hub, "checkpoint", lambda url: tmp_path / "w.pth")
    assert load(NAME, device="cpu").digest == load(NAME, weights=tmp_path / "w.pth", device="cpu").digest

    network = seeded(4, lambda: timm.create_model("resnet10t"))
    save_file(network.state_dict(), tmp_path / "model.safetensors")

    def fetched(repository: str, file: str, **how: Any) -> str:
        seen.append(constants.HF_HUB_OFFLINE)
        assert (repository, how["local_files_only"]) == ("timm/resnet10t.c3_in1k", True)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
    monkeypatch.setattr("huggingface_hub.utils.get_session", Silent())
    found = load("timm/resnet10t.c3_in1k", device="cpu", fold=False).module
    assert found is not None
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), network.state_dict().values(), strict=True)
    )
    assert seen == [False]


def test_models_without_weights_ask_for_a_file() -> None:
    with pytest.raises(CueError, match="ships no weights") as caught:
        load("cuescope/bagnet33")
    assert "cuescope/bagnet33@weights.safetensors" in caught.value.do
    with pytest.raises(CueError, match="timm has no weights"):
        load("timm/resnet200")


def test_the_worlds_models() -> None:
    classifier = load("cuescope/world-shape", device="cpu")
    assert (classifier.preprocessing.size, classifier.preprocessing.resize) == ((64, 64), 64)
    assert "rabbit" in classifier.classes.names
    untrained = load("cuescope/world-shape@random", device="cpu")
    assert untrained.digest != classifier.digest
    assert "untrained: random weights" in untrained.notes


def test_a_thousand_outputs_of_a_known_package_are_imagenets() -> None:
    how = Preprocessing((32, 32), 32)
    assert Classifier(SmallResNet(1000, widths=(4, 4, 4)), preprocessing=how).classes == imagenet_1k()
    own = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
    own.__class__ = type("Own", (nn.Sequential,), {"__module__": "own"})
    assert Classifier(own, preprocessing=how).classes.name == "numbered"


# --- objects and factories ------------------------------------------------------------------------------------

OWN = """
import torch
from helper import WIDTH
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, WIDTH)
    def forward(self, x):
        return self.fc(x.mean((2, 3)))

def make():
    return Net()

def make_classifier():
    import cuescope.classifier.classifier as c
    return c.Classifier(Net(), preprocessing=c.Preprocessing((8, 8), 8), classes=["a", "b"])

def make_nothing():
    return None

def fail():
    raise ZeroDivisionError("mine")

net = Net()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("WIDTH = 2\n")
    monkeypatch.chdir(tmp_path)
    for name in ("own_models", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "own_models.py"


def test_three_lines_audit_ones_own_module() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = load(net, classes=["a", "b", "c", "d"], device="cpu")
    assert (classifier.name, classifier.module, classifier.classes.names) == ("Sequential", net, ("a", "b", "c", "d"))
    assert load(classifier) is classifier
    assert load(timm.create_model("vit_tiny_patch16_224", depth=1)).preprocessing.interpolation == "bicubic"


def test_a_classifier_is_left_as_it_is(own: Path) -> None:
    mine = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), name="mine", device="cpu")
    assert load(mine) is mine
    lower = load(mine, precision="bfloat16", classes=["r", "g", "b"])
    assert (lower.precision, lower.classes.names, lower.name) == ("bfloat16", ("r", "g", "b"), "mine")
    assert (mine.precision, mine.classes.name) == ("float32", "numbered")
    own.write_text(OWN + "\nheld = make_classifier()\n")
    held = load_file("own_models.py").held
    name, found = held.name, load("own_models.py:held")
    assert found.name == "own_models.py:held"
    assert (held.name, found.module) == (name, held.module)
    with pytest.raises(CueError, match="cannot be prepared anew with other precision"):
        load(load("cuescope/world-shape", device="cpu"), precision="bfloat16")


def test_a_users_file_runs_once_and_shadows_nothing(own: Path) -> None:
    text = """
import dataclasses, pickle, stats
from torch import nn
stats.runs.append(1)
@dataclasses.dataclass
class Setting:
    width: int = 2
class Net(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
def make():
    assert pickle.loads(pickle.dumps(Setting(3))) == Setting(3)
    return Net()
"""
    Path("random.py").write_text(text)
    Path("stats.py").write_text("runs = []\n")
    import random

    try:
        digests = {load("random.py:make", device="cpu").digest for _ in range(2)}
        assert sys.modules["stats"].runs == [1]
    finally:
        sys.modules.pop("stats", None)
    assert sys.modules["random"] is random
    Path("elsewhere").mkdir()
    Path("elsewhere/random.py").write_text(text)
    Path("elsewhere/stats.py").write_text("runs = []\n")
    digests.add(load("elsewhere/random.py:make", device="cpu").digest)
    sys.modules.pop("stats", None)
    assert len(digests) == 1, "where a file lies makes no other classifier"
    Path("random.py").write_text("raise ValueError('mine')")
    for _ in range(2):
        with pytest.raises(CueError, match="ValueError: mine"):
            load("random.py:make")


@pytest.mark.parametrize("spec", ["own_models.py:make", "own_models:make", "own_models.py:net", "own_models:Net"])
def test_factories_of_files_and_packages(own: Path, spec: str) -> None:
    classifier = load(spec, device="cpu")
    assert (classifier.name, len(classifier.classes)) == (spec, 2)
    assert "assumed" in classifier.preprocessing.source
    assert str(own.parent) not in sys.path


def test_a_factory_may_make_a_classifier(own: Path) -> None:
    classifier = load("own_models.py:make_classifier")
    assert (classifier.name, classifier.classes.names) == ("own_models.py:make_classifier", ("a", "b"))
    assert classifier.preprocessing.size == (8, 8)


def test_the_code_of_ones_own_network_is_part_of_its_identity(own: Path) -> None:
    save_file({"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}, "w.safetensors")
    before = load("own_models.py:make@w.safetensors")
    assert torch.equal(before.module.fc.weight, torch.ones(2, 3))  # type: ignore[union-attr]
    own.write_text(OWN.replace("self.fc(x.mean((2, 3)))", "self.fc(x.amax((2, 3)))"))
    assert load("own_models.py:make@w.safetensors").digest != before.digest


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("own_models.py:mak", "unknown factory 'mak'"),
        ("nowhere.py:make", r"no file 'nowhere\.py'"),
        ("no_such_package.models:make", "no package 'no_such_package.models'"),
        ("own_models.py:make_nothing", "gives a NoneType"),
    ],
)
def test_mistakes_with_factories(own: Path, spec: str, found: str) -> None:
    with pytest.raises(CueError, match=found):
        load(spec)


def test_what_a_factory_raises_is_reported_with_its_line(own: Path) -> None:
    with pytest.raises(CueError, match=r"ZeroDivisionError: mine \(.*own_models.py:\d+\)"):
        load("own_models.py:fail")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def make(:\n", "SyntaxError"),
        ("import nosuchmodule\n", "No module named 'nosuchmodule'"),
        ("def make():\n    raise SystemExit(0)\n", "SystemExit"),
        ("def make(size):\n    pass\n", "wants size"),
        ("make = 3\n", "is a int"),
        ("from torch import nn\ndef make():\n    return nn.Linear\n", "gives a type"),
    ],
)
def test_a_file_that_fails_is_one_error(tmp_path: Path, code: str, found: str) -> None:
    (tmp_path / "odd.py").write_text(code)
    with pytest.raises(CueError, match=found):
        load(f"{tmp_path / 'odd.py'}:make")


# --- ONNX -----------------------------------------------------------------------------------------------------


def onnx_file(path: Path, batch: int | str = "B", channels_last: bool = False) -> Tensor:
    """A network of two linear outputs of the mean color, written by hand; its weights (3, 2)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = random(3, 2)
    shape, axes = ([batch, 8, 6, 3], [1, 2]) if channels_last else ([batch, 3, 8, 6], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 2])],
        [
            numpy_helper.from_array(torch.tensor(axes).numpy(), "axes"),
            numpy_helper.from_array(kernel.numpy(), "kernel"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return kernel


@pytest.mark.parametrize(("batch", "channels_last"), [("B", False), (1, False), (4, True)])
def test_onnx_is_a_black_box(tmp_path: Path, batch: int | str, channels_last: bool) -> None:
    kernel = onnx_file(tmp_path / "net.onnx", batch, channels_last)
    classifier = load(tmp_path / "net.onnx")
    assert classifier.capabilities == {"logits"}
    assert classifier.preprocessing.size == (8, 6)
    pixels = random(11, 3, 8, 6)
    wanted = classifier.normalize(pixels).mean((2, 3)) @ kernel
    assert torch.allclose(classifier.logits(pixels), wanted, atol=1e-5)


def test_mistakes_with_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CueError, match="no file"):
        load("nowhere.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(CueError, match="cannot be loaded"):
        load(tmp_path / "bad.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CueError, match="needs onnxruntime") as caught:
        load(tmp_path / "bad.onnx")
    assert caught.value.do == "pip install 'cuescope[onnx]'"


# --- the whole ------------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = """if True:
        import sys, cuescope.classifier.sources
        print([m for m in ("torch", "timm", "torchvision", "numpy") if m in sys.modules])
        import cuescope.classifier.classifier
        print([m for m in ("timm", "torchvision") if m in sys.modules])"""
    path = str(Path(cuescope.classifier.sources.__file__).parents[3])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert run.stdout.split() == ["[]", "[]"], run.stderr


def test_options_reach_the_classifier() -> None:
    how = Preprocessing((32, 32), 40)
    classifier = load(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), preprocessing=how, precision="bfloat16", batch_size=3
    )
    assert isinstance(classifier, Classifier)
    assert (classifier.preprocessing, classifier.precision, classifier.batch_size) == (how, "bfloat16", 3)
