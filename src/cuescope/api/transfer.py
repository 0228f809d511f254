"""Of these classifiers, whose features serve a folder of images best, whatever its classes are?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cuescope.api.audit import Audit, perform
from cuescope.core.errors import CueError, unknown
from cuescope.core.findings import Measure
from cuescope.core.progress import Progress, Say
from cuescope.core.published.caltech import PROTOCOLS
from cuescope.runs.comparisons.ranking import Ranked, along, cues, ranking
from cuescope.runs.options import AuditOptions
from cuescope.runs.store import Run

Kind = Literal["probe", "few-shot"]
ASKED: dict[Kind, tuple[str, str]] = {"probe": ("layer_probe", "accuracy"), "few-shot": ("few_shot", "accuracy")}
"""The instrument of each kind of transfer, and the measure that ranks."""


@dataclass(frozen=True)
class Transferred:
    """What `transfer` found."""

    audit: Audit
    ranking: tuple[Ranked, ...]
    """The classifiers, the best first."""
    cues: Mapping[str, Mapping[str, Measure]]
    """Of an audit of these classifiers the lines of the cue profile, by classifier and measure; none without one."""
    along: tuple[Measure, ...]
    """How each of them goes along with what ranks: the correlation over the classifiers."""

    @property
    def run(self) -> Run:
        return self.audit.run


def transfer(
    kind: Kind,
    *models: Any,
    images: Any,
    out: str | Path = "transfer",
    audited: str | Path | None = None,
    preset: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    say: Say | None = None,
    **options: Any,
) -> Transferred:
    """Rank classifiers by what linear read-outs of their frozen features tell of the images' own classes.

    "probe" learns from four fifths of all images; "few-shot" from a few of each class. The classes of the images need
    not be the classifiers', which may have different ones. `audited` is a run folder of an audit of these classifiers:
    which of its cues goes along with what ranks? `preset`, "caltech101" or "caltech256" of "few-shot", takes the
    published folds and numbers of images, and sets the published values beside. Where `training_images` are given, what
    stands among them is listed. Other `options` are those of `audit`. Raises CueError as it does, and for a preset that
    there is not.

    >>> transfer("probe", "timm/resnet18", "timm/resnet50", images="mine/").ranking[0]      # doctest: +SKIP
    """
    instrument, measure = ASKED[kind]
    if preset is not None:
        if kind != "few-shot":
            found = f"preset {preset} of {kind}"
            raise CueError(found, wanted="few-shot, whose protocol is published", do="ask few-shot")
        if preset not in PROTOCOLS:
            raise unknown("preset", preset, PROTOCOLS)
        options["settings"] = {**PROTOCOLS[preset], **(options.get("settings") or {})}
    only = [instrument] if options.get("training_images") is None else [instrument, "near_duplicates"]
    chosen = AuditOptions.of(images=images, out=out, only=only, **options)
    chosen.check(models)
    known = {} if audited is None else cues(Run.open(audited))
    audit = perform(models, chosen, command, progress, say)
    ranked = tuple(ranking(audit.run, instrument, measure))
    return Transferred(audit, ranked, known, tuple(along(ranked, measure, known)))
