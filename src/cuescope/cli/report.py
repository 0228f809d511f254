"""`cuescope report`: the page again, from run folders alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cuescope.cli.terminal import tell
from cuescope.core.errors import CueError
from cuescope.core.remote import address

if TYPE_CHECKING:
    from cuescope.runs.store import Run


def report(
    *runs: Path,
    out: Path | None = None,
    inline: bool = False,
    summary: Path | None = None,
    track: Literal["mlflow", "wandb"] | None = None,
    every_eval_ever: Path | None = None,
    fiftyone: Path | None = None,
) -> None:
    """Make the report again from run folders, several side by side; needs no model and no images.

    Args:
        runs: Run folders, here or at addresses.
        out: The page; report.html in the first run by default.
        inline: One file with everything: full images, all rows of all tables.
        summary: File for one page of Markdown, for a pull request: the sentence, the profile, what to do.
        track: Log the measures and the page there, by that package's own settings.
        every_eval_ever: Folder for records of Every Eval Ever: measures with intervals, an answer to each image.
        fiftyone: Folder for samples that FiftyOne reads, of one run: labels, answers, numbers of each image.
    """
    from cuescope.report import write
    from cuescope.runs.store import Run

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="cuescope report RUN --out page.html")
    if fiftyone and len(runs) > 1:
        raise CueError(f"samples of {len(runs)} runs", wanted="one run with --fiftyone", do="write them one by one")
    opened = [Run.open(run) for run in runs]
    for folder in filter(None, (every_eval_ever, fiftyone)):
        _check_folder(folder, opened)
    page = write(opened, out or opened[0].path / "report.html", inline=inline, summary=summary)
    if (mirror := opened[0].mirror) and not out:
        mirror.put("report.html")
    tell(out or f"{opened[0].place}/{page.name}")
    if summary:
        tell(summary)
    if track:
        from cuescope.report.trackers import track as send

        tell(send(opened, page, track))
    if every_eval_ever:
        from cuescope.report import every_eval_ever as records

        for path in [path for run in opened for path in records.write(run, every_eval_ever)]:
            tell(path)
    if fiftyone:
        from cuescope.report import fiftyone as samples

        tell(samples.write(opened[0], fiftyone))


def _check_folder(folder: Path, runs: Sequence[Run]) -> None:
    """Raise CueError for one that records or samples should not be written to, before anything is."""
    wanted, do = "a folder here, beside the run", "choose another folder"
    if address(folder):
        raise CueError(f"'{folder}' is an address", wanted=wanted, do=f"{do}, and copy it there")
    if folder.exists() and not folder.is_dir():
        raise CueError(f"'{folder}' is a file", wanted=wanted, do=do)
    if any(folder.resolve().is_relative_to(run.path.resolve()) for run in runs):
        raise CueError(f"'{folder}' is in the run folder", wanted=wanted, do=do)
