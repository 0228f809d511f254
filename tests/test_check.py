"""`cuescope check`: an outcome is what the interval says, the exit status what the outcomes say."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from torch import Tensor, nn

import cuescope
from commands import call
from cuescope.api.check import Requirement, check, junit, markdown
from cuescope.core.errors import CueError
from cuescope.core.findings import Measure
from cuescope.runs.store import Run
from runs import make_run
from toys import Images, MeanColor, colored, toy

SEEN = Measure("top1", 0.6, "share", 100, (0.5, 0.7))
CASES = [
    ("top1>=.5", SEEN, "supported"),
    ("top1>.5", SEEN, "cannot tell"),
    ("top1 >= 71%", SEEN, "refused"),
    ("top1>.7", SEEN, "refused"),
    ("top1>=.6", SEEN, "cannot tell"),
    ("accuracy.top1<=.7", SEEN, "supported"),
    ("top1<.7", SEEN, "cannot tell"),
    ("top1<=4e-1", SEEN, "refused"),
    ("top1>=.1", Measure("top1", 0.6, "share", 3, why="an interval needs at least 5 images, not 3"), "cannot tell"),
    ("top1>=.1", Measure("top1", None, "share", why="no image has a label"), "missing"),
]


@pytest.mark.parametrize(("text", "measure", "outcome"), CASES)
def test_an_outcome_is_what_the_interval_says(text: str, measure: Measure, outcome: str) -> None:
    assert Requirement.of(text).outcome(measure)[0] == outcome


@pytest.mark.parametrize("text", ["", "top1", "top1=.5", "top1>=", "top1>=x", "a.b.c>=1", ">=1", "top1>=.5 or so"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(CueError, match="is no requirement"):
        Requirement.of(text)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def test_each_classifier_is_asked_and_the_exit_status_is_theirs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run.path)
    status, out, _ = call("check", path, "--require", "top1>=.5", capsys=capsys)
    assert (status, out.count("supported")) == (0, 2)
    found = check(path, ["accuracy.top1>=.75", "shape_bias<=.5"])
    assert [one.outcome for one in found] == ["refused", "supported", "supported", "supported"]
    files = run.path / "x.xml", run.path / "x.md"
    more = ["--junit", str(files[0]), "--markdown", str(files[1])]
    assert call("check", path, "--require", "top1>=.75", *more, capsys=capsys)[0] == 1
    suite = ElementTree.parse(files[0]).getroot()
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("*/failure"))) == ("2", "1", 1)
    assert files[1].read_text().count("| refused |") == 1
    assert (junit(found).count("<testcase"), markdown(found).count("\n")) == (4, 6)


def test_a_cell_without_the_measure_is_missing_and_a_name_that_nobody_has_is_a_mistake(run: Run) -> None:
    missing = [one for one in check(run.path, ["evidence.top1>=.5"]) if one.outcome == "missing"]
    assert len(missing) == 2
    assert "no patch logits" in missing[0].why
    for text, told in (("topp>=.5", "top1"), ("accurac.top1>=.5", "accuracy")):
        with pytest.raises(CueError, match=told):
            check(run.path, [text])
    for nothing in ({}, {"baseline": run.path}, {"no_worse": True, "require": ["top1>.5"]}):
        with pytest.raises(CueError, match="nothing is required"):
            check(run.path, **nothing)  # type: ignore[arg-type]


class Blind(nn.Module):
    """Mean color that takes some share of the images, by their brightness, for red."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, pixels: Tensor) -> Tensor:
        logits = MeanColor()(pixels)
        bright = (pixels.mean((1, 2, 3)) * 1e4 % 1) < self.share
        logits[bright, 0] = 20.0
        return logits


def audited(out: Path, share: float, images: int = 90) -> Path:
    model = toy(Blind(share), name=f"zoo/blind-{share}")
    cuescope.audit(model, images=Images(colored(images)), only=["accuracy"], out=out)
    return out


def test_no_worse_than_a_baseline_needs_the_whole_interval(tmp_path: Path) -> None:
    perfect, same, bad = (audited(tmp_path / f"{i}", share) for i, share in enumerate((0.0, 1e-9, 0.5)))
    assert {one.outcome for one in check(same, baseline=perfect, no_worse=True)} == {"supported"}
    assert "refused" in {one.outcome for one in check(bad, baseline=perfect, no_worse=True)}
    assert {one.outcome for one in check(perfect, baseline=bad, no_worse=True)} == {"supported"}
    few = [audited(tmp_path / f"few{i}", share, 6) for i, share in enumerate((0.0, 0.2))]
    assert {one.outcome for one in check(few[1], baseline=few[0], no_worse=True)} == {"cannot tell"}
    with pytest.raises(CueError, match="can be compared"):
        check(few[0], baseline=perfect, no_worse=True)
