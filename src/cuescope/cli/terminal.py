"""What commands print: a live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cuescope.runs.runner import Progress as Callback

EVERY_S = 10.0
"""Between two lines of progress where there is no terminal."""


@contextmanager
def progress() -> Iterator[Callback]:
    """A callback for the runner that shows how far it is, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(row, description=what, completed=done, total=total or None)

        yield show


def _plain() -> Callback:
    last = [0.0, ""]

    def show(done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if not total or what != last[1] or done == total or now - float(last[0]) >= EVERY_S:
            last[:] = [now, what]
            print(f"{what}: {done} of {total} images" if total else what, file=sys.stderr, flush=True)

    return show


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
