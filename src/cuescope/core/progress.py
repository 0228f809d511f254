"""How long work says how far it is."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

Say = Callable[[str], None]
"""Told, line by line, what is worth a line that stays."""


class Whole(NamedTuple):
    """How far the whole of the work is, where it is known what each step takes."""

    share: float
    """Of the estimated time, done when the step begins; it never falls."""
    until: float
    """The share when the step is done."""
    step_s: float
    """Seconds that the step will take."""
    left_s: float
    """Seconds until all is done."""


class Progress(Protocol):
    """Called as a step of the work begins."""

    def __call__(self, done: int, total: int, what: str, whole: Whole | None = None, /) -> None:
        """`done` of `total` images (0 where that is not known) are done of `what` is being done."""


def quiet(done: int, total: int, what: str, whole: Whole | None = None, /) -> None:
    """A progress callback that shows nothing."""


def silent(text: str, /) -> None:
    """A `Say` that says nothing."""


def duration(seconds: float) -> str:
    """A time span: seconds below two minutes, then minutes, then hours.

    >>> duration(3.21), duration(75), duration(600), duration(9000)
    ('3.2 s', '75 s', '10 min', '2 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
