"""`cuescope check`: an outcome is what the interval says, the exit status what the outcomes say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import cuescope
from commands import call
from cuescope.api.check import Checked, Requirement, check, junit, markdown
from cuescope.core.errors import CueError
from cuescope.core.findings import Measure
from cuescope.runs.store import Run
from runs import make_run
from toys import Blind, Images, MeanColor, colored, toy

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


NO_REQUIREMENTS = [
    *("", "top1", "top1=.5", "top1==.5", "top1>=", "top1>=x", "a.b.c>=1", ">=1", "top1>=.5 or so", "top1 .5"),
    *("top1>=nan", "top1>=inf", "top1<=-inf", "top1>=1e999", "top1>=.5>=.3", ".7<=top1", "top1=>.7", "top 1>=.7"),
]


@pytest.mark.parametrize("text", NO_REQUIREMENTS)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(CueError, match="is no requirement") as refused:
        Requirement.of(text)
    assert refused.value.wanted
    assert refused.value.do


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def test_each_classifier_is_asked_and_the_exit_status_is_theirs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run.path)
    status, out, _ = call("check", path, "--require", "top1>=.5", capsys=capsys)
    assert (status, out.count("supported")) == (0, 2)
    found = check(path, ["accuracy.top1>=.75", "shape_bias<=.5"])
    assert [one.outcome for one in found] == ["refused", "supported", "supported", "supported"]
    assert check(run, "accuracy.top1>=.75") == found[:2]
    for several in (["--require", "top1>=.75", "shape_bias<=.5"], ["--require", "top1>=.75", "--require", "top5>=.5"]):
        status, out, _ = call("check", path, *several, capsys=capsys)
        assert (status, out.count("supported"), out.count("refused")) == (1, 3, 1)


# What is required of the run of tests/runs.py, and the outcome for its classifiers or the error's words.
TABLE: list[tuple[str, list[str] | str]] = [
    ("top1>=.5", ["supported", "supported"]),
    ("top1>=.75", ["refused", "supported"]),
    ("top1>=.6", ["cannot tell", "supported"]),
    ("evidence.top1>=.5", ["missing: does not apply", "missing: does not apply"]),
    ("evidence>=.5", ["missing: does not apply", "missing: does not apply"]),
    ("occlusion.drop<=1", ["supported", "missing: failed: RuntimeError"]),
    ("topp>=.5", "unknown measure of this run 'topp'.*top1"),
    ("accuracy.topp>=.5", "unknown measure of accuracy 'topp'.*top1"),
    ("accurac.top1>=.5", "unknown instrument of this run 'accurac'.*accuracy"),
    ("part_whole>=.5", "part_whole was not asked in this run: no image has boxes"),
    ("part_whole.kept>=.5", "part_whole was not asked in this run: no image has boxes"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_the_table_of_cases(text: str, expected: list[str] | str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    if isinstance(expected, str):
        with pytest.raises(CueError) as told:
            check(run, [text])
        assert re.search(expected, str(told.value).replace("\n", " "))
        assert call("check", str(run.path), "--require", text, capsys=capsys)[0] == 2
        return
    found = check(run, [text])
    assert [one.outcome for one in found] == [one.partition(":")[0] for one in expected]
    for one, about in zip(found, expected, strict=True):
        assert one.why.startswith(about.partition(": ")[2])
    status = 0 if all(one.outcome == "supported" for one in found) else 1
    assert call("check", str(run.path), "--require", text, capsys=capsys)[0] == status


def test_a_measure_of_several_instruments_is_to_be_named_in_full(tmp_path: Path) -> None:
    path = audited(tmp_path / "run", 0.0, only=["shift_consistency", "shift_stability", "worst_shift", "typicality"])
    with pytest.raises(CueError, match="instruments have a measure 'accuracy'") as told:
        check(path, ["accuracy>=.5"])
    assert "shift_consistency.accuracy" in told.value.do
    assert [one.outcome for one in check(path, ["shift_consistency.accuracy>=.5"])] == ["supported"]


def test_what_is_no_run_or_not_finished_or_half_asked_is_one_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(CueError, match="no run in"):
        check(tmp_path, ["top1>=.5"])
    for half, told in (({}, "nothing is required"), ({"baseline": run.path}, "half"), ({"no_worse": True}, "half")):
        with pytest.raises(CueError, match=told):
            check(run.path, **half)  # type: ignore[arg-type]
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(CueError, match="the margin is"):
            check(run, baseline=run, no_worse=True, margin=margin)
    run.manifest["finished"] = None
    run.write_manifest()
    with pytest.raises(CueError, match="is not finished") as told:
        check(run.path, ["top1>=.5"])
    assert "cuescope audit" in told.value.do


def test_a_check_reads_no_torch(run: Run) -> None:
    code = f"import sys; from cuescope.api.check import check; check({str(run.path)!r}, ['top1>=.5']);"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'jinja2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ODD = Checked(
    "timm/a|b@`x`.pt", "val <1>", "top1 >= 0.5", "missing", 'failed: \x1b[31m<shape> & "mismatch"\nat *x*\x00'
)


def test_what_ci_reads_is_whole_whatever_a_name_or_an_error_holds(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    files = run.path / "x.xml", run.path / "x.md"
    more = ["--junit", str(files[0]), "--markdown", str(files[1])]
    assert call("check", str(run.path), "--require", "top1>=.75", "evidence>=0", *more, capsys=capsys)[0] == 1
    root = ElementTree.parse(files[0]).getroot()
    (suite,) = root
    assert (root.tag, suite.tag, {case.tag for case in suite}) == ("testsuites", "testsuite", {"testcase"})
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "3", "0")
    failures = suite.findall("testcase/failure")
    assert [failure.get("type") for failure in failures] == ["refused", "missing", "missing"]
    assert all(case.get("classname") and case.get("name") for case in suite)
    assert len({(case.get("classname"), case.get("name")) for case in suite}) == 4
    lines = files[1].read_text().splitlines()
    assert lines[0] == "**cuescope check: 1 of 4 requirements supported**"
    assert [line.split("|")[1].strip() for line in lines[4:]] == ["refused", "missing", "missing", "supported"]

    parsed = ElementTree.fromstring(junit([ODD]).encode())
    (case,) = parsed.iter("testcase")
    assert case.get("classname") == ODD.classifier
    assert "<shape> &" in (case.find("failure").get("message") or "")  # type: ignore[union-attr]
    *_, row = markdown([ODD]).splitlines()
    assert len(re.split(r"(?<!\\)\|", row)) == 7
    assert not re.search(r"(?<!\\)[<>*`]", row)


def audited(out: Path, share: float, images: int = 90, name: str = "zoo/blind", **options: Any) -> Path:
    model = toy(Blind(share), name=f"{name}-{share}")
    cuescope.audit(model, images=Images(colored(images)), out=out, **{"only": ["accuracy"], **options})
    return out


def outcomes(run: Path, baseline: Path, **more: Any) -> dict[str, str]:
    return {one.required.partition(" ")[0]: one.outcome for one in check(run, baseline=baseline, no_worse=True, **more)}


def test_no_worse_than_a_baseline_needs_the_whole_interval(tmp_path: Path) -> None:
    perfect, same, bad = (audited(tmp_path / f"{i}", share) for i, share in enumerate((0.0, 1e-9, 0.5)))
    assert outcomes(same, perfect) == {"accuracy.top1": "supported"}
    assert outcomes(perfect, perfect) == {"accuracy.top1": "supported"}, "the same weights are no worse"
    assert outcomes(bad, perfect) == {"accuracy.top1": "refused"}
    assert outcomes(perfect, bad) == {"accuracy.top1": "supported"}
    assert outcomes(same, perfect, margin=0.01) == {"accuracy.top1": "cannot tell"}
    assert outcomes(bad, perfect, margin=0.9) == {"accuracy.top1": "supported"}
    few = [audited(tmp_path / f"few{i}", share, 6) for i, share in enumerate((0.0, 0.2))]
    assert outcomes(few[1], few[0]) == {"accuracy.top1": "cannot tell"}


def test_a_baseline_on_part_of_the_images_is_compared_on_those_in_common(tmp_path: Path) -> None:
    whole, part = audited(tmp_path / "whole", 0.0), audited(tmp_path / "part", 0.0, limit=45)
    (one,) = check(whole, baseline=part, no_worse=True)
    assert one.outcome in ("supported", "cannot tell")
    assert "45 images" in one.why
    assert "of 45 images before and 90 after" in one.why


def test_what_the_baseline_measured_otherwise_is_missing(tmp_path: Path) -> None:
    both = ["accuracy", "worst_shift"]
    baseline = audited(tmp_path / "baseline", 0.0, only=both)
    other = audited(tmp_path / "other", 0.0, only=both, settings={"worst_shift.reach_px": 2})
    assert outcomes(other, baseline) == {"accuracy.top1": "supported", "worst_shift.changed_window": "missing"}
    alone = audited(tmp_path / "alone", 0.0)
    (missing,) = [one for one in check(alone, baseline=baseline, no_worse=True) if one.outcome == "missing"]
    assert missing.why == "not asked after"
    assert outcomes(baseline, alone) == {"accuracy.top1": "supported"}, "what is new has nothing to be worse than"
    with pytest.raises(CueError, match=r"nothing can be compared: accuracy: other images"):
        check(run_of_others(tmp_path / "others"), baseline=baseline, no_worse=True)


def run_of_others(out: Path) -> Path:
    images = Images(colored(90))
    images.name = "holidays"
    cuescope.audit(toy(MeanColor()), images=images, only=["accuracy"], out=out)
    return out


def test_each_classifier_has_its_own_baseline_and_one_without_is_missing(tmp_path: Path) -> None:
    def several(out: str, shares: dict[str, float]) -> Path:
        models = [toy(Blind(share), name=name) for name, share in shares.items()]
        cuescope.audit(*models, images=Images(colored(90)), only=["accuracy"], out=tmp_path / out)
        return tmp_path / out

    baseline = several("baseline", {"zoo/a@1.pt": 0.0, "zoo/b@1.pt": 0.5})
    new = several("new", {"zoo/a@2.pt": 0.5, "zoo/b@2.pt": 0.0, "zoo/c@1.pt": 0.0})
    found = {one.classifier: one.outcome for one in check(new, baseline=baseline, no_worse=True)}
    assert found == {"zoo/a@2.pt": "refused", "zoo/b@2.pt": "supported", "zoo/c@1.pt": "missing"}
