"""What a training's folder is good for: a classifier at once, its checkpoints a series, its curves to be looked at."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import cuescope
from commands import call
from cuescope.core.errors import CueError
from cuescope.training.folder import TrainingFolder
from cuescope.training.loop import State
from cuescope.world.images import CLASSES

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)
    )
"""
QUICK = ["--small", "--set", "epochs=3", "--set", "batch=16", "--set", "size_px=32", "--set", "device=cpu"]


def trained(folder: Path, *more: str, images: str = "world:congruent:48") -> Path:
    """Three epochs of a tiny network, by the command, in `folder`/mine."""
    from cuescope.cli import main

    net = folder / "net.py"
    net.write_text(NET)
    command = ["train", "imagenet", "--model", f"{net}:make", "--images", images, "--out", str(folder / "mine")]
    with pytest.raises(SystemExit) as end:
        main([*command, *QUICK, *more])
    assert not end.value.code
    return folder / "mine"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"))


def test_the_folder_is_a_classifier_of_which_nothing_is_assumed(mine: Path) -> None:
    found = cuescope.load(str(mine), device="cpu")
    assert found.assumed == ()
    assert found.classes.names == CLASSES.names
    assert (found.preprocessing.size, found.preprocessing.source) == ((32, 32), "as it was trained")


def test_the_last_epoch_is_in_the_series_too(mine: Path) -> None:
    assert sorted(file.name for file in (mine / "epochs").iterdir()) == [f"000{i}.safetensors" for i in (1, 2, 3)]
    weights, last = (load_file(mine / f"{name}.safetensors") for name in ("epochs/0003", "last"))
    assert all(torch.equal(value, last[f"network/{key}"]) for key, value in weights.items())


@pytest.mark.parametrize("folder", ["mine", "mine/epochs"])
def test_evolution_takes_the_folder(
    folder: str, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mine.parent)
    few = [part for key in ("images=8", "units=4", "shown=1") for part in ("--set", f"evolution.{key}")]
    more = ["--images", "world:congruent:8", "--only", "evolution", "--out", str(tmp_path / "run")]
    status, _, err = call("audit", folder, *more, *few, capsys=capsys)
    assert status == 0, err
    run = cuescope.Run.open(tmp_path / "run")
    found = run.finding("evolution", "mine/epochs/0003")
    assert found["settled"].value is not None
    assert "1 epoch 1, 2 epoch 2, 3 epoch 3." in " ".join(found.caveats)
    assert "an earlier checkpoint of mine/epochs/0003" in run.finding("evolution", "mine/epochs/0001").why
    assert "16 classes" in err
    assert "not named" not in err


def tracked(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_loss_is_the_mean_since_the_row_before_also_over_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: dict[int, float] = {}
    after = TrainingFolder.after

    def noted(self: TrainingFolder, state: State, accelerator: object) -> None:
        first, losses[state.done] = state.done not in losses, state.loss
        after(self, state._replace(stop=first and state.done == 10), accelerator)

    monkeypatch.setattr(TrainingFolder, "after", noted)
    more = "--set", "batch=2"  # 22 steps an epoch
    with pytest.raises(AssertionError):
        trained(tmp_path, *more)
    rows = pl.read_parquet(trained(tmp_path, *more) / "metrics.parquet")
    assert rows["step"].to_list() == [22, 25, 44, 50, 66]
    wanted = [sum(losses[step] for step in range(a + 1, b + 1)) / (b - a) for a, b in pairwise([0, *rows["step"]])]
    assert rows["loss"].to_list() == pytest.approx(wanted)


def test_what_is_to_be_noted_is_said_once_before_the_first_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, "--set", "batch=64")
    lines = capsys.readouterr().err.splitlines()
    notes = [i for i, line in enumerate(lines) if line.startswith(("drawn by", "a batch is all"))]
    assert len(notes) == 2
    assert notes[1] < lines.index(next(line for line in lines if line.startswith("epoch 1 of 3")))


