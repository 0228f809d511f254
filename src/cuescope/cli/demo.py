"""`cuescope demo`: the whole audit, with nothing to download."""

from pathlib import Path

from cuescope.cli.audit import finish
from cuescope.cli.terminal import command_line, progress
from cuescope.core.errors import CueError

TEXTURIZED, STEPS = 48, 60
"""Images that are texturized, and steps of the synthesis: a quarter of a minute on two cores."""
CUES = 160
"""Images of each kind that show one cue alone."""
SETTINGS = {
    "top_units.shown": 3,
    "occlusion.followed": 1,
    "deconvnet.images": 8,
    "picture_sanity.images": 6,
    "correspondence.images": 48,
    "interaction.images": 12,
    "cue_suppression.levels": "named",
}
"""Fewer drawings and images than by default, so that the demo takes no more than two minutes."""
MODELS = ("cuescope/world-congruent", "cuescope/world-shape", "cuescope/world-bagnet")


def demo(*, out: Path = Path("demo"), images: int = 480, json: bool = False) -> int:
    """The whole audit on the built-in world and its three models, whose strategies are known.

    Args:
        out: Run folder; the report is report.html in it.
        images: Images of the world to look at, and as many with their cues in conflict.
        json: Print the findings as JSON instead of a table.
    """
    from cuescope.api.audit import perform
    from cuescope.api.make import make
    from cuescope.runs.options import AuditOptions
    from cuescope.runs.store import Run

    if images < 1:
        raise CueError(f"--images {images}", wanted="at least 1", do="correct it")
    # A run folder first: the texturized images are to lie in it.
    (Run.create(out).path / "cells").mkdir(exist_ok=True)
    options = AuditOptions.of(
        images=f"world:congruent:{images}",
        cue_conflict=f"world:conflict:{images}",
        cues=f"world:{min(images, CUES)}",
        texturized=out / "texturized",
        out=out,
        settings=SETTINGS,
    )
    command = command_line(["demo", "--out", str(out), "--images", str(images)])
    with progress() as show:
        make("texturized", options.inputs["images"], out / "texturized", limit=TEXTURIZED, steps=STEPS, progress=show)
        result = perform(MODELS, options, command, show)
    return finish(result, as_json=json)
