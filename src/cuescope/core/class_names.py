"""Which class is meant by a name that somebody wrote? The one place that compares names of classes."""

import re
import unicodedata
from collections.abc import Callable, Iterable


def exact(name: str) -> str:
    """The name itself."""
    return name


def caseless(name: str) -> str:
    r"""In one Unicode form, whatever the letters' case, without spaces around.

    >>> caseless(" Cafe\u0301 ") == caseless("CAF\u00c9")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def folded(name: str) -> str:
    """Also without punctuation: letters and digits of any script, and what else tells names apart: C++, C#, -10, emoji.

    >>> folded("T-shirt_1 "), folded("C++"), folded("-10"), folded("волк")
    ('t shirt 1', 'c++', '-10', 'волк')
    """
    plain = caseless(name)
    sign = "-" if re.match(r"-\d", plain) else ""
    return sign + " ".join("".join(" " if _is_separator(c) else c for c in plain).split())


def _is_separator(character: str) -> bool:
    return character not in "#%&@*!?" and unicodedata.category(character)[0] in "PZC"


LEVELS: tuple[Callable[[str], str], ...] = (exact, caseless, folded)
"""How strictly names are compared: the first level at which any fits decides."""


class ClassNames:
    """Names of classes, of which one is looked for: exactly, then caseless, then folded.

    >>> names = ClassNames(["Cardigan", "cardigan", "polar bear"])
    >>> names.find("cardigan"), names.find("polar_bear"), names.find("CARDIGAN"), names.candidates("CARDIGAN")
    (1, 2, -1, (0, 1))
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._levels: list[dict[str, tuple[int, ...]]] = []
        for level in LEVELS:
            found: dict[str, tuple[int, ...]] = {}
            for i, name in enumerate(self.names):
                if key := level(name):
                    found[key] = (*found.get(key, ()), i)
            self._levels.append(found)

    def search(self, name: str) -> tuple[int, tuple[int, ...]]:
        """The level of `LEVELS` at which any name fits, and the positions of those that do; (-1, ()) for none."""
        for i, (level, found) in enumerate(zip(LEVELS, self._levels, strict=True)):
            if hits := found.get(level(name)):
                return i, hits
        return -1, ()

    def candidates(self, name: str) -> tuple[int, ...]:
        """The positions of all names that fit best."""
        return self.search(name)[1]

    def find(self, name: str) -> int:
        """The position of the one name that fits; -1 where none does, or several do alike."""
        hits = self.candidates(name)
        return hits[0] if len(hits) == 1 else -1
