"""`cuescope compare`: paired differences between classifiers."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cuescope.errors import CueError


def compare(*runs: Path, json: bool = False) -> None:
    """Which of two classifiers is better? Paired differences over the images that both were shown.

    Parameters
    ----------
    runs
        Run folders: one with several classifiers, or several.
    json
        Print JSON instead of a table.

    """
    from rich.console import Console
    from rich.table import Table

    from cuescope.comparisons.paired import verdicts
    from cuescope.store import Run

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="cuescope compare RUN [RUN ...]")
    found = verdicts([Run.open(path) for path in runs])
    if json:
        print(json_module.dumps(found, indent=1))
        return
    if not found:
        raise CueError(
            "nothing can be compared",
            wanted="two classifiers with the same instrument, parameters and images",
            do="audit both with the same --images",
        )
    table = Table("measure", "a", "b", "a less b", "95 % interval", "images", box=None, header_style="bold")
    for v in found:
        share = v["unit"] == "share"
        shown = [f"{100 * x:+.1f} pts" if share else f"{x:+.4f}" for x in (v["value"], *(v["interval"] or ()))]
        interval = f"{shown[1]} to {shown[2]}" if v["interval"] else v["why"]
        table.add_row(v["title"], _short(v["a"]), _short(v["b"]), shown[0], interval, str(v["n"]))
    Console().print(table)


def _short(name: str) -> str:
    return name.partition("@")[0].rpartition("/")[2]
