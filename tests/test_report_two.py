"""Two classifiers at a time, in the page and in the terminal."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from cuescope import report
from cuescope.core.findings import Finding
from cuescope.report import terminal
from cuescope.runs.comparisons import stored
from cuescope.runs.store import Run
from made_findings import MOBILE, SQUEEZE, agreement, errors
from runs import identity, manifest
from test_report import text_of

KAPPAS = (0.35, None, 0.62, 0.1, 0.2, 0.3)


def make_pairs(path: Path, names: list[str], answers: list[Finding] | None = None) -> Run:
    """A run folder whose classifiers were also asked for their errors, and each two of them together."""
    run = Run.create(path)
    cells, summaries = {}, []
    for i, name in enumerate(names):
        finding = errors(name, 0.5 + 0.1 * i)
        cell = run.cell(identity(finding))
        cell.write_finding(finding)
        cell.status = "done"
        summaries.append(cell.summary())
        cells[name] = cell.folder.name
    run.manifest = manifest(tuple(names), summaries)
    run.write_manifest()
    two = list(itertools.combinations(names, 2))
    findings = answers or [agreement(a, b, KAPPAS[i], i < 3) for i, (a, b) in enumerate(two)]
    stored.write(
        run,
        [
            stored.Pair(a, b, (cells[a], cells[b]), f, "trace" if f.why else "")
            for (a, b), f in zip(two, findings, strict=True)
        ],
        ["error_agreement"],
    )
    return run


def page_of(run: Run, tmp_path: Path) -> str:
    return report.write([run.path], tmp_path / "r.html").read_text(encoding="utf-8")


def test_of_two_the_sentence_the_numbers_and_the_scatter(tmp_path) -> None:
    page = page_of(make_pairs(tmp_path / "run", [SQUEEZE, MOBILE]), tmp_path)
    text = text_of(page)
    place = text.index("Two at a time")
    after = text[place:]
    assert "squeezenet1_1 and mobilenet_v2 They agree at 0.35." in after
    assert "0.25–0.45 · n = 500" in after
    assert text.index("On average 50.0%.") < place
    assert 'class="square"' not in page
    assert page.count('aria-label="Which classes are hard: squeezenet1_1 and mobilenet_v2"') == 1
    assert "2: hen &amp; &lt;chick&gt; and tench" in page
    assert "A larger mark stands for several at the same place" in text
    assert "Classes with one image are left out." in after
    assert after.count("Geirhos et al. 2020") == 0


def test_of_three_a_square_table(tmp_path) -> None:
    """The same above and below the diagonal; a pair without a value says why, and has no shade."""
    page = page_of(make_pairs(tmp_path / "run", [SQUEEZE, MOBILE, "net-2"]), tmp_path)
    square = re.search(r'<table class="square">.*?</table>', page, re.S)
    assert square
    body = [re.findall(r"<td(.*?)</td>", row, re.S) for row in square[0].split("<tr>")[2:]]
    numbers = [[(re.search(r'number">([^<]+)', cell) or [""] * 2)[1] for cell in row] for row in body]
    assert numbers == [["", "0.35", "–"], ["0.35", "", "0.62"], ["–", "0.62", ""]]
    shades = [float(x) for x in re.findall(r"--shade: ([\d.]+)%", square[0])]
    assert shades == [7.7, 0.0, 7.7, 13.6, 0.0, 13.6]
    assert 'title="one is &lt;always&gt; right"' in square[0]


def test_of_many_only_the_first_pairs_in_full(tmp_path) -> None:
    run = make_pairs(tmp_path / "run", [SQUEEZE, MOBILE, "net-2", "net-3"])
    text = text_of(page_of(run, tmp_path))
    assert "The first 3 pairs in full; the other 3 are in the table above" in text
    assert "They agree at 0.2." not in text
    assert "0.20 0.10–0.30" in text
    assert "and 3 more pairs, in pairs.json" in terminal.table(run)


def test_a_pair_that_cannot_be_compared_has_its_reason(tmp_path) -> None:
    failed = Finding("error_agreement", 1, {}, "a and b", "imagenet-sample", why="the comparison failed: <b>")
    run = make_pairs(tmp_path / "run", [SQUEEZE, MOBILE], [failed])
    page = page_of(run, tmp_path)
    assert "not compared. The comparison failed: &lt;b&gt;" in page
    assert "not compared: error_agreement of squeezenet1_1 and mobilenet_v2: the comparison failed: <b>" in (
        terminal.table(run)
    )


def test_one_alone_needs_a_second(tmp_path) -> None:
    run = make_pairs(tmp_path / "run", [SQUEEZE])
    assert "needs a second classifier on the same images" in text_of(page_of(run, tmp_path))
    assert "alone: error_agreement: agreement needs a second classifier" in terminal.table(run)


def test_the_terminal_shows_each_two(tmp_path) -> None:
    lines = terminal.table(make_pairs(tmp_path / "run", [SQUEEZE, MOBILE])).splitlines()
    at = next(i for i, line in enumerate(lines) if "error consistency (kappa)" in line)
    assert re.search(r"squeezenet1_1 and mobilenet_v2\s+0\.35$", lines[at])
    assert lines[at + 1].strip() == "0.25–0.45"


def test_the_numbers_of_a_scatter_stand_in_a_table(tmp_path) -> None:
    page = page_of(make_pairs(tmp_path / "run", [SQUEEZE, MOBILE]), tmp_path)
    table = re.search(r'<details class="numbers">(?:(?!</details>).)*first: accuracy.*?</details>', page, re.S)
    assert table
    assert re.findall(r'<th scope="row"[^>]*>([^<]+)', table[0]) == [
        "hen &amp; &lt;chick&gt;",
        "tench",
        "crane",
        "maillot",
    ]


@pytest.mark.parametrize("names", [[SQUEEZE, MOBILE], [SQUEEZE, MOBILE, "net-2", "net-3"]])
def test_nothing_is_undefined(names: list[str], tmp_path) -> None:
    text = text_of(page_of(make_pairs(tmp_path / "run", names), tmp_path))
    assert not re.search(r"\b(nan|undefined|Subject|Markup)\b", text)
