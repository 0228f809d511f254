"""A training that is stopped goes on as if it had not been; two processes train as one does."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import safetensors.torch
import torch

from cuescope.training import fit
from cuescope.training.checkpoint import facts_of
from cuescope.training.folder import TrainingFolder
from cuescope.training.settings import NetworkSettings
from cuescope.world.images import WorldImages

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.{norm}, nn.ReLU(), nn.Dropout({dropout}), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 16),
    )
"""
TRAIN = """if True:
    import sys
    from cuescope.training.fit import fit_network
    from cuescope.training.settings import NetworkSettings
    from cuescope.world.images import WorldImages
    how = NetworkSettings(**eval(sys.argv[2]))
    fit_network(how, WorldImages(count=96), out=__import__("pathlib").Path(sys.argv[1]), every_s=0)
"""


def settings(folder: Path, norm: str = "BatchNorm2d(8)", dropout: float = 0.2, **changes: object) -> NetworkSettings:
    net = folder / "net.py"
    net.write_text(NET.format(norm=norm, dropout=dropout))
    small = {"model": f"{net}:make", "epochs": 4, "batch": 16, "size_px": 32, "learning_rate": 0.05, "average": 0.9}
    return NetworkSettings(**{**small, "device": "cpu", **changes})  # pyright: ignore[reportArgumentType]


def weights(out: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(out / f"{name}.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


class KilledError(Exception):
    pass


def test_twenty_interruptions_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how, images = settings(tmp_path, epochs=8), WorldImages(count=96)
    fit.fit_network(how, images, out=tmp_path / "whole", every_s=0)
    after, drawn, left = TrainingFolder.after, random.Random(3), [0]

    def interrupted(self: TrainingFolder, state: object, accelerator: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError  # before anything of this step is kept
        after(self, state, accelerator)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(TrainingFolder, "after", interrupted)
    kills = 0
    while True:
        left[0] = drawn.randint(1, 3) if kills < 20 else 0
        try:
            fit.fit_network(how, images, out=tmp_path / "parts", every_s=0)
            break
        except KilledError:
            kills += 1
    assert kills == 20
    for name in ("last", "best"):
        assert same(weights(tmp_path / "whole", name), weights(tmp_path / "parts", name))
    one, two = (pl.read_parquet(tmp_path / run / "metrics.parquet") for run in ("whole", "parts"))
    assert one["held_out_accuracy"].drop_nulls().to_list() == two["held_out_accuracy"].drop_nulls().to_list()
    assert one.filter(pl.col("held_out_accuracy").is_not_null())["loss"].to_list() == (
        two.filter(pl.col("held_out_accuracy").is_not_null())["loss"].to_list()
    )


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        fit.fit_network(settings(tmp_path, epochs=1, seed=seed), WorldImages(count=96), out=tmp_path / str(seed))
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "1"))


def run(out: Path, how: NetworkSettings, processes: int = 1) -> subprocess.Popen[bytes]:

    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0"]
        launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    script = out.parent / "train.py"
    script.write_text(TRAIN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fit.__file__).parents[2])}
    command = [*launcher, str(script), str(out), repr(dataclasses.asdict(how))]
    with (out.parent / "errors.txt").open("wb") as errors:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path: Path) -> None:
    how = settings(tmp_path, epochs=30)
    process = run(tmp_path / "whole", how)
    assert process.wait() == 0, (tmp_path / "errors.txt").read_text()
    drawn, kills = random.Random(5), 0
    while True:
        process = run(tmp_path / "parts", how)
        if kills == 20:
            assert process.wait() == 0
            break
        before = (tmp_path / "parts/last.safetensors").stat().st_mtime if kills else 0
        while process.poll() is None:  # let it get somewhere
            file = tmp_path / "parts/last.safetensors"
            if file.is_file() and file.stat().st_mtime > before:
                break
            time.sleep(0.002)
        time.sleep(drawn.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert same(weights(tmp_path / "whole", "best"), weights(tmp_path / "parts", "best"))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "dropout", "grain"), [("Identity()", 0.0, 0), ("BatchNorm2d(8)", 0.2, 8)])
def test_two_processes_train_as_one_also_after_a_stop(tmp_path: Path, norm: str, dropout: float, grain: int) -> None:
    """What depends on the images of a forward pass, dropout and batch norm, where these are the same: half a batch."""
    how = settings(tmp_path, norm, dropout, grain=grain, epochs=6)
    curves = {}
    for processes in (1, 2):
        out = tmp_path / f"{processes}"
        process = run(out, how, processes)
        assert process.wait() == 0, (tmp_path / "errors.txt").read_text()
        curves[processes] = pl.read_parquet(out / "metrics.parquet")["loss"].to_list()
    assert curves[1] == pytest.approx(curves[2], abs=1e-5)
    assert len(set(curves[1])) == 6

    out, process = tmp_path / "stopped", run(tmp_path / "stopped", how)
    while not (out / "last.safetensors").is_file():
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert facts_of(out / "last.safetensors")["done"] < 30
    process = run(out, how, 2)
    assert process.wait() == 0, (tmp_path / "errors.txt").read_text()
    assert pl.read_parquet(out / "metrics.parquet")["loss"].to_list() == pytest.approx(curves[1], abs=1e-5)
