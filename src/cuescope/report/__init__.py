"""One self-contained HTML page from run folders; the same numbers for a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.core import files
from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from cuescope.runs.comparisons.changes import Changes
    from cuescope.runs.store import Run


def write(
    runs: Sequence[Path | Run],
    out: Path,
    comparisons: Iterable[Mapping[str, Any]] = (),
    *,
    inline: bool = False,
    summary: Path | None = None,
) -> Path:
    """What do the runs say? One HTML file that needs no network, no model and no image folder.

    It holds small images; the full ones lie in the run folder, and are linked where `out` is in or beside it. With
    `inline` it holds everything at full quality, and stands alone.

    `runs` are folders, or runs that are open. `comparisons` are paired differences beside those that the runs' own
    comparisons.json hold. Classifiers of different runs are compared anew, from their rows. `summary` is a file for the
    first screen as Markdown. Returns `out`, written whole or not at all. Raises CueError where a folder is no run or
    `out` cannot be written.

    >>> write([Path("runs/real")], Path("report.html"))  # doctest: +SKIP
    """
    from cuescope.report.gather import gather
    from cuescope.report.html import page
    from cuescope.report.summary import summary as markdown
    from cuescope.report.transferred import opening
    from cuescope.runs.store import Run

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="name a folder that an audit wrote")
    opened, pairs = [run if isinstance(run, Run) else Run.open(run) for run in runs], []
    changed: list[Changes] = []
    if len(opened) > 1:
        # Only here: the instruments that compare need torch, which takes seconds to import.
        from cuescope.runs.comparisons.changes import changes
        from cuescope.runs.comparisons.paired import verdicts
        from cuescope.runs.comparisons.pairs import findings
        from cuescope.runs.comparisons.stored import read

        changed = changes(opened) if len(opened) == 2 else []
        of_two = [verdict for one in changed for verdict in one.verdicts]
        comparisons = [*comparisons, *(of_two if len(opened) == 2 else verdicts(opened))]
        pairs = findings(opened, known={pair.key for run in opened for pair in read(run)[0]})
    try:
        content = gather(opened, comparisons, pairs)
        told = page(content, out.parent, changed, inline=inline, opening=None if changed else opening(content))
        short = markdown(content, changed) if summary else ""
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CueError):
            raise
        # Checksums fit whatever a stranger wrote.
        found = f"what '{opened[0].place}' holds cannot be drawn ({type(error).__name__}: {error})"
        do = "audit again; if it is as an audit wrote it, cuescope is wrong: report this"
        raise CueError(found, wanted="findings as an audit writes them", do=do) from error
    files.write(out, told.encode(errors="backslashreplace"))
    if summary:
        files.write(summary, short.encode(errors="backslashreplace"))
    return out
