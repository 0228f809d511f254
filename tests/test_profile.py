"""The first thing on the page: headline questions with a word and a number each, what to do, one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cuescope.core.findings import Measure, Published
from cuescope.instruments import registry
from cuescope.instruments.names import names
from cuescope.report.gather import gather
from cuescope.report.html import page
from cuescope.report.profile import Line, Profile, profile
from cuescope.runs.store import Run
from made_findings import MOBILE, SQUEEZE
from runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def changed(run: Run, which: int, **fields: object) -> None:
    """The finding of shape_bias of a classifier, changed."""
    cell = [cell for cell in run.cells if cell.instrument == "shape_bias"][which]
    assert cell.finding
    finding = cell.finding
    verdict = {key: fields.pop(key) for key in ("said", "remedy", "command", "clauses") if key in fields}
    cell.write_finding(replace(finding, verdict=replace(finding.verdict, **verdict), **fields))


def found(run: Run) -> Profile:
    return profile(gather([Run.open(run.path)]))


def with_value(run: Run, *values: float, **more: object) -> Line:
    """The line of shape bias where the classifiers have these values."""
    for which, value in enumerate(values):
        changed(run, which, measures=(Measure("shape_bias", value, **{"unit": "share", "n": 9, **more}),))
    return found(run).lines[1]


def test_a_line_a_headline_question_with_all_classifiers_and_what_to_read_them_against(run: Run) -> None:
    right, shape = found(run).lines
    assert (right.instrument, shape.instrument) == ("accuracy", "shape_bias")
    assert [(a.said, a.number) for a in shape.answers] == [("no", "29.3%"), ("no", "17.4%")]
    assert all(a.at and a.span[0] < a.at < a.span[1] for a in shape.answers)
    assert [(r.name, r.number, round(r.at)) for r in shape.references] == [
        ("people", "96%", 96),
        ("ResNet-50", "22%", 22),
    ]
    assert [number for number, _ in shape.ends] == ["0%", "100%"], "shares all have one axis"


def test_marks_that_would_cover_each_other_stand_one_above_the_other(run: Run) -> None:
    assert with_value(run, 0.5, 0.51).lanes == 2
    assert with_value(run, 0.5, 0.6).lanes == 1
    assert with_value(run, 0.5, 0.6, interval=(0.4, 0.7)).lanes == 2, "nor does a mark stand on another's interval"


def test_a_reference_without_room_for_its_name_is_not_drawn(run: Run) -> None:
    near = (Published("AlexNet", 0.50, "s"), Published("people", 0.52, "s"), Published("VGG", 0.95, "s"))
    assert {r.name for r in with_value(run, 0.1, 0.9, published=near, chance=0.0).references} == {
        "people",
        "chance",
        "VGG",
    }


def test_differences_have_their_zero_on_the_axis(run: Run) -> None:
    assert with_value(run, -0.02, 0.05, unit="difference").zero == 50
    assert with_value(run, 0.02, 0.05).zero is None


def test_agreement_starts_at_chance_unless_it_is_below(run: Run) -> None:
    run.manifest["headlines"]["shape_bias"]["low"] = "chance"
    run.write_manifest()
    assert with_value(run, 0.1, 0.2, unit="kappa", interval=(-0.05, 0.3)).ends[0] == ("0.00", "chance")
    assert with_value(run, -0.1, 0.2, unit="kappa").ends[0] == ("\N{MINUS SIGN}1.00", "")


def test_the_sentence_says_together_what_is_said_of_the_same_classifiers(run: Run) -> None:
    assert found(run).sentence == "Both are right and go by texture."
    changed(run, 0, clauses=("goes by shape", "does not need color"))
    assert found(run).sentence == "squeezenet1_1 goes by shape; mobilenet_v2 goes by texture; both are right."
    changed(run, 1, clauses=())
    assert found(run).sentence == "squeezenet1_1 goes by shape; both are right."


def test_what_to_do_names_whom_it_is_for_and_a_command_with_the_paths_of_the_run(run: Run) -> None:
    assert found(run).remedies == ()
    command = "cuescope make stylized {images} out --model {model} # {models}"
    for which in (0, 1):
        changed(run, which, remedy="Train on stylized images.", command=command)
    (remedy,) = found(run).remedies
    assert [s.title for s in remedy.subjects] == ["squeezenet1_1", "mobilenet_v2"]
    assert remedy.text == "Train on stylized images."
    both = f"{SQUEEZE} {MOBILE}"
    assert remedy.command == f"cuescope make stylized photos/imagenet-sample out --model {SQUEEZE} # {both}"


@pytest.mark.parametrize(
    ("command", "images"),
    [
        ("cuescope audit a --images 'my photos'", "'my photos'"),
        ("cuescope cure a --images photos --for shift", "photos"),
        ("cuescope demo --images 480", "IMAGES"),
        ("cuescope.audit('a', ...)", "IMAGES"),
    ],
)
def test_a_command_names_no_path_that_was_not_given(run: Run, command: str, images: str) -> None:
    run.manifest["command"] = command
    run.write_manifest()
    changed(run, 0, remedy="Stylize.", command="make {images}")
    assert found(run).remedies[0].command == f"make {images}"


def test_what_makes_an_answer_clear_comes_after_what_a_clear_answer_asks_for(run: Run) -> None:
    changed(run, 0, said="cannot tell", remedy="More images.", command="more")
    changed(run, 1, remedy="Train.", command="")
    assert [remedy.text for remedy in found(run).remedies] == ["Train.", "More images."]


def test_a_number_that_is_missing_has_its_reason(run: Run) -> None:
    changed(run, 0, measures=(Measure("shape_bias", None, "share", why="no decision was for either cue"),))
    answers = found(run).lines[1].answers
    assert (answers[0].number, answers[0].why, answers[0].at) == ("–", "no decision was for either cue", None)
    assert answers[1].number == "17.4%"
    for which in (0, 1):
        changed(run, which, measures=())
    line = found(run).lines[1]
    assert ([a.number for a in line.answers], line.ends) == (["–", "–"], ())


def test_a_classifier_that_was_not_asked_keeps_its_place(run: Run) -> None:
    run.manifest["cells"] = [c for c in run.manifest["cells"] if (c["instrument"], c["classifier"]) != LEFT_OUT]
    run.write_manifest()
    assert [a.said for a in found(run).lines[1].answers] == ["not asked", "no"]


LEFT_OUT = ("shape_bias", SQUEEZE)


def test_many_classifiers_have_no_columns_and_stand_by_their_answers(tmp_path: Path) -> None:
    shown = found(make_run(tmp_path / "run", more=["a/b", "c/d"]))
    assert (shown.columns, shown.heads) == (0, ())
    assert [(said, len(answers)) for said, answers in shown.lines[1].by_word] == [("no", 4)]
    longer = found(make_run(tmp_path / "long", classifiers=1, more=["a/" + "b" * 30]))
    assert (longer.columns, longer.heads) == (2, ()), "a long name heads no column: a legend says it"


def test_a_run_without_headlines_has_no_profile_and_still_a_page(run: Run) -> None:
    del run.manifest["headlines"]
    run.write_manifest()
    assert (found(run).sentence, found(run).lines, found(run).remedies) == ("", (), ())
    assert "Side by side" in page(gather([Run.open(run.path)]))


HEADLINES = {name: registry.find(name).headline for name in names()}


@pytest.mark.parametrize("name", [name for name, headline in HEADLINES.items() if headline])
def test_headlines_fit_a_line_and_clauses_start_with_a_verb(name: str) -> None:
    headline = HEADLINES[name]
    assert headline
    assert headline.question.endswith("?")
    assert len(headline.question) <= 34
    assert len(headline.number) <= 45
    assert max(map(len, (headline.low, headline.high))) <= 9
    for sentence in registry.find(name).sentences.values():
        assert not sentence.clause or sentence.clause.split()[0].endswith("s")


def test_every_command_has_only_fields_that_are_filled() -> None:
    known = dict.fromkeys(("images", "styles", "model", "models"), "x")
    for name in names():
        for sentence in registry.find(name).sentences.values():
            assert "{" not in sentence.command.format(**known)
            assert bool(sentence.remedy) or not sentence.command
