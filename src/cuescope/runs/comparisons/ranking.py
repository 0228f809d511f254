"""Which classifier of a run does best by one measure, and which others does it surely beat?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cuescope.core import stats
from cuescope.core.called import apart
from cuescope.core.findings import Finding, Measure
from cuescope.runs.comparisons.paired import LEVEL, verdicts
from cuescope.runs.store import Run


class Ranked(NamedTuple):
    """One classifier: its place, its measures by name, and the names of those that are surely worse."""

    place: int
    classifier: str
    title: str
    """What it is called among the others."""
    measures: Mapping[str, Measure]
    beats: tuple[str, ...]


def cues(run: Run) -> dict[str, dict[str, Measure]]:
    """The lines of the cue profile of each classifier of an audit, by the classifier and the measure's name."""
    lines = {name: line["measure"] for name, line in run.manifest.get("headlines", {}).items()}
    found: dict[str, dict[str, Measure]] = {}
    for one in run.findings:
        measure = one.get(lines.get(one.instrument, ""))
        if measure is not None and measure.value is not None:
            found.setdefault(one.classifier, {})[measure.name] = measure
    return found


def along(ranked: Sequence[Ranked], measure: str, known: Mapping[str, Mapping[str, Measure]]) -> list[Measure]:
    """How does each cue of an audit go along with a measure, over the classifiers of both? The strongest first.

    A correlation each, without a value where there are fewer than three classifiers.
    """
    found = []
    for name in dict.fromkeys(name for own in known.values() for name in own):
        pairs = [(one.measures[measure].value, known.get(one.classifier, {}).get(name)) for one in ranked]
        both = [(value, cue) for value, cue in pairs if value is not None and cue is not None]
        title = both[0][1].label if both else name
        values = [value for value, _ in both], [cue.value or 0.0 for _, cue in both]
        found.append(stats.correlation(name, *values, units="classifiers", title=title))
    return sorted(found, key=lambda m: -abs(m.value or 0.0))


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

    ordered, called = sorted(found.values(), key=low), dict(zip(found, apart(list(found)), strict=True))
    return [
        Ranked(
            i,
            f.classifier,
            called[f.classifier],
            {m.name: m for m in f.measures},
            tuple(called[name] for name in beats[f.classifier]),
        )
        for i, f in enumerate(ordered, 1)
    ]
