"""Files of programs: TorchScript and torch.export, as black boxes that can do nothing but compute."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import archives, known, load
from cuescope.core import zips
from cuescope.core.errors import CueError
from cuescope.models.seeding import seeded

SIDE = 24
# torch warns that its own formats are old.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


class Net(nn.Module):
    """With what programs are made of: a list of tensors, sizes, no gradients within, several outputs."""

    def __init__(self, several: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 6)
        self.several = several
        self.register_buffer("shift", torch.rand(6), persistent=False)

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            maps = self.body(x)
        first, second = torch.chunk(maps.mean((2, 3)), 2, 1)
        places = torch.arange(x.shape[0], device=x.device)[:, None] * 0.0
        logits = self.head(torch.cat([first, second], 1)) + self.shift + places
        return (maps, logits) if self.several else logits


@pytest.fixture(scope="module")
def network() -> Net:
    net = seeded(1, Net)
    net.body[1].running_mean.add_(0.3)  # type: ignore[union-attr]
    return net.eval().requires_grad_(False)


def exported(net: nn.Module, batch: int | None = None) -> torch.export.ExportedProgram:
    free = None if batch else ({0: torch.export.Dim("batch", min=1, max=64)},)
    return torch.export.export(net, (torch.rand(batch or 2, 3, SIDE, SIDE),), dynamic_shapes=free)


@pytest.fixture(scope="module")
def program(network: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(exported(network), path)
    return path


@pytest.fixture(scope="module")
def script(network: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.torchscript"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, torch.rand(2, 3, SIDE, SIDE)), path)
    return path


def agrees(classifier: Classifier, network: nn.Module, several: bool = False) -> bool:
    """As one image at a time gives, for a number of images that fills no batch."""
    pixels = torch.rand(5, 3, SIDE, SIDE)
    one_by_one = [network(classifier.normalize(pixels[i : i + 1])) for i in range(5)]
    wanted = torch.cat([one[1] if several else one for one in one_by_one])
    return torch.allclose(classifier.logits(pixels), wanted, rtol=1e-5, atol=1e-6)


# --- what they compute ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, None])
def test_an_exported_program(tmp_path: Path, network: Net, batch: int | None) -> None:
    given = exported(network, batch)
    torch.export.save(given, tmp_path / "net.pt2")
    for spec in (tmp_path / "net.pt2", given):
        classifier = load(spec, device="cpu")
        assert classifier.preprocessing.size == (SIDE, SIDE)
        assert classifier.capabilities == {"logits"}
        assert agrees(classifier, network)
        assert any(f"takes {batch} image" in note for note in classifier.assumed) == (batch is not None)
        assert any("black box" in note for note in classifier.assumed)


def test_several_outputs_of_which_the_classes_tell_one(tmp_path: Path) -> None:
    net = seeded(2, lambda: Net(several=True)).eval()
    torch.export.save(exported(net), tmp_path / "net.pt2")
    assert agrees(load(tmp_path / "net.pt2", classes=list("abcdef"), device="cpu"), net, several=True)


@pytest.mark.parametrize("how", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(1, 3, SIDE, SIDE))])
def test_torchscript(tmp_path: Path, how: Callable[[nn.Module], Any]) -> None:
    net = seeded(3, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    scripted = how(net.eval())
    torch.jit.save(scripted, tmp_path / "net.ts")
    scripted.train()
    for spec in (tmp_path / "net.ts", scripted):
        classifier = load(spec, device="cpu", size=SIDE)
        assert agrees(classifier, net)
        assert classifier.capabilities == {"logits"}
        assert any("TorchScript" in note for note in classifier.assumed)
    assert scripted.training, "what was given is left as it is"


def test_half_precision_torchscript_runs_in_float32(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).half().eval()
    torch.jit.save(torch.jit.script(net), tmp_path / "half.ts")
    classifier = load(tmp_path / "half.ts", device="cpu", size=SIDE)
    assert agrees(classifier, net.float())
    assert any("float16" in note for note in classifier.assumed)


def test_files_are_told_by_what_is_in_them(tmp_path: Path, program: Path, script: Path, network: Net) -> None:
    """Both are often called .pt; a file of weights alone is none."""
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    for name, source, found in (("a.pt", program, "from_exported"), ("b.pt", script, "from_torchscript")):
        (tmp_path / name).write_bytes(source.read_bytes())
        assert archives.program(tmp_path / name) == found
        known.check(str(tmp_path / name))
        assert agrees(load(tmp_path / name, device="cpu", size=SIDE), network)
    assert archives.program(tmp_path / "weights.pt") == ""
    for check in (known.check, load):
        with pytest.raises(CueError, match="weights alone"):
            check(str(tmp_path / "weights.pt"))
    (tmp_path / "c.pt2").write_bytes((tmp_path / "weights.pt").read_bytes())
    with pytest.raises(CueError, match="holds no exported program"):
        load(tmp_path / "c.pt2")
    with pytest.raises(CueError, match="no file"):
        known.check("nowhere.ts")
    with pytest.raises(CueError, match="holds no TorchScript"):
        load("nowhere.ts")
    with pytest.raises(CueError, match="has its own"):
        load(f"{program}@weights.pth")


def test_another_program_is_another_classifier(tmp_path: Path, program: Path, network: Net) -> None:
    other = seeded(9, Net).eval()
    torch.export.save(exported(other), tmp_path / "other.pt2")
    assert load(tmp_path / "other.pt2", device="cpu").digest != load(program, device="cpu").digest
    assert load(exported(other), device="cpu").digest != load(exported(network), device="cpu").digest


def test_an_input_that_is_no_image_is_told(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.rand(4, 3),)), tmp_path / "flat.pt2")
    with pytest.raises(CueError, match=r"takes float32 \[4, 3\]"):
        load(tmp_path / "flat.pt2")


# --- what they must not do ------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


def pickled(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def rewritten(path: Path, to: str, change: Mapping[str, bytes | Callable[[bytes], bytes] | None]) -> str:
    """A copy of an archive with other files in it; None takes one away."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    root = next(iter(contents)).partition("/")[0]
    for name, new in change.items():
        key = f"{root}/{name}"
        if new is None:
            del contents[key]
        else:
            contents[key] = new(contents[key]) if callable(new) else new
    with zipfile.ZipFile(to, "w") as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return to


