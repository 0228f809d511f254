"""`cuescope report`: the page again, from run folders alone."""

from pathlib import Path
from typing import Literal

from cuescope.cli.terminal import tell
from cuescope.core.errors import CueError


def report(
    *runs: Path,
    out: Path | None = None,
    inline: bool = False,
    summary: Path | None = None,
    track: Literal["mlflow", "wandb"] | None = None,
) -> None:
    """Make the report again from run folders, several side by side; needs no model and no images.

    Args:
        runs: Run folders.
        out: The page; report.html in the first run by default.
        inline: One file with everything: full images, all rows of all tables.
        summary: File for one page of Markdown, for a pull request: the sentence, the profile, what to do.
        track: Log the measures and the page there, by that package's own settings.
    """
    from cuescope.report import write

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="cuescope report RUN --out page.html")
    page = write(list(runs), out or runs[0] / "report.html", inline=inline, summary=summary)
    tell(page)
    if summary:
        tell(summary)
    if track:
        from cuescope.report.trackers import track as send
        from cuescope.runs.store import Run

        tell(send([Run.open(run) for run in runs], page, track))
