"""`cuescope claims`: what the sources say, what tries it here, and what came of it."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cuescope.cli.terminal import say
from cuescope.core.errors import CueError, unknown
from cuescope.core.wording import counted

claims = App(
    name="claims",
    help="What the five sources say, what tries it here, and what came of it.",
    help_format="markdown",
)


@claims.default
def list_claims(
    search: str = "", /, *, measured: Path | None = None, write: Path | None = None, json: bool = False
) -> None:
    """Every claim with its place, the experiment that tries it, what was measured, and the verdict.

    Args:
        search: Only claims whose id contains this, as a source does: bagnets, texture, zfnet, relabel, shift.
        measured: The measured.json that `cuescope claims run` wrote; without it, what was measured for this version.
        write: Write all of it as a page of Markdown instead.
        json: Print JSON instead of text.
    """
    from cuescope.api.claims import page, registry, results
    from cuescope.core import files

    if measured is not None and not measured.is_file():
        raise CueError(f"no file '{measured}'", wanted="what `cuescope claims run` wrote", do="check the path")
    found = results.read(measured or results.SHIPPED)
    if write:
        files.write(write, page.page(found).encode())
        say(f"wrote {write}")
        return
    wanted = {name: claim for name, claim in registry.claims().items() if search.lower() in name}
    if not wanted:
        raise unknown("claim", search, registry.claims())
    if json:
        print(json_module.dumps([page.plain(claim, found) for claim in wanted.values()], indent=1))
        return
    for claim in wanted.values():
        print("\n".join(page.lines(claim, found)))


@claims.command
def run(
    *names: str,
    all: Annotated[bool, Parameter(negative="")] = False,
    out: Path = Path("claims"),
    data: Path | None = None,
) -> None:
    """Try claims: seconds to a minute for each experiment, on two cores.

    Args:
        names: Ids of claims, sources, or experiments.
        all: Try all of them.
        out: Folder for the runs and measured.json. What is finished there is not done again.
        data: Folder of real weights and photographs, to try them on these too.
    """
    from cuescope.api.claims import page, registry, results

    if all == bool(names):
        raise CueError("claims run takes names or --all", wanted="one of the two", do="see `cuescope claims`")
    if data is not None and not data.is_dir():
        raise CueError(f"no folder '{data}'", wanted="a folder of real weights and photographs", do="check the path")
    chosen = registry.chosen(list(names) or [source.name for source in registry.SOURCES])
    from cuescope.api.claims.lab import Lab
    from cuescope.core.provenance import now, versions

    lab, file = Lab(out, data, say), out / "measured.json"
    found = results.read(file)
    for claim in chosen:
        found[claim.id] = lab.results(claim)
        # After each claim: what was measured is kept when it is stopped.
        results.write(file, found, {**versions("cuescope", "torch"), "measured": now()})
        print("\n".join(page.lines(claim, found)), flush=True)
    if data is None and (real := sum(t.experiment.needs_data for claim in chosen for t in claim.trials)):
        say(f"left out: {counted(real, 'trial')} on real weights and photographs; --data FOLDER has them tried too")
    say(f"kept in {file}; cuescope claims --measured {file} --write PAGE makes a page of it")
