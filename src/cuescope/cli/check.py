"""`cuescope check`: whether a run's intervals support what is required; the exit status says so."""

from __future__ import annotations

from pathlib import Path


def check(
    run: Path,
    *,
    require: list[str] | None = None,
    baseline: Path | None = None,
    no_worse: bool = False,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Do the intervals of a run support what is required? Exit status 1 where they do not, for CI.

    Args:
        run: Run folder.
        require: A bound that the whole interval must keep: "top1>=.7", "shift_stability.top1_change<=10%".
        baseline: Run folder of another classifier on the same images.
        no_worse: Every measure with a better direction must not be worse than the baseline's.
        junit: File for the outcomes as JUnit XML.
        markdown: File for the outcomes as a table in Markdown.
    """
    from rich.console import Console
    from rich.table import Table

    from cuescope.api import check as api
    from cuescope.core import files
    from cuescope.core.naming import short_name

    found = api.check(run, require or [], baseline=baseline, no_worse=no_worse)
    for path, text in ((junit, api.junit), (markdown, api.markdown)):
        if path:
            files.write(path, text(found).encode())
    table = Table("classifier", "images", "required", "outcome", "measured", box=None, header_style="bold")
    for one in found:
        table.add_row(short_name(one.classifier), one.images, one.required, one.outcome, one.why)
    Console(highlight=False, markup=False).print(table)
    return 0 if all(one.outcome == "supported" for one in found) else 1
