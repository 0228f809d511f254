"""What the page of a transfer says first: whose features serve these classes best, and at what cost?"""

from __future__ import annotations

from collections.abc import Sequence

from cuescope.core.findings import Finding, Measure
from cuescope.report.draw import words
from cuescope.report.gather import Content, Entry
from cuescope.report.html import Opening
from cuescope.report.topics import ELSEWHERE, TOPICS
from cuescope.runs.comparisons.paired import LEVEL

RANKS = "accuracy"
"""The measure that ranks, of each of these."""
RANKED = ("layer_probe", "few_shot")
SHOWN = ("cost", "by_depth", "by_count", "doubted")
"""The panels that stand on top: accuracy against cost, the curves, and labels to look at."""


def opening(content: Content) -> Opening | None:
    """The transfer question and its answer; None where a run asks something else too, or does not rank."""
    asked = {s.instrument: s for s in content.sections if s.answered}
    ranks = next((asked[name] for name in RANKED if name in asked), None)
    if ranks is None or not set(asked) <= set(TOPICS[ELSEWHERE].split()):
        return None
    groups = [group for group in ranks.groups if group.answers]
    answers = sorted(groups[0].answers, key=lambda answer: -(_of(answer[1]).value or 0.0))
    alone = len(answers) == 1
    who = answers[0][0].subject.title
    asks = (
        f"What are the features of {who} worth for these classes?"
        if alone
        else "Whose features serve these classes best?"
    )
    notes = [] if alone else [_line(k, *answer) for k, answer in enumerate(answers, 1)]
    sections = [ranks, *(section for section in asked.values() if section is not ranks)]
    every = [panels for section in sections for group in section.groups for panels in group.panels]
    first = {panels[0][1].name: panels for panels in reversed(every)}
    panels = [first[name] for name in SHOWN if name in first]
    return Opening(asks, (_sentence(content, ranks.instrument, answers),), tuple(notes), tuple(panels))


def _sentence(content: Content, instrument: str, answers: Sequence[tuple[Entry, Finding]]) -> str:
    (best, finding), others = answers[0], answers[1:]
    first = _of(finding)
    if first.value is None:
        return f"Nothing can be told: {first.why}."
    right = f"of images {first.label.removeprefix('images ')}"
    told = f"{best.subject.title} is ahead with {_number(first)} {right}" if others else f"{_number(first)} {right}"
    if not others:
        return f"{told}; {_number(first, chance=True)} by chance." if first.chance is not None else f"{told}."
    beaten = {
        verdict["b"] if verdict["value"] > 0 else verdict["a"]
        for verdict in content.comparisons
        if (verdict["instrument"], verdict["measure"]) == (instrument, RANKS)
        and best.subject.name in (verdict["a"], verdict["b"])
        and verdict["p_holm"] is not None
        and verdict["p_holm"] < LEVEL
        and (verdict["value"] > 0) == (verdict["a"] == best.subject.name)
    }
    sure = [entry.subject.title for entry, _ in others if entry.subject.name in beaten]
    if len(sure) == len(others):
        return f"{told}, surely more than {words.listed(sure)}."
    rest = [entry.subject.title for entry, _ in others if entry.subject.name not in beaten]
    surely = f"surely more than {words.listed(sure)}; " if sure else ""
    return f"{told}, {surely}whether more than {words.listed(rest)} these images do not tell."


def _line(place: int, entry: Entry, finding: Finding) -> tuple[str, str]:
    """One classifier of the ranking: what it tells, and what it costs."""
    costs = {name: m.value for name in ("ms", "parameters") if (m := finding.get(name)) and m.value is not None}
    told = [_number(_of(finding))]
    told += [f"{costs['ms']:.3g} ms an image"] if "ms" in costs else []
    told += [f"{costs['parameters']:.2f} million parameters"] if "parameters" in costs else []
    return f"{place}. {entry.subject.title}", ", ".join(told)


def _number(m: Measure, *, chance: bool = False) -> str:
    if chance or m.value is None:
        return words.value(m.chance if chance else m.value, m.unit)
    span = words.interval(m.interval, m.unit)
    return words.value(m.value, m.unit) + (f" ({span})" if span else "")


def _of(finding: Finding) -> Measure:
    return finding[RANKS]
