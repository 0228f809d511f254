"""One page of Markdown for a pull request: the sentence, what changed, the profile as a table, what to do."""

from __future__ import annotations

from collections.abc import Iterable

from cuescope.report import changes
from cuescope.report.draw import words
from cuescope.report.gather import Content
from cuescope.report.html import headline
from cuescope.report.markdown import escaped, table
from cuescope.report.profile import Answer, Profile, profile
from cuescope.runs.comparisons.changes import Changes


def summary(content: Content, changed: Iterable[Changes] = ()) -> str:
    """The first screen of the report as Markdown."""
    found = profile(content)
    parts = [f"## {escaped(headline(content.subjects))}"]
    if found.sentence:
        parts.append(escaped(found.sentence))
    for one in changed:
        parts += _changed(one)
    if found.lines:
        parts.append(_profile(content, found))
    if found.remedies:
        about = [
            f"- {escaped(words.listed([subject.title for subject in remedy.subjects]))}: {escaped(remedy.text)}"
            + (f" `{remedy.command}`" if remedy.command else "")
            for remedy in found.remedies
        ]
        parts += ["### What to do", "\n".join(about)]
    missing = [
        f"{entry.cell.instrument} of {entry.subject.title}" for entry in content.entries if _lost(entry.cell.status)
    ]
    if missing:
        parts.append(f"Without an answer: {escaped(', '.join(missing))}.")
    sets = ", ".join(f"{s['count']:,} images of {s['name']}" for s in content.image_sets)
    parts.append(f"<sub>{escaped(sets)}. Intervals are at 95 %; cuescope {content.runs[0].manifest['cuescope']}.</sub>")
    return "\n\n".join(parts) + "\n"


def _changed(one: Changes) -> list[str]:
    moved = one.of(*changes.CHANGED)
    parts = [f"### From {escaped(one.before)} to {escaped(one.after)}", escaped(changes.tally(one))]
    if moved:
        rows = [[c.outcome, c.title, changes.levels(c), changes.difference(c), changes.seen(c)] for c in moved]
        parts.append(table(["", "measure", "before to after", "difference", "on"], rows))
    same = [f"- {escaped(said)}: {escaped(what)}" for said, what in changes.same(one)]
    return [*parts, "\n".join(same)] if same else parts


def _profile(content: Content, found: Profile) -> str:
    shown = [
        subject
        for subject in content.subjects
        if any(a.subject == subject for line in found.lines for a in line.answers)
    ]
    rows = []
    for line in found.lines:
        answers = {answer.subject.index: answer for answer in line.answers}
        question = line.question + (f" (on {line.on})" if line.on else "")
        references = ", ".join(f"{reference.name} {reference.number}" for reference in line.references)
        rows.append([question, line.number, *(_cell(answers.get(s.index)) for s in shown), references])
    return table(["question", "measure", *(s.title for s in shown), "references"], rows)


def _cell(answer: Answer | None) -> str:
    if answer is None:
        return words.DASH
    span = f" ({answer.interval})" if answer.interval else ""
    return f"{answer.said}: {answer.number}{span}" if answer.number else answer.said


def _lost(status: str) -> bool:
    return status in ("failed", "partial")
