"""The cue profile: one line a headline question, all classifiers on one axis, and a sentence to say aloud."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from cuescope.core.findings import Finding, Measure, Published
from cuescope.report.draw import words
from cuescope.report.draw.axes import domain, width_of
from cuescope.report.gather import Content, Group, Section, Subject
from cuescope.report.remedies import Remedy, remedies

COLUMNS = 3
"""Up to so many classifiers have a column each; of more, those of the same answer stand together."""
SHORT = 20
"""Letters of a title that can head a column."""
AXIS_PX = 200
"""The width of an axis where it is least: names of references have to find room on it."""
NAME_PX = 10.5
"""The size of their letters in `width_of`, whose guess is a close upper one: it is set in 11 px."""
APART = 5.0
"""Marks nearer than this, in percent of the axis, would cover each other: they stand one above the other."""
PARTS, CLAUSES = 5, 4
"""Of the sentence on top, and of each part, at most."""

Asked = tuple[Section, Group, Mapping[str, Any]]


class Answer(NamedTuple):
    """One classifier's answer to a headline question, and where it stands on the axis."""

    subject: Subject
    said: str
    number: str
    interval: str = ""
    why: str = ""
    at: float | None = None
    """In percent of the axis, as all places are."""
    span: tuple[float, float] = (0.0, 0.0)
    """The ends of the interval."""
    lane: int = 0


class Reference(NamedTuple):
    """What numbers are read against: people, a published network, chance."""

    name: str
    number: str
    at: float
    kind: str
    """"margin", "chance", or "published"."""
    shift: float
    """How much of its name stands left of its line, in percent of the name."""


class Line(NamedTuple):
    """A headline question with its answers, and the axis on which they stand."""

    instrument: str
    question: str
    number: str
    """What the number is."""
    on: str
    answers: tuple[Answer, ...]
    references: tuple[Reference, ...] = ()
    ends: tuple[tuple[str, str], ...] = ()
    """The numbers at both ends of the axis, and what they mean."""
    zero: float | None = None
    """Where 0 is, if that is within the axis."""

    @property
    def lanes(self) -> int:
        return 1 + max((answer.lane for answer in self.answers), default=0)

    @property
    def by_word(self) -> list[tuple[str, list[Answer]]]:
        """The answers of the same word together, in the order in which these first come."""
        order = list(dict.fromkeys(answer.said for answer in self.answers))
        together = groupby(sorted(self.answers, key=lambda a: order.index(a.said)), key=lambda a: a.said)
        return [(said, list(answers)) for said, answers in together]


class Profile(NamedTuple):
    sentence: str
    lines: tuple[Line, ...]
    remedies: tuple[Remedy, ...]
    columns: int = 0
    """How many classifiers have a column each; 0 where they are too many."""
    heads: tuple[Subject, ...] = ()
    """Those that head their columns; none where a legend names them."""


def profile(content: Content) -> Profile:
    """The answers to the headline questions of all classifiers, in the report's order."""
    headlines: dict[str, Mapping[str, Any]] = {}
    for run in content.runs:
        headlines |= run.manifest.get("headlines", {})
    asked = [(s, g, headlines[s.instrument]) for s in content.sections if s.instrument in headlines for g in s.groups]
    answered = [(section, group, asks) for section, group, asks in asked if group.answers]
    lines = tuple(_line(content.subjects, *one) for one in answered)
    found = tuple(remedies(content, [(section, group) for section, group, _ in answered]))
    count = len(content.subjects)
    columns = count if count <= COLUMNS else 0
    named = columns > 1 and all(len(subject.title) <= SHORT for subject in content.subjects)
    return Profile(_sentence(content.subjects, answered), lines, found, columns, content.subjects if named else ())


def _line(subjects: Sequence[Subject], section: Section, group: Group, asks: Mapping[str, Any]) -> Line:
    found = {entry.subject.index: (finding, finding.get(asks["measure"])) for entry, finding in group.answers}
    measures = [measure for _, measure in found.values() if measure is not None]
    known = next((m for m in measures if m.value is not None), None)
    number = asks.get("number") or (measures[0].label if measures else "")
    on = group.heading if len(section.groups) > 1 else ""
    if known is None:
        answers = tuple(_answer(s, group, found.get(s.index), None, "") for s in subjects)
        return Line(section.instrument, asks["question"], number, on, answers)
    axis = _axis(measures, known.unit)
    answers = _in_lanes([_answer(s, group, found.get(s.index), axis, known.unit) for s in subjects])
    low = asks.get("low", "") if axis[0] == 0 or known.unit == "difference" else ""
    ends = tuple(zip([_short(end, known.unit) for end in axis], (low, asks.get("high", "")), strict=True))
    published = list(dict.fromkeys(p for m in measures for p in m.published))
    zero = _place(axis, 0.0) if axis[0] < 0 < axis[1] else None
    margin = asks.get("margin")
    references = tuple(
        _references(published, known.chance, None if margin is None else float(margin), axis, known.unit)
    )
    return Line(section.instrument, asks["question"], number, on, answers, references, ends, zero)


def _answer(
    subject: Subject,
    group: Group,
    found: tuple[Finding, Measure | None] | None,
    axis: tuple[float, float] | None,
    unit: str,
) -> Answer:
    if found is None:
        return Answer(subject, group.why_missing(subject)[0], "", why=group.why_missing(subject)[1])
    finding, measure = found
    said = finding.verdict.said
    if axis is None or measure is None or measure.value is None:
        return Answer(subject, said, words.DASH, why=measure.why if measure else "no such measure")
    # Of points the line says that they are, once for all.
    number = words.bare(measure.value, unit) if unit == "difference" else words.value(measure.value, unit)
    interval = words.interval(measure.interval, unit)
    at = _place(axis, measure.value)
    low, high = (_place(axis, end) for end in measure.interval or (measure.value, measure.value))
    return Answer(subject, said, number, interval, "" if interval else measure.why, at, (low, high))


