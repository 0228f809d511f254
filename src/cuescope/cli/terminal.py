"""What commands print: a live bar on a terminal, plain lines otherwise."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Callback = Callable[[int, int, str], None]
"""Called with images done, images in all, and what is being worked on."""

EVERY_S = 10.0
"""Between two lines of progress where there is no terminal."""


@contextmanager
def progress() -> Iterator[Callback]:
    """A progress callback that shows how far the work is, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        last = [0.0, ""]

        def line(done: int, total: int, what: str) -> None:
            now = time.monotonic()
            if not total or what != last[1] or done == total or now - float(last[0]) >= EVERY_S:
                last[:] = [now, what]
                print(f"{what}: {done} of {total} images" if total else what, file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(row, description=what, completed=done, total=total or None)

        yield show


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def command_line(arguments: Sequence[str]) -> str:
    """The command as a user can paste it into a shell.

    >>> command_line(["audit", "my model.onnx"])
    "cuescope audit 'my model.onnx'"
    """
    return shlex.join(["cuescope", *arguments])
