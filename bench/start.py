"""How long until the command says anything?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from ratios import Given, Row, measured, turns


def quietly(*words: str) -> None:
    subprocess.run([sys.executable, *words], capture_output=True, check=False)


def rows(given: Given) -> Iterator[Row]:
    ways = {
        "help": partial(quietly, "-m", "cuescope", "--help"),
        "bare": partial(quietly, "-c", "import cyclopts"),
        "mistake": partial(quietly, "-m", "cuescope", "audit", "timm/resnet18@random", "--images", "no/such/folder"),
    }
    found = turns(ways, given.take(9, 2))
    asked = "at most 2.5 times the import of the library it is made with"
    yield found.row("`cuescope --help` / `import cyclopts`", "help", "bare", asked, most=2.5)
    walls, processors = zip(*found.taken["mistake"], strict=True)
    yield Row("a mistake in a path is told", "within 2 s", walls, processors, most=2, unit="s")
    if given.quick:
        return
    with tempfile.TemporaryDirectory() as folder:  # what is there already would not be done again
        wall, processor = measured([sys.executable, "-m", "cuescope", "demo", "--out", f"{folder}/demo"]).taken
    yield Row("`cuescope demo`", "at most 60 s", [wall], [processor], most=60, unit="s")
