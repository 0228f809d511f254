"""Write the table of docs/licences.md: the packages of the core, and what each says of itself.

python scripts/write_licences.py
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = "| package | licence |\n| --- | --- |\n"


def packages() -> list[str]:
    """The packages of the core, by name."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return sorted({re.split(r"[=\[ ;]", line)[0] for line in lines if line.strip()})


def licence(name: str) -> str:
    """What a package says of itself: an expression, else classifiers, else a line of its text; "" without it."""
    try:
        about = distribution(name).metadata
    except PackageNotFoundError:
        return ""
    if expression := about.get("License-Expression"):
        return expression
    named = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    return ", ".join(named) or (about.get("License") or "not said in its metadata").splitlines()[0]


if __name__ == "__main__":
    # Packages of other systems than this one are left out.
    found = {name: said for name in packages() if (said := licence(name))}
    before = PAGE.read_text().partition(HEAD)[0]
    PAGE.write_text(before + HEAD + "".join(f"| {name} | {said} |\n" for name, said in found.items()))
    print(PAGE)