@pytest.mark.extra
def test_the_curves_of_a_stopped_training_are_those_of_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    after, calls = TrainingFolder.after, [0]

    def stopped(self: TrainingFolder, state: State, accelerator: object) -> None:
        calls[0] += 1
        if calls[0] == 4:  # two steps an epoch
            self._note({"step": 4, "loss": 99.0}, main=True)
            raise CueError("stopped before the second epoch was kept")
        after(self, state, accelerator)

    monkeypatch.setattr(TrainingFolder, "after", stopped)
    with pytest.raises(AssertionError):
        trained(tmp_path, "--track")
    assert (4, 99.0) in tracked(tmp_path / "mine")["loss"]
    mine = trained(tmp_path, "--track")
    rows, found = pl.read_parquet(mine / "metrics.parquet"), tracked(mine)
    assert set(found) == set(rows.columns) - {"step"}
    for name, curve in found.items():
        kept = rows.filter(pl.col(name).is_not_null())
        assert [step for step, _ in curve] == kept["step"].to_list()
        assert [value for _, value in curve] == pytest.approx(kept[name].to_list(), rel=1e-6)


def test_a_lacking_tensorboard_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    status, _, err = call("train", "imagenet", "--images", "world:congruent", "--out", "no", "--track", capsys=capsys)
    assert status == 2
    assert "pip install 'cuescope[track]'" in err
    assert not Path("no").exists()


def test_bfloat16_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = trained(tmp_path / "whole", "--set", "precision=bfloat16")
    after = TrainingFolder.after

    def stopped(self: TrainingFolder, state: State, accelerator: object) -> None:
        if state.done == 4:
            raise CueError("stopped")
        after(self, state, accelerator)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingFolder, "after", stopped)
        with pytest.raises(AssertionError):
            trained(tmp_path / "parts", "--set", "precision=bfloat16")
    parts = trained(tmp_path / "parts", "--set", "precision=bfloat16")
    one, two = (load_file(folder / "last.safetensors") for folder in (whole, parts))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    plain = load_file(trained(tmp_path) / "last.safetensors")
    assert not torch.equal(plain["network/0.weight"], one["network/0.weight"])


@pytest.mark.slow
def test_a_compiled_network_is_kept_under_its_own_names_and_goes_on_uncompiled(mine: Path, tmp_path: Path) -> None:
    compiled = trained(tmp_path, "--set", "compile=true")
    one, two = (load_file(folder / "last.safetensors") for folder in (mine, compiled))
    assert one.keys() == two.keys()
    # Not the weights: AdamW makes much of the last digits of small gradients.
    plain, other = (pl.read_parquet(folder / "metrics.parquet")["loss"].to_list() for folder in (mine, compiled))
    assert other == pytest.approx(plain, abs=1e-3)
    assert load_file(compiled / "best.safetensors").keys() == load_file(mine / "best.safetensors").keys()
    assert trained(tmp_path, "--set", "compile=false") == compiled


def test_a_lacking_compiler_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def compiled(network: object) -> object:
        def run(images: object) -> None:
            raise InvalidCxxCompiler

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(AssertionError):
        trained(tmp_path, "--set", "compile=true")
    err = capsys.readouterr().err
    assert "the network cannot be compiled: No working C++ compiler" in err
    assert "leave compile out" in err


def test_a_training_that_waits_for_images_says_so_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cuescope.cli.train.MOST_WAITED", -1.0)
    trained(tmp_path, "--set", "epochs=1")
    said = capsys.readouterr().err.splitlines()
    assert "% of the time it waited for images" in said[-1]
    assert sum("epoch 1 of 1: loss " in line and "held-out accuracy " in line for line in said) == 1


def test_the_second_process_says_nothing_but_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    status, out, err = call("train", "imagenot", "--out", str(tmp_path / "no"), capsys=capsys)
    assert (status, out) == (2, "")
    assert err.startswith("cuescope: process 1: unknown recipe 'imagenot'")
