"""Runs and findings in a notebook: a real one is executed, and its outputs are looked at in both themes."""

from __future__ import annotations

from pathlib import Path

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient

from cuescope.core.errors import CueError
from cuescope.core.files import write
from cuescope.runs.store import Run
from made_findings import MOBILE, SQUEEZE
from runs import make_run

CELLS = (
    "import cuescope\nrun = cuescope.Run.open('run')",
    "run",
    "run.finding('shape_bias', 'mobilenet_v2')",
    "run.frame()",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> list[str]:
    """What the cells of a notebook show, as HTML; "" where one shows nothing."""
    folder = tmp_path_factory.mktemp("notebook")
    make_run(folder / "run")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return ["".join(output["data"].get("text/html", "") for output in cell.outputs) for cell in notebook.cells]


def test_a_run_shows_its_profile_first_a_finding_its_answer_and_a_frame_its_table(outputs: list[str]) -> None:
    nothing, run, finding, frame = outputs
    assert nothing == ""
    assert 0 < run.index("Does it go by shape?") < run.index('class="glance"')
    assert "#shape_bias" not in run, "a notebook has no sections to link to"
    assert "17.4%" in finding
    assert "29.3%" not in finding
    assert "dataframe" in frame


COLORS = """e => { const of = getComputedStyle(e);
  return [of.backgroundColor, of.color].map(c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3); }"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("system", "jupyter", "dark"),
    [("light", "", False), ("dark", "", True), ("light", "false", True), ("dark", "true", False)],
)
def test_outputs_take_the_theme_of_the_notebook_else_of_the_system(
    browser, outputs: list[str], tmp_path: Path, system: str, jupyter: str, dark: bool
) -> None:
    theme = f'data-jp-theme-light="{jupyter}"' if jupyter else ""
    write(tmp_path / "page.html", f"<!doctype html><body {theme}>{outputs[1]}{outputs[2]}".encode())
    page = browser.new_page(viewport={"width": 900, "height": 800}, color_scheme=system)
    page.goto((tmp_path / "page.html").as_uri())
    for place in (".fragment", ".profile .number", ".panel h4"):
        paper, ink = page.locator(".fragment").first.evaluate(COLORS)[0], page.locator(place).first.evaluate(COLORS)[1]
        assert (paper < 60) == dark
        assert (ink > 190) == dark
    assert page.evaluate("document.documentElement.scrollWidth") <= 900
    page.close()


def test_a_frame_has_a_row_a_measure_of_every_classifier(tmp_path: Path) -> None:
    frame = make_run(tmp_path / "run").frame()
    top1 = frame.filter(measure="top1").sort("classifier")
    assert top1["classifier"].to_list() == sorted((SQUEEZE, MOBILE))
    assert top1["value"].to_list() == [418 / 500, 297 / 500]
    assert top1.select((pl.col("low") < pl.col("value")) & (pl.col("value") < pl.col("high"))).to_series().all()
    lacking = frame.filter(measure="real").row(0, named=True)
    assert (lacking["value"], lacking["why"]) == (None, "no ReaL labels were given")
    inapplicable = frame.filter(instrument="evidence").row(0, named=True)
    assert (inapplicable["said"], inapplicable["measure"]) == ("does not apply", None)
    assert "patch logits" in inapplicable["why"]


def test_a_frame_of_an_instrument_has_the_rows_of_all_classifiers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for cell, hits in zip([c for c in run.cells if c.instrument == "accuracy"], ([1.0, 0.0], [1.0, 1.0]), strict=True):
        finding = cell.finding
        assert finding
        cell.chunks.write(0, pl.DataFrame({"id": ["a", "b"], "top1": hits}))
        cell.write_finding(finding)
    by_classifier = Run.open(run.path).frame("accuracy").group_by("classifier").agg(pl.col("top1").mean())
    assert dict(by_classifier.iter_rows()) == {SQUEEZE: 0.5, MOBILE: 1.0}
    with pytest.raises(CueError, match="no rows of 'acuracy'"):
        run.frame("acuracy")
