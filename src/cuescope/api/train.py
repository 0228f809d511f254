"""A recipe by name, images in, a file of weights out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import safetensors.torch
from torch import nn

from cuescope.core import stats
from cuescope.core.errors import CueError, unknown
from cuescope.core.files import write
from cuescope.core.findings import Measure
from cuescope.core.parameters import convert, parameters
from cuescope.data.images import ImageSet, Skipped
from cuescope.runs.inputs import WORLD, find_images
from cuescope.training.loop import Told
from cuescope.training.recipes import recipe
from cuescope.world.models import packed, unpacked
from cuescope.world.strategy import strategy

TESTED = 960
"""Images of the world that its models are tried on: drawn from another seed than they were trained on."""


class Training(NamedTuple):
    """A trained model: its file, what `load` calls it, how often it is right on images that it did not learn from."""

    path: Path
    model: str
    accuracy: Measure
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    images: str = ""
    """What to audit it on."""


def train(
    name: str,
    out: str | Path,
    *,
    images: Any = None,
    labels: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: Told | None = None,
) -> Training:
    """What model comes of this recipe? Its weights in `out`, a .safetensors file, written whole or not at all.

    `images` are what "bow" and "zfnet" learn from: a folder of labeled images, an ImageSet or "world:VARIANT:COUNT";
    `labels` a CSV of file,index; `limit` takes so many, evenly spread. The recipes of the world draw their own.
    `settings` are fields of the recipe's SETTINGS.

    Raises CueError for anything the user can mend, before the first image where that is possible.

    >>> train("bow", "mine.safetensors", images="photos/").model     # doctest: +SKIP
    'cuescope/bow@mine.safetensors'
    """
    module, path = recipe(name), _writable(Path(out).expanduser())
    how = _settings(module, settings or {}, seed)
    if module.IMAGES:
        found = _images(name, images, labels, limit, path)
        made = module.run(found, progress, how)
        source, notes = str(images) if isinstance(images, str | Path) else found.name, found.notes
    else:
        if (images, labels, limit) != (None, None, None):
            do = "leave out --images, --labels and --limit, or train the recipe bow or zfnet"
            raise CueError(f"{name} draws its own images", wanted="no images", do=do)
        made, source, notes = module.run(progress, how), f"{WORLD}congruent", ()
    if isinstance(made, nn.Module):
        fits = module.fits(how) if hasattr(module, "fits") else name
        return _network(made, f"cuescope/{fits}@{path}", path, source)
    write(path, made.to_bytes())
    accuracy = _accuracy(made.correct, made.held_out, "fewer than ten images: none was held out")
    return Training(path, f"cuescope/{made.model}@{path}", accuracy, made.skipped, (*notes, *made.notes), source)


def options(module: ModuleType) -> dict[str, tuple[Any, Any, str]]:
    """What `--set` may change of a recipe: type, default and meaning by name."""
    known = parameters(cast(Any, type(module.SETTINGS)))
    return {
        key: (kind, getattr(module.SETTINGS, key), meaning)
        for key, (kind, _, meaning) in known.items()
        if key != "seed"
    }


def about(name: str) -> str:
    """One line on a recipe.

    >>> about("bow").partition(":")[0]
    'A bag of visual words on your own labeled images'
    """
    return " ".join((recipe(name).__doc__ or "").partition("\n\n")[0].split())


def _images(name: str, images: Any, labels: Any, limit: int | None, path: Path) -> ImageSet:
    if images is None:
        do = f"cuescope train {name} --images DIR --out {path}"
        raise CueError(f"{name} needs images to learn from", wanted="a folder of labeled images", do=do)
    if limit is not None and limit < 1:
        raise CueError(f"limit is {limit}", wanted="at least 1 image", do="correct --limit")
    return find_images(images, labels=labels, limit=limit)


def _network(network: nn.Module, model: str, path: Path, source: str) -> Training:
    """A network of the world, written as the package ships them and tried as it is written."""
    weights = packed(network)
    network.load_state_dict(unpacked(weights))
    write(path, safetensors.torch.save(weights))
    found = strategy(network, count=TESTED)
    bias = "decides by neither cue" if found.shape_bias is None else f"shape bias {found.shape_bias:.3f}"
    accuracy = _accuracy(round(found.congruent * TESTED), TESTED, "")
    return Training(path, model, accuracy, notes=(f"on {TESTED} conflict images: {bias}",), images=source)


def _accuracy(correct: int, count: int, why: str) -> Measure:
    if not count:
        return Measure("held_out_accuracy", None, "share", why=why)
    return Measure("held_out_accuracy", correct / count, "share", count, stats.wilson(correct, count), count=correct)


def _settings(module: ModuleType, given: Mapping[str, Any], seed: int) -> Any:
    known = options(module)
    values: dict[str, Any] = {"seed": seed}
    for key, value in given.items():
        key = key.removeprefix(f"{module.NAME}.")
        if key not in known:
            raise unknown(f"{module.NAME} setting", key, known)
        values[key] = convert(module.NAME, key, value, known[key][0])
    return dataclasses.replace(module.SETTINGS, **values)


def _writable(path: Path) -> Path:
    """The path, if a file can be written there: said now rather than after an hour."""
    wanted, do = "a file that can be written, such as mine.safetensors", "choose another --out"
    if path.suffix != ".safetensors" or path.is_dir():
        raise CueError(f"--out {path}", wanted=wanted, do=do)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise CueError(f"cannot write '{path}': {error.strerror}", wanted=wanted, do=do) from None
