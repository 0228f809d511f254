"""Numbers in sentences: intervals in words."""

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
