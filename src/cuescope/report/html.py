"""The page: the content through the template. All text is escaped there; only our own SVG is marked as safe."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cuescope.core.findings import Finding, Panel
from cuescope.core.naming import short_name
from cuescope.report import changes, slices
from cuescope.report.draw import words
from cuescope.report.figures import drawn, table
from cuescope.report.gather import Content, Entry, Group, Section, Subject, gather
from cuescope.report.profile import profile
from cuescope.report.readings import block, differences, more_differences, sources
from cuescope.report.remedies import filled, unfilled
from cuescope.report.thumbnails import Thumbnails
from cuescope.report.topics import topics
from cuescope.runs.comparisons.changes import Changes
from cuescope.runs.comparisons.paired import corrected_for
from cuescope.runs.slices import Slices
from cuescope.runs.slices import read as read_slices
from cuescope.runs.store import Run

HERE = Path(__file__).parent / "page"
PREPROCESSING = {"size": "input size", "source": "preprocessing by", "mean": "minus the mean", "std": "divided by"}
MOST_SKIPPED = 200
DARKEST = 22.0
"""Percent of ink in the ground of a square table's cell at full agreement: its number must stay readable."""
LONGEST_WORD = 16
LONGEST_TITLE = 60
"""Names longer than this, taken together, do not fit a heading."""


class Opening(NamedTuple):
    """What a page says first in place of its usual title."""

    title: str
    sentences: tuple[str, ...]
    """The answer; the first is said large."""
    notes: tuple[tuple[str, str], ...] = ()
    """What was done: a term and its description."""
    panels: tuple[Sequence[tuple[Entry, Panel]], ...] = ()
    """What is shown below: panels of one name, of several classifiers, as one figure."""


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    of_words = ("value", "bare", "interval", "amount", "duration", "listed")
    env.filters |= {name: getattr(words, name) for name in of_words}
    env.filters |= {"svg": Markup, "date": _date, "breakable": breakable, "sentence": lambda s: s[:1].upper() + s[1:]}
    # Only what can be answered by a word has the word beside it.
    env.tests["closed"] = lambda question: question.split(" ")[0] in ("Is", "Are", "Does", "Do", "Can", "Has")
    # A command may be broken before its options, not between their dashes.
    env.filters["pieces"] = lambda command: re.split(" (?=--)", command)
    env.filters["shade"] = lambda agreement: round(DARKEST * min(max(agreement, 0.0), 1.0), 1)
    env.globals |= {"block": block, "sources": sources, "dash": words.DASH}
    for name in ("style.css", "profile.css", "page.css", "page.js"):
        env.globals[name.replace(".", "_")] = Markup((HERE / name).read_text(encoding="utf-8"))
    return env


def rendered(name: str, pictures: Thumbnails | None = None, **what: Any) -> str:
    """A template of the page with these values. `pictures` collects its images."""
    pictures = pictures or Thumbnails()
    what |= {"pictures": pictures, "drawn": partial(drawn, pictures=pictures)}
    return _environment().get_template(f"{name}.html.j2").render(**what)


def page(
    content: Content,
    folder: Path | None = None,
    changed: Iterable[Changes] = (),
    *,
    inline: bool = False,
    opening: Opening | None = None,
) -> str:
    """The whole report; with what changed on top where two runs are compared, and above it an `opening`.

    `folder` is where the page will lie: full images in or below it are linked. With `inline` the page itself holds
    all images as they are, and all rows of all tables.
    """
    skipped = [[s["set"], s["id"], s["why"]] for s in content.skipped[:MOST_SKIPPED]]
    asked = []
    for entry in content.entries:
        cell, given = entry.cell, entry.cell.identity
        # A run that was just audited has tuples where one that was read has lists.
        known = {k: list(v) if isinstance(v, tuple) else v for k, v in (given.get("params") or {}).items()}
        params = ", ".join(f"{k} = {v}" for k, v in known.items())
        name = f"{cell.instrument} (version {given['version']})"
        asked.append([name, entry.subject.title, cell.images, params, cell.status, round(cell.seconds, 1)])
    compared = differences(content)
    large = [one for one in compared if one.headline] or compared
    columns = ["measure", "of", "difference", "95% interval", "on", "what it says"]
    others = table(columns, more_differences([one for one in compared if one not in large]), inline)
    return rendered(
        "page",
        Thumbnails(None if inline else folder, inline),
        content=content,
        topics=list(topics(content.sections)),
        profile=profile(content),
        command=lambda command, subject: filled(command, content, subject.two or (subject,)),
        changed=[changes.block(one) for one in changed],
        opening=opening,
        title=opening.title if opening else headline(content.subjects),
        differences=large,
        more_differences=others._replace(rest="comparisons.json"),
        corrected=corrected_for(content.comparisons),
        slices=[_sliced(found) for run in content.runs if (found := read_slices(run))],
        skipped=table(["image set", "image", "why"], skipped),
        skipped_more=len(content.skipped) - len(skipped),
        presets=[left_out(run.manifest) for run in content.runs if run.manifest.get("preset", {}).get("left_out")],
        methods=[(s, method(s)) for s in content.subjects],
        work=table(["instrument", "classifier", "images", "parameters", "status", "seconds"], asked),
    )


