"""One fine-tuning of a cure: trained in its folder, its last weights in a file that `load` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuescope.core.files import write
from cuescope.core.progress import Progress
from cuescope.data.images import ImageSet
from cuescope.models.saved import read_saved, to_bytes
from cuescope.training.cure import Stage
from cuescope.training.folder import BEST
from cuescope.training.recipe import Trained
from cuescope.training.recipes import find


def fine_tuned(stage: Stage, settings: Any, images: ImageSet, folder: Path, file: Path, progress: Progress) -> Trained:
    """Train a stage in `folder`, where it can be stopped, and write what the last step left to `file`.

    Not the weights that are right most often: a remedy often costs accuracy before it wins it back, and the best would
    be the first. Raises CueError as the recipe does.
    """
    trained = find(stage.recipe).fit(settings, images, progress, out=folder)
    saved = read_saved(folder / BEST)
    assert saved is not None, "a training wrote it"
    write(file, to_bytes(trained.network, saved))
    return trained
