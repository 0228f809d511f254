"""A run as records of Every Eval Ever: the values in the files, and what the package itself says of them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cuescope
from commands import call
from cuescope.core.errors import CueError
from cuescope.report import every_eval_ever
from cuescope.runs.store import Run
from toys import Images, MeanColor, colored, toy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    only = ["accuracy", "shift_stability"]
    return cuescope.audit(toy(MeanColor()), images=Images(colored(9)), only=only, out=folder)


@pytest.fixture(scope="module")
def record(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("records")
    (path,) = every_eval_ever.write(run, out)
    return out, json.loads(path.read_text())


def test_each_measure_has_its_value_interval_n_and_unit(run: Run, record: tuple[Path, dict[str, Any]]) -> None:
    results = {one["evaluation_result_id"]: one for one in record[1]["evaluation_results"]}
    assert len(results) == run.frame()["value"].count()
    top1, measured = results["accuracy.top1/toys"], run.finding("accuracy")["top1"]
    score = top1["score_details"]
    assert score["score"] == measured.value
    assert score["details"]["n"] == str(measured.n) == "9"
    interval = score["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == measured.interval
    metric = top1["metric_config"]
    assert (metric["metric_unit"], metric["min_score"], metric["max_score"]) == ("proportion", 0, 1)
    assert not metric["lower_is_better"]
    assert results["shift_stability.top1_change/toys"]["metric_config"]["lower_is_better"]


def test_each_labeled_image_has_a_line(run: Run, record: tuple[Path, dict[str, Any]]) -> None:
    out, found = record
    told = found["detailed_evaluation_results"]
    data = (out / told["file_path"]).read_bytes()
    lines = [json.loads(line) for line in data.splitlines()]
    rows = run.frame("accuracy")
    assert told["total_rows"] == len(lines) == rows.height
    assert told["checksum"] == hashlib.sha256(data).hexdigest()
    assert [line["sample_id"] for line in lines] == rows["id"].to_list()
    assert [line["evaluation"]["score"] for line in lines] == rows["top1"].to_list()
    names = run.about(run.cells[0]).classes
    assert [line["output"]["raw"] for line in lines] == [[names[k]] for k in rows["predicted"]]
    assert [line["input"]["reference"] for line in lines] == [[names[k]] for k in rows["label"]]
    assert {line["evaluation_id"] for line in lines} == {found["evaluation_id"]}


def test_a_second_time_writes_over_the_first(run: Run, record: tuple[Path, dict[str, Any]]) -> None:
    before = sorted(record[0].rglob("*.json*"))
    every_eval_ever.write(run, record[0])
    assert sorted(record[0].rglob("*.json*")) == before


def test_a_run_without_labels_has_measures_alone(tmp_path: Path) -> None:
    run = cuescope.audit(
        toy(MeanColor()), images=Images(colored(5), None), only=["shift_stability"], out=tmp_path / "a"
    )
    (path,) = every_eval_ever.write(run, tmp_path / "records")
    assert "detailed_evaluation_results" not in json.loads(path.read_text())
    assert len(list((tmp_path / "records").rglob("*.json*"))) == 1


def test_a_run_that_is_not_finished_is_told(run: Run, tmp_path: Path) -> None:
    half = Run(run.path, {**run.manifest, "finished": None})
    with pytest.raises(CueError, match="not finished"):
        every_eval_ever.write(half, tmp_path)


def test_the_command_tells_the_files(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call("report", str(run.path), "--every-eval-ever", str(tmp_path), capsys=capsys)
    (path,) = tmp_path.rglob("*.json")
    assert (status, path.name in out) == (0, True)


@pytest.mark.extra
def test_the_package_takes_them(record: tuple[Path, dict[str, Any]]) -> None:
    """It needs Python 3.12: EVERY_EVAL_EVER_PYTHON may name another interpreter, which has it."""
    python = os.environ.get("EVERY_EVAL_EVER_PYTHON", sys.executable)
    if python == sys.executable:
        pytest.importorskip("every_eval_ever")
    command = [python, "-m", "every_eval_ever", "validate", "data/*/*/*/*.json*"]
    done = subprocess.run(command, cwd=record[0], env=alone(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 0 warning-only, 0 failed" in done.stdout


def alone() -> dict[str, str]:
    """The environment without what leads another interpreter to the packages of this one."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
