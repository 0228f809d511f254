"""`cuescope slices`: on which images a classifier is worse, by what else is known of them."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from cuescope.cli.terminal import console


def slices(run: Path, *, metadata: Path, json: bool = False) -> None:
    """On which images is a classifier worse: of which camera, site or background? The worst first.

    Each headline measure that is a mean over images, over the images with one value of a column, beside all others.
    The slices are kept in the run folder; `cuescope report RUN` shows them.

    Args:
        run: Run folder.
        metadata: CSV with the column file, the path of an image in its folder, and others, such as camera or site.
        json: Print JSON instead of a table.
    """
    from dataclasses import asdict

    from cuescope.api.slices import slices as api

    found = api(run, metadata)
    if json:
        print(json_module.dumps(asdict(found), indent=1))
        return
    from rich.table import Column, Table

    from cuescope.core.naming import short_name
    from cuescope.report.slices import corrected, lines, sentence

    out = console()
    out.print(sentence(found))
    titles = ("slice", "measure", "inside", "elsewhere", "images", "p", "")
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None, header_style="bold")
    several = len({one.classifier for one in found.slices}) > 1
    shown, left_out = lines(found)
    for one in shown:
        who = f" of {short_name(one.found.classifier)}" if several else ""
        measure = f"{one.found.title} ({one.found.instrument}){who}"
        table.add_row(one.where, measure, one.inside, one.outside, one.n, one.p, one.found.said)
    if shown:
        out.print(table)
    if left_out:
        out.print(f"and {left_out} more, in slices.json")
    for note in (corrected(found), *found.notes):
        out.print(note)
