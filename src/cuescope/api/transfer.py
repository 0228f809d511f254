"""Of these classifiers, whose features serve a folder of images best, whatever its classes are?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cuescope.api.audit import Audit, Say, perform
from cuescope.core.progress import Progress
from cuescope.runs.comparisons.ranking import Ranked, ranking
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

    @property
    def run(self) -> Run:
        return self.audit.run


def transfer(
    kind: Kind,
    *models: Any,
    images: Any,
    out: str | Path = "transfer",
    command: str = "",
    progress: Progress | None = None,
    say: Say | None = None,
    **options: Any,
) -> Transferred:
    """Rank classifiers by what linear read-outs of their frozen features tell of the images' own classes.

    "probe" learns from four fifths of all images; "few-shot" from a few of each class. The classes of the images need
    not be the classifiers', which may have different ones. `options` are those of `audit`. Raises CueError as it does.

    >>> transfer("probe", "timm/resnet18", "timm/resnet50", images="mine/").ranking[0]      # doctest: +SKIP
    """
    instrument, measure = ASKED[kind]
    chosen = AuditOptions.of(images=images, out=out, only=[instrument], **options)
    chosen.check(models)
    audit = perform(models, chosen, command, progress, say)
    return Transferred(audit, tuple(ranking(audit.run, instrument, measure)))
