"""`cuescope make`: new images from images, a command for each maker. Its options are the maker's parameters."""

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import App, Parameter

from cuescope.api.make import Making
from cuescope.api.make import make as perform
from cuescope.cli.terminal import command_line, progress, say
from cuescope.core.parameters import parameters
from cuescope.makers import registry
from cuescope.runs.options import keywords

make = App(
    name="make",
    help="New images from images, under the same names: a folder to audit, to train on, to look at.",
    help_format="markdown",
)

SHARED: dict[str, tuple[Any, Any, str]] = {
    "labels": (Path | None, None, "CSV with the columns file,index."),
    "limit": (int | None, None, "Take this many images, spread evenly over the folder."),
    "device": (str, "auto", "auto, cpu, cuda, cuda:1, mps."),
    "workers": (int, 2, "Threads that decode images."),
    "shard": (str | None, None, "i/n: make only the i-th of n parts; when all are, the command without it finishes."),
}
"""What all makers ask: type, default and meaning."""


def _command(name: str) -> None:
    kind = registry.find(name)
    options = parameters(cast(Any, kind)) | SHARED

    def run(source: str, destination: Path, /, **settings: Any) -> int:
        with progress() as show:
            found = perform(name, source, destination, command=command_line(sys.argv[1:]), progress=show, **settings)
        say(_summary(found))
        return 0

    source = Annotated[str, Parameter(help="Folder of images, at any depth, or world:VARIANT[:COUNT].")]
    target = Annotated[Path, Parameter(help="Folder for what is made. One that was stopped goes on.")]
    only = inspect.Parameter.POSITIONAL_ONLY
    signature = [inspect.Parameter("src", only, annotation=source), inspect.Parameter("dst", only, annotation=target)]
    signature += keywords(options, lambda _, kind, meaning: Annotated[kind, Parameter(help=meaning)])
    run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    run.__doc__ = f"Make {kind.what}. {kind.reference}."
    make.command(run, name=name)


def _summary(found: Making) -> str:
    lost = f"; {len(found.skipped):,} skipped, see skipped.csv" if found.skipped else ""
    if found.before and not found.made:
        return f"nothing to do: {found.path} has all {found.before:,} {found.what}{lost}"
    before = f", {found.before:,} were there" if found.before else ""
    return f"made {found.made:,} {found.what}{before}{lost}: {found.path}"


for _name in registry.names():
    _command(_name)
