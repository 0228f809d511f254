"""Take the README's screenshots from a finished `cuescope demo`.

python scripts/take_screenshots.py DEMO/report.html [CHROMIUM]
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 1180


def main() -> None:
    report = Path(sys.argv[1]).resolve()
    chromium = sys.argv[2] if len(sys.argv) > 2 else "/usr/bin/chromium"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1180})
        page.goto(report.as_uri())
        page.screenshot(path=FOLDER / "verdict.png")
        page.locator("#shape_bias .panel.dots").first.screenshot(path=FOLDER / "shape_bias.png")
        page.locator("#occlusion .panel").last.scroll_into_view_if_needed()
        box = page.locator("#occlusion .panel").last.bounding_box()
        assert box
        page.evaluate("y => window.scrollTo(0, y)", box["y"] + page.evaluate("scrollY"))
        page.screenshot(path=FOLDER / "occlusion.png")
        page.locator("#top_patches .panel .gallery").last.screenshot(path=FOLDER / "top_patches.png")
        browser.close()
    print(FOLDER)


if __name__ == "__main__":
    main()
