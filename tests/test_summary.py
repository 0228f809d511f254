"""One page of Markdown for a pull request: the same answers as the page's first screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import call
from cuescope.report import write
from cuescope.report.gather import gather
from cuescope.report.html import headline
from cuescope.report.markdown import escaped
from cuescope.report.profile import profile
from cuescope.runs.store import Run
from runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", more=["zoo/odd|name_<b>"])


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_summary_says_what_the_first_screen_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.path / "out.md"
    status, told, err = call("report", str(run.path), "--summary", str(out), capsys=capsys)
    assert status == 0, err
    assert str(out) in told
    text = out.read_text()
    content = gather([run])
    assert text.startswith(f"## {escaped(headline(content.subjects))}\n")
    rows = [columns(line) for line in text.splitlines() if line.startswith("| ")]
    lines = profile(content).lines
    assert [row[0] for row in rows[2:]] == [line.question for line in lines]
    assert {len(row) for row in rows} == {2 + len(content.subjects) + 1}
    assert rows[0][4] == r"odd\|name\_\<b\>"
    for row, line in zip(rows[2:], lines, strict=True):
        for cell, answer in zip(row[2:], line.answers, strict=False):
            assert cell == f"{answer.said}: {answer.number} ({answer.interval})"
    assert not re.search(r"(?<!\\)<(?!/?sub>)", text)
    assert "Without an answer: occlusion of mobilenet\\_v2." in text


def test_of_two_runs_it_says_what_changed(tmp_path: Path) -> None:
    from test_changes import audited

    runs = [audited(tmp_path / f"{i}", share) for i, share in enumerate((0.0, 0.5))]
    write(runs, tmp_path / "two.html", summary=tmp_path / "two.md")
    text = (tmp_path / "two.md").read_text()
    assert "Worse: top-1 accuracy. Nothing is shown to be better." in text
    (row,) = [columns(line) for line in text.splitlines() if line.startswith("| worse")]
    assert row[1:3] == ["top-1 accuracy", row[2]]
    assert row[2].startswith("100.0% to ")
