"""The same numbers for a terminal and for a notebook."""

from __future__ import annotations

import re

import pytest

from cuescope.core.findings import Finding
from cuescope.report import html, terminal
from cuescope.runs.store import Run
from made_findings import SQUEEZE, accuracy, occlusion, photograph
from runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("short") / "run")


def test_summary_for_a_terminal(run) -> None:
    lines = terminal.table(run).splitlines()
    top = next(i for i, line in enumerate(lines) if "top-1 accuracy" in line)
    assert re.search(r"59\.4%\s+83\.6%", lines[top])
    assert re.search(r"55\.0–63\.6%\s+80\.1–86\.6%", lines[top + 1])
    assert "failed: occlusion on mobilenet_v2: RuntimeError: <shape> mismatch" in lines
    assert any(line.startswith("skipped: 2 images") for line in lines)


def test_notebook_fragments(run) -> None:
    fragment = html.fragment(accuracy("a <b>", 297, 404, 0.05, 1))
    assert "59.4%" in fragment
    assert "a &lt;b&gt;" in fragment
    assert "<html" not in fragment
    assert "data:image" in html.fragment(occlusion(SQUEEZE, 1, [photograph(0)]))
    stored = next(c.finding for c in run.cells if c.instrument == "occlusion" and c.finding)
    assert "data:image" not in html.fragment(stored)
    nothing = Finding("evidence", 1, {}, "net", "set", why="it has no patch logits")
    assert "it has no patch logits" in html.fragment(nothing)
    assert "Does it go by shape?" in html.overview(run)