def edited(*pairs: tuple[str, str]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        text = data.decode()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        return text.encode()

    return change


def with_pickle(data: bytes) -> bytes:
    table = json.loads(data)
    next(iter(table["config"].values()))["use_pickle"] = True
    return json.dumps(table).encode()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "evil"


def test_examples_of_inputs_are_not_unpickled(here: Path, program: Path, network: Net) -> None:
    path = rewritten(program, "x.pt2", {"data/sample_inputs/model.pt": pickled((Evil(),))})
    assert agrees(load(path, device="cpu"), network)
    assert not here.exists()
    torch.export.load(path)
    assert here.exists(), "torch itself runs it"


EVIL_SIZE = "__import__('os').system('touch evil')"
CONSTANT = {"config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"data/weights/weight_0": pickled(Evil()), "data/weights/model_weights_config.json": with_pickle},
            "pickled object",
        ),
        (
            {
                "data/constants/opaque_obj_0": pickle.dumps(Evil()),
                "data/constants/model_constants_config.json": json.dumps(CONSTANT).encode(),
            },
            "pickled object",
        ),
        ({"data/weights/model.pt": pickled({"body.0.weight": Evil()})}, "pickled objects"),
        ({"data/constants/model.pt": pickled({"c": Evil()})}, "pickled objects"),
        ({"models/model.json": edited(("torch.ops.aten.relu.default", "torch.os.system"))}, r"calls torch\.os\.system"),
        ({"models/model.json": edited(("torch.ops.aten.relu.default", "_operator.methodcaller"))}, "methodcaller"),
        (
            {"models/model.json": edited(("torch.ops.aten.relu.default", "torch.ops.aten.from_file.default"))},
            r"it calls torch\.ops\.aten\.from_file",
        ),
        ({"models/model.json": edited(("torch.ops.aten.relu.default", "torch.ops.inductor.x.default"))}, "inductor"),
    ],
)
def test_what_could_run_code_in_an_exported_program_is_refused(
    here: Path, program: Path, change: Mapping[str, Any], found: str
) -> None:
    path = rewritten(program, "x.pt2", change)
    with pytest.raises(CueError, match=found):
        load(path, device="cpu")
    assert not here.exists()


@pytest.mark.parametrize(("size", "data"), [("1" + "0" * 400, None), ("1000000000000", b""), ("3", b"")])
def test_a_tensor_of_a_size_that_is_not_there(here: Path, program: Path, size: str, data: bytes | None) -> None:
    def change(text: bytes) -> bytes:
        table = json.loads(text)
        entry = next(iter(table["config"].values()))
        entry["tensor_meta"]["sizes"] = [{"as_int": int(size)}]
        entry["tensor_meta"]["strides"] = [{"as_int": 1}]
        entry["path_name"] = "weight_0"
        return json.dumps(table).encode()

    changed: dict[str, Any] = {"data/weights/model_weights_config.json": change}
    path = rewritten(program, "x.pt2", changed | ({} if data is None else {"data/weights/weight_0": data}))
    with pytest.raises(CueError, match=r"Error: "):
        load(path, device="cpu")


