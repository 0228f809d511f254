"""Print how often the intervals hold the truth, by simulation, and write docs/intervals.md.

python scripts/measure_coverage.py [TIMES]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from simulated import KINDS, Kind  # noqa: E402 - the draws lie with the tests

PAGE = ROOT / "docs" / "intervals.md"
SIZES = (5, 10, 20, 30, 50, 100, 200, 300)
HEAD = """# Intervals

Every number of a finding has a 95 % interval, made by `core/stats` and by nothing else. One policy holds
everywhere.

- **What counts are independent units.** An image is one. Where several rows are of one image, or images share an
  object or a texture, these are the units: the labels are given as `clusters`, one column or two that cross. With
  two the variances over both are added, less that over their pairs (Cameron, Gelbach & Miller 2011), and Student's
  t has the degrees of freedom of the fewer.
- **Under five units there is no interval**, and `why` says so.
- **A share** of hits has Wilson's interval, with Poisson's limit where one to three are hits (Brown, Cai & DasGupta
  2001).
- **A mean of shares**, or a ratio in 0..1, has Wilson's of as many trials as would vary as much.
- **Other means and ratios** have Student's, corrected for skewness (Hall 1992).
- **Paired differences** of 0 and 1 have Bonett & Price's (2012), which reckons with one more image either way, by
  Student's t; others have Hall's. Their p values are exact (McNemar) or belong to the interval. Comparisons are
  corrected for their number (Holm).
- **A share kept** of an accuracy has Hall's, with one more image that is lost and one that is gained.
- **Correlations** have Student's of Fisher's z; **kappa** the posterior of the four shares of images, and none
  under five errors or five right answers of either.
- How much a number varies is found by **leaving out one unit at a time** (the jackknife), without chance. What
  has no such form (kappa, errors of calibration, curves) is drawn, with a seed.
- **Where nearly all values are the same** their spread says little of how far the next would differ. A value at
  either end of 0..1 is reckoned with, once where all are the same, and ever less the more differ: 100 zeros reach
  up to .037, and 99 zeros with one .125 to .040. Numbers without limits that are all the same have no interval.

## How often they hold the truth

By simulation ({times:,} samples a cell; chance moves a cell by about {error:.1f} points), in percent. Between 93
and 97 is wanted from 30 units on, and at least 90 from 5 to 29. Units are images, and for the last rows images with
eight pairs, objects, and classes. A cell in brackets lies outside, for the reason in the last column.

"""
TAIL = """
## What is not covered

- Shares near 0 or 1: coverage jumps with n between about 92 and 98 %, as that of any interval that is not random.
- Correlations of two skewed variables (both exponential): about 91 to 94 % at 20 to 100.
- Ratios of numbers without limits that are heavily skewed (products of exponentials): 87 to 92 % under 100.
- The choice of images: an interval is about other images of the same kind, never of another kind. Classes,
  distortions, layers and classifiers are taken as given.
- A network trained again would differ too; no interval here holds that.
- Intervals of many numbers are each at 95 %: of twenty one misses. Only verdicts between classifiers are corrected.
"""


def page(times: int) -> str:
    """The page as Markdown."""
    heads = f"| interval | data | {' | '.join(map(str, SIZES))} | |"
    lines = [heads, "|---|---|" + "---|" * (len(SIZES) + 1)]
    for kind in KINDS:
        cells = [_cell(kind, n, times) for n in SIZES]
        outside = any(cell.startswith("(") for cell in cells)
        lines.append(f"| {kind.name} | {kind.shape} | {' | '.join(cells)} | {kind.note if outside else ''} |")
        print(lines[-1], flush=True)
    return HEAD.format(times=times, error=100 * (0.05 * 0.95 / times) ** 0.5) + "\n".join(lines) + "\n" + TAIL


def _cell(kind: Kind, n: int, times: int) -> str:
    held, known = kind.held(n, times)
    if known < 0.05:
        return "none"
    text = f"{100 * held:.1f}"
    return text if (0.93 <= round(held, 3) <= 0.97 if n >= 30 else held >= 0.9) else f"({text})"


if __name__ == "__main__":
    PAGE.write_text(page(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
