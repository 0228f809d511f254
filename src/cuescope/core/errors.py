"""The one exception a user is meant to read."""

import difflib
import re
from collections.abc import Iterable

STEERING = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")

RAISED = Exception, SystemExit
"""What a network's or a user's own code may raise: exit() too, where it meets what it was not written for."""


class CueError(Exception):
    """What was found, what was wanted, and what to do about it: shown without a traceback (exit status 2).

    Any other exception is a fault of cuescope's own or of the user's model code.

    >>> print(CueError("no folder 'photos'", wanted="a folder of images", do="check the path"))
    no folder 'photos'
      wanted: a folder of images
      do:     check the path
    """

    def __init__(self, found: str, *, wanted: str = "", do: str = "") -> None:
        self.found, self.wanted, self.do = found, wanted, do
        more = (f"\n{name} {text}" for name, text in (("  wanted:", wanted), ("  do:    ", do)) if text)
        super().__init__(printable(found + "".join(more)))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.found, self.wanted, self.do)


class StoppedError(CueError):
    """Ctrl-C stopped work that goes on with the same command (exit status 130)."""


def _rebuild(found: str, wanted: str, do: str) -> CueError:
    return CueError(found, wanted=wanted, do=do)


def printable(text: str) -> str:
    r"""A text from elsewhere, such as a name of a file, without what steers a terminal or is no Unicode.

    >>> print(printable("a\x1b[31m\udcff"))
    a\x1b[31m\udcff
    """
    return STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def nearest(name: str, options: Iterable[str], count: int = 4) -> list[str]:
    """The options most like a mistyped name, best first.

    >>> nearest("shape_bais", ["accuracy", "shape_bias", "occlusion"])
    ['shape_bias']
    """
    folded = {option.lower(): option for option in options}
    return [folded[match] for match in difflib.get_close_matches(name.lower(), folded, count, 0.5)]


def unknown(kind: str, name: str, options: Iterable[str]) -> CueError:
    """The error for a name that is none of the options: says the nearest, or lists all when they are few."""
    options = list(options)
    if close := nearest(name, options):
        do = "did you mean " + " or ".join(close) + "?"
    elif len(options) <= 24:
        do = "choose one of: " + ", ".join(sorted(options))
    else:
        do = f"choose one of the {len(options)} there are, such as " + ", ".join(sorted(options)[:6])
    article = "an" if kind[:1] in "aeiou" else "a"
    return CueError(f"unknown {kind} '{name}'", wanted=f"the name of {article} {kind}", do=do)


def either(options: Iterable[str]) -> str:
    """Several options in words.

    >>> either(["a", "b", "c"])
    'a, b or c'
    """
    *first, last = [*options] or [""]
    return f"{', '.join(first)} or {last}" if first else last
