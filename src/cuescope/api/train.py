"""A recipe by name, images in, a file of weights out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cuescope.core.errors import CueError
from cuescope.core.files import check_folder, write
from cuescope.core.findings import Measure
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.training.recipes import find

if TYPE_CHECKING:
    from cuescope.data.images import Skipped


class Training(NamedTuple):
    """A trained model: its file, what `load` calls it, how often it is right on images that it did not learn from."""

    path: Path
    model: str
    accuracy: Measure
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    images: str = ""
    """What to audit it on."""
    waited: float = 0.0
    """The share of the time in which the training waited for images."""


def train(
    name: str,
    out: str | Path,
    *,
    images: Any = None,
    labels: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    limit: int | None = None,
    held_out: Any = None,
    small: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Training:
    """What model comes of this recipe? Its weights in `out`, a .safetensors file, written whole or not at all.

    For a recipe that trains in a folder `out` is that: the best weights are `best.safetensors` in it, and a training
    that was stopped goes on. It is tried on `held_out`, images of the same classes, or on a tenth of the images.

    `images` are what all others learn from: a folder of labeled images, an ImageSet or "world:VARIANT:COUNT";
    `labels` a CSV of file,index; `limit` takes so many, evenly spread. The recipes of the world draw their own.
    `settings` are fields of the recipe's settings, which with `small` are those of its small version: minutes on two
    cores, for images of 64 px such as the world's. `say` is told the notes before it begins, and a line each epoch.

    Raises CueError for anything the user can mend, before the first image where that is possible.

    >>> train("bow", "mine.safetensors", images="photos/").model     # doctest: +SKIP
    'cuescope/bow@mine.safetensors'
    """
    recipe = find(name)
    path = Path(out).expanduser()
    path = _folder(path, {"images": images, "held-out": held_out}) if recipe.in_folder else _writable(path)
    chosen = recipe.configured(settings or {}, seed, small)
    found, source = None, "world:congruent"
    if recipe.needs:
        if images is None:
            do = f"cuescope train {name} --images DIR --out {path}"
            raise CueError(f"{name} needs images to learn from", wanted="a folder of labeled images", do=do)
        if limit is not None and limit < 1:
            raise CueError(f"limit is {limit}", wanted="at least 1 image", do="correct --limit")
        # Only here: what is wrong in the request itself is reported before torch is imported.
        from cuescope.runs.inputs import find_images

        found = find_images(images, labels=labels, limit=limit)
        source = str(images) if isinstance(images, str | Path) else found.name
        for note in found.notes:
            (say or silent)(note)
    elif (images, labels, limit) != (None, None, None):
        do = "leave out --images, --labels and --limit, or train another recipe, such as imagenet"
        raise CueError(f"{name} draws its own images", wanted="no images", do=do)
    if held_out is not None and not recipe.in_folder:
        do = "leave it out: a tenth of the images is kept back"
        raise CueError(f"{name} is tried on images of its own", wanted="no held_out", do=do)
    if recipe.in_folder:
        from cuescope.runs.inputs import find_images

        apart = None if held_out is None else find_images(held_out)
        told = {"progress": progress or quiet, "say": say or silent}
        trained = recipe.fit(chosen, found, out=path, held_out=apart, recipe=name, **told)
        notes = (*(found.notes if found else ()), *trained.notes)
        return Training(path, f"{path}/best", trained.accuracy, trained.skipped, notes, source, trained.waited)
    trained = recipe.fit(chosen, found, progress or quiet)
    write(path, trained.weights)
    notes = (*(found.notes if found else ()), *trained.notes)
    return Training(path, f"cuescope/{trained.model}@{path}", trained.accuracy, trained.skipped, notes, source)


def _folder(path: Path, images: Mapping[str, Any]) -> Path:
    """The folder, if one can be there, apart from the images: what is written would be taken for more of them."""
    if path.suffix == ".safetensors" or path.is_file():
        raise CueError(f"--out {path}", wanted="a folder, such as runs/mine", do="choose another --out")
    check_folder(path)
    for role, given in images.items():
        folder = Path(given).expanduser() if isinstance(given, str | Path) else None
        if folder and folder.is_dir() and path.resolve().is_relative_to(folder.resolve()):
            found = f"--out {path} lies in --{role} {given}"
            raise CueError(found, wanted="a folder outside of the images", do="choose another --out")
    return path


def _writable(path: Path) -> Path:
    """The path, if a file can be written there: found out now rather than after an hour."""
    wanted, do = "a file that can be written, such as mine.safetensors", "choose another --out"
    if path.suffix != ".safetensors" or path.is_dir():
        raise CueError(f"--out {path}", wanted=wanted, do=do)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise CueError(f"cannot write '{path}': {error.strerror}", wanted=wanted, do=do) from None
