"""The report from run folders: what it says, and that it says it safely."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cuescope import report
from cuescope.core.errors import CueError
from cuescope.core.files import read_summed, write_summed
from cuescope.core.findings import Figure, Map, Measure
from cuescope.report import figures
from cuescope.report.gather import Entry, Subject, gather
from cuescope.report.thumbnails import Thumbnails
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run
from made_findings import MOBILE, SQUEEZE, accuracy, occlusion, photograph, shape_bias
from runs import identity, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run) -> str:
    return report.write([run.path], run.path / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees, in one line."""

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.kept, self.hidden = [], 0

        def handle_starttag(self, tag, attrs):
            self.hidden += tag in ("style", "script", "title")

        def handle_endtag(self, tag):
            self.hidden -= tag in ("style", "script", "title")

        def handle_data(self, data):
            if not self.hidden:
                self.kept.append(data)

    reader = Reader()
    reader.feed(page)
    return " ".join(" ".join(reader.kept).split())


def test_the_page_stands_alone(page, run) -> None:
    """Nothing is fetched: every source is inline, and no address of a network occurs but in XML namespaces."""
    assert not re.findall(r'src="(?!data:|#)', page)
    links = re.findall(r'href="(?!data:|#)([^"]+)', page)
    assert len(links) == 9
    assert all((run.path / link).is_file() for link in links), "what is linked is a full image of the run folder"
    assert not re.findall(r"url\((?!data:)", page)
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\s'\"]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_is_balanced_html(page) -> None:
    void = {"meta", "link", "img", "br", "input", "hr", "wbr"}
    stack: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in void:
                stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Checker().feed(page)
    assert stack == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_names_are_escaped(page) -> None:
    assert "<chick>" not in page
    assert "hen &amp; &lt;chick&gt;" in page
    assert "broken/&lt;x&gt;.jpg" in page
    assert "&lt;shape&gt; mismatch" in page


def test_the_cue_profile_comes_first(page) -> None:
    text = text_of(page)
    order = [
        "Does it go by shape?",
        "Side by side",
        "Differences",
        "What is missing",
        "How it was measured",
    ]
    places = [text.index(part, text.index("Does it go by shape?")) for part in order]
    assert places == sorted(places)


def lacking(page: str, *parts: str) -> list[str]:
    """The parts that a reader does not find."""
    text = text_of(page)
    return [part for part in parts if part not in text]


def test_numbers_with_intervals_counts_chance_and_published_values(page) -> None:
    assert not lacking(page, "59.4%", "55.0–63.6% · 297 of 500", "chance 0.1%", "higher is better")
    assert not lacking(page, "people 95.9%", "Geirhos et al. 2019, raw data")


def test_what_is_missing_has_its_reason(page) -> None:
    text = text_of(page)
    assert "not measured no ReaL labels were given" in text
    assert "1 answer is missing: occlusion failed on mobilenet_v2" in text
    assert 'File "model.py", line 3, in forward' in text
    assert "does not average the logits of local patches" in text
    assert "Do the parts suffice without the whole?" in text
    assert "truncated JPEG" in text
    assert not re.search(r"\b(nan|None|inf|undefined)\b", re.sub(r"data:image[^\"]+", "", text), re.IGNORECASE)


def test_how_it_was_measured(page) -> None:
    assert not lacking(page, f"cuescope audit {SQUEEZE}", "500, 2 of them skipped", "batch norm folded")
    assert not lacking(page, "float32", "bilinear", "2.15.0", "patch_px = 32")


def test_paired_differences(page) -> None:
    text = text_of(page)
    assert "−24.2 points −28.6 to −19.8 points · 500 images" in text
    outcomes = re.findall(r'class="outcome">([^<]+)', page)
    assert outcomes == [
        "mobilenet_v2 is better",
        "squeezenet1_1 is higher",
        "cannot tell",
        "alike",
    ]
    assert "+10.0 points too few images for an interval 500 images cannot tell" in text, "a row of the table below"
    assert "Corrected for 4 comparisons (Holm)." in text


