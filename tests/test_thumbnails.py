"""What the page weighs and how it is ordered: images once and small, tables cut, questions by topic."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cuescope import report
from cuescope.core.findings import Figure, Map, Panel
from cuescope.instruments.names import names as instruments
from cuescope.report.gather import Section, gather
from cuescope.report.thumbnails import SIDE, Thumbnails
from cuescope.report.topics import OTHERS, TOPICS, topics
from cuescope.runs.store import Run
from made_findings import SQUEEZE, accuracy, photograph
from runs import identity, make_run


def test_an_image_is_held_once_and_no_larger_than_it_is_shown() -> None:
    thumbnails = Thumbnails()
    photo = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    first, again = thumbnails.picture(photo), thumbnails.picture(photo.copy())
    assert first == again
    assert len(thumbnails.rules) == 1
    assert first.shape == (SIDE, round(SIDE * 600 / 900))
    assert "pixels" not in first.names
    assert Thumbnails(whole=True).picture(photo).shape == (900, 600)


def test_a_small_image_is_enlarged_by_the_browser() -> None:
    small = Thumbnails().picture(np.zeros((64, 48, 3), np.uint8))
    assert small.shape == (48, 64)
    assert small.names.split()[-1] == "pixels"


def test_a_map_is_laid_over_the_image_that_is_there() -> None:
    thumbnails = Thumbnails()
    base = thumbnails.picture(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    weight = len(thumbnails.style())
    over = thumbnails.over(base, Map("heat", np.random.default_rng(1).random((14, 14)).tolist()))
    assert over.names.startswith(f"{base.names} gray ")
    assert len(thumbnails.style()) - weight < weight / 4, "the image under it is not held again"


@pytest.mark.parametrize(
    ("page", "link"), [("run", "cells/a%20b/images/x.png"), (".", "run/cells/a%20b/images/x.png"), ("elsewhere", "")]
)
def test_full_images_are_linked_from_in_or_beside_the_run_folder(tmp_path: Path, page: str, link: str) -> None:
    file = tmp_path / "run" / "cells" / "a b" / "images" / "x.png"
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert Thumbnails(tmp_path / page).picture(pixels, file).full == link
    assert Thumbnails().picture(pixels, file).full == ""


def big_run(path: Path) -> Run:
    """A finding with more images and rows than a page shows."""
    run = make_run(path, classifiers=1)
    finding = accuracy(SQUEEZE, 297, 404, 0.047, 1)
    rows = [[f"class {i}", i / 7] for i in range(60)]
    figures = tuple(Figure(f"figure {i}", photograph(i)) for i in range(10))
    panels = (Panel("rows", "table", "Rows", "", {"columns": ["name", "number"], "rows": rows}),)
    panels += (Panel("many", "images", "Many images", figures=figures),)
    run.cell(identity(finding)).write_finding(replace(finding, panels=panels))
    return run


def test_a_page_holds_the_first_rows_and_images_and_says_where_the_others_are(tmp_path) -> None:
    run = big_run(tmp_path / "run")
    page = report.write([run.path], run.path / "report.html").read_text()
    assert ("figure 5" in page, "figure 6" in page) == (True, False)
    assert ("class 39<" in page, "class 40<" in page) == (True, False)
    assert "The first 6 of 10 images" in page
    rest = re.search(r"20 more rows are in (.*) of the run folder", page)
    assert rest
    assert (run.path / rest[1].replace("<wbr>", "")).is_file()


def test_inline_holds_everything_and_links_nothing(tmp_path) -> None:
    run = big_run(tmp_path / "run")
    page = report.write([run.path], run.path / "report.html", inline=True).read_text()
    assert "figure 9" in page
    assert "class 59<" in page
    assert 'href="cells/' not in page
    assert "more rows are in" not in page


def test_the_page_is_the_same_each_time(tmp_path) -> None:
    run = big_run(tmp_path / "run")
    first = report.write([run.path], run.path / "report.html").read_bytes()
    assert report.write([run.path], run.path / "report.html").read_bytes() == first


def test_every_instrument_has_one_topic() -> None:
    named = [name for names in TOPICS.values() for name in names.split()]
    assert len(named) == len(set(named))
    assert set(named) == set(instruments())


def test_topics_keep_the_order_of_the_questions_and_others_come_last(tmp_path) -> None:
    run = make_run(tmp_path / "run", classifiers=1)
    (done,) = (s for s in gather([run]).sections if s.instrument == "accuracy")
    names = ["my_cue", "stickers", "occlusion", "shape_bias"]
    found = list(topics([Section(name, "", done.groups) for name in names]))
    assert [[s.instrument for s in topic.sections] for topic in found] == [
        ["shape_bias"],
        ["stickers", "occlusion"],
        ["my_cue"],
    ]
    assert found[-1].title == OTHERS


def test_what_a_preset_left_out_stands_with_the_command_that_asks_it(tmp_path) -> None:
    run = make_run(tmp_path / "run", classifiers=1)
    run.manifest["preset"] = {"name": "quick", "left_out": {"filters": "Are any filters <wasted>?"}}
    run.manifest["command"] = "cuescope audit net --preset quick --images photos"
    run.write_manifest()
    page = report.write([run.path], tmp_path / "r.html").read_text()
    assert "Left out by the preset quick" in page
    assert "Are any filters &lt;wasted&gt;?" in page
    assert "cuescope audit net --images photos --preset full" in page
