"""What is released: the wheel holds all that the commands need, and runs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(path.suffix for path in out.iterdir()) == [".gz", ".whl"]
    assert max(path.stat().st_size for path in out.iterdir()) < MOST_BYTES
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_what_is_in_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cuescope/")}
    files = [path for path in (ROOT / "src" / "cuescope").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert packed == {str(path.relative_to(ROOT / "src")) for path in files}
    assert "cuescope/py.typed" in packed


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-P", "-m", "cuescope", "demo", "--images", "12", "--out", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
