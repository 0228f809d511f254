"""What commands print: a live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, cast

from cuescope.core.errors import printable
from cuescope.core.progress import Progress, Whole, duration

if TYPE_CHECKING:
    from rich.console import Console

EVERY_S = 10.0
"""Between two lines of progress where there is no terminal."""
MOST_OF_STEP = 0.95
"""How far the bar goes on by itself within a step that is not done."""


class Shown:
    """What was said last of how far the work is, and what it comes to now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.what, self.done, self.total = clock, "", 0, 0
        self.whole: Whole | None = None
        self.since = clock()

    def __call__(self, done: int, total: int, what: str, whole: Whole | None = None, /) -> None:
        self.done, self.total, self.what, self.whole, self.since = done, total, what, whole, self.clock()

    @property
    def share(self) -> float | None:
        """Of all that is to be done, 0 to 1: within a step as its time passes. None where it is not known."""
        if self.whole is None:
            return self.done / self.total if self.total else None
        passed = (self.clock() - self.since) / self.whole.step_s if self.whole.step_s > 0 else 0.0
        return self.whole.share + min(passed, MOST_OF_STEP) * (self.whole.until - self.whole.share)

    @property
    def left(self) -> str:
        """The time left in words, "" where it is not known."""
        if self.whole is None:
            return ""
        return f"{duration(max(self.whole.left_s - (self.clock() - self.since), 1.0))} left"

    @property
    def doing(self) -> str:
        what = printable(self.what)
        return f"{what}, {self.done:,} of {self.total:,} images" if self.total else what

    @property
    def line(self) -> str:
        """All of it on one line, as "12 %: interaction of resnet50, 8 of 24 images, 3 min left"."""
        start = "" if self.share is None else f"{self.share:.0%}: "
        return start + ", ".join(text for text in (self.doing, self.left) if text)


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Standard output is for JSON alone where that is wanted: what a user's model prints goes to standard error."""
    with redirect_stdout(sys.stderr) if wanted else nullcontext():
        yield


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress callback that shows how far the work is, on standard error."""
    from rich.console import Console

    console, shown = Console(stderr=True), Shown()
    if console.is_terminal:
        with _bar(console, shown):
            yield shown
        return
    stop = threading.Event()

    def lines() -> None:
        while not stop.wait(EVERY_S):
            if shown.what:
                say(shown.line)

    thread = threading.Thread(target=lines, daemon=True, name="progress")
    thread.start()
    try:
        yield shown
    finally:
        stop.set()
        thread.join()


@contextmanager
def _bar(console: object, shown: Shown) -> Iterator[None]:
    """One bar for all, with what is at work now and the time left; it goes on by itself within a step."""
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def drawn() -> Table:
        row = Table.grid(padding=(0, 1))
        share = shown.share
        bar = ProgressBar(total=None if share is None else 1.0, completed=share or 0.0, width=28, pulse=share is None)
        percent = "" if share is None else f"{share:.0%}"
        row.add_row(bar, percent, shown.left, Text(shown.doing, overflow="ellipsis", no_wrap=True))
        return row

    with Live(console=cast(Any, console), get_renderable=drawn, refresh_per_second=4, transient=True):
        yield


def say(text: str) -> None:
    """A line on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def tell(text: object) -> None:
    """A line on standard output: what was asked for."""
    print(printable(str(text)))


def console() -> Console:
    """A console of rich for tables, whose texts do not steer the terminal."""
    from rich.console import Console

    class Printable(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Any]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return Printable(highlight=False, markup=False)


def command_line(arguments: Sequence[str]) -> str:
    """The command as a user can paste it into a shell.

    >>> command_line(["audit", "my model.onnx"])
    "cuescope audit 'my model.onnx'"
    """
    return shlex.join(["cuescope", *arguments])
