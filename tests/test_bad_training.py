"""What goes wrong in a training is one clear message, or an image that is listed; the last good checkpoint is kept."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from commands import call
from cuescope.api.train import train
from cuescope.core.errors import CueError, StoppedError
from cuescope.data.images import Sample
from cuescope.training.checkpoint import facts_of
from cuescope.training.fit import fit_network
from cuescope.training.images import labels_of
from cuescope.training.labeled import split
from cuescope.training.order import Order
from cuescope.training.recipe import Trained
from cuescope.training.settings import NetworkSettings
from toys import COLORS, Images, colored

NET = """
import os, signal
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(16, 3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images):
        found = super().forward(images)
        if self.training:
            self.seen += 1
            if self.seen == 5:
                {fault}
        return found

make = Net
"""
"""A network to which something happens in its fifth step, of three an epoch."""
FAULTS = {
    "none": "pass",
    "NaN": "found = found * float('nan')",
    "steep": "found.register_hook(lambda gradient: gradient * float('inf'))",
    "Ctrl-C": "os.environ.pop('PRESS', '') and signal.raise_signal(signal.SIGINT)",
    "Ctrl-C twice": "os.environ.pop('PRESS', '') and [signal.raise_signal(signal.SIGINT) for _ in 'ab']",
}


class Photos(Images):
    """Images whose labels are known without decoding, as those of a folder."""

    version = "photos"

    @property
    def digest(self) -> str:
        return self.version

    def label(self, index: int) -> int | None:
        return self.samples[index].label


@pytest.fixture
def press(monkeypatch: pytest.MonkeyPatch) -> Iterable[None]:
    """Ctrl-C is pressed once in the networks that press it, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setenv("PRESS", "1")
    yield
    signal.signal(signal.SIGINT, before)


def network(folder: Path, fault: str = "none", name: str = "net") -> str:
    (folder / f"{name}.py").write_text(NET.replace("{fault}", FAULTS[fault]))
    return f"{folder / name}.py:make"


def settings(folder: Path, fault: str = "none", **changes: object) -> NetworkSettings:
    how = {"model": network(folder, fault), "epochs": 4, "batch": 12, "size_px": 16, "device": "cpu"}
    return NetworkSettings(**{**how, "learning_rate": 0.05, **changes})  # pyright: ignore[reportArgumentType]


def fit(out: Path, how: NetworkSettings, images: Images | None = None, **more: object) -> Trained:
    return fit_network(how, images or Photos(colored(43)), out=out, every_s=0, **more)  # pyright: ignore[reportArgumentType]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(out / "last.safetensors")


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def error(out: Path, how: NetworkSettings, images: Images | None = None, **more: object) -> CueError:
    with pytest.raises(CueError) as caught:
        fit(out, how, images, **more)
    left = [path.name for path in out.rglob(".*.part")] if out.is_dir() else []
    assert not left
    return caught.value


def test_an_image_of_the_third_epoch_is_replaced_and_listed(tmp_path: Path) -> None:
    samples = colored(43)
    learned, _ = split(labels_of(Photos(samples)), np.random.default_rng(0))
    order = Order(len(learned), 12, 0)
    early = {place for step in range(2 * order.steps) for place in order.places(step)}
    (place,) = [p for step in range(6, 9) for p in order.places(step) if p not in early][:1]
    bad = [int(learned[place])]
    how = settings(tmp_path)
    whole = fit(tmp_path / "whole", how, Photos(samples, bad=bad))
    assert [one.id for one in whole.skipped] == [samples[bad[0]].id]
    assert not same(tmp_path / "whole", fitted(tmp_path / "good", how))

    two = Photos(samples, bad=bad)
    read, until = two.read, [60]

    def interrupted(index: int) -> Sample:
        if two.reads >= until[0]:
            until[0] = two.reads + 97
            raise KeyboardInterrupt
        return read(index)

    two.read = interrupted
    stopped, parts = 0, None
    while parts is None:
        try:
            parts = fit(tmp_path / "parts", how, two)
        except KeyboardInterrupt:
            stopped += 1
    assert stopped > 1
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert parts.skipped == whole.skipped
    again = fit(tmp_path / "parts", how, Photos(samples, bad=bad))
    assert again.skipped == whole.skipped, "a training that is done still says what it did without"


def fitted(out: Path, how: NetworkSettings) -> Path:
    fit(out, how)
    return out


