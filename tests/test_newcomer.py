"""What somebody meets who uses cuescope from Python for the first time."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import cuescope
from cuescope.core.errors import CueError
from toys import Images, MeanColor, colored


def test_a_run_its_cells_and_its_findings_are_shown_in_a_line(tmp_path: Path) -> None:
    module = MeanColor().eval()
    classes = {0: "red", 1: "green", 2: "blue"}
    run = cuescope.audit(module, images=Images(colored(6)), classes=classes, size=16, only="accuracy", out=tmp_path)
    assert [finding.instrument for finding in run.findings] == ["accuracy"]
    for shown in (run, run.findings[0], run.cells[0]):
        assert len(repr(shown)) < 200
        assert "\n" not in repr(shown)
    assert "accuracy" in repr(run.findings[0])
    assert "done" in repr(run.cells[0])
    assert run.manifest["classifiers"][0]["classes"] == 3


def test_what_there_is_can_be_listed() -> None:
    assert {"audit", "compare", "check", "look", "load", "slices", "Run"} <= set(dir(cuescope))


def test_features_are_no_logits(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    headless: nn.Module = timm.create_model("resnet10t", num_classes=0).eval()
    with pytest.raises(CueError, match="no head"):
        cuescope.audit(headless, images=Images(colored(3)), only="accuracy", out=tmp_path)
