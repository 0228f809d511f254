"""The run folder: one process at a time, nothing half-written, and nothing of a stranger's that leaves the folder."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import cuescope
from cuescope import report
from cuescope.api.compare import compare
from cuescope.core.errors import CueError
from cuescope.core.files import inside, read_bytes, read_json, read_picture, write
from cuescope.core.findings import Figure, Finding, Measure, Panel
from cuescope.runs.cell import Cell
from cuescope.runs.comparisons.paired import verdicts
from cuescope.runs.comparisons.pairs import findings
from cuescope.runs.store import Run
from runs import make_run
from toys import Images, MeanColor, colored, toy


def png(path: Path, size: tuple[int, int] = (4, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, "PNG")
    return path


def test_a_picture_of_the_cell(tmp_path: Path) -> None:
    png(tmp_path / "images" / "a.png")
    assert read_picture(tmp_path, "images/a.png").tolist() == [[[255, 0, 0]] * 4] * 3


def outside(cell: Path) -> str:
    png(cell.parent / "secret.png")
    return "../secret.png"


def absolute(cell: Path) -> str:
    return str(png(cell.parent / "secret.png"))


def linked(cell: Path) -> str:
    (cell / "a.png").symlink_to(png(cell.parent / "secret.png"))
    return "a.png"


def linked_folder(cell: Path) -> str:
    png(cell.parent / "secrets" / "a.png")
    (cell / "images").symlink_to(cell.parent / "secrets")
    return "images/a.png"


def pipe(cell: Path) -> str:
    os.mkfifo(cell / "a.png")
    return "a.png"


def huge(cell: Path) -> str:
    head = b"IHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (cell / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
    return "a.png"


def jpeg(cell: Path) -> str:
    Image.new("RGB", (4, 4)).save(cell / "a.png", "JPEG")
    return "a.png"


def script(cell: Path) -> str:
    (cell / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    return "a.png"


def cut(cell: Path) -> str:
    png(cell / "a.png", (99, 99))
    (cell / "a.png").write_bytes((cell / "a.png").read_bytes()[:80])
    return "a.png"


def missing(cell: Path) -> str:
    return "a.png"


def folder(cell: Path) -> str:
    (cell / "a.png").mkdir()
    return "a.png"


def nothing(cell: Path) -> str:
    return ""


@pytest.mark.parametrize(
    "odd",
    [outside, absolute, linked, linked_folder, pipe, huge, jpeg, script, cut, missing, folder, nothing],
    ids=lambda f: f.__name__,
)
def test_an_odd_picture_is_one_error(tmp_path: Path, odd) -> None:
    cell = tmp_path / "cell"
    cell.mkdir()
    with pytest.raises(CueError):
        read_picture(cell, odd(cell))


def test_a_huge_picture_is_refused_for_its_size_alone(tmp_path: Path) -> None:
    with pytest.raises(CueError, match=r"13,000 x 13,000 px|decompression bomb"):
        read_picture(tmp_path, huge(tmp_path))


@pytest.mark.parametrize("name", ["/etc", "../other", "cells/../../other", "", "a\0b"])
def test_paths_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(CueError):
        inside(tmp_path, name)


def test_a_cell_folder_elsewhere_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for elsewhere in (str(tmp_path), "../run/cells"):
        run.manifest["cells"][0]["folder"] = elsewhere
        with pytest.raises(CueError, match="leaves the folder"):
            _ = run.cells


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "{", '{"schema": 1}', "\ud800", '{"a": NaN'], ids=range(7))
def test_a_damaged_manifest_is_one_error(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    (run.path / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CueError):
        Run.open(run.path)


@pytest.mark.parametrize(
    "change",
    [
        {"measures": 3},
        {"measures": [{"name": "a"}]},
        {"measures": [{"name": "a", "value": "much"}]},
        {"measures": [{"name": "a", "value": None}]},
        {"measures": [{"name": "a", "value": 1, "interval": [1]}]},
        {"measures": [{"name": "a", "value": 1, "unit": "miles"}]},
        {"panels": [{"name": "p"}]},
        {"panels": [{"name": "p", "kind": "film", "title": "t"}]},
        {"verdict": None},
        {"verdict": {"said": "perhaps", "sentence": ""}},
        {"schema": 99},
    ],
    ids=str,
)
def test_a_damaged_finding_is_one_error(tmp_path: Path, change: dict[str, object]) -> None:
    cell = make_run(tmp_path / "run").cells[0]
    path = cell.folder / "finding.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CueError, match="is no finding"):
        _ = cell.finding


def test_damaged_rows_are_one_error(tmp_path: Path) -> None:
    cell = Cell(tmp_path, {})
    cell.chunks.write(0, pl.DataFrame({"id": ["a"]}))
    (tmp_path / "rows" / "000001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(CueError, match="000001"):
        cell.rows()


def test_a_folder_name_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    for name in ("run[1]", "run*", "run?"):
        cell, other = Cell(tmp_path / name, {}), Cell(tmp_path / "run1", {})
        cell.chunks.write(0, pl.DataFrame({"id": [name]}))
        other.chunks.write(0, pl.DataFrame({"id": ["other"]}))
        assert cell.rows()["id"].to_list() == [name]


def test_a_run_folder_runs_no_code(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    runs = []
    for k in range(2):
        run = make_run(tmp_path / f"run{k}")
        for cell in run.manifest["cells"]:
            cell["instrument"] = str(evil)
        run.manifest["classifiers"][0]["digest"] = f"other {k}"
        run.write_manifest()
        runs.append(Run.open(run.path))
    assert findings(runs) == []
    verdicts(runs)
    assert not (tmp_path / "ran").exists()


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("precious")
    (tmp_path / "report.html").symlink_to(target)
    write(tmp_path / "report.html", b"page")
    assert target.read_text() == "precious"
    assert (tmp_path / "report.html").read_bytes() == b"page"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(CueError):
        read_json(tmp_path / "manifest.json")
    with pytest.raises(ValueError, match="more than 3"):
        read_bytes(png(tmp_path / "a.png"), most=3)


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    code = (
        "import sys; from cuescope.runs.store import Run\n"
        f"with Run.create({str(run.path)!r}).locked(): print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(CueError, match=f"in use by process {other.pid} on .* since"), run.locked():
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with run.locked():
        # What a process that was killed left behind does not hold the folder.
        pass
    other.communicate()


def test_leftovers_of_dead_writers_are_no_obstacle_and_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    (path / "skipped" / "abc").mkdir(parents=True)
    (path / ".probe-1").touch()
    part = path / "skipped" / "abc" / ".000000.json.1-ab.part"
    part.touch()
    with Run.create(path).locked():
        assert not part.exists()
        assert not (path / ".probe-1").exists()


def test_a_folder_of_other_things_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CueError, match="not a run"):
        Run.create(tmp_path)


def test_pixels_must_be_in_a_file() -> None:
    figure = Figure("a", np.zeros((2, 2, 3), np.uint8))
    panel = Panel("p", "images", "P", figures=(figure,))
    with pytest.raises(ValueError, match="not written"):
        Finding("accuracy", 1, {}, "net", "set", panels=(panel,)).to_json()


def test_a_zero_is_a_number_and_stays(tmp_path: Path) -> None:
    measure = Measure("m", 0.0, "share", n=4, interval=(0.0, 0.5), count=0, chance=0.0)
    finding = Finding("accuracy", 1, {}, "net", "set", (measure,))
    data = json.loads(json.dumps(finding.to_json()))
    assert data["measures"] == [
        {"name": "m", "value": 0.0, "unit": "share", "n": 4, "interval": [0.0, 0.5], "count": 0, "chance": 0.0}
    ]
    assert Finding.from_json(data).measures == (measure,)


@pytest.mark.parametrize(
    "change",
    [
        {"cells": None},
        {"cells": ["a"]},
        {"seconds": None},
        {"created": 3},
        {"environment": None},
        {"image_sets": [None]},
        {"unasked": ["x"]},
        {"order": {"accuracy": "x"}},
        {"cells": [{"folder": 5}]},
    ],
    ids=str,
)
def test_a_manifest_of_other_types_is_one_error(tmp_path: Path, change: dict[str, object]) -> None:
    run = make_run(tmp_path / "run")
    run.manifest |= change
    run.write_manifest()
    with pytest.raises(CueError, match="is no manifest"):
        Run.open(run.path)


def test_a_finding_that_is_lost_is_one_error(tmp_path: Path) -> None:
    cell = make_run(tmp_path / "run").cells[0]
    (cell.folder / "finding.json").unlink()
    with pytest.raises(CueError, match="is lost"):
        _ = cell.finding


@pytest.mark.parametrize("name", ["skipped.csv", "error.txt", "comparisons.json", "pairs.json", "slices.json"])
def test_a_link_in_a_run_folder_shows_nothing_from_elsewhere(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text("set,id,why\nsecret,secret,secret\n")
    failed = next(cell for cell in run.cells if cell.status == "failed")
    path = failed.folder / name if name == "error.txt" else run.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(secret)
    shown = ""
    with contextlib.suppress(CueError):
        shown = report.write([run.path], tmp_path / "page.html").read_text()
    assert "secret" not in shown
    assert bool(shown) == (name in ("skipped.csv", "error.txt")), "what is needed and lost is an error"


@pytest.mark.parametrize("name", ["run[1]", "run*"])
def test_a_run_in_a_folder_with_a_pattern_for_a_name_is_read_whole_and_alone(tmp_path: Path, name: str) -> None:
    other = tmp_path / "run1"
    for folder, count in ((tmp_path / name, 12), (other, 30)):
        cuescope.audit(toy(MeanColor()), images=Images(colored(count)), only=["accuracy"], out=folder)
    run = Run.open(tmp_path / name)
    assert run.cells[0].rows().height == run.finding("accuracy")["top1"].n == 12
    assert compare(tmp_path / name, other).changes[0].headlines[0].n == 12


def test_what_was_concluded_of_each_image_stands_beside_the_rows(tmp_path: Path) -> None:
    cell = Cell(tmp_path / "cell", {})
    cell.chunks.write(0, pl.DataFrame({"id": ["a", "b", "c"], "label": [0, 1, 2]}))
    cell.chunks.write_outcomes(pl.DataFrame({"id": ["b", "c"], "right": [True, False]}))
    assert cell.rows().rows() == [("a", 0, None), ("b", 1, True), ("c", 2, False)]
    assert cell.rows(columns=["id", "right"]).rows() == [("a", None), ("b", True), ("c", False)]
    assert cell.rows(columns=["id", "label"]).columns == ["id", "label"]
    cell.write_finding(Finding("toy", 1, {}, "net", "images"))
    path = tmp_path / "cell" / "outcomes.parquet"
    whole = path.read_bytes()
    for damaged in (b"no parquet", whole[:-9] + bytes(9), (cell.folder / "rows" / "000000.parquet").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(CueError, match="what was concluded"):
            cell.rows()
    path.unlink()
    with pytest.raises(CueError, match="not those that its finding"):
        cell.rows()
    path.write_bytes(whole)
    cell.mend()
    assert cell.concluded
    path.write_bytes(b"no parquet")
    cell.mend()
    assert not cell.concluded
    assert not path.exists()
