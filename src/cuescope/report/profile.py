"""The cue profile: one line a headline question, all classifiers on one axis, and what to do about it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cuescope.core.findings import Finding, Measure
from cuescope.report.draw import words
from cuescope.report.draw.axes import domain, place, track
from cuescope.report.draw.scene import svg
from cuescope.report.gather import Content, Entry, Group, Section, Subject

MOST_REFERENCES = 3
CLAUSES = 4
"""What the sentence on top says of each classifier, at most."""


class Answer(NamedTuple):
    """One classifier's answer to a headline question."""

    subject: Subject
    said: str
    number: str
    interval: str
    why: str = ""
    track: str = ""


class Line(NamedTuple):
    """A headline question with its answers, and what to read them against."""

    instrument: str
    question: str
    measure: str
    """What the number is."""
    on: str
    answers: tuple[Answer, ...]
    references: tuple[str, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    """References on the axis: places in percent, and what they are called."""
    ends: tuple[str, str] = ("", "")


class Remedy(NamedTuple):
    """What to do about a finding, and for which classifiers."""

    instrument: str
    question: str
    subjects: tuple[Subject, ...]
    text: str


class Profile(NamedTuple):
    sentence: str
    lines: tuple[Line, ...]
    remedies: tuple[Remedy, ...]


def profile(content: Content) -> Profile:
    """The answers to the headline questions of all classifiers, in the report's order."""
    headlines: dict[str, Mapping[str, str]] = {}
    for run in content.runs:
        headlines |= run.manifest.get("headlines", {})
    asked = [(s, g, headlines[s.instrument]) for s in content.sections if s.instrument in headlines for g in s.groups]
    answered = [(section, group, asks) for section, group, asks in asked if group.answers]
    lines = tuple(_line(section, group, asks) for section, group, asks in answered)
    return Profile(_sentence(content, answered), lines, tuple(_remedies(section for section, _, _ in answered)))


def _line(section: Section, group: Group, asks: Mapping[str, str]) -> Line:
    found = [(entry, finding, finding.get(asks["measure"])) for entry, finding in group.answers]
    measures = [m for _, _, m in found if m is not None]
    known = next((m for m in measures if m.value is not None), None)
    on = group.heading if len(section.groups) > 1 else ""
    if known is None:
        answers = tuple(Answer(e.subject, f.verdict.said, "", "", m.why if m else "") for e, f, m in found)
        return Line(section.instrument, asks["question"], measures[0].label if measures else "", on, answers)
    published = list(dict.fromkeys(p for m in measures for p in m.published))[:MOST_REFERENCES]
    values = [x for m in measures for x in (m.value, *(m.interval or ()), m.chance)]
    ends = (0.0, 1.0) if known.unit in ("share", "probability") else domain([0.0, *values], known.unit)
    answers = tuple(_answer(e, f, m, ends) for e, f, m in found)
    references = [(p.value, p.who) for p in published]
    if known.chance is not None:
        references.append((known.chance, "chance"))
    said = tuple(f"{who} {words.value(value, known.unit)}" for value, who in references)
    marks = tuple((place(ends, value), who) for value, who in references)
    limits = words.value(ends[0], known.unit), words.value(ends[1], known.unit)
    return Line(section.instrument, asks["question"], known.label, on, answers, said, marks, limits)


def _answer(entry: Entry, finding: Finding, measure: Measure | None, ends: tuple[float, float]) -> Answer:
    subject, said = entry.subject, finding.verdict.said
    if measure is None or measure.value is None:
        return Answer(subject, said, words.DASH, "", measure.why if measure else "no such measure")
    graphic = track(ends, measure.unit, measure.value, measure.interval, index=subject.index, name=subject.title)
    number, interval = words.value(measure.value, measure.unit), words.interval(measure.interval, measure.unit)
    return Answer(subject, said, number, interval, "" if interval else measure.why, svg(graphic))


def _sentence(content: Content, answered: Iterable[tuple[Section, Group, Mapping[str, str]]]) -> str:
    """What can be said of each classifier, by its yes and no; classifiers of which the same can be said together."""
    said: dict[int | None, list[str]] = {}
    for _, group, _ in answered:
        for entry, finding in group.answers:
            clauses = said.setdefault(entry.subject.index, [])
            clauses += [clause for clause in finding.verdict.clauses if clause not in clauses]
    together: dict[tuple[str, ...], list[str]] = {}
    for subject in content.subjects:
        clauses = tuple(said.get(subject.index, ())[:CLAUSES])
        together.setdefault(clauses, []).append(subject.title)
    parts = []
    for clauses, titles in together.items():
        if clauses and len(titles) > 1:
            parts.append(f"each of {words.listed(titles)} {words.listed(clauses)}")
        elif clauses:
            parts.append(f"{titles[0]} {words.listed(clauses)}")
    return "; ".join(parts) + "." if parts else ""


def _remedies(sections: Iterable[Section]) -> Iterable[Remedy]:
    """Of the headline questions; what to do about other findings stands in their sections."""
    for section in {section.instrument: section for section in sections}.values():
        about: dict[str, list[Subject]] = {}
        for group in section.groups:
            for entry, finding in group.answers:
                if finding.verdict.remedy and entry.subject not in about.setdefault(finding.verdict.remedy, []):
                    about[finding.verdict.remedy].append(entry.subject)
        for text, subjects in about.items():
            yield Remedy(section.instrument, section.question or section.title, tuple(subjects), text)
