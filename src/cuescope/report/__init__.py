"""One self-contained HTML page from run folders; the same numbers for a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from cuescope.runs.comparisons.stored import Pair
    from cuescope.runs.store import Run


def write(runs: Sequence[Path], out: Path, comparisons: Iterable[Mapping[str, Any]] = ()) -> Path:
    """What do the runs say? One HTML file that needs no network, no model and no image folder.

    `comparisons` are paired differences beside those that the runs' own comparisons.json hold. Classifiers of
    different runs are compared anew, from their rows. Returns `out`.
    Raises CueError where a folder is no run or `out` cannot be written.

    >>> write([Path("runs/real")], Path("report.html"))  # doctest: +SKIP
    """
    from cuescope.report.gather import gather
    from cuescope.report.html import page
    from cuescope.runs.store import Run

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="name a folder that an audit wrote")
    opened = [Run.open(path) for path in runs]
    between, pairs = _between(opened) if len(opened) > 1 else ([], [])
    text = page(gather(opened, [*comparisons, *between], pairs))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CueError(
            f"cannot write '{out}': {error.strerror}", wanted="a file that can be written", do="choose another --out"
        ) from None
    return out


def _between(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], list[Pair]]:
    """What comparing classifiers of different runs adds to what each run holds."""
    from cuescope.runs.comparisons.paired import verdicts
    from cuescope.runs.comparisons.pairs import findings
    from cuescope.runs.comparisons.stored import read

    known = {pair.key for run in runs for pair in read(run)[0]}
    return verdicts(runs), findings(runs, known=known)
