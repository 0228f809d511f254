"""A network on labeled images, from the first step to files of weights, in a folder where it can be stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cuescope.core.alignment import aligned
from cuescope.core.classes import to_stored
from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import ImageSet
from cuescope.models.saved import Saved, to_bytes
from cuescope.network.executor import find_device
from cuescope.training.evaluate import HeldOut, Right
from cuescope.training.folder import BEST, EVERY_S, FREE, TrainingFolder
from cuescope.training.images import RandomResizedCrop, TrainingImages, labels_of
from cuescope.training.labeled import check_labels, labeled_classes
from cuescope.training.loop import train
from cuescope.training.network import Network, network_of
from cuescope.training.recipe import Trained
from cuescope.training.settings import NetworkSettings
from cuescope.training.zfnet import split


def fit_network(
    settings: NetworkSettings,
    images: ImageSet,
    progress: Progress = quiet,
    *,
    out: Path,
    held_out: ImageSet | None = None,
    every_s: float = EVERY_S,
) -> Trained:
    """Train a network on labeled images, in the folder `out`; where that holds the same training, go on with it.

    Tried after each epoch on `held_out`, or on a tenth of the images of each class, which nothing is learned from. The
    weights that are right most often are `best.safetensors`. Raises CueError as `TrainingFolder` and `train` do, and
    for images without labels or of one class.
    """
    space = labeled_classes(images)
    network = network_of(settings.model, space, settings.size_px, settings.seed)
    how, notes = network.preprocessing, list(network.notes)
    labels = labels_of(images, network.places)
    check_labels(images, network.classes, labels[labels >= 0], "no labeled image")
    if held_out is None:
        learned, back = split(labels, np.random.default_rng(settings.seed))
        tried = HeldOut(images, back, labels[back], how)
    else:
        learned, tried = np.flatnonzero(labels >= 0), _held_out(held_out, network, notes)
    batch = min(settings.batch, len(learned))
    if batch < settings.batch:
        notes.append(f"a batch is all {batch} images to learn from, not {settings.batch}")
    if settings.size_px == 0 and how.size[0] != how.size[1]:
        found = f"{network.spec} takes {how.size[0]} x {how.size[1]} px"
        raise CueError(found, wanted="a square input", do="give --set size_px=")
    crop = RandomResizedCrop(how.size[0], (settings.least, settings.most))
    data = TrainingImages(images, learned, labels[learned], crop, batch, settings.seed)
    steps = settings.of_steps(data.steps, batch, how.mean, how.std)
    device = str(find_device(settings.device))
    saved = Saved(network.spec.removeprefix("cuescope/"), network.classes, how)

    def evaluate(tested: nn.Module, accelerator: Any) -> Right:
        return tried.right(tested, steps, accelerator)

    about: dict[str, Any] = {
        "settings": {key: value for key, value in asdict(settings).items() if key not in FREE},
        "classes": _plain(to_stored(network.classes)),
        "images": {"name": images.name, "digest": images.digest, "learned": len(learned), "held_out": len(tried)},
    }
    folder = TrainingFolder(out, about, data.steps, evaluate, lambda tested: to_bytes(tested, saved), every_s)
    with folder.locked():
        trained = train(network.module, data, replace(steps, device=device), progress, keeper=folder)
    weights = (out / BEST).read_bytes()
    skipped = {one.id: one for one in (*data.skipped, *tried.skipped.values())}
    notes.append(f"{steps.steps:,} steps of {batch} images; the best of {settings.epochs} epochs is {out / BEST}")
    right = folder.best or Right(0, 0)
    return Trained(
        trained, saved.name, weights, right.correct, right.tried, len(learned), tuple(skipped.values()), tuple(notes)
    )


def _held_out(images: ImageSet, network: Network, notes: list[str]) -> HeldOut:
    """Images of their own to try the network on, whose labels name its classes."""
    places = aligned(labeled_classes(images), network.classes)
    labels = labels_of(images, places.places)
    at = np.flatnonzero(labels >= 0)
    if not len(at):
        raise CueError(f"no image of {images.name} has a label of the network", do="give images of the same classes")
    lacking = sorted(set(network.places) - set(labels[at].tolist()))
    if lacking:
        names = ", ".join(network.classes.names[i] for i in lacking[:3])
        notes.append(f"{len(lacking)} classes have no image held out, such as {names}")
    notes += places.notes
    return HeldOut(images, at, labels[at], network.preprocessing)


def _plain(values: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(values))
