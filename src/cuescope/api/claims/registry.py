"""All claims, by source."""

from __future__ import annotations

from collections.abc import Sequence

from cuescope.api.claims import bagnets, relabel, shift, texture, zfnet
from cuescope.api.claims.claim import Claim, Experiment, Source
from cuescope.core.errors import CueError, unknown

SOURCES: tuple[Source, ...] = (bagnets.SOURCE, texture.SOURCE, zfnet.SOURCE, relabel.SOURCE, shift.SOURCE)


def claims() -> dict[str, Claim]:
    """All claims by their ids."""
    return {claim.id: claim for source in SOURCES for claim in source.claims}


def chosen(names: Sequence[str]) -> list[Claim]:
    """The claims of these ids, sources or experiments. Raises CueError for another name, and where none is tried.

    >>> {claim.id.partition("-")[0] for claim in chosen(["shift"])}
    {'shift'}
    """
    known, by_name = claims(), {name: _of(name) for name in names}
    for name, found in by_name.items():
        if not found:
            raise unknown("claim", name, [*known, *(source.name for source in SOURCES), *experiments()])
    every = list({claim.id: claim for found in by_name.values() for claim in found}.values())
    tried = [claim for claim in every if claim.trials]
    if not tried:
        found = f"{every[0].id} is not tried: {every[0].untried}"
        raise CueError(found, wanted="a claim with an experiment", do="see `cuescope claims`")
    return tried


def _of(name: str) -> list[Claim]:
    return [
        claim
        for claim in claims().values()
        if name in (claim.id, claim.id.partition("-")[0], *(trial.experiment.name for trial in claim.trials))
    ]


def experiments() -> dict[str, Experiment]:
    """What tries the claims, by name, in the order of the claims."""
    trials = [trial for claim in claims().values() for trial in claim.trials]
    every = [one for trial in trials for one in (trial.experiment, trial.elsewhere) if one]
    return {one.name: one for one in every}
