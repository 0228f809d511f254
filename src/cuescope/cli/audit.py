"""`cuescope audit`: the main job. Its options are those of AuditOptions."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cuescope.cli.models import NUMBERS, numbers
from cuescope.cli.terminal import command_line, only_json, progress, say, tell
from cuescope.core.errors import CueError
from cuescope.runs.options import AuditOptions, with_options

if TYPE_CHECKING:
    from cuescope.api.audit import Audit

TYPED = {
    "only": Annotated[str | None, Parameter(show_default=False)],
    "out": Path,
    "classes": Path | None,
    "templates": Annotated[Path | None, Parameter(show_default=False)],
    **dict.fromkeys(NUMBERS, Annotated[str | None, Parameter(show_default=False)]),
    "preprocessing": Annotated[str | None, Parameter(show_default=False)],
    "settings": Annotated[list[str] | None, Parameter(name="--set")],
    "also": Annotated[list[Path] | None, Parameter(name="--instrument", show_default=False)],
}
"""Options that are typed in another form than in Python, or under another name."""


@with_options(lambda name, kind, meaning: Annotated[TYPED.get(name, kind), Parameter(help=meaning)])
def audit(*models: str, json: bool = False, **given: Any) -> int:
    """Which cues do these classifiers use? Every instrument on every classifier, a run folder and a report.

    Args:
        models: timm/NAME, torchvision/NAME, cuescope/NAME, each with @WEIGHTS (a file) or @random if wanted;
            hf/ORG/REPO, hf/FOLDER, open_clip/ARCH:TAG, keras/NAME; package.module:factory, file.py:factory; a file
            .onnx, .tflite, .keras, .pt2 or .torchscript.
        given: The options.
        json: Print the findings as JSON instead of a table.
    """
    text = given.pop("only", None)
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise CueError(
            "--only names no instrument", wanted="names, as in --only accuracy,shape_bias", do="leave it out"
        )
    also = [str(path) for path in given.pop("also", None) or ()]
    options = AuditOptions.of(
        **numbers(given) | {"only": names, "also": also, "settings": settings(given.get("settings") or ())}
    )
    # Before torch is imported, which takes seconds.
    options.check(models)
    from cuescope.api.audit import perform

    with only_json(json), progress() as show:
        result = perform(models, options, command_line(sys.argv[1:]), show, say)
    return finish(result, as_json=json)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """`["occlusion.images=4"]` as a mapping. Raises CueError where one has no value.

    >>> settings(["occlusion.images=4"])
    {'occlusion.images': '4'}
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CueError(f"--set {pair}", wanted="instrument.parameter=value", do="as in --set occlusion.images=4")
        found[key.strip()] = value.strip()
    return found


def finish(result: Audit, *, as_json: bool) -> int:
    """Print what was found, where the report is, and what failed; the exit status."""
    run = result.run
    if as_json:
        found = [cell.finding for cell in run.cells]
        print(json_module.dumps([finding.to_json() for finding in found if finding], indent=1))
    else:
        tell(run)
    if not result.fresh:
        say("nothing to do: this run is finished")
    for cell in result.failed:
        say(f"failed: {cell.instrument} of {cell.classifier}: {cell.why} (traceback in {cell.folder / 'error.txt'})")
    if result.concluded:
        say(f"report: {run.place}/report.html")
    else:
        say("this part is done; when all parts are, the same command without --shard concludes and writes the report")
    return 1 if result.failed else 0
