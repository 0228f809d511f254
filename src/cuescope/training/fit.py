"""A network on labeled images, from the first step to files of weights, in a folder where it can be stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cuescope.core.alignment import aligned
from cuescope.core.classes import ClassSpace, to_stored
from cuescope.core.errors import CueError, unknown
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import ImageSet
from cuescope.data.label_maps.labels import with_label_maps
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.saved import Saved, to_bytes
from cuescope.models.zfnet import VARIANTS
from cuescope.network.executor import find_device
from cuescope.training.colors import Colors
from cuescope.training.cutmix import CutMix
from cuescope.training.evaluate import HeldOut, Right
from cuescope.training.folder import BEST, EVERY_S, FREE, TrainingFolder
from cuescope.training.images import Crop, RandomResizedCrop, SquareCrop, TrainingImages, labels_of
from cuescope.training.labeled import check_labels, labeled_classes, split
from cuescope.training.loop import train
from cuescope.training.network import Network, network_of
from cuescope.training.recipe import Trained
from cuescope.training.settings import NetworkSettings, RelabeledNetwork, StylizedNetwork, ZFNetSettings
from cuescope.training.stylized import stylized_images
from cuescope.training.targets import Targets
from cuescope.training.zfnet import first_weights


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
    if isinstance(settings, RelabeledNetwork):
        images = _mapped(settings, images)
    network = _network(settings, labeled_classes(images))
    how, notes = network.preprocessing, list(network.notes)
    labels = labels_of(images, network.places)
    check_labels(images, network.classes, labels[labels >= 0], "no labeled image")
    if held_out is None:
        _check_lone(labels, network.classes, images)
        learned, back = split(labels, np.random.default_rng(settings.seed))
        tried = HeldOut(images, back, labels[back], how)
    else:
        learned, tried = np.flatnonzero(labels >= 0), _held_out(held_out, network, notes)
    source, at, labels = images, learned, labels[learned]
    if isinstance(settings, StylizedNetwork):
        source, at, of = stylized_images(images, learned, settings)
        labels = labels_of(images, network.places)[of]
        notes += source.notes
    batch = min(settings.batch, len(at))
    if batch < settings.batch:
        notes.append(f"a batch is all {batch} images to learn from, not {settings.batch}")
    if settings.size_px == 0 and how.size[0] != how.size[1]:
        found = f"{network.spec} takes {how.size[0]} x {how.size[1]} px"
        raise CueError(found, wanted="a square input", do="give --set size_px=")
    more = _more(settings, network)
    data = TrainingImages(source, at, labels, _crop(settings, how), batch, settings.seed, **more)
    steps = settings.of_steps(data.steps, batch, how.mean, how.std)
    device = str(find_device(settings.device))
    saved = Saved(network.spec.removeprefix("cuescope/"), network.classes, how)

    def evaluate(tested: nn.Module, accelerator: Any) -> Right:
        return tried.right(tested, steps, accelerator)

    about: dict[str, Any] = {
        "settings": {key: _stored(value) for key, value in asdict(settings).items() if key not in FREE},
        "classes": _plain(to_stored(network.classes)),
        "images": {"name": source.name, "digest": source.digest, "learned": len(at), "held_out": len(tried)},
    }
    folder = TrainingFolder(out, about, data.steps, evaluate, lambda tested: to_bytes(tested, saved), every_s)
    with folder.locked():
        trained = train(network.module, data, replace(steps, device=device), progress, keeper=folder)
    weights = (out / BEST).read_bytes()
    skipped = {one.id: one for one in (*data.skipped, *tried.skipped.values())}
    notes.append(f"{steps.steps:,} steps of {batch} images; the best of {settings.epochs} epochs is {out / BEST}")
    right = folder.best or Right(0, 0)
    return Trained(
        trained, saved.name, weights, right.correct, right.tried, len(at), tuple(skipped.values()), tuple(notes)
    )


def _network(settings: NetworkSettings, space: ClassSpace) -> Network:
    """The network with its first weights."""
    if not isinstance(settings, ZFNetSettings):
        return network_of(settings.model, space, settings.size_px, settings.seed)
    if settings.variant not in VARIANTS:
        raise unknown("variant", settings.variant, VARIANTS)
    network = network_of(settings.model, space, settings.size_px, settings.seed)
    first_weights(network.module, settings.initial, settings.seed)
    if settings.initial == "he":
        return network
    # With the paper's first weights pixels less their mean stay of 0 to 255.
    return network._replace(preprocessing=replace(network.preprocessing, std=(1 / 255,) * 3))


def _mapped(settings: RelabeledNetwork, images: ImageSet) -> ImageSet:
    """The images with their label maps."""
    if settings.label_maps:
        return with_label_maps(images, settings.label_maps)
    if settings.targets == "label":
        return images
    found, do = f"targets={settings.targets} without label maps", "make them: cuescope make label-maps IMAGES FOLDER"
    raise CueError(found, wanted="--label-maps FOLDER", do=do)


def _crop(settings: NetworkSettings, how: Preprocessing) -> Crop:
    side = how.size[0]
    if isinstance(settings, ZFNetSettings):
        return SquareCrop(side, round(side * 8 / 7), settings.crops == "ten")
    return RandomResizedCrop(side, (settings.least, settings.most), whole=settings.whole)


def _more(settings: NetworkSettings, network: Network) -> dict[str, Any]:
    """What else is done to the images, and what they teach."""
    more: dict[str, Any] = {"epochs": settings.epochs}
    if settings.jitter or settings.lighting:
        more["colors"] = Colors(settings.jitter, settings.lighting)
    if isinstance(settings, RelabeledNetwork):
        if settings.cutmix:
            more["cutmix"] = CutMix(settings.cutmix, off_epochs=settings.cutmix_off)
        if settings.cutmix or settings.targets != "label":
            more["target"] = Targets(settings.targets, len(network.classes), network.places)
    return more


def _check_lone(labels: NDArray[np.int64], classes: ClassSpace, images: ImageSet) -> None:
    """Raises CueError for a class of one image, which could not be both learned from and held out."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    lone = [classes.names[i] for i in found[counts == 1]]
    if lone:
        others = f" (and {len(lone) - 1} other classes)" if len(lone) > 1 else ""
        do = "add images, leave the class out, raise --limit, or give --held-out"
        wrong = f"the class '{lone[0]}' of {images.name} has one image alone{others}"
        raise CueError(wrong, wanted="at least two images of each class", do=do)


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


def _stored(value: Any) -> Any:
    """As JSON can hold it, which knows no infinity."""
    return str(value) if value == float("inf") else value


def _plain(values: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(values))
