"""Whatever process reads a chunk, it is the same bytes; what is stopped or killed goes on, and nothing is left."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import cuescope
from commands import call
from cuescope.core.errors import CueError
from cuescope.instruments.accuracy import Accuracy
from cuescope.instruments.occlusion import Occlusion
from cuescope.runs import engines
from cuescope.runs import task as sizes
from cuescope.runs.engines import local
from cuescope.runs.engines.worker import Worker
from cuescope.runs.estimate import Meter
from cuescope.runs.inputs import find_images
from cuescope.runs.options import AuditOptions
from cuescope.runs.runner import run, spread
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from cuescope.runs.units import Unit, units
from test_stored import parquet, png, saved, structs, tar
from test_stored import shard as shard_of_tar
from toys import Images, MeanColor, colored, toy

WORLD = ("--images", "world:congruent:700", "--only", "accuracy,occlusion", "--set", "occlusion.images=4")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "CHUNK", 8)
    monkeypatch.setattr(sizes, "BATCH", 4)


def cells(run: Path) -> dict[str, bytes]:
    """Every file of the cells."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "cells").rglob("*")) if p.is_file()}


def tasks(images: Images) -> list[Task]:
    return [
        Task(toy(MeanColor(), name=name), images, instrument, (0, 1, 2, 3))
        for name in ("one", "two")
        for instrument in (Accuracy(), Occlusion(images=3))
    ]


def shard(out: Path, part: str | None, images: Images | None = None) -> Run:
    chosen = images or Images(colored(60), bad=[6, 33])
    only, few = ["accuracy", "occlusion"], {"occlusion.images": 3}
    return cuescope.audit(toy(MeanColor()), images=chosen, only=only, settings=few, out=out, shard=part)


@pytest.mark.usefixtures("small")
def test_chunks_of_the_same_images_are_one_unit_and_those_that_reach_far_are_alone() -> None:
    found = units(tasks(Images(colored(20))))
    assert [unit for unit in found if len(unit.chunks) > 1] == [
        Unit(0, ((0, 0), (2, 0)), 8),
        Unit(0, ((0, 1), (2, 1)), 8),
        Unit(0, ((0, 2), (2, 2)), 4),
    ]
    assert sorted(unit.chunks for unit in found if len(unit.chunks) == 1) == [((1, 0),), ((3, 0),)]


@pytest.mark.usefixtures("small")
def test_units_give_the_bytes_of_a_whole_run(tmp_path: Path) -> None:
    asked = tasks(Images(colored(50), bad=[6, 33]))
    whole, parts = Run.create(tmp_path / "whole"), Run.create(tmp_path / "parts")
    run(asked, whole)
    own = [parts.cell(task.identity, task.answers) for task in asked]
    spread(asked, parts, own, engines.here(asked, parts, 1), Meter())
    assert cells(whole.path) == cells(parts.path)
    assert [cell.status for cell in own] == ["done"] * 4
    digest = asked[0].images.digest
    lost = [folder.write_skipped({"toys": (digest, ())}) for folder in (whole, parts)]
    assert lost == [{"toys": 2}] * 2


@pytest.mark.usefixtures("small")
def test_shards_do_their_part_and_the_whole_joins_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, images = shard(tmp_path / "whole", None), Images(colored(60), bad=[6, 33])
    done: list[int] = []
    do = Worker.do
    monkeypatch.setattr(Worker, "do", lambda self, number: done.append(number) or do(self, number))
    for part in ("3/4", "1/4", "4/4", "2/4", "2/4"):
        joined = shard(tmp_path / "parts", part, images)
        assert not joined.manifest["finished"]
        assert not list(joined.path.rglob("finding.json"))
    assert sorted(done) == list(range(9)), "each unit once"
    before = images.reads
    joined = shard(tmp_path / "parts", None, images)
    assert images.reads - before <= 40, "only the pictures that findings show are read"
    assert joined.manifest["finished"]
    assert cells(joined.path) == cells(whole.path)
    assert joined.skipped() == whole.skipped()


def test_a_shard_and_a_whole_audit_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuescope.runs.store.TURN_S", 0.1)
    folder, other = Run.create(tmp_path), Run.create(tmp_path)
    with folder.locked((1, 2)):
        with other.locked((2, 2)), other.alone((2, 2)):
            pass
        with pytest.raises(CueError, match="in use by process"), other.locked():
            pass
        with pytest.raises(CueError, match="in use by process"), other.locked((1, 2)):
            pass
    with folder.locked(), pytest.raises(CueError, match="in use by process"), other.alone((1, 2)):
        pass


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"shard": "5/4"}, "--shard 5/4"),
        ({"shard": "0/4"}, "--shard 0/4"),
        ({"shard": "all"}, "--shard all"),
        ({"engine": "spark"}, "unknown engine 'spark'"),
        ({"processes": 2}, "--processes 2 with --engine inline"),
        ({"engine": "local", "processes": 0}, "processes is 0"),
        ({"shard": "1/2", "minutes": 5.0}, "--minutes with --shard"),
    ],
)
def test_what_cannot_be_spread_is_said_at_once(options: dict[str, Any], found: str) -> None:
    with pytest.raises(CueError) as error:
        AuditOptions.of(images="world:congruent:8", **options).check(["cuescope/world-congruent"])
    assert error.value.found == found


