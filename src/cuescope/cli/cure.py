"""`cuescope cure`: the whole way from a weak verdict to a better model, and the proof."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cuescope.api.cure import cure as perform
from cuescope.api.cure_options import CureOptions
from cuescope.cli.audit import settings
from cuescope.cli.terminal import command_line, progress, say, tell
from cuescope.core.parameters import parameters
from cuescope.runs.options import keywords

TYPED = {
    "images": str,
    "out": Path,
    "labels": Path | None,
    "styles": str | None,
    "cue_conflict": str | None,
    "settings": Annotated[list[str] | None, Parameter(name="--set")],
}
"""Options that are typed in another form than in Python, or under another name."""


def cure(model: str, *, for_: str, **given: Any) -> None:
    """What helps this model, and did it help? Makes the data, fine-tunes, and audits before and after.

    One image in five of each class is held out before anything is made or learned, to judge by. The report says what
    got better and what got worse, to the model before and to a control without the remedy.

    Args:
        model: The model to start from, as for `cuescope audit`: a network of torch with its weights.
        for_: What it is to be cured of: shape_bias, where it goes by texture; shift, where its answers change as the
            image moves; labels, where it learned from wrong or single labels.
        given: The options.
    """
    given["settings"] = settings(given.get("settings") or ())
    with progress() as show:
        found = perform(model, for_, command=command_line(sys.argv[1:]), progress=show, say=say, **given)
    for sentence in found.sentences:
        tell(sentence)
    tell(f"report: {found.report}")
    tell("next: " + shlex.join(["cuescope", "audit", found.model, "--images", "OTHER-IMAGES"]))


def _signature() -> inspect.Signature:
    first, what, _ = inspect.signature(cure).parameters.values()
    what = what.replace(annotation=Annotated[str, Parameter(name="--for")])
    options = parameters(CureOptions)
    return inspect.Signature(
        [
            first.replace(annotation=str),
            what,
            *keywords(options, lambda name, kind, meaning: Annotated[TYPED.get(name, kind), Parameter(help=meaning)]),
        ]
    )


cure.__signature__ = _signature()  # type: ignore[attr-defined]
