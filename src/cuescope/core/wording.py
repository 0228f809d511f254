"""What stands in sentences: counts, lists and intervals in words."""

from collections.abc import Iterable

from cuescope.core.findings import Measure


def counted(n: int, thing: str) -> str:
    """So many things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def listed(things: Iterable[str]) -> str:
    """Things one after another, as a sentence has them.

    >>> listed(["conv1", "conv2", "fc"]), listed(["fc"])
    ('conv1, conv2 and fc', 'fc')
    """
    *first, last = things
    return f"{', '.join(first)} and {last}" if first else last


def ordinal(n: int) -> str:
    """A place in an order.

    >>> ordinal(1), ordinal(12), ordinal(22), ordinal(403)
    ('1st', '12th', '22nd', '403rd')
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{n:,}{'th' if n % 100 in (11, 12, 13) else ends.get(n % 10, 'th')}"


def interval_text(measure: Measure, form: str = ".0%") -> str:
    """The interval of a measure, to stand in brackets behind its value.

    >>> interval_text(Measure("lost", 0.1, "difference", 9, (0.05, 0.15))), interval_text(Measure("lost", 0.1))
    ('5% to 15%', 'no interval')
    """
    if measure.interval is None:
        return "no interval"
    low, high = measure.interval
    return f"{low:{form}} to {high:{form}}"