def _axis(measures: Sequence[Measure], unit: str) -> tuple[float, float]:
    """The ends of the axis: 0 and 1 for shares, and for agreement unless a value, not only an interval, is below 0."""
    if unit in ("share", "probability"):
        return 0.0, 1.0
    spans = [] if unit in ("kappa", "correlation") else [x for m in measures for x in m.interval or ()]
    return domain([0.0, *spans, *(x for m in measures for x in (m.value, m.chance))], unit)


def _in_lanes(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Each in the first lane where its mark covers no other one, nor an interval, where classifiers are few."""
    ends: list[float] = []
    lanes: dict[int, int] = {}
    places = [(answer.at, i, *answer.span) for i, answer in enumerate(answers) if answer.at is not None]
    for at, i, low, high in sorted(places):
        start, end = at - APART / 2, at + APART / 2
        if len(answers) <= COLUMNS:
            start, end = min(start, low), max(end, high)
        lane = next((k for k, taken in enumerate(ends) if start >= taken), len(ends))
        ends[lane:] = [end, *ends[lane + 1 :]]
        lanes[i] = lane
    return tuple(answer._replace(lane=lanes.get(i, 0)) for i, answer in enumerate(answers))


def _references(
    published: Sequence[Published], chance: float | None, margin: float | None, axis: tuple[float, float], unit: str
) -> Iterable[Reference]:
    """As many as find room for their names: the margin first, then people, chance and networks."""
    people = [p for p in published if p.who.startswith("people")]
    plain = [p for p in published if p not in people and p.who.startswith("ResNet-50")]
    others = [p for p in published if p not in people and p not in plain]
    said = [] if margin is None else [("", margin, "margin")]
    said += [(p.who, p.value, "published") for p in people[:1]]
    said += [] if chance is None else [("chance", chance, "chance")]
    said += [(p.who.partition(" (")[0], p.value, "published") for p in (*plain[:1], *others)]
    taken: list[tuple[float, float]] = []
    for name, value, kind in said:
        number, at = _short(value, unit), _place(axis, value)
        width = 100 * width_of(f"{name} {number}".strip(), NAME_PX) / AXIS_PX
        for share in (0.5, 0.9, 0.1):  # In the middle below its line, else to the left, else to the right.
            start = min(max(0.0, at - share * width), 100 - width)
            if all(start + width <= low or high <= start for low, high in taken):
                taken.append((start - 1, start + width + 1))
                yield Reference(name, number, at, kind, round(100 * (at - start) / width, 1))
                break


def _place(axis: tuple[float, float], value: float) -> float:
    """Where a value stands on the axis, in percent; what lies outside sits on the edge.

    >>> _place((0.0, 0.4), 0.1), _place((0.0, 1.0), 1.2)
    (25.0, 100.0)
    """
    low, high = axis
    return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)


def _short(value: float, unit: str) -> str:
    """A number for the axis: whole percent, or points.

    >>> _short(0.0625, "share"), _short(0.001, "share"), _short(0.331, "kappa"), _short(-0.1, "difference")
    ('6%', '0.1%', '0.33', '−10')
    """
    if unit in ("share", "probability"):
        return f"{value:.0%}" if value == 0 or value >= 0.005 else words.value(value, "share")
    return f"{100 * value:+.0f}".replace("-", words.MINUS) if unit == "difference" else words.value(value, unit)


def _sentence(subjects: Sequence[Subject], answered: Iterable[Asked]) -> str:
    """What is said of the classifiers in a few words each; what is said of the same ones together.

    Of each verdict the first sentence that has such words speaks, which is the one that answers the headline question.
    """
    about: dict[str, list[str]] = {}
    for _, group, _ in answered:
        for entry, finding in group.answers:
            for clause in finding.verdict.clauses[:1]:
                if entry.subject.title not in about.setdefault(clause, []):
                    about[clause].append(entry.subject.title)
    together: dict[tuple[str, ...], list[str]] = {}
    for clause, titles in about.items():
        together.setdefault(tuple(titles), []).append(clause)
    every = tuple(subject.title for subject in subjects)
    parts = []
    for titles, clauses in sorted(together.items(), key=lambda one: one[0] == every)[:PARTS]:
        if len(titles) == 1:
            parts.append(f"{titles[0]} {words.listed(clauses[:CLAUSES])}")
        else:
            all_of_them = {2: "both", 3: "all three"}.get(len(every), f"all {len(every)}")
            who = all_of_them if titles == every else words.listed(titles)
            parts.append(f"{who} {words.listed([plural(clause) for clause in clauses[:CLAUSES]])}")
    text = "; ".join(parts) + "." if parts else ""
    return text[:1].upper() + text[1:] if text.startswith(("both ", "all ")) else text


def plural(clause: str) -> str:
    """A clause about one, said of several: its first word is the verb.

    >>> plural("goes by shape"), plural("does not need color"), plural("is right"), plural("loses accuracy")
    ('go by shape', 'do not need color', 'are right', 'lose accuracy')
    """
    verb, space, rest = clause.partition(" ")
    verb = {"is": "are", "does": "do", "goes": "go", "has": "have", "relies": "rely"}.get(verb, verb.removesuffix("s"))
    return verb + space + rest