def test_images_that_all_cannot_be_read(tmp_path: Path) -> None:
    samples = colored(43)
    found = error(tmp_path / "a", settings(tmp_path), Photos(samples, bad=range(43)))
    assert "none of the 4 images held out of toys can be read" in found.found
    good = Photos(colored(9, seed=1))
    found = error(tmp_path / "b", settings(tmp_path), Photos(samples, bad=range(43)), held_out=good)
    assert "no image of toys to learn from can be read" in found.found
    many = Photos([dataclasses.replace(samples[k % 43], id=f"{k}") for k in range(300)], bad=range(300))
    found = error(tmp_path / "c", settings(tmp_path), many, held_out=good)
    assert "none of 100 images in a row" in found.found


def test_held_out_images_that_are_lost_in_the_middle(tmp_path: Path) -> None:
    held = Photos(colored(9, seed=1))
    read = held.read

    def lost(index: int) -> Sample:
        held.bad = set(range(9)) if held.reads >= 12 else set()
        return read(index)

    held.read = lost
    found = error(tmp_path / "run", settings(tmp_path), held_out=held)
    assert "none of the 9 images held out" in found.found
    assert "run the same command again" in found.do
    del held.read
    held.bad = set()
    fit(tmp_path / "run", settings(tmp_path), held_out=held)
    fit(tmp_path / "whole", settings(tmp_path), held_out=held)
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_class_that_nothing_is_held_out_of_is_noted(tmp_path: Path) -> None:
    how = settings(tmp_path, epochs=1)
    held = Photos([sample for sample in colored(12, seed=1) if sample.label != 1])
    assert "no image is held out of the class 'green'" in fit(tmp_path / "a", how, held_out=held).notes
    held = Photos([sample for sample in colored(12, seed=1) if sample.label == 2])
    assert "no image is held out of the classes 'red', 'green'" in fit(tmp_path / "b", how, held_out=held).notes
    few = Photos([sample for sample in colored(60) if sample.label != 0 or sample.id < "0006"])
    assert any("'red'" in note for note in fit(tmp_path / "c", how, few).notes if "held out" in note)
    assert not any("no image is held out" in note for note in fit(tmp_path / "d", how).notes)


def test_held_out_images_that_do_not_fit(tmp_path: Path) -> None:
    unlabeled = Photos(colored(9), classes=None)
    others = Photos(colored(9), classes=dataclasses.replace(COLORS, names=("cat", "dog", "cow")))
    for held, told in ((unlabeled, "have no labels"), (others, "none of the classifier's 3 classes")):
        found = error(tmp_path / "run", settings(tmp_path), held_out=held)
        assert told in found.found
        assert "--held-out" in found.do
        assert "--labels" not in str(found)
        assert "--classes" not in str(found)


@pytest.mark.parametrize("which", ["best.safetensors", "metrics.parquet", "last.safetensors"])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how, out, fsync = settings(tmp_path), tmp_path / "run", os.fsync
    kept = b""

    def full(file: int) -> None:
        nonlocal kept
        last = out / "last.safetensors"
        done = facts_of(last)["done"] if last.is_file() else 0  # pyright: ignore[reportOptionalSubscript]
        if done == 5 and which in Path(f"/proc/self/fd/{file}").readlink().name:
            kept = last.read_bytes()
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        found = error(out, how)
    assert "the disk is full" in found.found
    assert "step 5 is kept" in found.wanted
    assert (out / "last.safetensors").read_bytes() == kept
    fit(out, how)
    assert same(out, fitted(tmp_path / "whole", how))


def test_a_lost_loss_says_the_step_and_what_is_kept(tmp_path: Path) -> None:
    found = error(tmp_path / "a", settings(tmp_path, "NaN"))
    assert "the loss became nan at step 5" in found.found
    assert "the last good checkpoint, of step 4, is kept" in found.do
    assert facts_of(tmp_path / "a" / "last.safetensors")["done"] == 4  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(CueError) as caught:
        fit_network(settings(tmp_path, "NaN", batch=4), Photos(colored(43)), out=tmp_path / "b")
    assert "at step 5" in caught.value.found
    assert "kept" not in caught.value.do
    assert not (tmp_path / "b" / "last.safetensors").exists()


def test_weights_that_are_lost_replace_no_good_ones(tmp_path: Path) -> None:
    found = error(tmp_path / "a", settings(tmp_path, "steep"))
    assert "no longer finite after step 5" in found.found
    assert "of step 4" in found.do
    assert all(value.isfinite().all() for value in weights(tmp_path / "a").values())


