"""How long work says how far it is."""

from typing import NamedTuple, Protocol


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
