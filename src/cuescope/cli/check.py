"""`cuescope check`: whether a run's intervals support what is required; the exit status says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cuescope.cli.terminal import console


def check(
    run: Path,
    *,
    require: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    baseline: Path | None = None,
    no_worse: Annotated[bool, Parameter(negative="")] = False,
    margin: float = 0.05,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Do the intervals of a run support what is required? Exit status 1 where they do not, for CI.

    Args:
        run: Run folder.
        require: Bounds that the whole interval must keep: "top1>=.7" "shift_stability.top1_change<=10%".
        baseline: Run folder of an earlier classifier on the same images.
        no_worse: No headline measure with a better direction may be worse than the baseline's.
        margin: Worse by surely less than this is no worse.
        junit: File for the outcomes as JUnit XML.
        markdown: File for the outcomes as a table in Markdown.
    """
    from rich.table import Column, Table

    from cuescope.api import check as api
    from cuescope.core import files
    from cuescope.core.naming import short_name

    found = api.check(run, require or [], baseline=baseline, no_worse=no_worse, margin=margin)
    for path, text in ((junit, api.junit), (markdown, api.markdown)):
        if path:
            files.write(path, text(found).encode())
    titles = ("classifier", "images", "required", "outcome", "measured")
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None, header_style="bold")
    for one in found:
        table.add_row(short_name(one.classifier), one.images, one.required, one.outcome, one.why)
    console().print(table)
    return 0 if all(one.outcome == "supported" for one in found) else 1
