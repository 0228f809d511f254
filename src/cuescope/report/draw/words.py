"""Numbers as people read them: shares as percent, differences in points, nothing that is NaN."""

from collections.abc import Mapping, Sequence
from typing import Any

from cuescope.core.findings import Measure
from cuescope.core.progress import duration as duration

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
MISSING = "not measured"
LONGEST = 40
"""Letters of a parameter that stands in a sentence."""
FORMATS = {"images": ",.0f", "px": ".1f", "correlation": ".2f", "kappa": ".2f", "probability": ".3f", "nats": ".3f"}


def value(number: float | None, unit: str = "") -> str:
    """One number with its unit; None is "not measured".

    >>> value(0.594, "share"), value(-0.0312, "difference"), value(None, "share"), value(1234, "images")
    ('59.4%', '−3.1 points', 'not measured', '1,234 images')
    """
    if number is None:
        return MISSING
    suffix = {"share": "%", "difference": " points", "images": " images", "px": " px", "nats": " nats"}.get(unit, "")
    if unit == "images" and round(number) == 1:
        suffix = " image"
    return bare(number, unit) + suffix


def bare(number: float, unit: str = "") -> str:
    """The digits alone, as a column of one unit wants them.

    >>> bare(0.594, "share"), bare(0.031, "difference"), bare(0.5, "kappa"), bare(12.3456)
    ('59.4', '+3.1', '0.50', '12.35')
    """
    if unit in ("share", "difference"):
        points = number * 100
        # A small share that is not nothing must not read as 0.0%.
        digits = 2 if 0 < abs(points) < 0.05 and round(abs(points), 2) > 0 else 1
        text = f"{points:{'+' if unit == 'difference' else ''}.{digits}f}"
    else:
        text = f"{number:{FORMATS[unit]}}" if unit in FORMATS else plain(number)
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-+")
    return text.replace("-", MINUS)


def plain(number: float) -> str:
    """A number of unknown unit: counts whole, others with up to four significant digits.

    >>> plain(1000), plain(0.12345), plain(3.0), plain(65500.4)
    ('1,000', '0.1235', '3', '65,500')
    """
    if float(number).is_integer() or abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}"


def cell(content: Any) -> str:
    """A table's cell as text: numbers in short, None as a dash.

    >>> cell(0.33333), cell(None), cell(True), cell("tench")
    ('0.3333', '–', 'yes', 'tench')
    """
    if content is None or isinstance(content, bool):
        return DASH if content is None else "yes" if content else "no"
    return plain(content) if isinstance(content, int | float) else str(content)


def interval(bounds: Sequence[float] | None, unit: str = "") -> str:
    """A 95 % interval, its unit once.

    >>> interval((0.55, 0.636), "share"), interval((-0.05, 0.011), "difference"), interval(None)
    ('55.0–63.6%', '−5.0 to +1.1 points', '')
    """
    if bounds is None:
        return ""
    low, high = bounds
    between = " to " if low < 0 or unit == "difference" else DASH
    return bare(low, unit) + between + value(high, unit)


def p_value(p: float | None) -> str:
    """A p value; nothing where there is none.

    >>> p_value(0.0421), p_value(0.00001), p_value(None)
    ('0.042', '< 0.001', '')
    """
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def amount(measure: Measure) -> str:
    """How many observations stand behind a measure.

    >>> amount(Measure("top1", 0.594, "share", n=500, count=297)), amount(Measure("mac", 0.03, n=500))
    ('297 of 500', 'n = 500')
    """
    if measure.count is not None and measure.n:
        return f"{measure.count:,} of {measure.n:,}"
    return f"n = {measure.n:,}" if measure.n else ""


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names as a phrase.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]), listed(list("abcdef"), 3)
    ('a', 'a and b', 'a, b and c', 'a, b, c and 3 more')
    """
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""


def settings(params: Mapping[str, Any]) -> list[str]:
    """The parameters of an instrument that are set, each in words; long ones are left to the run folder.

    >>> settings({"images": 96, "parts_px": [], "raw": False, "protocols": ["crop", "size"]})
    ['images 96', 'raw no', 'protocols crop and size']
    """
    said = []
    for key, value in params.items():
        text = listed(list(map(str, value))) if isinstance(value, list | tuple) else "" if value is None else str(value)
        text = ("yes" if value else "no") if isinstance(value, bool) else text
        if text and len(text) <= LONGEST:
            said.append(f"{key.replace('_', ' ')} {text}")
    return said
