"""The table of planted classifiers: one row a case, of every instrument a truth to find and an absence not to report.

A file `tests/truth/<instrument>.py` holds the rows of one instrument and the conditions of its sentences. Each row
brings a `broken` instrument, with which it must fail: a row that passes whatever the instrument does checks nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

import truth
from cuescope.core.findings import Conclusion

Condition = Callable[[Conclusion], bool]


@dataclass(frozen=True)
class Case:
    """One planted classifier, and what the instrument must say of it."""

    instrument: str
    kind: Literal["truth", "absence"]
    planted: str
    """What the classifier does, in a few words."""
    expected: str
    """What must be said of it."""
    conclude: Callable[[], Conclusion]
    """Runs the instrument on the planted classifier."""
    holds: Condition
    """Whether what must be said was said."""
    broken: Callable[[pytest.MonkeyPatch], None]
    """Breaks the instrument in a way that this row must notice."""
    shows: tuple[str, ...] = ()
    """Measures for the table; the headlines where none are named."""

    def measured(self, said: Conclusion) -> str:
        """The measured values, as the table prints them."""
        chosen = [said[name] for name in self.shows] or [m for m in said.measures if m.headline] or said.measures[:2]
        return "; ".join(f"{m.label} {_number(m)}" for m in chosen)


CASES: list[Case] = []


def planted(instrument: str, kind: Literal["truth", "absence"], what: str, expected: str, **more: Any) -> Any:
    """Enter the decorated function, which gives the Conclusion, as a row of the table.

    @planted("accuracy", "truth", "is right on 3 of 4", "75 %", holds=lambda said: ..., broken=lambda patch: ...)
    def three_of_four() -> Conclusion: ...
    """

    def enter(conclude: Callable[[], Conclusion]) -> Callable[[], Conclusion]:
        CASES.append(Case(instrument, kind, what, expected, conclude, **more))
        return conclude

    return enter


def breaks(target: str, replacement: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """A breaking: this function ("package.module.name") is replaced."""
    return lambda patch: patch.setattr(target, replacement)


SAYINGS: dict[tuple[str, str], tuple[Condition, Callable[[], Conclusion]]] = {}


def sayable(instrument: str, name: str, when: Condition, example: Callable[[], Conclusion]) -> None:
    """List a sentence of an instrument: the condition under which it may be said, and a conclusion that says it."""
    assert (instrument, name) not in SAYINGS, f"{instrument}: '{name}' is listed twice"
    SAYINGS[instrument, name] = when, example


def load() -> None:
    """Import all files of the table."""
    for module in pkgutil.iter_modules(truth.__path__):
        importlib.import_module(f"truth.{module.name}")


def _number(measure: Any) -> str:
    if measure.value is None:
        return f"none ({measure.why})"
    text = f"{measure.value:.3g}"
    return text + (f" ({measure.interval[0]:.3g} to {measure.interval[1]:.3g})" if measure.interval else "")
