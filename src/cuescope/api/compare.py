"""What got better and what got worse between two classifiers, and do they agree? From run folders alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError
from cuescope.runs.comparisons.changes import Changes, changes, nothing
from cuescope.runs.comparisons.pairs import findings
from cuescope.runs.comparisons.stored import Pair
from cuescope.runs.store import Run


@dataclass(frozen=True)
class Compared:
    """What `compare` found."""

    changes: tuple[Changes, ...]
    """What got better and worse, for each two classifiers."""
    pairs: tuple[Pair, ...]
    """What the instruments that compare say of each two classifiers on the same images."""

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """Each paired difference, as comparisons.json holds them."""
        return [dict(verdict) for one in self.changes for verdict in one.verdicts]

    def to_json(self) -> dict[str, Any]:
        told = [
            {key: value for key, value in dataclasses.asdict(one).items() if key != "verdicts"} for one in self.changes
        ]
        return {"changes": told, "comparisons": self.verdicts, "pairs": [pair.to_json() for pair in self.pairs]}


def compare(*runs: str | Path | Run) -> Compared:
    """What got better and worse from the first run to the second, or between the classifiers of one run?

    Every measure that is a mean over images is compared image by image, corrected for their number (Holm). Of three
    runs or more each two classifiers are compared. Raises CueError for a folder that is no run, and where nothing can
    be compared.

    >>> compare("runs/before", "runs/after").changes[0].of("worse")  # doctest: +SKIP
    """
    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="cuescope compare RUN [RUN ...]")
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    pairs = findings(opened)
    if len(opened) == 2:  # What one of the two runs says of its own classifiers is no difference between the runs.
        own = [{cell.folder.name for cell in run.cells} for run in opened]
        pairs = [pair for pair in pairs if not any(pair.key <= cells for cells in own)]
    found = Compared(tuple(changes(opened)), tuple(pairs))
    if not found.pairs and not any(one.changes for one in found.changes):
        raise nothing(opened, found.changes)
    return found
