"""How heavy, fast, still and accessible are report pages? A row a page and size of window; needs Chromium.

    python bench/page.py demo/report.html run/report.html

First paint is with a processor slowed down four times, the median of five loads; shift is the cumulative layout shift
of loading, unfolding all and scrolling to the end; axe is how many rules axe-core finds broken, folded and unfolded,
in light and dark.
"""

import re
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from axe_core_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

CHROMIUM = "/usr/bin/chromium"
SLOWER = 4
LOADS = 5
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
WATCH = """
window.shift = 0; window.paint = null; window.longest = 0;
new PerformanceObserver((list) => list.getEntries().forEach((e) => { if (!e.hadRecentInput) window.shift += e.value; }))
  .observe({ type: "layout-shift", buffered: true });
new PerformanceObserver((list) => list.getEntries().forEach((e) => {
  if (e.name === "first-contentful-paint") window.paint = e.startTime;
})).observe({ type: "paint", buffered: true });
new PerformanceObserver((list) => list.getEntries().forEach((e) => {
  window.longest = Math.max(window.longest, e.duration);
})).observe({ type: "longtask", buffered: true });
"""
FOLD = "document.querySelectorAll('details.fold > :not(summary)').forEach((e) => e.remove())"
APART = """window.sections = [...document.querySelectorAll('main > section')];
window.sections.forEach((s) => s.querySelectorAll('details').forEach((d) => { d.open = true; }));
window.sections.map((s) => s.id)"""
ONE = """name => {
  document.querySelectorAll('main > *, .toc, .skip').forEach((e) => e.remove());
  const main = document.querySelector('main');
  main.append(document.createElement('h1'), document.createElement('h2'), window.sections.find((s) => s.id === name));
  main.children[0].textContent = main.children[1].textContent = 'One section';
}"""


def opened(browser: Any, size: tuple[int, int], scheme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.add_init_script(WATCH)
    return page


def speed(browser: Any, path: Path, size: tuple[int, int]) -> list[str]:
    """First paint (median of some loads), longest task, time to unfold all, layout shift."""
    paints, page = [], opened(browser, size)
    slow = page.context.new_cdp_session(page)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    for _ in range(LOADS):
        page.goto(path.as_uri())
        page.wait_for_function("window.paint !== null")
        paints.append(page.evaluate("window.paint"))
    longest = page.evaluate("window.longest")
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    start = time.perf_counter()
    page.get_by_text("Unfold all", exact=True).click()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    unfolded = time.perf_counter() - start
    for y in range(0, page.evaluate("document.documentElement.scrollHeight"), size[1]):
        page.evaluate(f"scrollTo({{ top: {y}, behavior: 'instant' }})")
        page.wait_for_timeout(20)
    shift = page.evaluate("window.shift")
    page.close()
    spread = f"{median(paints):.0f} ms ({min(paints):.0f} to {max(paints):.0f})"
    return [spread, f"{longest:.0f} ms", f"{unfolded:.2f} s", f"{shift:.4f}"]


def violations(browser: Any, path: Path, size: tuple[int, int]) -> dict[str, str]:
    """What axe-core finds: rule -> in how many places, and the first of them."""
    found: dict[str, str] = {}
    for scheme in ("light", "dark"):
        page = opened(browser, size, scheme)
        page.goto(path.as_uri())
        page.evaluate(FOLD)
        check(page, f"{scheme}, folded", found)
        # One section at a time: axe-core's time grows faster than what it sees.
        page.reload()
        for name in page.evaluate(APART):
            page.evaluate(ONE, name)
            check(page, f"{scheme}, #{name}", found)
        page.close()
    return found


def check(page: Any, where: str, found: dict[str, str]) -> None:
    """Add the rules that are broken."""
    for rule in Axe().run(page, options={"resultTypes": ["violations"]})["violations"]:
        found.setdefault(rule["id"], f"{len(rule['nodes'])} x, {where}: {rule['nodes'][0]['html'][:160]}")


def paper(browser: Any, path: Path) -> int:
    """Pages of A4."""
    page = opened(browser, SIZES["desk"])
    page.goto(path.as_uri())
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    page.close()
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def main() -> None:
    """Measure the pages that are named."""
    columns = ("page", "window", "MB", "first paint", "longest task", "unfolded", "shift", "axe", "A4 pages")
    grid, said = Table(*columns), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for path in (Path(name).resolve() for name in sys.argv[1:]):
            sheets = paper(browser, path)
            for name, size in SIZES.items():
                found = violations(browser, path, size)
                said += [f"{path} {name} {rule}: {where}" for rule, where in found.items()]
                weight, title = f"{path.stat().st_size / 1e6:.2f}", f"{path.parent.name}/{path.name}"
                grid.add_row(title, name, weight, *speed(browser, path, size), str(len(found)), str(sheets))
        browser.close()
    console = Console(width=160)
    console.print(grid)
    for line in said:
        console.print(line, markup=False)


if __name__ == "__main__":
    main()
