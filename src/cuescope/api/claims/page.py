"""The claims as a page of Markdown: docs/claims.md."""

from __future__ import annotations

import collections
import math
from dataclasses import asdict

from cuescope.api.claims.claim import Claim, Trial
from cuescope.api.claims.registry import SOURCES, claims, experiments
from cuescope.api.claims.results import TURNED, Counter, Result, Results, verdict
from cuescope.report.draw import words
from cuescope.report.markdown import escaped

HEAD = """# Claims

What the five sources say, and what came of trying it here. `cuescope claims` lists it, `cuescope claims run NAME`
tries a claim again, or all claims of a source or of an experiment, `--all` every one. With `--data FOLDER` they are
tried on real weights, photographs and people's answers, too, which lie there as in the commands below.
`cuescope claims --write docs/claims.md` writes this page.

A claim is **confirmed** where the whole 95 % interval lies between the bounds, in each trial that was measured.
**Surely not**: an interval lies wholly outside. **Cannot tell**: neither. Bounds are plain numbers: .5 is 50 %. Behind
*but* stands something of which the same must not hold, measured alike: bounds that it kept would be worth nothing. A
difference has itself turned round for that.

The networks of the built-in [world](world.md) stand for those of the papers: `world-congruent` for one trained as
ImageNet's are, `world-shape` for one that had to learn shape, `world-bagnet` for a BagNet. What they confirm is that
an effect is there where its cause is known, not that it has the published size, which stands in the sentences. What is
marked *real* is of SqueezeNet 1.1 and MobileNetV2 with ImageNet's weights, and of the authors' own trials.
"""


def page(results: Results) -> str:
    """All claims, source by source, and the commands of the experiments."""
    told = collections.Counter(verdict(claim, results) for claim in claims().values())
    total = ", ".join(f"{count} {said}" for said, count in told.most_common())
    parts = [HEAD, f"{len(claims())} claims: {total}.\n"]
    for source in SOURCES:
        parts.append(f"## {source.title}\n\n{source.papers}\n")
        lines = ["| claim | where | what is said | tried by | measured | verdict |", "|---|---|---|---|---|---|"]
        lines += [_row(claim, results) for claim in source.claims]
        parts.append("\n".join(lines) + "\n")
    parts.append("## Experiments\n\nThe commands that give the numbers; `{data}` is the folder given with `--data`.\n")
    for name, experiment in experiments().items():
        parts.append(f"**{name}**\n\n```\n{experiment.command}\n```\n")
    return "\n".join(parts)


def _row(claim: Claim, results: Results) -> str:
    tried = "<br>".join(dict.fromkeys(_cell(tried_by(trial)) for trial in claim.trials))
    measured = "<br>".join(escaped(said(one)) for one in results.get(claim.id, ()))
    cells = [f"`{claim.id}`", _cell(claim.place), _cell(claim.says), tried or DASH, measured or _cell(claim.untried)]
    return "| " + " | ".join([*cells, verdict(claim, results)]) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


DASH = "–"


def tried_by(trial: Trial) -> str:
    """The experiment and the bounds: "cues: above 50%"."""
    real = ", real" if trial.experiment.needs_data else ""
    why = f" ({trial.why})" if trial.why else ""
    return f"{trial.experiment.name}{real}: {bounds(trial)}{why}"


def bounds(trial: Trial) -> str:
    """Between which bounds the whole interval must lie, in the measure's own numbers."""
    low, high = (f"{end:g}" for end in (trial.low, trial.high))
    if math.isinf(trial.high):
        return f"above {low}"
    return f"below {high}" if math.isinf(trial.low) else f"between {low} and {high}"


def said(result: Result) -> str:
    """What a trial measured, and its counterexample."""
    if result.value is None:
        return f"{result.what}: {result.why}"
    text = f"{result.what}: {number(result)}" + ("" if result.interval else f" ({result.why})")
    if result.counter and result.counter.what != TURNED:
        text += f"; but {result.counter.what}: {number(result.counter)}"
    return text if result.said == "confirmed" else f"{text}: {result.said}"


def number(one: Result | Counter) -> str:
    """A value and its interval."""
    span = words.interval(one.interval, one.unit)
    exact = one.interval is not None and one.interval[0] == one.interval[1]
    return words.value(one.value, one.unit) + (f" ({span})" if span and not exact else "")


def lines(claim: Claim, results: Results) -> list[str]:
    """A claim for a terminal."""
    told = [f"{claim.id}: {verdict(claim, results)}", f"  {claim.says} ({claim.place})"]
    told += [f"  {tried_by(trial)}" for trial in claim.trials]
    told += [f"    {said(result)}" for result in results.get(claim.id, ())]
    return told if claim.trials else [*told, f"  {claim.untried}"]


def plain(claim: Claim, results: Results) -> dict[str, object]:
    """A claim as plain JSON values."""
    measured = [asdict(result) for result in results.get(claim.id, ())]
    about = {"id": claim.id, "place": claim.place, "says": claim.says, "verdict": verdict(claim, results)}
    return {**about, "tried": [tried_by(t) for t in claim.trials], "untried": claim.untried, "measured": measured}
