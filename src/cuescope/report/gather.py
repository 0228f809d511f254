"""From run folders to what a page shows: classifiers numbered and named, cells grouped by question."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from cuescope.core.called import apart
from cuescope.core.findings import Finding, Measure, Panel, Published
from cuescope.core.naming import title
from cuescope.report.draw import words
from cuescope.report.draw.color import accent, glyph
from cuescope.report.draw.scene import glyph_svg
from cuescope.runs.comparisons.stored import Pair, read

if TYPE_CHECKING:
    from cuescope.runs.cell import Cell
from cuescope.runs.store import Run

LAST = 1000
"""The place of an instrument whose manifest gives it none: after all others, by name."""
RANK = {"images": 0, "table": 2}
"""Which kinds of panels come first and last."""
PAIRS_SHOWN = 3
"""Pairs of a group that are shown in full; n classifiers make n(n - 1)/2."""


@dataclass(frozen=True)
class Subject:
    """A classifier as the page knows it: one number, so one color and one glyph, everywhere.

    Two classifiers that are compared are a subject without a number: in ink, with both glyphs.
    """

    index: int | None
    name: str
    entry: Mapping[str, Any]
    """Its entry in the manifest."""
    title: str = ""
    """What readers see: short, unless two classifiers would have the same title."""
    two: tuple[Subject, ...] = ()

    @property
    def role(self) -> str:
        return accent(self.index)

    @property
    def mark(self) -> str:
        return "".join(subject.mark for subject in self.two) or glyph_svg(glyph(self.index), self.role)


class Entry(NamedTuple):
    """A cell with its classifier, its finding read once."""

    subject: Subject
    cell: Cell
    finding: Finding | None

    @property
    def answered(self) -> bool:
        return self.finding is not None and not self.finding.why and self.cell.status in ("done", "partial")


class Row(NamedTuple):
    """One measure of several classifiers; None where a classifier has no such measure."""

    first: Measure
    cells: tuple[tuple[Subject, Measure | None], ...]

    @property
    def measures(self) -> list[Measure]:
        return [m for _, m in self.cells if m is not None]

    @property
    def published(self) -> list[Published]:
        """The published values, each once."""
        return list(dict.fromkeys(p for m in self.measures for p in m.published))


class Square(NamedTuple):
    """A headline measure of each two classifiers, the same above and below an empty diagonal."""

    title: str
    subjects: tuple[Subject, ...]
    rows: tuple[tuple[Measure | None, ...], ...]


class Group(NamedTuple):
    """The answers of one instrument on one image set."""

    images: str
    entries: tuple[Entry, ...]
    setting: str = ""
    """What distinguishes it from another group on the same images: its parameters."""
    compares: bool = False
    """Whether the instrument also compares two classifiers."""
    pairs: tuple[Entry, ...] = ()
    """Its answers about two classifiers, each with the two as one subject."""

    @property
    def heading(self) -> str:
        return f"{self.images} ({self.setting})" if self.setting else self.images

    @property
    def answers(self) -> list[tuple[Entry, Finding]]:
        return [(e, e.finding) for e in self.entries if e.answered and e.finding is not None]

    @property
    def rows(self) -> list[Row]:
        """Measures of the same name together, in the order in which they first appear."""
        rows = []
        for name in dict.fromkeys(m.name for _, f in self.answers for m in f.measures):
            cells = [(e.subject, f.get(name)) for e, f in self.answers]
            # The first that has a value says what the measure is, for one without a value may not know its unit.
            rows.append(Row(min((m for _, m in cells if m), key=lambda m: m.value is None), tuple(cells)))
        return rows

    @property
    def headlines(self) -> list[Row]:
        return [row for row in self.rows if any(m.headline for m in row.measures)]

    @property
    def details(self) -> list[Row]:
        return [row for row in self.rows if not any(m.headline for m in row.measures)]

    @property
    def panels(self) -> list[list[tuple[Entry, Panel]]]:
        """Panels of the same name and kind together; the one to look at first is the first."""
        together: dict[tuple[str, str], list[tuple[Entry, Panel]]] = {}
        for entry, finding in self.answers:
            for panel in finding.panels:
                if panel.figures or panel.data:
                    together.setdefault((panel.name, panel.kind), []).append((entry, panel))
        # Images before plots, plots before tables, each in the instrument's order.
        return sorted(together.values(), key=lambda panels: RANK.get(panels[0][1].kind, 1))

    @property
    def best(self) -> list[tuple[Entry, Panel]] | None:
        """The panel that a section opens with; a table is nothing to look at."""
        first = next(iter(self.panels), None)
        return None if first is None or first[0][1].kind == "table" else first

    @property
    def caveats(self) -> list[tuple[str, list[Subject]]]:
        """Each caveat once, with the classifiers it is about; none named where it is about all."""
        about: dict[str, list[Subject]] = {}
        for entry, finding in self.answers:
            for text in finding.caveats:
                about.setdefault(text, []).append(entry.subject)
        return [(text, [] if len(who) == len(self.answers) else who) for text, who in about.items()]

    @property
    def references(self) -> list[str]:
        return list(dict.fromkeys(r for _, f in self.answers for r in f.references))

    @property
    def measured_on(self) -> str:
        """On how many images, and with which parameters."""
        params = ", ".join(words.settings(self.answers[0][1].params))
        return f"On {self.images}" + (f", with {params}" if params else "") + "."

    def why_missing(self, subject: Subject) -> tuple[str, str]:
        """Why a classifier has no number here: in a word, and in full."""
        cell = next((e.cell for e in self.entries if e.subject == subject), None)
        word = {"failed": "failed", "partial": "not finished"}.get(cell.status if cell else "", "does not apply")
        return (word, cell.why) if cell else ("not asked", "")

    @property
    def pairs_in_full(self) -> Group:
        """The first pairs as a group of their own, so that they are laid out as classifiers are."""
        return Group(self.images, tuple(entry for entry in self.pairs if entry.answered)[:PAIRS_SHOWN])

    @property
    def pairs_left_out(self) -> int:
        return max(0, sum(entry.answered for entry in self.pairs) - PAIRS_SHOWN)

    @property
    def pairs_unanswered(self) -> list[Entry]:
        return [entry for entry in self.pairs if not entry.answered]

    @property
    def square(self) -> Square | None:
        """The first headline measure of all pairs, where there are three classifiers or more."""
        by_pair: dict[frozenset[int | None], Measure | None] = {}
        for e in self.pairs:
            measures = e.finding.measures if e.finding else ()
            by_pair[frozenset(s.index for s in e.subject.two)] = next((m for m in measures if m.headline), None)
        subjects = [e.subject for e in self.entries if any(e.subject.index in pair for pair in by_pair)]
        titles = [m.label for m in by_pair.values() if m is not None]
        if len(subjects) < 3 or not titles:
            return None
        rows = (tuple(by_pair.get(frozenset((a.index, b.index))) for b in subjects) for a in subjects)
        return Square(titles[0], tuple(subjects), tuple(rows))


class Section(NamedTuple):
    """One question with all its answers."""

    instrument: str
    question: str
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        return title(self.instrument)

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.groups for entry in group.entries]

    @property
    def answered(self) -> bool:
        return any(group.answers for group in self.groups)


class Content(NamedTuple):
    """All that a page shows."""

    runs: tuple[Run, ...]
    subjects: tuple[Subject, ...]
    sections: tuple[Section, ...]
    comparisons: tuple[Mapping[str, Any], ...] = ()
    skipped: tuple[Mapping[str, str], ...] = ()
    unasked: tuple[Mapping[str, str], ...] = ()

    @property
    def groups(self) -> list[Group]:
        return [group for section in self.sections for group in section.groups]

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.groups for entry in group.entries]

    @property
    def image_sets(self) -> list[Mapping[str, Any]]:
        return list({(s["name"], s.get("digest")): s for run in self.runs for s in run.manifest["image_sets"]}.values())

    @property
    def published(self) -> bool:
        """Whether any headline measure has a published value beside it."""
        return any(row.published for group in self.groups for row in group.headlines)


def classifier(run: Run, name: str) -> Mapping[str, Any]:
    """The manifest's entry of a classifier, or its name alone where there is none."""
    return next((c for c in run.manifest["classifiers"] if c["name"] == name), {"name": name})


