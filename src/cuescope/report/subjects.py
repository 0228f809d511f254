"""The classifiers of a page: named as shortly as they stay distinct, each with its color and glyph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cuescope.report.draw.color import accent, glyph
from cuescope.report.draw.scene import glyph_svg

if TYPE_CHECKING:
    from cuescope.runs.store import Run


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


def classifier(run: Run, name: str) -> Mapping[str, Any]:
    """The manifest's entry of a classifier, or its name alone where there is none."""
    return next((c for c in run.manifest["classifiers"] if c["name"] == name), {"name": name})


def identity(entry: Mapping[str, Any]) -> tuple[str, str]:
    """What makes two entries the same classifier: name and weights."""
    return entry["name"], str(entry.get("digest") or "")


def subjects_of(runs: Sequence[Run]) -> dict[tuple[str, str], Subject]:
    """All classifiers of the runs, by identity, numbered in the order in which they first appear.

    Each is called by the shortest of title, full name, and full name with run folder that no other one has.
    """
    found: dict[tuple[str, str], tuple[Mapping[str, Any], Run]] = {}
    for run in runs:
        for entry in [*run.manifest["classifiers"], *(classifier(run, cell.classifier) for cell in run.cells)]:
            found.setdefault(identity(entry), (entry, run))
    short = [entry.get("title") or entry["name"] for entry, _ in found.values()]
    full = [entry["name"] for entry, _ in found.values()]
    subjects = {}
    for i, (key, (entry, run)) in enumerate(found.items()):
        unique = short[i] if short.count(short[i]) == 1 else full[i] if full.count(full[i]) == 1 else None
        subjects[key] = Subject(i, full[i], entry, unique or f"{full[i]} ({run.path.name})")
    return subjects
