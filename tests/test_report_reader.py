"""The report for every reader: on paper, on a phone, by keyboard, without JavaScript, with a screen reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuescope import report
from runs import make_run

pytestmark = pytest.mark.browser
SHIFT = """window.shift = 0;
new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.shift += e.hadRecentInput ? 0 : e.value; }))
  .observe({ type: "layout-shift", buffered: true });"""
UNFOLD = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
PLACES = "[...document.querySelectorAll('main > section > .fold')].map((f) => f.parentElement.id)"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("reader") / "run")
    return report.write([run.path], run.path / "report.html")


@pytest.fixture
def desk(browser, path) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(path.as_uri())
    yield page
    page.close()


def test_a_link_of_the_profile_opens_its_section(desk) -> None:
    assert not desk.locator("#shape_bias .measures").is_visible()
    desk.locator(".profile a[href='#shape_bias']").click()
    desk.wait_for_function("document.querySelector('#shape_bias .fold').open")
    assert desk.locator("#shape_bias .measures").is_visible()
    desk.wait_for_function("Math.abs(document.querySelector('#shape_bias').getBoundingClientRect().top) < 60")


def test_an_address_opens_its_section(browser, path) -> None:
    page = browser.new_page()
    page.goto(f"{path.as_uri()}#accuracy")
    assert page.locator("#accuracy .measures").is_visible()
    page.close()


def test_a_section_shows_its_picture_before_its_sentence_and_its_numbers(desk) -> None:
    desk.evaluate(UNFOLD)
    for name in ("accuracy", "shape_bias"):
        tops = [
            desk.locator(f"#{name} {part}").first.bounding_box()["y"]
            for part in (".panel.best", ".sentences", ".measures", ".more")
            if desk.locator(f"#{name} {part}").count()
        ]
        assert len(tops) >= 3
        assert tops == sorted(tops)


def test_everything_below_the_answer_is_folded_under_its_topic(desk) -> None:
    places = desk.evaluate(PLACES)
    assert desk.locator("details.fold[open]").count() == 0
    assert {"glance", "differences", "accuracy", "shape_bias", "missing", "method"} <= set(places)
    assert desk.locator("main > h2.topic").all_inner_texts()[0] == "All classifiers"
    contents = desk.locator(".toc li.opens > a").all_inner_texts()
    assert "Which cue does it use?" in contents
    desk.get_by_role("link", name="Which cue does it use?").click()
    desk.wait_for_function("scrollY > 300")


def test_by_keyboard_alone(desk) -> None:
    desk.keyboard.press("Tab")
    assert desk.evaluate("document.activeElement.className") == "skip"
    summary = desk.locator("#accuracy summary").first
    summary.focus()
    desk.keyboard.press("Enter")
    assert desk.locator("#accuracy .measures").is_visible()
    desk.keyboard.press("Tab")
    assert desk.evaluate("document.querySelector('#accuracy').contains(document.activeElement)")
    outline = desk.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_nothing_shifts(desk) -> None:
    """While it loads, is unfolded and scrolled."""
    desk.add_init_script(SHIFT)
    desk.reload()
    desk.get_by_text("Unfold all", exact=True).click()
    for y in range(0, desk.evaluate("document.documentElement.scrollHeight"), 800):
        desk.evaluate(f"scrollTo({{ top: {y}, behavior: 'instant' }})")
        desk.wait_for_timeout(10)
    assert desk.evaluate("window.shift") < 0.001


def test_every_section_fits_a_phone(browser, path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(path.as_uri())
    for name in page.evaluate(PLACES):
        page.locator(f"#{name} summary").first.click()
        page.evaluate(UNFOLD)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    page.close()


def test_without_javascript(browser, path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert not page.locator("[data-fold]").is_visible(), "a button that does nothing is not there"
    page.locator("#accuracy summary").first.click()
    assert page.locator("#accuracy .measures").is_visible()
    picture = page.locator("#occlusion .pic").first
    page.locator("#occlusion summary").first.click()
    assert picture.bounding_box()["height"] > 50
    context.close()


def test_a_small_image_opens_the_full_one_or_says_where_it_is(browser, path, tmp_path) -> None:
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("#occlusion summary").first.click()
    page.locator("#occlusion a.full").first.click()
    page.wait_for_url("**/cells/**.png")
    moved = tmp_path / "moved.html"
    moved.write_bytes(path.read_bytes())
    page.goto(moved.as_uri())
    page.locator("#occlusion summary").first.click()
    page.locator("#occlusion a.full").first.click()
    note = page.get_by_role("status")
    note.wait_for()
    assert re.search(r"cells/.*\.png", note.inner_text())
    page.close()


def test_paper_has_the_answers_without_their_tables(desk) -> None:
    pdf = desk.pdf(format="A4", prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
    assert 2 <= pages <= 4, "five questions about two networks"
    desk.emulate_media(media="print")
    try:
        for part in ("#profile", "#accuracy .panel.best", "#accuracy .sentences", "#accuracy .measures"):
            assert desk.locator(part).first.is_visible(), part
        for part in (".toc", "#glance", "#accuracy .panel.table", "#accuracy .more"):
            assert not desk.locator(part).first.is_visible(), part
    finally:
        desk.emulate_media(media="screen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(browser, path, width: int, scheme: str) -> None:
    """Folded and unfolded."""
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(path.as_uri())
    for unfold in ("0", UNFOLD):
        page.evaluate(unfold)
        found = axe.run(page, options={"resultTypes": ["violations"]})["violations"]
        assert [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found] == []
    page.close()
