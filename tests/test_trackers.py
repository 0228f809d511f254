"""What a run found, in MLflow and in Weights & Biases, as these packages read it back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cuescope
from cuescope.core.errors import CueError
from cuescope.report.trackers import numbers, track
from cuescope.runs.store import Run
from toys import Images, MeanColor, colored, toy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tracked") / "run"
    return cuescope.audit(toy(MeanColor()), images=Images(colored(9)), only=["accuracy"], out=folder)


def test_numbers_have_names_that_trackers_take(run: Run) -> None:
    found = numbers([run])
    (name,) = [name for name in found if name.endswith("/accuracy.top1")]
    measure = run.finding("accuracy")["top1"]
    assert found[name] == measure.value
    assert (found[f"{name}.low"], found[f"{name}.high"]) == measure.interval
    assert {len(key.split("/")) for key in found} == {3}
    assert {len(key.split("/")) for key in numbers([run, run])} == {4}


@pytest.mark.extra
def test_mlflow_has_the_measures_and_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    key = track([run], run.path / "report.html", "mlflow").split()[-1]
    kept = mlflow.get_run(key)
    assert kept.data.metrics == pytest.approx(numbers([run]))
    assert Path(kept.info.artifact_uri.removeprefix("file://"), "report.html").is_file()


@pytest.mark.extra
def test_a_store_that_mlflow_refuses_is_one_error(run: Run, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri("nowhere://x")
    with pytest.raises(CueError, match="MLFLOW_TRACKING_URI"):
        track([run], run.path / "report.html", "mlflow")


@pytest.mark.extra
def test_wandb_has_the_measures_and_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    track([run], run.path / "report.html", "wandb")
    (kept,) = tmp_path.rglob("*.wandb")
    assert kept.stat().st_size > 0
    (page,) = tmp_path.rglob("report_*.html")
    assert page.read_bytes() == (run.path / "report.html").read_bytes()


def test_one_that_is_not_installed_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(CueError, match="mlflow is not installed"):
        track([run], run.path / "report.html", "mlflow")
