"""`cuescope transfer`: whose features serve a folder of images best?"""

from __future__ import annotations

import inspect
import json as json_module
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cuescope.cli.audit import TYPED, settings
from cuescope.cli.models import numbers
from cuescope.cli.terminal import command_line, progress, say
from cuescope.runs.options import described, keywords

if TYPE_CHECKING:
    from cuescope.api.transfer import Transferred
    from cuescope.core.findings import Measure
    from cuescope.runs.comparisons.ranking import Ranked

transfer = App(
    name="transfer",
    help="Whose features serve your own classes best? Several models ranked on a folder, none of them trained anew.",
    help_format="markdown",
)

TAKEN = (
    *("images", "labels", "out", "limit", "settings", "preprocessing", "mean", "std", "size", "resize"),
    *("device", "precision", "batch_size", "workers"),
)
"""Of the options of an audit those that a transfer takes too."""
_COMMANDS = {
    "probe": "Learn linear read-outs of each layer from four fifths of the images, and tell the others.",
    "few-shot": "Learn from a few images of each class: 1, 2, 5 and so on, as far as there are.",
}


def _command(kind: Any, what: str) -> None:
    def run(*models: str, json: bool = False, **given: Any) -> int:
        given["settings"] = settings(given.get("settings") or ())
        given = {key: value for key, value in numbers(given).items() if value is not None}
        from cuescope.api.transfer import transfer as perform

        with progress() as show:
            found = perform(kind, *models, command=command_line(sys.argv[1:]), progress=show, say=say, **given)
        if json:
            print(json_module.dumps([_plain(one, found.cues) for one in found.ranking], indent=1))
        else:
            _print(found)
        for cell in found.audit.failed:
            say(
                f"failed: {cell.instrument} of {cell.classifier}: {cell.why} (traceback in {cell.folder / 'error.txt'})"
            )
        say(f"report: {found.run.place}/report.html")
        return 1 if found.audit.failed else 0

    options = {name: about for name, about in described().items() if name in TAKEN}
    options["out"] = (Path, Path("transfer"), options["out"][2])
    audited = Annotated[Path | None, Parameter(help="Run folder of an audit of these models: its cues stand beside.")]
    names = Annotated[str, Parameter(help="As for `cuescope audit`; they may have different classes.")]
    as_json = Annotated[bool, Parameter(help="Print the ranking as JSON instead of a table.")]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("models", inspect.Parameter.VAR_POSITIONAL, annotation=names),
            *keywords(options, lambda name, kind, meaning: Annotated[TYPED.get(name, kind), Parameter(help=meaning)]),
            inspect.Parameter("audited", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=audited),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=as_json),
        ]
    )
    run.__doc__ = f"{what} The classes are the images' own."
    transfer.command(run, name=kind)


def _print(found: Transferred) -> None:
    """The models, the best first: their headline measures, the cues of an audit, and what each surely beats."""
    from rich.console import Console
    from rich.table import Column, Table

    from cuescope.report.draw import words

    every = [{m.name: m for m in one.measures.values() if m.headline} for one in found.ranking]
    every = [{**own, **found.cues.get(one.classifier, {})} for own, one in zip(every, found.ranking, strict=True)]
    labels = {m.name: m.label for own in every for m in own.values()}
    columns = [Column(label, overflow="fold", justify="right", min_width=11) for label in labels.values()]
    last = Column("surely more than", overflow="fold")
    table = Table("", Column(no_wrap=True), *columns, last, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for one, own in zip(found.ranking, every, strict=True):
        cells = []
        for m in (own.get(name) for name in labels):
            span = words.interval(m.interval, m.unit) if m else ""
            cells.append("" if m is None else words.value(m.value, m.unit) + (f"\n{span}" if span else ""))
        table.add_row(str(one.place), one.title, *cells, words.listed(one.beats) if one.beats else "")
    console = Console(highlight=False, markup=False)
    console.print(table)
    for m in found.along:
        told = f"{words.value(m.value, m.unit)} ({words.interval(m.interval, m.unit) or m.why})" if m.value else m.why
        console.print(f"with {m.label}, over {m.n or len(found.ranking)} models: {told}")


def _plain(one: Ranked, cues: Mapping[str, Mapping[str, Measure]]) -> dict[str, Any]:
    every = {"measures": one.measures, "cues": cues.get(one.classifier, {})}
    told = {
        key: {name: {"value": m.value, "interval": m.interval, "n": m.n, "title": m.label} for name, m in own.items()}
        for key, own in every.items()
    }
    return {"place": one.place, "classifier": one.classifier, "title": one.title, "beats": one.beats, **told}


for _kind, _what in _COMMANDS.items():
    _command(_kind, _what)
