"""`cuescope demo`: the whole audit, with nothing to download."""

from __future__ import annotations

from pathlib import Path

from cuescope.cli.terminal import progress
from cuescope.core.errors import CueError

TEXTURIZED, STEPS = 48, 60
"""Images that are texturized, and steps of the synthesis: a quarter of a minute on two cores."""
CUES = 160
"""Images of each kind that show one cue alone."""
SETTINGS = {
    "top_units.shown": 3,
    "occlusion.followed": 1,
    "deconvnet.images": 4,
    "correspondence.images": 48,
    "interaction.images": 12,
}
"""Fewer drawings and images than by default, so that the demo takes no more than two minutes."""
MODELS = ("cuescope/world-congruent", "cuescope/world-shape", "cuescope/world-bagnet")


def demo(*, out: Path = Path("demo"), images: int = 480, json: bool = False) -> int:
    """The whole audit on the built-in world and its three models, whose strategies are known.

    Parameters
    ----------
    out
        Run folder; the report is report.html in it.
    images
        Images of the world to look at, and as many with their cues in conflict.
    json
        Print the findings as JSON instead of a table.

    """
    from cuescope.api.audit import command_line, perform
    from cuescope.api.make import make
    from cuescope.cli.audit import tell
    from cuescope.runs.store import Run

    if images < 1:
        raise CueError(f"--images {images}", wanted="at least 1", do="correct it")
    # A run folder first: the texturized images are to lie in it.
    (Run.create(out).path / "cells").mkdir(exist_ok=True)
    source, made = f"world:congruent:{images}", out / "texturized"
    with progress() as show:
        make("texturized", source, made, limit=TEXTURIZED, steps=STEPS, progress=show)
        result = perform(
            models=MODELS,
            images=source,
            cue_conflict=f"world:conflict:{images}",
            human_data=None,
            cues=f"world:{min(images, CUES)}",
            texturized=made,
            distortions=None,
            parts=None,
            only=(),
            out=out,
            labels=None,
            real=None,
            label_maps=None,
            boxes=None,
            classes=None,
            limit=None,
            settings=SETTINGS,
            also=(),
            device="auto",
            precision="float32",
            batch_size=32,
            compile=False,
            workers=2,
            command=command_line(["demo", "--out", str(out), "--images", str(images)]),
            progress=show,
        )
    tell(result, as_json=json)
    return 1 if result.failed else 0
