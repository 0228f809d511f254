"""`cuescope train`: a recipe, images in, weights out."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cuescope.cli.terminal import progress, say, tell
from cuescope.core.processes import is_first
from cuescope.core.progress import quiet, silent

if TYPE_CHECKING:
    from cuescope.api.train import Training

SHOWN = 5
"""Images that could not be read, listed by name."""
MOST_WAITED = 0.1
"""The share of the time waiting for images from which on it is said."""


def train(
    recipe: str,
    *,
    out: Path,
    images: str | None = None,
    held_out: str | None = None,
    model: str | None = None,
    labels: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    seed: int = 0,
    limit: int | None = None,
    small: bool = False,
    stylized: Path | None = None,
    label_maps: Path | None = None,
    track: bool = False,
) -> None:
    """A model of a recipe on your own labeled images; the networks of the built-in world learn from drawn ones.

    Args:
        recipe: Its name, as in `cuescope list recipes`; `cuescope list recipes NAME` has its paper and its settings.
        out: File of weights to write, such as mine.safetensors, for bow and the world's; else a folder, where it goes
            on when stopped.
        images: Folder of labeled images, a folder for each class or with a labels.csv; or webdataset's tars,
            or Parquet. Or world:VARIANT[:COUNT].
        held_out: Folder of labeled images to try it on after each epoch; by default a tenth of the images.
        model: Which network, as for `cuescope audit`: the setting model of the recipes that take any.
        labels: CSV with the columns file,index.
        set_: A setting of the recipe, as in --set epochs=30. Can be repeated.
        seed: Of all that is drawn at random.
        limit: Learn from this many images, spread evenly over the folder.
        small: The recipe's small version: minutes on two cores, for images of 64 px such as world:congruent:2000.
        stylized: Folder that `cuescope make stylized` made of the images, for stylized-a and stylized-b.
        label_maps: Folder that `cuescope make label-maps` made of the images, for relabel and relabel-cutmix.
        track: Write the metrics for TensorBoard too, which the extra track installs: tensorboard --logdir FOLDER.
    """
    from cuescope.api.train import train as do_train
    from cuescope.cli.audit import settings

    named = {"model": model, "stylized": stylized, "label_maps": label_maps, "track": track or None}
    given = settings(set_ or ()) | {key: str(value) for key, value in named.items() if value is not None}
    first, said = is_first(), list[str]()

    def noted(text: str) -> None:
        said.append(text)
        say(text)

    with progress() if first else nullcontext(quiet) as show:
        trained = do_train(
            recipe,
            out,
            images=images,
            labels=labels,
            settings=given,
            seed=seed,
            limit=limit,
            held_out=held_out,
            small=small,
            progress=show,
            say=noted if first else silent,
        )
    if first:
        _tell(trained, said)


def _tell(trained: Training, said: Collection[str]) -> None:
    """Print what came of it but for what is said already, and what to do next."""
    for note in trained.notes:
        if note not in said:
            say(note)
    if lost := len(trained.skipped):
        say(f"{lost:,} image{'s' * (lost > 1)} could not be used:")
        for one in trained.skipped[:SHOWN]:
            say(f"  {one.id}: {one.why}")
        if lost > SHOWN:
            say(f"  ... and {lost - SHOWN:,} more")
    found = trained.accuracy
    if found.value is None:
        tell(f"held-out accuracy: not measured ({found.why})")
    else:
        low, high = found.interval or (found.value, found.value)
        tell(f"held-out accuracy {found.value:.1%} ({low:.1%} to {high:.1%}; {found.count} of {found.n} images)")
    size = f" ({trained.path.stat().st_size / 1e6:.1f} MB)" if trained.path.is_file() else ""
    tell(f"wrote {trained.path}{size}")
    # The world's models are tried on images of another seed; of a user's it has seen these, and would be right on them.
    tried = trained.images if trained.images.startswith("world:") else "OTHER-IMAGES"
    tell("next: " + shlex.join(["cuescope", "audit", trained.model, "--images", tried]))
    if trained.waited > MOST_WAITED:
        say(f"{trained.waited:.0%} of the time it waited for images: smaller files or more cores would make it faster")
