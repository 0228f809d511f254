"""`cuescope train` as torchrun and accelerate launch start it: two processes are one training."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

import cuescope
from cuescope.cli import main
from cuescope.training.checkpoint import facts_of

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)
    )
"""
EPOCHS, STEPS = 40, 5
LAUNCHERS = {
    "": [],
    "torchrun": ["torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"],
    "accelerate": [
        *("accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"),
        *("--dynamo_backend=no", "--main_process_port=0"),
    ],
}


def start(out: Path, launcher: str) -> subprocess.Popen[str]:
    (net := out.parent / "net.py").write_text(NET)
    how = [f"epochs={EPOCHS}", "batch=16", "size_px=32", "device=cpu", "momentum=0.8"]
    command = ["train", "imagenet", "--small", "--model", f"{net}:make", "--images", "world:congruent:96"]
    command += ["--out", str(out), *(part for value in how for part in ("--set", value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cuescope.__file__).parents[1])}
    modules = [part for module in (LAUNCHERS[launcher], ["cuescope", *command]) if module for part in ("-m", *module)]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *modules], env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("ended", [True, False])
def test_the_first_process_alone_says_what_all_have_found(
    ended: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(seconds: float) -> None:
        assert seconds > 1
        if ended:
            raise KeyboardInterrupt

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(KeyboardInterrupt if ended else SystemExit):
        main(["train", "imagenetx", "--out", "no"])
    assert capsys.readouterr().err.count("cuescope: process 1: unknown recipe") == 1 - ended


def finished(out: Path, launcher: str) -> tuple[str, str]:
    process = start(out, launcher)
    said = process.communicate(timeout=280)
    assert process.returncode == 0, said
    return said


def curve(out: Path) -> list[float]:
    rows = pl.read_parquet(out / "metrics.parquet").filter(pl.col("held_out_accuracy").is_not_null())
    assert rows["step"].to_list() == list(range(STEPS, STEPS * EPOCHS + 1, STEPS))
    return rows["loss"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("", "torchrun"), ("accelerate", "")])
def test_a_killed_training_goes_on_with_another_number(before: str, after: str, tmp_path: Path) -> None:
    finished(whole := tmp_path / "whole", "")
    process = start(out := tmp_path / "parts", before)
    while not (out / "last.safetensors").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        one.kill()
    process.communicate()
    facts = facts_of(out / "last.safetensors")
    assert facts is not None
    assert 0 < facts["done"] < EPOCHS * STEPS
    said, told = finished(out, after)
    assert curve(out) == pytest.approx(curve(whole), abs=1e-5)
    assert len(set(curve(whole))) == EPOCHS
    # One of them speaks, the other is silent.
    assert said.count("held-out accuracy ") == said.count("wrote ") == said.count("next: ") == 1
    assert told.count(f"epoch {EPOCHS} of {EPOCHS}: ") == told.count("goes on after ") == 1
