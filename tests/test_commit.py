"""What commits a run: a run that is killed at any write goes on to what it would have been."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuescope.api.audit import audit
from cuescope.core import files
from cuescope.core.errors import CueError
from cuescope.runs.store import Run
from toys import Constant, Images, MeanColor, colored, toy

FIRST, BOTH = ["accuracy"], ["accuracy", "error_agreement"]


class Killed(BaseException):
    """No handler of errors catches a kill."""


def run(out: Path, only: list[str]) -> Run:
    models = [toy(MeanColor(), name="mean"), toy(Constant(), name="constant")]
    return audit(*models, images=Images(colored(9)), only=only, out=out)


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Every write from this one on kills; how many there were."""
    count = 0
    replace = Path.replace

    def dying(self: Path, target: Any) -> Path:
        nonlocal count
        count += self.suffix == files.PART
        if number and count >= number:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    return lambda: count


def content(path: Path) -> dict[str, str]:
    """What a run folder says, less the times."""
    found = {}
    for name in sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and p.name != ".lock"):
        if name.endswith((".json", ".csv")):
            found[name] = (path / name).read_text()
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["checksum"]  # It is of the times too.
    for key in ("created", "finished", "seconds", "command", "made"):
        manifest[key] = bool(manifest[key])
    for cell in manifest["cells"]:
        del cell["seconds"]
    # When and how long; the last column of the table of cells is in seconds.
    times = r"Audited [^<]*|<td[^>]*>[\d.]+</td>\s*</tr>"
    page = re.sub(times, "", (path / "report.html").read_text())
    return {**found, "manifest": json.dumps(manifest), "page": page}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A finished run, what it is with one more instrument, and how many writes that takes."""
    folder = tmp_path_factory.mktemp("commit")
    run(folder / "first", FIRST)
    shutil.copytree(folder / "first", folder / "both")
    with pytest.MonkeyPatch.context() as patch:
        count = killed_at(0, patch)
        run(folder / "both", BOTH)
    return folder / "first", folder / "both", count()


def check(finished: tuple[Path, Path, int], out: Path, at: int) -> None:
    first, both, _ = finished
    shutil.copytree(first, out)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(at, patch)
        with pytest.raises(Killed):
            run(out, BOTH)
    run(out, BOTH)
    assert content(out) == content(both)
    assert not list(out.rglob(f"*{files.PART}")), "what the killed process left is removed"


@pytest.mark.parametrize("before_the_end", range(6))
def test_killed_near_its_end_it_goes_on(finished: tuple[Path, Path, int], tmp_path: Path, before_the_end: int) -> None:
    check(finished, tmp_path / "run", finished[2] - before_the_end)


@pytest.mark.slow
def test_killed_at_any_write_it_goes_on(finished: tuple[Path, Path, int], tmp_path: Path) -> None:
    for at in range(1, finished[2] + 1):
        check(finished, tmp_path / str(at), at)


@pytest.mark.parametrize("lost", ["report.html", "comparisons.json", "pairs.json"])
@pytest.mark.parametrize("how", ["removed", "cut", "another's"])
def test_what_is_not_what_was_written_is_made_again(
    finished: tuple[Path, Path, int], tmp_path: Path, lost, how
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished[1], out)
    path = out / lost
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-50] if how == "cut" else (finished[0] / lost).read_bytes())
    run(out, BOTH)
    assert content(out) == content(finished[1])


def test_a_finished_run_is_only_read(finished: tuple[Path, Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    count = killed_at(0, monkeypatch)
    run(finished[1], BOTH)
    assert count() == 0


def test_what_finished_can_be_reported_though_a_cell_could_not_be_written(tmp_path: Path, monkeypatch) -> None:
    """A full disk while concluding ends the run; the manifest is there all the same."""
    write = files.write

    def full(path: Path, data: bytes) -> None:
        if path.name == "finding.json" and "error_agreement" in str(path):
            raise CueError("the disk is full", wanted="room", do="make room")
        write(path, data)

    monkeypatch.setattr("cuescope.core.files.write", full)
    with pytest.raises(CueError, match="the disk is full"):
        run(tmp_path / "run", BOTH)
    monkeypatch.undo()
    opened = Run.open(tmp_path / "run")
    assert opened.finding("accuracy")["top1"].n == 9
    assert not opened.manifest["finished"]
    run(tmp_path / "run", BOTH)
    assert Run.open(tmp_path / "run").manifest["finished"]


def test_what_was_kept_of_a_chunk_goes_with_the_run(finished: tuple[Path, Path, int], tmp_path: Path) -> None:
    """A process that is killed between writing a chunk and removing what was kept of it leaves that."""
    first, _, _ = finished
    shutil.copytree(first, tmp_path / "run")
    cell = next((tmp_path / "run" / "cells").glob("*accuracy*"))
    (cell / "begun").mkdir()
    shutil.copy(cell / "rows" / "000000.parquet", cell / "begun" / "000000-000004.parquet")
    (cell / "finding.json").unlink()
    run(tmp_path / "run", FIRST)
    assert not (cell / "begun").exists()