def test_weights_that_are_not_finite_are_not_begun_with(tmp_path: Path) -> None:
    values = fitted(tmp_path / "run", settings(tmp_path, epochs=1)) / "best.safetensors"
    broken = safetensors.torch.load_file(values)
    broken["0.weight"][0] = float("nan")
    safetensors.torch.save_file(broken, tmp_path / "nan.safetensors")
    how = settings(tmp_path, model=f"{network(tmp_path)}@{tmp_path / 'nan.safetensors'}")
    found = error(tmp_path / "new", how)
    assert "'0.weight'" in found.found
    assert not (tmp_path / "new").exists()


OTHERS = {
    "recipe": ("the recipe imagenet, not zfnet", {"recipe": "zfnet"}),
    "batch": ("batch=12, not batch=6", {"batch": 6}),
    "model": ("model=", {"name": "other"}),
    "code": ("another network: the file that makes it has changed", {"fault": "NaN"}),
    "images": ("other images than toys holds now", {"digest": "changed"}),
    "set": ("the images toys, not more toys", {"set": "more toys"}),
    "classes": ("a class 'red', not 'rot'", {"names": ("rot", "green", "blue")}),
    "held out": ("the held-out images toys, not others", {"held": "others"}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_training_in_the_folder(tmp_path: Path, case: str) -> None:
    told, change = OTHERS[case]
    out = tmp_path / "run"
    fit(out, settings(tmp_path, epochs=1), recipe="imagenet")
    images = Photos(colored(43), dataclasses.replace(COLORS, names=change.get("names", COLORS.names)))
    images.version = change.get("digest", images.version)
    images.name = change.get("set", images.name)
    how = settings(tmp_path, change.get("fault", "none"), epochs=1, batch=change.get("batch", 12))
    if name := change.get("name"):
        how = dataclasses.replace(how, model=network(tmp_path, name=name))
    more: dict[str, object] = {"recipe": change.get("recipe", "imagenet")}
    if name := change.get("held"):
        more["held_out"] = held = Photos(colored(9))
        held.name = name
    kept = (out / "last.safetensors").read_bytes()
    found = error(out, how, images, **more)
    assert told in found.found
    assert len(found.found) < 120 + 2 * len(how.model) + len(str(out))
    assert (out / "last.safetensors").read_bytes() == kept


def test_a_checkpoint_of_another_training(tmp_path: Path) -> None:
    how = settings(tmp_path, epochs=1)
    for recipe in ("imagenet", "zfnet"):
        fit(tmp_path / recipe, how, recipe=recipe)
    last = tmp_path / "zfnet" / "last.safetensors"
    last.write_bytes((tmp_path / "imagenet" / "last.safetensors").read_bytes())
    found = error(tmp_path / "zfnet", how, recipe="zfnet").found
    assert found == f"'{last}' is of a training with the recipe imagenet, not zfnet"


def _noted(out: Path) -> dict[str, object]:
    return json.loads((out / "training.json").read_text())


def test_training_json_names_the_recipe_and_the_code(photos: Path) -> None:
    how = {"model": network(photos), "epochs": 1, "batch": 8, "size_px": 16}
    train("imagenet", "run", images="photos", settings=how)
    noted = _noted(photos / "run")
    assert noted["recipe"] == "imagenet"
    assert len(str(noted["code"])) == 32
    network(photos, "NaN")
    with pytest.raises(CueError, match="the file that makes it has changed"):
        train("imagenet", "run", images="photos", settings=how)
    network(photos)
    with pytest.raises(CueError, match="the recipe imagenet, not crops"):
        train("crops", "run", images="photos", settings=how)
    assert train("imagenet", "run", images="photos", settings=how).accuracy.value is not None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


DAMAGES = {
    "a checkpoint that is cut off": ("last.safetensors", cut, "no checkpoint"),
    "an empty checkpoint": ("last.safetensors", lambda path: path.write_bytes(b""), "no checkpoint"),
    "weights for a checkpoint": (
        "last.safetensors",
        lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path),
        "no checkpoint",
    ),
    "a checkpoint without facts": (
        "last.safetensors",
        lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"training": "[1]"}),
        "no checkpoint",
    ),
    "notes that are cut off": ("training.json", cut, "cannot read"),
    "notes of something else": ("training.json", lambda path: path.write_text('{"a": 1}'), "is damaged"),
    "notes of a list": ("training.json", lambda path: path.write_text("[]"), "cannot read"),
    "notes that are null": (
        "training.json",
        lambda path: path.write_text(json.dumps(_noted(path.parent) | {"settings": None, "images": 3})),
        "is damaged",
    ),
    "a series that is cut off": ("metrics.parquet", cut, "is damaged"),
    "best weights that are gone": ("best.safetensors", lambda path: path.unlink(), "cannot read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    name, harm, told = DAMAGES[damage]
    out = fitted(tmp_path / "run", settings(tmp_path, epochs=2))
    harm(out / name)
    found = error(out, settings(tmp_path, epochs=2))
    assert told in found.found
    assert name in found.found
    assert found.do
    assert "audit" not in str(found)
    if found.do.startswith("remove"):
        (out / ("last.safetensors" if name.startswith("best") else name)).unlink()
        fit(out, settings(tmp_path, epochs=2))
        assert same(out, fitted(tmp_path / "whole", settings(tmp_path, epochs=2)))


def test_a_checkpoint_whose_tensors_are_of_another_network(tmp_path: Path) -> None:
    how = settings(tmp_path, epochs=2)
    out = fitted(tmp_path / "run", how)
    values, facts = weights(out), json.dumps(facts_of(out / "last.safetensors"))
    values["network/5.weight"] = torch.zeros(3, 17)
    safetensors.torch.save_file(values, out / "last.safetensors", {"training": facts})
    assert "is of another network" in error(out, how).found


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    told = []

    def meanwhile(_done: int, images: int, *_: object) -> None:
        if images and not told:
            told.append(error(tmp_path / "run", settings(tmp_path)))

    fit(tmp_path / "run", settings(tmp_path), progress=meanwhile)
    assert "another training writes to" in told[0].found
    assert same(tmp_path / "run", fitted(tmp_path / "alone", settings(tmp_path)))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder of images for each color."""
    monkeypatch.chdir(tmp_path)
    for sample in colored(42):
        folder = tmp_path / "photos" / COLORS.names[sample.label or 0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.pixels.permute(1, 2, 0).numpy()).save(folder / sample.id)
    (tmp_path / "file").write_text("no folder")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("photos", "lies in --images photos"),
        ("photos/run", "lies in --images photos"),
        ("held/run", "lies in --held-out held"),
        ("file", "--out file"),
        ("file/run", "'file' is a file"),
        ("/proc/run", "cannot write to '/proc/run'"),
        ("other", "holds files that are no training"),
    ],
)
def test_folders_that_cannot_be_written_to(
    photos: Path, out: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "held").symlink_to("photos")
    (photos / "other").mkdir()
    (photos / "other" / "diary.txt").write_text("mine")
    given = ["--images", "photos"]
    if out.startswith("held"):
        given = ["--images", "world:congruent:64", "--held-out", "held"]
    status, _, err = call("train", "imagenet", "--small", "--out", out, *given, capsys=capsys)
    assert status == 2
    assert told in err
    assert "Traceback" not in err
    assert sorted(path.name for path in (photos / "photos").iterdir()) == ["blue", "green", "red"]


@pytest.mark.parametrize("times", ["Ctrl-C", "Ctrl-C twice"])
def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(
    photos: Path, times: str, capsys: pytest.CaptureFixture[str], press: None
) -> None:
    model = network(photos, times)
    command = ["train", "imagenet", "--images", "photos", "--model", model]
    for setting in ("epochs=4", "batch=12", "size_px=16", "device=cpu"):
        command += ["--set", setting]
    status, _, err = call(*command, "--out", "run", capsys=capsys)
    assert status == 130
    assert "interrupted" in err
    done = facts_of(photos / "run" / "last.safetensors")["done"]  # pyright: ignore[reportOptionalSubscript]
    if times == "Ctrl-C":
        assert done == 5
        assert "step 5 is done" in err
        assert "run the same command again" in err
    else:
        assert done == 3, "the checkpoint of the first epoch"
    status, out, err = call(*command, "--out", "run", capsys=capsys)
    assert status == 0, err
    assert "held-out accuracy" in out
    call(*command, "--out", "whole", capsys=capsys)
    assert same(photos / "run", photos / "whole")


def test_a_stop_is_a_cue_error_of_its_own(tmp_path: Path, press: None) -> None:
    with pytest.raises(StoppedError):
        fit(tmp_path / "run", settings(tmp_path, "Ctrl-C"))


def test_one_other_class_is_no_classes(tmp_path: Path) -> None:
    lone = [sample for sample in colored(20) if sample.label == 0 or sample.id < "0003"]
    assert "(and 1 other class)" in error(tmp_path / "run", settings(tmp_path), Photos(lone)).found
