"""Which classifier of a run does best by one measure, and which others does it surely beat?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cuescope.core.findings import Finding, Measure
from cuescope.core.naming import short_name
from cuescope.runs.comparisons.paired import LEVEL, verdicts
from cuescope.runs.store import Run


class Ranked(NamedTuple):
    """One classifier: its place, its measures by name, and the names of those that are surely worse."""

    place: int
    classifier: str
    measures: Mapping[str, Measure]
    beats: tuple[str, ...]


def ranking(run: Run, instrument: str, measure: str) -> list[Ranked]:
    """The classifiers of a run, the best first; those without a value last.

    One beats another where their paired difference over the same images has a p value below .05, corrected for all
    comparisons of the run (Holm).

    >>> ranking(Run.open("run"), "layer_probe", "accuracy")[0].beats      # doctest: +SKIP
    """
    found = {f.classifier: f for f in run.findings if f.instrument == instrument and not f.why}
    beats: dict[str, list[str]] = {name: [] for name in found}
    for verdict in verdicts([run]):
        if (verdict["instrument"], verdict["measure"]) == (instrument, measure):
            p, value = verdict["p_holm"], verdict["value"]
            if p is not None and p < LEVEL and value:
                better, worse = (verdict["a"], verdict["b"]) if value > 0 else (verdict["b"], verdict["a"])
                beats[better].append(worse)

    def low(finding: Finding) -> tuple[bool, float]:
        value = finding[measure].value
        return value is None, -(value or 0.0)

    ordered = sorted(found.values(), key=low)
    return [
        Ranked(i, f.classifier, {m.name: m for m in f.measures}, tuple(map(short_name, beats[f.classifier])))
        for i, f in enumerate(ordered, 1)
    ]
