"""The first thing on the page: headline questions with a word and a number each, what to do, one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cuescope.core.findings import Measure
from cuescope.report.gather import gather
from cuescope.report.html import page
from cuescope.report.profile import Profile, profile
from cuescope.runs.store import Run
from runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def changed(run: Run, which: int, **fields: object) -> None:
    """The finding of shape_bias of a classifier, changed."""
    cell = [cell for cell in run.cells if cell.instrument == "shape_bias"][which]
    assert cell.finding
    finding = cell.finding
    verdict = {key: fields.pop(key) for key in ("said", "remedy", "clauses") if key in fields}
    cell.write_finding(replace(finding, verdict=replace(finding.verdict, **verdict), **fields))


def found(run: Run) -> Profile:
    return profile(gather([Run.open(run.path)]))


def test_a_line_a_headline_question_with_all_classifiers_and_what_to_read_them_against(run: Run) -> None:
    right, shape = found(run).lines
    assert (right.instrument, shape.instrument) == ("accuracy", "shape_bias")
    assert [(a.said, a.number) for a in shape.answers] == [("no", "29.3%"), ("no", "17.4%")]
    assert all(a.interval and "<svg" in a.track for a in shape.answers)
    assert any("people 95.9%" in reference for reference in shape.references)
    assert {who: place for place, who in shape.marks}["people"] > 90, "shares all have one axis, from 0 to 100 %"


def test_the_sentence_says_yes_and_no_in_words_and_nothing_of_what_cannot_be_told(run: Run) -> None:
    assert found(run).sentence == "each of squeezenet1_1 and mobilenet_v2 is right and goes by texture."
    changed(run, 0, clauses=("goes by shape",))
    changed(run, 1, clauses=())
    assert found(run).sentence == "squeezenet1_1 is right and goes by shape; mobilenet_v2 is right."


def test_what_to_do_names_whom_it_is_for(run: Run) -> None:
    assert found(run).remedies == ()
    for which in (0, 1):
        changed(run, which, remedy="train on stylized images")
    (remedy,) = found(run).remedies
    assert ([s.title for s in remedy.subjects], remedy.text) == (
        ["squeezenet1_1", "mobilenet_v2"],
        "train on stylized images",
    )


def test_a_number_that_is_missing_has_its_reason(run: Run) -> None:
    changed(run, 0, measures=(Measure("shape_bias", None, "share", why="no decision was for either cue"),))
    answers = found(run).lines[1].answers
    assert (answers[0].number, answers[0].why, answers[0].track) == ("–", "no decision was for either cue", "")
    assert answers[1].number == "17.4%"
    for which in (0, 1):
        changed(run, which, measures=())
    assert [a.number for a in found(run).lines[1].answers] == ["", ""]


def test_a_run_without_headlines_has_no_profile_and_still_a_page(run: Run) -> None:
    del run.manifest["headlines"]
    run.write_manifest()
    assert found(run) == Profile("", (), ())
    assert "Side by side" in page(gather([Run.open(run.path)]))