def identity(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What makes two entries the same classifier: name and weights."""
    return entry["name"], str(entry.get("digest") or "")


def subjects_of(runs: Sequence[Run]) -> dict[tuple[str, str], Subject]:
    """All classifiers of the runs, by identity, numbered in the order in which they first appear.

    Each is called by the shortest of title, title with checkpoint, full name, and full name with run folder that no
    other one has.
    """
    found: dict[tuple[str, str], tuple[Mapping[str, Any], Run]] = {}
    for run in runs:
        for entry in [*run.manifest["classifiers"], *(classifier(run, cell.classifier) for cell in run.cells)]:
            found.setdefault(identity(entry), (entry, run))
    full = [entry["name"] for entry, _ in found.values()]
    called = apart(full, [entry.get("title") or entry["name"] for entry, _ in found.values()])
    subjects = {}
    for i, (key, (entry, run)) in enumerate(found.items()):
        unique = called[i] if called.count(called[i]) == 1 else f"{full[i]} ({run.path.name})"
        subjects[key] = Subject(i, full[i], entry, unique)
    return subjects


def gather(runs: Sequence[Run], comparisons: Iterable[Mapping[str, Any]] = (), pairs: Iterable[Pair] = ()) -> Content:
    """Read the manifests, findings and lists of one or several runs.

    `comparisons` and `pairs` are beside those that the runs hold; what is there twice is shown once.
    """
    subjects = subjects_of(runs)
    entries: dict[tuple[Any, ...], Entry] = {}
    questions: dict[str, str] = {}
    order: dict[str, int] = {}
    for run in runs:
        questions |= run.manifest.get("questions", {})
        order |= run.manifest.get("order", {})
        for cell in run.cells:
            subject = subjects[identity(classifier(run, cell.classifier))]
            # The same cell in two runs is shown once: its folder's name holds a hash of all it depends on.
            key = subject.index, cell.folder.name
            if key not in entries or entries[key].finding is None:
                entries[key] = Entry(subject, cell, cell.finding)
    by_instrument: dict[str, list[Entry]] = {}
    for entry in sorted(entries.values(), key=lambda e: e.subject.index or 0):
        by_instrument.setdefault(entry.cell.instrument, []).append(entry)
    kept = [read(run) for run in runs]
    two = {pair.key: pair for pair in (*pairs, *(pair for stored, _ in kept for pair in stored))}
    comparing = {name for _, names in kept for name in names} | {pair.finding.instrument for pair in two.values()}
    unasked = {u["instrument"]: u for run in runs for u in run.manifest.get("unasked", ())}
    names = sorted(by_instrument, key=lambda name: (order.get(name, LAST), name))
    groups = {name: tuple(_groups(by_instrument[name], two.values(), name in comparing)) for name in names}
    stored = [run.made("comparisons.json").get("comparisons", ()) for run in runs]
    paired = [*comparisons, *(comparison for found in stored for comparison in found)]
    once: dict[str, Mapping[str, Any]] = {}
    for comparison in paired:
        once.setdefault(_measured(comparison), comparison)
    return Content(
        tuple(runs),
        tuple(subjects.values()),
        tuple(Section(name, questions.get(name, ""), groups[name]) for name in names),
        tuple(once.values()),
        tuple({(s["set"], s["id"]): s for run in runs for s in run.skipped()}.values()),
        tuple(u for name, u in unasked.items() if name not in by_instrument),
    )


def _measured(comparison: Mapping[str, Any]) -> str:
    """What was measured, without how it was corrected: the family is larger where more runs are compared."""
    told = ("p_holm", "family", "said", "why")
    return json.dumps({key: value for key, value in comparison.items() if key not in told}, sort_keys=True)


def _groups(entries: list[Entry], pairs: Collection[Pair], compares: bool) -> Iterable[Group]:
    together: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        given = entry.cell.identity
        settings = [f"{k}={v}" for k, v in (given.get("params") or {}).items()]
        key = entry.cell.images, ", ".join([*settings, f"version {given['version']}"])
        together.setdefault(key, []).append(entry)
    images = [where for where, _ in together]
    for (where, settings), group in together.items():
        setting = settings if images.count(where) > 1 else ""
        yield Group(where, tuple(group), setting, compares, tuple(_pairs(pairs, group)))


def _pairs(pairs: Iterable[Pair], group: list[Entry]) -> Iterable[Entry]:
    """The answers about two of a group's classifiers."""
    by_cell = {entry.cell.folder.name: entry for entry in group}
    for pair in pairs:
        if pair.key <= by_cell.keys():
            one, other = (by_cell[name] for name in pair.cells)
            title = f"{one.subject.title} and {other.subject.title}"
            subject = Subject(None, pair.finding.classifier, {}, title, (one.subject, other.subject))
            status = "failed" if pair.error else "not applicable" if pair.finding.why else "done"
            yield Entry(subject, replace(one.cell, status=status, why=pair.finding.why), pair.finding)
