"""`cuescope compare`: paired differences between classifiers, and whether they agree."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.core.errors import CueError
from cuescope.core.naming import short_name

if TYPE_CHECKING:
    from cuescope.runs.comparisons.stored import Pair


def compare(*runs: Path, json: bool = False) -> None:
    """Which of two classifiers is better, and do they agree? Over the images that both have seen.

    Args:
        runs: Run folders: one with several classifiers, or several.
        json: Print JSON instead of tables: {"comparisons": [...], "pairs": [...]}, as the run folder holds them.
    """
    from cuescope.runs.comparisons.paired import verdicts
    from cuescope.runs.comparisons.pairs import findings
    from cuescope.runs.store import Run

    if not runs:
        raise CueError("no run was given", wanted="at least one run folder", do="cuescope compare RUN [RUN ...]")
    opened = [Run.open(path) for path in runs]
    found, pairs = verdicts(opened), findings(opened)
    if json:
        print(json_module.dumps({"comparisons": found, "pairs": [pair.to_json() for pair in pairs]}, indent=1))
        return
    if not found and not pairs:
        names = list(dict.fromkeys(cell.classifier for run in opened for cell in run.cells))
        several = f"the {len(names)} classifiers have no instrument, parameters and images in common"
        why = f"there is one classifier, {names[0]}" if len(names) == 1 else several
        wanted = "two classifiers with the same instrument, parameters and images"
        raise CueError(f"nothing can be compared: {why}", wanted=wanted, do="audit both with the same --images")
    if found:
        _print_differences(found)
    if pairs:
        _print_pairs(pairs)


def _print_differences(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cuescope.runs.comparisons.paired import corrected_for

    console, pairs = Console(highlight=False), list(dict.fromkeys((v["a"], v["b"]) for v in found))
    for a, b in pairs:
        console.print(f"\na: {short_name(a)}, b: {short_name(b)}", style="bold", markup=False)
        table = Table("measure", "a minus b", "95 % interval", "images", "p", "so", box=None, header_style="bold")
        for v in found:
            if (v["a"], v["b"]) == (a, b):
                share = v["unit"] == "share"
                shown = [f"{100 * x:+.1f} pts" if share else f"{x:+.4f}" for x in (v["value"], *(v["interval"] or ()))]
                interval = f"{shown[1]} to {shown[2]}" if v["interval"] else v["why"]
                p = "" if v["p_holm"] is None else f"{v['p_holm']:.3f}"
                table.add_row(v["title"], shown[0], interval, str(v["n"]), p, v["said"])
        console.print(table)
    console.print(corrected_for(found))


def _print_pairs(pairs: Sequence[Pair]) -> None:
    """For each two classifiers the sentence and the measures."""
    from rich.console import Console
    from rich.table import Table

    from cuescope.report.draw import words

    console = Console(highlight=False, markup=False)
    for pair in pairs:
        console.print(f"\n{pair.finding.instrument}: {short_name(pair.a)} and {short_name(pair.b)}", style="bold")
        console.print(pair.finding.sentence)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for m in pair.finding.measures:
            detail = words.interval(m.interval, m.unit) if m.value is not None else m.why
            table.add_row(m.label, words.value(m.value, m.unit), detail, words.amount(m))
        if table.row_count:
            console.print(table)
