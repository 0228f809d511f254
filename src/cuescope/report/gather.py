"""From run folders to what a page shows: classifiers told apart, cells grouped by question."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cuescope.core.findings import Finding, Measure, Panel
from cuescope.report.subjects import Subject, classifier, identity, order, subjects_of
from cuescope.runs.comparisons.stored import Pair, read

if TYPE_CHECKING:
    from cuescope.runs.store import Cell, Run


READING = (
    *("accuracy", "multi_label", "shape_bias", "cue_accuracy", "human_agreement", "error_agreement"),
    *("scramble", "distortion_curves", "shift_stability", "shift_consistency", "shift_map", "typicality"),
    *("shiftability", "occlusion", "evidence", "label_map", "crop_supervision", "masking_sensitivity"),
    *("interaction", "top_patches", "visual_words", "logit_correlation", "filters", "top_units", "deconvnet"),
    *("evolution", "invariance", "correspondence", "ablation"),
)
"""The order in which a reader would ask: is it right, by what, does it flicker, where does it look, how is it made.
Instruments of others come last, by name."""


@dataclass(frozen=True)
class Entry:
    """A cell with its classifier, its finding read once."""

    subject: Subject
    cell: Cell
    finding: Finding | None

    @property
    def answered(self) -> bool:
        return self.finding is not None and not self.finding.why and self.cell.status in ("done", "partial")


@dataclass(frozen=True)
class Row:
    """One measure of several classifiers; None where a classifier has no such measure."""

    first: Measure
    cells: tuple[tuple[Subject, Measure | None], ...]

    @property
    def measures(self) -> list[Measure]:
        return [m for _, m in self.cells if m is not None]

    @property
    def published(self) -> list[Any]:
        """What others published, each once."""
        return list(dict.fromkeys(p for m in self.measures for p in m.published))


@dataclass(frozen=True)
class Group:
    """The answers of one instrument on one image set."""

    images: str
    entries: tuple[Entry, ...]
    setting: str = ""
    """What sets it apart from another group on the same images: its parameters."""
    compares: bool = False
    """Whether the instrument also asks of two classifiers at once."""
    pairs: tuple[Entry, ...] = ()
    """Its answers about two classifiers at once, each with the two as one subject."""

    @property
    def heading(self) -> str:
        return f"{self.images} ({self.setting})" if self.setting else self.images

    @property
    def answers(self) -> list[tuple[Entry, Finding]]:
        return [(e, e.finding) for e in self.entries if e.answered and e.finding is not None]

    @property
    def rows(self) -> list[Row]:
        """Measures of the same name together, in the order in which they first appear."""
        names = dict.fromkeys(m.name for _, f in self.answers for m in f.measures)
        return [self._row(name) for name in names]

    def _row(self, name: str) -> Row:
        cells = []
        for entry, finding in self.answers:
            cells.append((entry.subject, next((m for m in finding.measures if m.name == name), None)))
        first = next((m for _, m in cells if m is not None and m.value is not None), None)
        return Row(first or next(m for _, m in cells if m is not None), tuple(cells))

    def silence(self, subject: Subject) -> tuple[str, str]:
        """Why a classifier has no number here: in a word, and in full."""
        entry = next((e for e in self.entries if e.subject == subject), None)
        if entry is None:
            return "not asked", ""
        word = {"failed": "failed", "partial": "not finished"}.get(entry.cell.status, "does not apply")
        return word, entry.cell.why

    @property
    def headlines(self) -> list[Row]:
        return [row for row in self.rows if any(m.headline for m in row.measures)]

    @property
    def details(self) -> list[Row]:
        return [row for row in self.rows if not any(m.headline for m in row.measures)]

    @property
    def panels(self) -> list[list[tuple[Entry, Panel]]]:
        """Panels of the same name and kind together."""
        together: dict[tuple[str, str], list[tuple[Entry, Panel]]] = {}
        for entry, finding in self.answers:
            for panel in finding.panels:
                together.setdefault((panel.name, panel.kind), []).append((entry, panel))
        return list(together.values())

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


@dataclass(frozen=True)
class Section:
    """One question with all its answers."""

    instrument: str
    question: str
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        return self.instrument.replace("_", " ").capitalize()

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.groups for entry in group.entries]

    @property
    def answered(self) -> bool:
        return any(group.answers for group in self.groups)

    @property
    def silent(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.answered]


@dataclass(frozen=True)
class Story:
    """All that a page tells."""

    runs: tuple[Run, ...]
    subjects: tuple[Subject, ...]
    sections: tuple[Section, ...]
    comparisons: tuple[Mapping[str, Any], ...] = ()
    skipped: tuple[Mapping[str, str], ...] = ()
    unasked: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def entries(self) -> list[Entry]:
        return [entry for section in self.sections for entry in section.entries]

    def called(self, name: str) -> Subject | None:
        """The classifier of this full name, where there is only one."""
        found = [subject for subject in self.subjects if subject.name == name]
        return found[0] if len(found) == 1 else None

    @property
    def image_sets(self) -> list[Mapping[str, Any]]:
        seen = {(s["name"], s.get("digest")): s for run in self.runs for s in run.manifest["image_sets"]}
        return list(seen.values())

    @property
    def published(self) -> bool:
        """Whether any headline measure has a published value beside it."""
        return any(row.published for section in self.sections for group in section.groups for row in group.headlines)

    def with_status(self, status: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.cell.status == status]


def difference_unit(comparison: Mapping[str, Any]) -> str:
    """Differences of shares are told in points, of others in their own unit."""
    unit = comparison.get("unit", "share")
    return "difference" if unit == "share" else unit


def gather(
    runs: Sequence[Run], comparisons: Iterable[Mapping[str, Any]] | None = None, pairs: Iterable[Pair] = ()
) -> Story:
    """Read the manifests, findings and lists of one or several runs into one story.

    `comparisons` and `pairs` are beside those that the runs hold; what is there twice is told once.
    """
    subjects = subjects_of(runs)
    entries: dict[tuple[Any, ...], Entry] = {}
    questions: dict[str, str] = {}
    for run in runs:
        questions |= run.manifest.get("questions", {})
        for cell in run.cells:
            subject = subjects[identity(classifier(run, cell.classifier))]
            # The same cell in two runs is shown once: its folder's name holds a hash of all it depends on.
            key = subject.index, cell.folder.name
            if key not in entries or entries[key].finding is None:
                entries[key] = Entry(subject, cell, cell.finding)
    answered = {entry.cell.instrument for entry in entries.values()}
    unasked = {u["instrument"]: u for run in runs for u in run.manifest.get("unasked", ())}
    paired = list(comparisons or ()) + [c for run in runs for c in _comparisons(run)]
    kept = [read(run) for run in runs]
    two = {pair.key: pair for pair in (*pairs, *(pair for stored, _ in kept for pair in stored))}
    comparing = {name for _, names in kept for name in names} | {pair.finding.instrument for pair in two.values()}
    return Story(
        tuple(runs),
        tuple(sorted(subjects.values(), key=order)),
        tuple(_sections(list(entries.values()), questions, list(two.values()), comparing)),
        tuple({json.dumps(c, sort_keys=True): c for c in paired}.values()),
        tuple({(s["set"], s["id"]): s for run in runs for s in run.skipped()}.values()),
        tuple(u for name, u in unasked.items() if name not in answered),
    )


def _comparisons(run: Run) -> list[Mapping[str, Any]]:
    path = run.path / "comparisons.json"
    return json.loads(path.read_text(encoding="utf-8"))["comparisons"] if path.is_file() else []


def _place(name: str) -> tuple[int, str]:
    return (READING.index(name) if name in READING else len(READING)), name


def _sections(
    entries: list[Entry], questions: Mapping[str, str], pairs: list[Pair], comparing: Collection[str]
) -> Iterable[Section]:
    for name in sorted({entry.cell.instrument for entry in entries}, key=_place):
        mine = sorted((e for e in entries if e.cell.instrument == name), key=lambda e: order(e.subject))
        together: dict[tuple[str, str], list[Entry]] = {}
        for entry in mine:
            together.setdefault((entry.cell.images, settings(entry)), []).append(entry)
        images = [key[0] for key in together]
        groups = (
            Group(
                where,
                tuple(group),
                setting if images.count(where) > 1 else "",
                name in comparing,
                tuple(_two(pairs, group)),
            )
            for (where, setting), group in together.items()
        )
        yield Section(name, questions.get(name, ""), tuple(groups))


def _two(pairs: list[Pair], group: list[Entry]) -> Iterable[Entry]:
    """The answers about two of a group's classifiers at once."""
    by_cell = {entry.cell.folder.name: entry for entry in group}
    for pair in pairs:
        if pair.key <= by_cell.keys():
            one, other = (by_cell[name] for name in pair.cells)
            title = f"{one.subject.title} and {other.subject.title}"
            subject = Subject(None, pair.finding.classifier, {}, title, (one.subject, other.subject))
            status = "failed" if pair.error else "not applicable" if pair.finding.why else "done"
            yield Entry(subject, replace(one.cell, status=status, why=pair.finding.why), pair.finding)


def settings(entry: Entry) -> str:
    """The parameters of a cell and the version of its instrument, as a reader would type them."""
    params = entry.cell.identity.get("params") or {}
    return ", ".join(
        [*(f"{key}={value}" for key, value in params.items()), f"version {entry.cell.identity['version']}"]
    )