def test_expressions_of_sizes_are_not_evaluated(here: Path, program: Path, network: Net) -> None:
    def change(data: bytes) -> bytes:
        text = json.loads(data)
        places = [0]

        def walk(value: Any) -> Any:
            if isinstance(value, dict):
                places[0] += "expr_str" in value
                return {k: EVIL_SIZE if k == "expr_str" else walk(v) for k, v in value.items()}
            return [walk(one) for one in value] if isinstance(value, list) else value

        text = walk(text)
        assert places[0]
        return json.dumps(text).encode()

    assert agrees(load(rewritten(program, "x.pt2", {"models/model.json": change}), device="cpu"), network)
    assert not here.exists()


@pytest.mark.parametrize("evil", [False, True])
def test_the_format_of_older_versions(here: Path, program: Path, network: Net, evil: bool) -> None:
    with zipfile.ZipFile(program) as file:
        graph = file.read(next(name for name in file.namelist() if name.endswith("models/model.json")))
    state = {**network.state_dict(), **({"more": Evil()} if evil else {})}
    with zipfile.ZipFile("old.pt2", "w") as file:
        file.writestr("version", "8.8")
        file.writestr("serialized_exported_program.json", graph)
        file.writestr("serialized_state_dict.pt", pickled(state))
        file.writestr("serialized_constants.pt", pickled({"shift": network.shift}))
        file.writestr("serialized_example_inputs.pt", pickled((Evil(),)))
    if evil:
        with pytest.raises(CueError, match="pickled objects"):
            load("old.pt2", device="cpu")
    else:
        assert agrees(load("old.pt2", device="cpu"), network)
    assert not here.exists()


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl"])
def test_pickles_in_torchscript_are_not_run(here: Path, script: Path, name: str) -> None:
    with pytest.raises(CueError, match="cannot be loaded"):
        load(rewritten(script, "x.pt", {name: pickle.dumps(Evil(), protocol=2)}), device="cpu")
    assert not here.exists()


EVIL_CODE = 'torch.from_file("evil", True, 4)'


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (EVIL_CODE, "'from_file'"),
        ('torch.save(x, "evil")', "'save'"),
        ("ops.inductor.resize_storage_bytes_(x, 0)", "'inductor'"),
        ("ops.mylibrary.run(x)", "'mylibrary'"),
        ("__torch__.torch.classes.mine.Thing()", "'mine'"),
        ('getattr(torch, "from\\137file")("evil")', "does not write"),
        ("torch.relu(x)  # é", "no plain text"),
    ],
)
def test_what_torchscript_must_not_say(here: Path, script: Path, code: str, found: str) -> None:
    with pytest.raises(CueError, match=found):
        load(rewritten(script, "x.pt", {"code/__torch__/extra.py": code.encode()}), device="cpu")
    # torch finds files whatever the case of their names: such ones are not handed to it.
    assert load(rewritten(script, "y.pt", {"CODE/__torch__/extra.py": code.encode()}), device="cpu", size=SIDE)
    assert not here.exists()


def test_code_that_would_write_a_file_does_when_torch_loads_it(here: Path, script: Path) -> None:
    """So the refusal above is of something that happens."""

    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) + torch.from_file("evil", True, 3)

    torch.jit.save(torch.jit.script(nn.Sequential(Writes())), "writes.pt")
    with pytest.raises(CueError, match="'from_file'"):
        load("writes.pt", device="cpu", size=SIDE)
    with zipfile.ZipFile("writes.pt") as file:
        name = next(name for name in file.namelist() if name.endswith(".py") and b"from_file" in file.read(name))
        code, name = file.read(name), name.partition("/")[2]
    hidden = rewritten(Path("writes.pt"), "hidden.pt", {name: None, name.replace("code/", "CODE/"): code})
    with pytest.raises(CueError, match="cannot be loaded"):
        load(hidden, device="cpu", size=SIDE)
    assert not here.exists()
    torch.jit.load("writes.pt")(torch.rand(1, 3, 2, 2))
    assert here.exists()


def test_an_archive_that_torch_would_not_write_is_refused(here: Path, script: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(rewritten(script, "twice.pt", {}), "a") as file:
        warnings.simplefilter("ignore")
        file.writestr(file.namelist()[0].upper(), b"")
    with pytest.raises(CueError, match="twice"):
        load("twice.pt")
    with zipfile.ZipFile(rewritten(script, "bomb.pt", {}), "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{file.namelist()[0].partition('/')[0]}/code/more.py", bytes(zips.LARGEST_PACKED + 1))
    with pytest.raises(CueError, match="too large"):
        load("bomb.pt")
    Path("half.pt2").write_bytes(Path("twice.pt").read_bytes()[:2000])
    with pytest.raises(CueError, match="holds no exported program"):
        load("half.pt2")