def test_differences_may_be_given(run, tmp_path) -> None:
    more = {
        "instrument": "mine",
        "measure": "reach",
        "unit": "px",
        "a": "x",
        "b": "y",
        "value": 4.0,
        "interval": [1.0, 7.0],
        "n": 8,
        "why": "",
        "p_holm": 0.02,
        "said": "a is higher",
    }
    text = text_of(report.write([run.path], tmp_path / "r.html", [more]).read_text())
    assert "Differences, image by image" in text
    assert "reach x minus y +4.0 px 1.0–7.0 px 8 images x is higher" in text


def test_no_empty_column_where_nothing_is_published(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    run.manifest["cells"] = [c for c in run.manifest["cells"] if c["instrument"] == "accuracy"]
    run.write_manifest()
    bare = report.write([run.path], tmp_path / "r.html").read_text()
    assert "Published</th>" not in bare
    assert 'data-label="Published"' not in bare


def test_panels_of_two_classifiers_are_one_plot_where_the_kind_allows(page) -> None:
    assert page.count('aria-label="Confidence against accuracy: squeezenet1_1 and mobilenet_v2"') == 1
    assert page.count('aria-label="Shape bias by category: squeezenet1_1 and mobilenet_v2"') == 1
    assert page.count('aria-label="How confident it is: squeezenet1_1"') == 1


def test_every_image_is_inline_and_described(page) -> None:
    images = re.findall(r'<span class="pic ([^"]*)" role="img" aria-label="[^"]{8,}"', page)
    held = set(re.findall(r"\.(\w+)::(?:before|after){background-image:url\(data:image/webp;base64,", page))
    assert len(images) == 9
    assert "<img" not in page
    assert {name for image in images for name in image.split()} - {"gray", "pixels"} == held


def test_the_same_images_stand_in_pairs(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    extra = occlusion(MOBILE, 2, [photograph(i) for i in range(3)])
    cell = run.cell(identity(extra))
    cell.write_finding(extra)
    cell.status = "done"
    run.manifest["cells"] = [c for c in run.manifest["cells"] if c["status"] != "failed"] + [cell.summary()]
    run.write_manifest()
    page = report.write([run.path], tmp_path / "r.html").read_text()
    galleries = re.findall(r'<div class="gallery( paired)?', page)
    assert galleries == [" paired"] * 3
    other = occlusion(MOBILE, 2, [photograph(i + 50) for i in range(3)])
    cell.write_finding(other)
    page = report.write([run.path], tmp_path / "r.html").read_text()
    assert re.findall(r'<div class="gallery( paired)?', page) == ["", ""]


def test_two_runs_become_one_page(tmp_path) -> None:
    """The same weights are one classifier with all its answers; other weights of the same name are another."""
    first, second = make_run(tmp_path / "first", classifiers=1), make_run(tmp_path / "second")
    second.manifest["classifiers"][1]["digest"] = "other"
    second.write_manifest()
    assert (
        "Which cues do squeezenet1_1 and mobilenet_v2 use?"
        in report.write([first.path, second.path], tmp_path / "r.html").read_text()
    )
    third = make_run(tmp_path / "third", classifiers=1)
    third.manifest["classifiers"][0]["digest"] = "changed"
    third.write_manifest()
    text = text_of(report.write([first.path, third.path], tmp_path / "r.html").read_text())
    assert f"{SQUEEZE} (first)" in text
    assert f"{SQUEEZE} (third)" in text


def test_other_parameters_are_not_mixed(tmp_path) -> None:
    run = make_run(tmp_path / "run", classifiers=1)
    other = replace(shape_bias(SQUEEZE, 90, 260, 3), params={"aggregation": "max"})
    cell = run.cell(identity(other))
    cell.write_finding(other)
    cell.status = "done"
    run.manifest["cells"].append(cell.summary())
    run.write_manifest()
    text = text_of(report.write([run.path], tmp_path / "r.html").read_text())
    assert "on cue-conflict (aggregation=mean, version 1)" in text
    assert "on cue-conflict (aggregation=max, version 1)" in text


def test_a_run_without_answers_still_makes_a_page(tmp_path) -> None:
    run = make_run(tmp_path / "run", classifiers=1)
    for cell in run.manifest["cells"]:
        cell["status"], cell["why"] = "partial", ""
        (run.path / cell["folder"] / "finding.json").unlink()
    run.write_manifest()
    text = text_of(report.write([run.path], tmp_path / "r.html").read_text())
    assert "5 answers are missing" in text
    assert "the same command continues it" in text


def test_mistakes_are_errors_with_a_cause(tmp_path, run) -> None:
    with pytest.raises(CueError, match="no run was given"):
        report.write([], tmp_path / "r.html")
    with pytest.raises(CueError, match="no run in"):
        report.write([tmp_path], tmp_path / "r.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(CueError, match="cannot write"):
        report.write([run.path], tmp_path / "file" / "r.html")


def test_many_classifiers_keep_their_own_marks(tmp_path) -> None:
    run = make_run(tmp_path / "run", classifiers=1)
    manifest = read_summed(run.path / "manifest.json")
    for i in range(9):
        finding = accuracy(f"net-{i}", 100 + i, 300 + i, 0.02, i)
        cell = run.cell(identity(finding))
        cell.write_finding(finding)
        cell.status = "done"
        manifest["cells"].append(cell.summary())
    write_summed(run.path / "manifest.json", manifest)
    page = report.write([run.path], tmp_path / "r.html").read_text()
    assert "Which cues do 10 classifiers use?" in page
    marks = re.findall(
        r'<span class="who"><svg class="glyph"[^>]*>(.*?)</svg><span>(?:squeezenet1_1|net-\d)</span>', page
    )
    assert len(set(marks)) == 10


def test_none_of_many_is_a_count(tmp_path) -> None:
    """A count of 0 survives the way through the run folder."""
    run = make_run(tmp_path / "run", classifiers=1)
    finding = shape_bias(SQUEEZE, 104, 251, 1)
    none = Measure("held", 0.0, "share", 45, (0.0, 0.079), count=0, chance=0.0)
    run.cell(identity(finding)).write_finding(replace(finding, measures=(none,)))
    assert "0.0% 0.0–7.9% · 0 of 45" in text_of(report.write([run.path], tmp_path / "r.html").read_text())


def test_a_measure_that_one_classifier_lacks(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    finding = accuracy(MOBILE, 418, 474, 0.021, 2)
    bare = replace(finding, measures=(Measure("top1", None, "share", why="it was <asleep>", headline=True),), panels=())
    run.cell(identity(finding)).write_finding(bare)
    text = text_of(report.write([run.path], Path(tmp_path / "r.html")).read_text())
    assert "not measured it was <asleep>" in text
    assert "not measured no such measure" in text


def test_questions_come_in_the_order_of_the_manifest(tmp_path) -> None:
    """An instrument that the manifest gives no place comes after all others, by name."""
    run = make_run(tmp_path / "run", classifiers=1)
    run.manifest["order"] = {"shape_bias": 10, "occlusion": 20, "accuracy": 30}
    found = [section.instrument for section in gather([run]).sections]
    assert found == ["shape_bias", "occlusion", "accuracy", "evidence", "shift_stability"]


def test_a_page_that_cannot_be_finished_leaves_the_old_one(run, tmp_path, monkeypatch) -> None:
    out = tmp_path / "report.html"
    out.write_text("the old page")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CueError, match="the disk is full"):
        report.write([run.path], out)
    assert out.read_text() == "the old page"
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_is_replaced_not_followed(run, tmp_path) -> None:
    target, out = tmp_path / "precious.txt", tmp_path / "report.html"
    target.write_text("precious")
    out.symlink_to(target)
    report.write([run.path], out)
    assert target.read_text() == "precious"
    assert not out.is_symlink()
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("maps", "wide"), [(3, False), (4, True)])
def test_a_figure_of_many_images_stands_over_two_places(maps: int, wide: bool, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    figure = Figure("one", pixels, maps=(Map("heat", [[0.0, 1.0]]),) * maps)
    entry = Entry(Subject(0, "net", {}), Cell(tmp_path, {}), None)
    card = figures._card(entry, figure, pixels, Thumbnails())
    assert (len(card.layers), card.wide) == (maps + 1, wide)