def test_a_live_model_is_for_one_process(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="MeanColor, a live Python object, with --engine local"):
        cuescope.audit(MeanColor(), images="world:congruent:8", engine="local", out=tmp_path)


def test_processes_take_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local._device("auto", 3) == "auto"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [local._device("auto", n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert local._device("cpu", 1) == "cpu"


def left() -> list[str]:
    """Processes of the local engine."""
    listed = subprocess.run(["ps", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"from {local.__name__} import main" in line and " Z" not in line]


@pytest.mark.xdist_group("processes of the local engine")  # They ask whether any is left on this machine.
@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = ["audit", "cuescope/world-congruent", *WORLD, "--device", "cpu"]
    with engines.threads(AuditOptions.of(images="", engine="local", processes=2)):
        status, *_ = call(*audit, "--out", str(tmp_path / "one"), capsys=capsys)
    assert status == 0
    status, _, err = call(
        *audit, "--engine", "local", "--processes", "2", "--out", str(tmp_path / "two"), capsys=capsys
    )
    assert status == 0, err
    assert cells(tmp_path / "two") == cells(tmp_path / "one")


DYING = """
import os, signal
from cuescope.classifier.sources import load

def make():
    network = load("cuescope/world-congruent").module
    calls = []
    def before(*_):
        calls.append(1)
        if len(calls) > 12 and not os.path.exists({mark!r}):
            open({mark!r}, "x").close()
            {end}
    network.register_forward_pre_hook(before)
    return network
"""


@pytest.mark.xdist_group("processes of the local engine")  # They ask whether any is left on this machine.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "a process of the audit was killed by SIGKILL"),
        ("os._exit(3)", "a process of the audit was ended with status 3"),
    ],
)
def test_a_process_that_dies_leaves_a_run_that_goes_on(tmp_path: Path, end: str, said: str) -> None:
    model = tmp_path / "model.py"
    model.write_text(DYING.format(mark=str(tmp_path / "mark"), end=end))
    how: dict[str, Any] = {"images": "world:congruent:700", "only": "accuracy", "out": tmp_path / "run"}
    spec = f"{model}:make"
    with pytest.raises(CueError, match=said):
        cuescope.audit(spec, **how, engine="local", processes=2, device="cpu")
    assert not left()
    assert cuescope.audit(spec, **how, engine="local", processes=2, device="cpu").manifest["finished"]


@pytest.mark.xdist_group("processes of the local engine")  # They ask whether any is left on this machine.
@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_the_first_process_takes_the_others_with_it(tmp_path: Path, kill: signal.Signals) -> None:
    command = ["audit", "cuescope/world-congruent", "--images", "world:congruent:9000", "--only", "accuracy"]
    command += ["--engine", "local", "--processes", "2", "--out", str(tmp_path / "run")]
    first = subprocess.Popen([sys.executable, "-m", "cuescope", *command], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((tmp_path / "run").glob("cells/*/rows/*.parquet")) and time.monotonic() < until:
        time.sleep(0.1)
    started = time.monotonic()
    os.kill(first.pid, kill)
    _, said = first.communicate(timeout=60)
    while left() and time.monotonic() < started + 30:
        time.sleep(0.2)
    assert not left()
    if kill == signal.SIGINT:
        assert first.returncode == 130
        assert "Traceback" not in said


def stored(folder: Path, kind: str) -> Any:
    """A set of seven images of a kind of source."""
    if kind == "world":
        return find_images("world:conflict:7")
    if kind == "parquet":
        return find_images(parquet(folder / "a.parquet", {"image": structs(7), "label": list(range(7))}))
    if kind == "arrow":
        return find_images(saved(folder / "set", {"image": structs(7), "label": list(range(7))}))
    if kind == "tar":
        return find_images(tar(folder / "a.tar", shard_of_tar(0, [str(i) for i in range(7)])))
    (folder / "photos" / "cat").mkdir(parents=True)
    for i in range(7):
        (folder / "photos" / "cat" / f"{i}.png").write_bytes(png(i))
    return find_images(folder / "photos", limit=5 if kind == "subset" else None)


@pytest.mark.parametrize("kind", ["world", "folder", "subset", "tar", "parquet", "arrow"])
def test_image_sets_can_be_sent_to_other_processes(tmp_path: Path, kind: str) -> None:
    images = stored(tmp_path, kind)
    images.read(0)
    sent = pickle.loads(pickle.dumps(images))
    assert [sent.id(i) for i in range(len(sent))] == [images.id(i) for i in range(len(images))]
    assert all(torch.equal(sent.read(i).pixels, images.read(i).pixels) for i in range(len(images)))
    assert sent.digest == images.digest


@pytest.mark.slow
def test_images_that_cannot_be_sent_are_said_and_no_process_is_left(tmp_path: Path) -> None:
    images = find_images("world:congruent:20")
    images.made_by = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(CueError, match="the images cannot be sent to another process"):
        cuescope.audit(
            "cuescope/world-congruent", images=images, only="accuracy", engine="local", processes=1, out=tmp_path
        )
    assert not left()
