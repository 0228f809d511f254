"""The page: a story through the template. All text is escaped there; only our own SVG is marked as safe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cuescope.core.findings import Finding
from cuescope.report.draw import words
from cuescope.report.figures import Table, drawn, skipped_table, table
from cuescope.report.gather import Entry, Group, Section, Story
from cuescope.report.readings import block, contests, sources
from cuescope.report.subjects import Subject
from cuescope.report.two import left_out, square, together, unanswered

HERE = Path(__file__).parent / "page"
PREPROCESSING = {"size": "input size", "source": "preprocessing by", "mean": "less the mean", "std": "divided by"}
MOST_SKIPPED = 200
LONGEST_WORD = 24
LONGEST_TITLE = 60
"""Names longer than this, taken together, do not fit a heading."""


@cache
def environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "svg": Markup,
        "value": words.value,
        "interval": words.interval,
        "amount": words.amount,
        "duration": words.duration,
        "listed": words.listed,
        "date": _date,
        "breakable": breakable,
        "sentence": lambda text: text[:1].upper() + text[1:],
    }
    env.globals |= {"block": block, "drawn": drawn, "sources": sources, "css": _source("style.css")}
    env.globals |= {"together": together, "left_out": left_out, "square": square, "unanswered": unanswered}
    return env


def page(story: Story) -> str:
    """The whole report."""
    shown = story.skipped[:MOST_SKIPPED]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            story=story,
            title=headline(story.subjects),
            contests=contests(story),
            skipped=skipped_table(shown),
            skipped_more=len(story.skipped) - len(shown),
            methods=[(s, method(s)) for s in story.subjects],
            work=work_table(story),
            page_css=_source("page.css"),
            js=_source("page.js"),
        )
    )


def overview(story: Story) -> str:
    """Verdict and headline measures only, to stand in a notebook."""
    return environment().get_template("overview.html.j2").render(story=story)


def fragment(finding: Finding) -> str:
    """One finding alone, to stand in a notebook."""
    subject = Subject(0, finding.classifier, {"name": finding.classifier}, finding.classifier)
    cell: Any = _Loose(finding)
    section = Section(finding.instrument, "", (Group(finding.images, (Entry(subject, cell, _drawable(finding)),)),))
    return environment().get_template("fragment.html.j2").render(section=section, finding=finding)


class _Loose:
    """What an entry asks of a cell, for a finding that lies in no run folder."""

    status = "done"
    folder = Path()
    error = ""

    def __init__(self, finding: Finding) -> None:
        self.images, self.why = finding.images, finding.why


def _drawable(finding: Finding) -> Finding:
    from dataclasses import replace

    kept = tuple(p for p in finding.panels if all(f.pixels is not None for f in p.figures))
    return replace(finding, panels=kept)


def headline(subjects: Sequence[Subject]) -> str:
    """The page's title: the question, with the classifiers' names where they are few."""
    names = words.listed([subject.title for subject in subjects])
    if len(subjects) > 3 or len(names) > LONGEST_TITLE:
        return f"Which cues do {len(subjects)} classifiers use?" if len(subjects) > 1 else "Which cues does it use?"
    return f"Which cues {'does' if len(subjects) == 1 else 'do'} {names} use?"


def method(subject: Subject) -> list[tuple[str, str]]:
    """How a classifier was run, as terms and descriptions."""
    entry = subject.entry
    told = [("given as", subject.name)]
    for term, key in (("device", "device"), ("precision", "precision"), ("batch size", "batch_size")):
        if entry.get(key):
            told.append((term, str(entry[key])))
    if entry.get("parameters"):
        told.append(("parameters", f"{entry['parameters']:,}"))
    if entry.get("classes"):
        told.append(("classes", f"{entry['classes']:,} ({entry.get('space', 'named by the user')})"))
    steps: Mapping[str, Any] = entry.get("preprocessing") or {}
    told += [
        (PREPROCESSING.get(key, key.replace("_", " ")), _shown(v)) for key, v in steps.items() if v not in (None, "")
    ]
    if entry.get("capabilities"):
        told.append(("gives", ", ".join(entry["capabilities"]).replace("_", " ")))
    if entry.get("digest"):
        told.append(("digest of the weights", str(entry["digest"])[:16]))
    return told + [("note", note) for note in entry.get("notes") or ()]


def breakable(text: str) -> Markup:
    """A long name that may be broken after its separators, not in the middle of a word.

    >>> breakable("short_name"), breakable("a/name_of_more_than_24_letters<")
    (Markup('short_name'), Markup('a/<wbr>name_<wbr>of_<wbr>more_<wbr>than_<wbr>24_<wbr>letters&lt;'))
    """
    if len(text) <= LONGEST_WORD:
        return escape(text)
    return Markup("<wbr>").join(re.split(r"(?<=[/_.@-])(?=\w)", text))


def _date(text: str) -> str:
    """An ISO time as a date.

    >>> _date("2026-11-20T21:48:00+00:00")
    'November 20, 2026'
    """
    day = datetime.fromisoformat(text)
    return f"{day:%B} {day.day}, {day.year}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def work_table(story: Story) -> Table:
    """Every cell of the runs: what was asked of whom on what, with which parameters, and how long it took."""
    rows = []
    for entry in story.entries:
        cell, given = entry.cell, entry.cell.identity
        params = ", ".join(f"{k} = {v}" for k, v in (given.get("params") or {}).items())
        name = f"{cell.instrument} (version {given['version']})"
        rows.append([name, entry.subject.title, cell.images, params, cell.status, round(cell.seconds, 1)])
    return table(["instrument", "classifier", "images", "parameters", "status", "seconds"], rows)


@cache
def _source(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))
