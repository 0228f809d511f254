"""Findings and runs as a notebook and a terminal show them. Importing this makes them show themselves."""

from __future__ import annotations

from cuescope.core.findings import Finding
from cuescope.report.gather import gather
from cuescope.report.html import fragment, overview
from cuescope.report.terminal import table
from cuescope.runs.store import Run


def run_fragment(run: Run) -> str:
    """A run as HTML for a notebook: the verdict and the headline measures."""
    return overview(gather([run]))


Finding.html = fragment
Run.html = run_fragment
Run.text = table
