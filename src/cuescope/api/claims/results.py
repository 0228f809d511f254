"""What the trials of claims have found: kept as JSON beside the claims, and drawn up as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from cuescope.api.claims.claim import Claim, Said
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, write_json
from cuescope.core.findings import Unit

SHIPPED = Path(__file__).with_name("measured.json")
"""What was measured for this version."""
SCHEMA = 1
TURNED = "turned round"
"""Of a difference that has no other counterexample."""


@dataclass(frozen=True)
class Counter:
    """The case in which the same must not hold, measured."""

    what: str
    value: float | None
    interval: tuple[float, float] | None
    unit: Unit
    said: Said


@dataclass(frozen=True)
class Result:
    """What one trial of a claim has measured, and what may be said of it."""

    experiment: str
    what: str
    value: float | None
    interval: tuple[float, float] | None
    unit: Unit
    n: int
    said: Said
    why: str = ""
    counter: Counter | None = None


Results = Mapping[str, tuple[Result, ...]]
"""By the id of a claim."""


def verdict(claim: Claim, results: Results) -> str:
    """In a word or two: confirmed only where every trial that was measured confirms it."""
    if claim.untried:
        return "not tried"
    said = [result.said for result in results.get(claim.id, ()) if result.said != "not measured"]
    if not said:
        return "not measured"
    if all(one == "confirmed" for one in said):
        return "confirmed"
    return "not confirmed: surely not" if "surely not" in said else "not confirmed: cannot tell"


def read(path: Path = SHIPPED) -> dict[str, tuple[Result, ...]]:
    """What `write` wrote; nothing where there is no such file. Raises CueError for anything else."""
    if not path.is_file():
        return {}
    data = read_json(path)
    try:
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')}, not {SCHEMA}")
        return msgspec.convert(data["claims"], dict[str, tuple[Result, ...]])
    except (KeyError, ValueError) as error:
        found = f"'{path}' holds no results of claims: {error}"
        raise CueError(found, wanted="what `cuescope claims run` wrote", do="run it again") from None


def write(path: Path, results: Results, about: Mapping[str, Any]) -> None:
    """Keep results, whole or not at all, with what they were measured with."""
    claims = {name: [asdict(one) for one in mine] for name, mine in sorted(results.items())}
    write_json(path, {"schema": SCHEMA, **about, "claims": claims})
