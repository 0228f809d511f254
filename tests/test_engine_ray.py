"""The engine on a Ray cluster: the bytes of one process, one clear error, no actor left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import cuescope
from cuescope.core.errors import CueError
from cuescope.runs.engines import ray_data

ray = pytest.importorskip("ray")
# One process at a time: each would see the actors of the other.
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore")]
HOW: dict[str, Any] = {"images": "world:congruent:700", "only": "accuracy", "device": "cpu"}
RAY: dict[str, Any] = {"engine": "ray", "processes": 2}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    for last in (False, False, True):
        try:
            ray.init(
                address="local", num_cpus=2, include_dashboard=False, object_store_memory=2**27, log_to_driver=False
            )
            break
        except Exception:  # It waits for 30 s, which are too few on a busy machine.
            ray.shutdown()
            if last:
                raise
    yield
    ray.shutdown()


def cells(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "cells").rglob("*")) if p.is_file()}


def actors() -> list[int]:
    """The processes of this cluster's actors, after some time to end. Other clusters may run beside it."""
    until = time.monotonic() + 20
    while True:
        started = psutil.Process().children(recursive=True)
        found = [one.pid for one in started if "ray::MapWorker" in named(one)]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.5)


def named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):  # It may have ended.
        return " ".join(process.cmdline())
    return ""


@pytest.mark.extra
def test_actors_give_the_bytes_of_one_process(tmp_path: Path) -> None:
    cuescope.audit("cuescope/world-congruent", **HOW, out=tmp_path / "one")
    cuescope.audit("cuescope/world-congruent", **HOW, **RAY, out=tmp_path / "two")
    assert cells(tmp_path / "two") == cells(tmp_path / "one")
    assert not actors()


MODEL = """
import os, signal
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError

def make():
    network = load("cuescope/world-congruent").module
    if os.getpid() != {first}:
        {start}
        network.register_forward_pre_hook(lambda *_: once())
    return network

calls = []

def once():
    calls.append(1)
    if len(calls) > 12 and not os.path.exists({mark!r}):  # Not while it is loaded.
        open({mark!r}, "x").close()
        {pass_}
"""


def spec(folder: Path, start: str = "pass", pass_: str = "pass") -> str:
    path = folder / "model.py"
    path.write_text(MODEL.format(first=os.getpid(), mark=str(folder / "mark"), start=start, pass_=pass_))
    return f"{path}:make"


@pytest.mark.cluster
def test_an_error_at_the_start_arrives_as_one_error(tmp_path: Path) -> None:
    model = spec(tmp_path, start='raise CueError("no weights here", wanted="them", do="copy them")')
    with pytest.raises(CueError, match="no weights here"):
        cuescope.audit(model, **HOW, **RAY, out=tmp_path / "run")
    assert not actors()


@pytest.mark.cluster
def test_a_pool_that_does_not_start_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "START_S", 10)
    with pytest.raises(CueError, match="not all of 3 Ray actors were there within 10 s"):
        cuescope.audit("cuescope/world-congruent", **HOW, engine="ray", processes=3, out=tmp_path / "run")
    assert not actors()


@pytest.mark.cluster
def test_an_actor_that_is_killed_is_replaced(tmp_path: Path) -> None:
    model = spec(tmp_path, pass_="os.kill(os.getpid(), signal.SIGKILL)")
    run = cuescope.audit(model, **HOW, **RAY, out=tmp_path / "run")
    assert (tmp_path / "mark").exists()
    assert run.finding("accuracy")["top1"].n == 700
    assert not actors()


@pytest.mark.cluster
def test_an_interrupt_ends_all_actors(tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str, *_: object) -> None:
        if what == "reading" and done:
            raise KeyboardInterrupt

    with pytest.raises(CueError, match="interrupted"):
        cuescope.audit("cuescope/world-congruent", **HOW, **RAY, out=tmp_path / "run", progress=stop)
    assert not actors()
    run = cuescope.audit("cuescope/world-congruent", **HOW, out=tmp_path / "run")
    assert run.manifest["finished"]
