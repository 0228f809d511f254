"""Findings and runs as a notebook and a terminal show them. Importing this makes them show themselves."""

from cuescope.core.findings import Finding
from cuescope.report.html import fragment, overview
from cuescope.report.terminal import table
from cuescope.runs.store import Run

Finding.html = fragment
Run.html = overview
Run.text = table
