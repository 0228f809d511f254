"""Numbers in sentences: an interval in words, and one thing or several."""

from cuescope.core.findings import Measure


def interval_of(measure: Measure, form: str = ".0%") -> str:
    """The interval of a measure, to stand in brackets behind its value.

    >>> interval_of(Measure("lost", 0.1, "difference", 9, (0.05, 0.15))), interval_of(Measure("lost", 0.1))
    ('5% to 15%', 'no interval')
    """
    if measure.interval is None:
        return "no interval"
    low, high = measure.interval
    return f"{low:{form}} to {high:{form}}"


def several(count: int, thing: str, plural: str = "") -> str:
    """So many of a thing.

    >>> several(1, "image"), several(1200, "image"), several(2, "class", "classes")
    ('1 image', '1,200 images', '2 classes')
    """
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
