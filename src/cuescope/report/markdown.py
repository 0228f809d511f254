"""Text and tables in Markdown, whatever names and errors hold."""

import re
from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    r"""Text as it is: no Markdown, no HTML, one line.

    >>> escaped("a_b | <i>")
    'a\\_b \\| \\<i\\>'
    """
    return " ".join(re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text).split())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table whose cells are escaped.

    >>> print(table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\|y |
    """
    lines = [map(escaped, columns), ["---"] * len(columns), *(map(escaped, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
