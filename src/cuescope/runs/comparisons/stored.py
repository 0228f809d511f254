"""Findings on two classifiers, as a run folder keeps them. Reading them needs neither models nor torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cuescope.core.errors import CueError
from cuescope.core.files import write_json
from cuescope.core.findings import Finding
from cuescope.runs.store import Run

SCHEMA = 1
"""Version of pairs.json."""


@dataclass(frozen=True, eq=False)
class Pair:
    """The finding on two classifiers, and the cells whose rows it is made of."""

    a: str
    b: str
    """Names of the classifiers."""
    cells: tuple[str, str]
    """Names of their cells' folders, which no other cell has."""
    finding: Finding
    """Where the two cannot be compared, or the comparison failed, its `why` says so."""
    error: str = ""
    """The traceback of a comparison that failed."""

    @property
    def key(self) -> frozenset[str]:
        """The same for the same two cells in either order."""
        return frozenset(self.cells)

    def to_json(self) -> dict[str, Any]:
        pair = {"a": self.a, "b": self.b, "cells": list(self.cells), "finding": self.finding.to_json()}
        return pair | ({"error": self.error} if self.error else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pair:
        """The pair that `to_json` wrote."""
        first, second = data["cells"]
        return cls(data["a"], data["b"], (first, second), Finding.from_json(data["finding"]), data.get("error", ""))


def write(run: Run, pairs: Iterable[Pair], comparing: Iterable[str]) -> None:
    """Write pairs.json of a run; `comparing` are the names of its instruments that compare."""
    data = {"schema": SCHEMA, "comparing": sorted(set(comparing)), "pairs": [pair.to_json() for pair in pairs]}
    write_json(run.path / "pairs.json", data)


def read(run: Run) -> tuple[list[Pair], list[str]]:
    """The pairs that `write` wrote, and which instruments compare; none where the run has no such file.

    Raises CueError where the file is damaged or of another version.
    """
    path = run.path / "pairs.json"
    data = run.made(path.name)
    if not data:
        return [], []
    if data.get("schema") != SCHEMA:
        raise CueError(f"'{path}' is of schema {data.get('schema')}", wanted=f"schema {SCHEMA}", do="audit again")
    return [Pair.from_json(pair) for pair in data["pairs"]], data["comparing"]
