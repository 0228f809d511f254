"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with how many are done, of how many (0 where that is not known), and what is being done."""


def quiet(done: int, total: int, what: str) -> None:
    """A progress callback that shows nothing."""
