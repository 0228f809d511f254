"""`cuescope demo`: the whole audit, with nothing to download."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cuescope.cli.audit import finish
from cuescope.cli.terminal import command_line, progress, say
from cuescope.core.errors import CueError

TEXTURIZED, STEPS = 48, 60
"""Of --all: images that are texturized, and steps of the synthesis; a quarter of a minute on two cores."""
TRIED = 8, 4
"""Images and steps that are timed before."""
CUES = 160
"""Images of each kind that show one cue alone."""
SETTINGS = {
    "occlusion.followed": 1,
    "correspondence.images": 48,
    "cue_suppression.levels": "named",
}
"""Fewer drawings and images than by default, so that the demo takes less than a minute."""
SETTINGS_OF_ALL = {"deconvnet.images": 8, "picture_sanity.images": 6}
MODELS = ("cuescope/world-congruent", "cuescope/world-shape", "cuescope/world-bagnet")


def demo(*, out: Path = Path("demo"), images: int = 480, all: bool = False, json: bool = False) -> int:
    """An audit of the built-in world's three models, whose strategies are known.

    Args:
        out: Run folder; the report is report.html in it.
        all: Ask every instrument, not those of the standard preset alone.
        images: Images of the world to look at, and as many with their cues in conflict.
        json: Print the findings as JSON instead of a table.
    """
    from cuescope.api.audit import forecast, perform
    from cuescope.api.make import make
    from cuescope.runs.estimate import Meter
    from cuescope.runs.options import AuditOptions
    from cuescope.runs.store import Run

    if images < 1:
        raise CueError(f"--images {images}", wanted="at least 1", do="correct it")
    # A run folder first: the texturized images are to lie in it.
    run = Run.create(out)
    (run.path / "cells").mkdir(exist_ok=True)
    options = AuditOptions.of(
        images=f"world:congruent:{images}",
        cue_conflict=f"world:conflict:{images}",
        cues=f"world:{min(images, CUES)}",
        texturized=out / "texturized" if all else None,
        preset="full" if all else "standard",
        out=out,
        settings=SETTINGS | (SETTINGS_OF_ALL if all else {}),
    )
    command = command_line(["demo", "--out", str(out), "--images", str(images), *(["--all"] if all else [])])
    with progress() as show:
        meter = None
        if all and not run.manifest.get("finished"):
            source, target = options.inputs["images"], out / "texturized"
            inputs = {role: value for role, value in options.inputs.items() if role != "texturized"}
            show(0, 0, "timing a few images")
            estimate, found = forecast(MODELS, replace(options, inputs=inputs))
            texturizing = 0.0 if (target / "manifest.json").is_file() else _texturizing_s(source)
            for line in found.lines(texturizing):
                say(line)
            meter = Meter(show, estimate, found.total + texturizing)
            make("texturized", source, target, limit=TEXTURIZED, steps=STEPS, progress=meter.part(texturizing))
        result = perform(MODELS, options, command, show, say, meter)
    return finish(result, as_json=json)


def _texturizing_s(source: str) -> float:
    """Seconds that texturizing will take, from a few steps for a few images."""
    from cuescope.api.make import make

    with TemporaryDirectory() as folder:
        make("texturized", source, Path(folder) / "first", limit=1, steps=1)  # The first is slow.
        start = time.perf_counter()
        make("texturized", source, Path(folder) / "few", limit=TRIED[0], steps=TRIED[1])
        return (time.perf_counter() - start) * TEXTURIZED * STEPS / (TRIED[0] * TRIED[1])
