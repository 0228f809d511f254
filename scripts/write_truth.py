"""Print the table of planted classifiers, expected against measured, and write docs/truth.md.

python scripts/write_truth.py
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from truth import table  # noqa: E402 - the table lies with the tests

PAGE = ROOT / "docs" / "truth.md"
HEAD = """# Planted truths

What each instrument says of classifiers whose strategy is known: a truth that it must find, and an absence that it
must not report. `python scripts/write_truth.py` runs them all and writes this page; `tests/test_truth.py` holds every
row, and runs each a second time with an instrument that is broken on purpose, which it must notice. The conditions of
every sentence are in [instruments.md](instruments.md) and are checked by the same test.
"""


def page() -> str:
    """The page as Markdown, one row a planted classifier; a row that does not hold says so."""
    parts = [HEAD]
    for name, cases in groupby(sorted(table.CASES, key=lambda case: case.instrument), lambda case: case.instrument):
        lines = [f"## {name}\n", "| | a classifier that | must be told | measured | said |", "|---|---|---|---|---|"]
        for case in sorted(cases, key=lambda case: case.kind != "truth"):
            torch.manual_seed(0)  # Of networks made at random, as the tests have them.
            said = case.conclude()
            cells = [
                case.kind,
                case.planted,
                case.expected,
                case.measured(said),
                f"{said.verdict.said}: {said.sentence}",
            ]
            if not case.holds(said):
                cells[-1] += " **does not hold**"
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    table.load()
    text = page()
    PAGE.write_text(text)
    print(text)
    sys.exit("does not hold" in text)
