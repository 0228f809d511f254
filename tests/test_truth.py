"""Every instrument finds what was planted, reports nothing that was not, and says no sentence it may not say."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from cuescope.core.findings import Conclusion
from cuescope.instruments import registry
from cuescope.instruments.names import names
from truth import table

table.load()


@cache
def concluded(instrument: str, conclude: Callable[[], Conclusion]) -> Conclusion:
    """A conclusion of the table, which says no sentence outside its condition."""
    said = conclude()
    for name in said.verdict.names:
        assert table.SAYINGS[instrument, name][0](said), f"'{name}' must not be said: {said.sentence}"
    return said


@pytest.mark.parametrize("case", table.CASES, ids=lambda case: f"{case.instrument}-{case.conclude.__name__}")
def test_what_was_planted_is_said_and_a_broken_instrument_does_not_say_it(
    case: table.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = concluded(case.instrument, case.conclude)
    assert case.holds(said), f"{case.expected} is expected of '{case.planted}', not: {said.sentence} {said.measures}"
    case.broken(monkeypatch)
    try:
        wrong = case.conclude()
    except Exception:
        return
    assert not case.holds(wrong), "the row passes with a broken instrument too, so it checks nothing"


@pytest.mark.parametrize("kind", ["truth", "absence"])
def test_every_instrument_has_both_kinds_of_rows(kind: str) -> None:
    assert {case.instrument for case in table.CASES if case.kind == kind} >= set(names())


def test_every_sentence_is_listed_with_its_condition_and_nothing_else_is() -> None:
    sentences = {(name, key) for name in names() for key in registry.find(name).sentences}
    assert set(table.SAYINGS) == sentences


@pytest.mark.parametrize(("instrument", "name"), table.SAYINGS, ids=str)
def test_a_sentence_can_be_said_and_only_under_its_condition(instrument: str, name: str) -> None:
    when, example = table.SAYINGS[instrument, name]
    said = concluded(instrument, example)
    assert name in said.verdict.names, f"the example says {said.verdict.names}"
    assert when(said)
