"""The report in a real browser: it loads without a network, folds, sorts, fits a phone, and goes dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cuescope import report
from runs import make_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    run = make_run(folder / "run")
    return report.write([run.path], folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory) -> str:
    """Five classifiers, some with names that no phone is wide enough for."""
    folder = tmp_path_factory.mktemp("crowded")
    names = ["timm/vit_small_patch16_224.augreg_in21k_ft_in1k", "models/name" + "x" * 60 + ".onnx", "cuescope/bagnet33"]
    run = make_run(folder / "run", more=names)
    return report.write([run.path], folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def desk(browser, address) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    yield page
    page.close()


def test_no_error_and_no_request(desk, address) -> None:
    assert desk.said == []
    assert [url for url in desk.asked if not url.startswith("data:")] == [address]


def test_every_image_is_held_by_the_style_sheet(desk) -> None:
    """The picture itself, and the map over it, decode to images."""
    load = """Promise.all([...document.querySelectorAll('.pic')].flatMap((e) => ['::before', '::after'].map((which) => {
        const url = getComputedStyle(e, which).backgroundImage;
        const image = new Image();
        image.src = url.slice(5, -2);
        return url === 'none' ? null : image.decode().then(() => image.naturalWidth);
    })))"""
    desk.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    widths = [width for width in desk.evaluate(load) if width is not None]
    desk.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
    assert len(widths) == 9 + 6, "nine pictures, six of them with a map"
    assert min(widths) >= 2


def test_sections_fold(desk) -> None:
    summary = desk.locator("#accuracy details.fold > summary")
    inside = desk.locator("#accuracy .panel").first
    assert desk.locator("details.fold[open]").count() == 0, "the profile alone is open"
    summary.click()
    assert inside.is_visible()
    summary.click()
    assert not inside.is_visible()
    desk.locator(".profile a[href='#accuracy']").click()
    desk.wait_for_function("document.querySelector('#accuracy details.fold').open")
    desk.get_by_text("Fold all", exact=True).click()
    assert desk.locator("details.fold[open]").count() == 0
    desk.get_by_text("Unfold all", exact=True).click()
    assert desk.locator("details.fold:not([open])").count() == 0


def column(table: Any, index: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()


OPEN = "document.querySelector('#accuracy details.fold').open = true"


def test_tables_sort_by_click_and_keyboard(desk) -> None:
    desk.evaluate(OPEN)
    table = desk.locator("#accuracy .panel.table table.sortable").first
    images = table.locator("thead th").nth(2)
    images.locator("button").click()
    assert images.get_attribute("aria-sort") == "ascending"
    assert column(table, 2) == ["3", "5", "7", "12"]
    images.locator("button").focus()
    desk.keyboard.press("Enter")
    assert images.get_attribute("aria-sort") == "descending"
    assert column(table, 2) == ["12", "7", "5", "3"]
    table.locator("thead th button").first.click()
    assert images.get_attribute("aria-sort") is None
    assert column(table, 0) == ["hen <i>", "laptop", "maillot", "sunglass"]


def test_missing_values_sort_last_both_ways(desk) -> None:
    desk.evaluate(OPEN)
    desk.locator("#accuracy details.numbers").evaluate("e => { e.open = true }")
    table = desk.locator("#accuracy details.numbers table")
    button = table.locator("thead th button").nth(1)
    for _ in range(2):
        button.click()
        assert column(table, 1)[-1] == "–"


@pytest.mark.parametrize("width", [320, 380, 700, 1280])
def test_nothing_overflows(browser, crowded, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(crowded)
    page.get_by_text("Unfold all", exact=True).click()
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className)"""
    assert page.evaluate(wide) == []
    page.close()


def brightness(page: Any) -> float:
    color = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(map(int, color[4:-1].split(","))) / 3


def test_dark_by_the_system_and_by_choice(browser, address) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    assert brightness(page) < 40
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) / 3 > 200
    page.get_by_text("Light", exact=True).click()
    assert brightness(page) == 255
    page.reload()
    assert brightness(page) == 255
    page.emulate_media(color_scheme="light")
    page.get_by_text("Dark", exact=True).click()
    assert brightness(page) < 40
    page.emulate_media(media="print")
    assert brightness(page) == 255
    page.close()