def _sliced(found: Slices) -> dict[str, Any]:
    shown, left_out = slices.lines(found)
    columns = ["slice", "measure", "classifier", "inside", "elsewhere", "images", "p", "outcome"]
    rows = []
    for one in shown:
        of = one.found
        measure, who = f"{of.title} ({of.instrument})", short_name(of.classifier)
        rows.append([one.where, measure, who, one.inside, one.outside, one.n, one.p, of.said])
    return {
        "sentence": slices.sentence(found),
        "table": table(columns, rows),
        "left_out": left_out,
        "metadata": found.metadata,
        "corrected": slices.corrected(found),
        "notes": found.notes,
    }


def overview(run: Run) -> str:
    """The cue profile and the headline measures of a run only, for a notebook."""
    content = gather([run])
    return rendered("overview", content=content, profile=profile(content))


def fragment(finding: Finding) -> str:
    """One finding alone, for a notebook. Figures whose pixels lie in a run folder are left out."""
    subject = Subject(0, finding.classifier, {"name": finding.classifier}, finding.classifier)
    cell: Any = SimpleNamespace(status="done", folder=Path())
    kept = tuple(p for p in finding.panels if all(f.pixels is not None for f in p.figures))
    entry = Entry(subject, cell, replace(finding, panels=kept))
    section = Section(finding.instrument, "", (Group(finding.images, (entry,)),))
    return rendered("fragment", section=section, finding=finding, command=lambda command, _: unfilled(command))


def headline(subjects: Sequence[Subject]) -> str:
    """The page's title: the question, with the classifiers' names where they are few."""
    names = words.listed([subject.title for subject in subjects])
    if len(subjects) > 3 or len(names) > LONGEST_TITLE:
        return f"Which cues do {len(subjects)} classifiers use?" if len(subjects) > 1 else "Which cues does it use?"
    return f"Which cues {'does' if len(subjects) == 1 else 'do'} {names} use?"


def method(subject: Subject) -> list[tuple[str, str]]:
    """How a classifier was run, as terms and descriptions."""
    entry = subject.entry
    facts: list[tuple[str, Any]] = [("given as", subject.name)]
    facts += [(key.replace("_", " "), entry.get(key) or None) for key in ("device", "precision", "batch_size")]
    if entry.get("parameters"):
        facts.append(("parameters", f"{entry['parameters']:,}"))
    if entry.get("classes"):
        facts.append(("classes", f"{entry['classes']:,} ({entry.get('space', 'named by the user')})"))
    steps: dict[str, Any] = entry.get("preprocessing") or {}
    facts += [(PREPROCESSING.get(key, key.replace("_", " ")), value) for key, value in steps.items()]
    facts.append(("gives", ", ".join(entry.get("capabilities") or ()).replace("_", " ")))
    facts.append(("digest of the weights", str(entry.get("digest") or "")[:16]))
    facts += [("note", note) for note in entry.get("notes") or ()]
    return [(term, _shown(value)) for term, value in facts if value not in (None, "")]


def left_out(manifest: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], str]:
    """What the preset of a run did not ask: its name, instruments with their questions, and the command that does."""
    preset, command = manifest["preset"], re.sub(r" --preset[ =]\S+", "", manifest["command"])
    return preset["name"], list(preset["left_out"].items()), f"{command} --preset full"


def breakable(text: str) -> Markup:
    """A long name that may be broken after its separators, not in the middle of a word.

    >>> breakable("short_name"), breakable("a/name_of_more_than_16_letters<")
    (Markup('short_name'), Markup('a/<wbr>name_<wbr>of_<wbr>more_<wbr>than_<wbr>16_<wbr>letters&lt;'))
    """
    if len(text) <= LONGEST_WORD:
        return escape(text)
    return Markup("<wbr>").join(re.split(r"(?<=[/_.@-])(?=\w)", text))


def _date(text: str) -> str:
    """An ISO time as "November 20, 2026"."""
    day = datetime.fromisoformat(text)
    return f"{day:%B} {day.day}, {day.year}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
