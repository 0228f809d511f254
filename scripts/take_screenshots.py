"""Take the README's screenshots from a finished `cuescope demo`.

python scripts/take_screenshots.py DEMO/report.html [CHROMIUM]
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 1180
FIRST = {"verdict": (1280, 800), "verdict_phone": (390, 844)}
"""The first screen, on a desk and on a phone."""


WAIT_MS = 1500
"""What is far below is laid out, and its images are loaded, when a reader comes near: until then places change."""


def settle(page: Page, part: Locator) -> None:
    for _ in range(3):
        part.scroll_into_view_if_needed()
        page.wait_for_timeout(WAIT_MS)


def top_of(page: Page, part: Locator) -> float:
    box = part.bounding_box()
    assert box
    return box["y"] + page.evaluate("scrollY")


def shot(page: Page, part: Locator, name: str) -> None:
    settle(page, part)
    part.screenshot(path=FOLDER / f"{name}.png")


def main() -> None:
    report = Path(sys.argv[1]).resolve()
    chromium = sys.argv[2] if len(sys.argv) > 2 else "/usr/bin/chromium"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height) in FIRST.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(report.as_uri())
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(report.as_uri())
        page.get_by_text("Unfold all", exact=True).click()
        shot(page, page.locator("#shape_bias .panel.dots").filter(has_text="by category").first, "shape_bias")
        settle(page, page.locator("#occlusion .panel").last)
        page.evaluate("y => window.scrollTo(0, y)", top_of(page, page.locator("#occlusion .panel").last))
        page.wait_for_timeout(WAIT_MS)
        page.screenshot(path=FOLDER / "occlusion.png")
        shot(page, page.locator("#top_patches .panel .gallery").last, "top_patches")
        browser.close()
    print(FOLDER)


if __name__ == "__main__":
    main()
