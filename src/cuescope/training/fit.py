"""A network on labeled images, from the first step to files of weights, in a folder where it can be stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import nn

from cuescope.core.alignment import aligned
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, unknown
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.data.images import ImageSet, Skipped
from cuescope.data.label_maps.labels import with_label_maps
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.saved import Saved, to_bytes
from cuescope.models.zfnet import VARIANTS
from cuescope.network.executor import find_device
from cuescope.training.checkpoint import not_finite
from cuescope.training.colors import Colors
from cuescope.training.cutmix import CutMix
from cuescope.training.evaluate import HeldOut, Right
from cuescope.training.folder import BEST, EVERY_S, TrainingFolder
from cuescope.training.images import Crop, RandomResizedCrop, SquareCrop, TrainingImages, labels_of
from cuescope.training.labeled import check_labels, labeled_classes, split
from cuescope.training.loop import train
from cuescope.training.network import Network, network_of
from cuescope.training.recipe import Trained
from cuescope.training.same import about
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
    recipe: str = "",
    every_s: float = EVERY_S,
    say: Say = silent,
) -> Trained:
    """Train a network on labeled images, in the folder `out`; where that holds the same training, go on with it: of
    the recipe of this name, with the same settings and images.

    Tried after each epoch on `held_out`, or on a tenth of the images of each class, which nothing is learned from. The
    weights that are right most often are `best.safetensors`. `say` is told what is trained and what
    is to be noted of it, and a line after each epoch. Raises CueError as `TrainingFolder` and `train` do, and for
    images without labels or of one class.
    """
    progress(0, 0, "making the network")
    if isinstance(settings, RelabeledNetwork):
        images = _mapped(settings, images)
    network = _network(settings, labeled_classes(images))
    _check_finite(network)
    how, notes = network.preprocessing, list(network.notes)
    labels = labels_of(images, network.places)
    check_labels(images, network.classes, labels[labels >= 0], "no labeled image")
    if held_out is None:
        _check_lone(labels, network.classes, images)
        learned, back = split(labels, np.random.default_rng(settings.seed))
        tried = HeldOut(images, back, labels[back], how)
        notes += (
            _lacking(network.classes, set(labels[learned].tolist()) - set(labels[back].tolist())) if len(back) else ()
        )
    else:
        learned, tried = np.flatnonzero(labels >= 0), _held_out(held_out, network, notes)
    tried.check()
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

    def pack(tested: nn.Module) -> bytes:
        return to_bytes(tested, saved)

    def lost() -> dict[str, Skipped]:
        return {**data.lost, **tried.skipped}

    what = about(recipe, settings, network.code, network.classes, source, tried.images)
    told: dict[str, Any] = {"every_s": every_s, "track": settings.track, "progress": progress, "say": say}
    folder = TrainingFolder(out, what, data.steps, settings.epochs, evaluate, pack, lost, **told)
    size = sum(parameter.numel() for parameter in network.module.parameters())
    say(f"{network.spec}: {size:,} parameters, {how.size[0]} px, on {device} in {settings.precision}")
    say(f"{len(at):,} images to learn from, {len(tried):,} held out, of {len(network.classes):,} classes")
    for note in notes:
        say(note)
    with folder.locked():
        trained = train(network.module, data, replace(steps, device=device), progress, keeper=folder)
        weights = folder.best_weights()
    skipped = {one.id: one for one in gather_object([*source.skipped, *folder.skipped.values()])}
    notes.append(f"{steps.steps:,} steps of {batch} images; the best of {settings.epochs} epochs is {out / BEST}")
    right = folder.best or Right(0, 0)
    of_images = int(right.correct), right.tried, len(at), tuple(skipped.values())
    return Trained(trained, saved.name, weights, *of_images, tuple(notes), folder.waited)


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


def _check_finite(network: Network) -> None:
    if (name := not_finite(network.module)) is not None:
        found = f"the weights '{name}' of {network.spec} are not all finite numbers"
        raise CueError(found, wanted="weights to begin from", do="give other weights, or @random for new ones")


def _check_lone(labels: NDArray[np.int64], classes: ClassSpace, images: ImageSet) -> None:
    """Raises CueError for a class of one image, which could not be both learned from and held out."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    lone = [classes.names[i] for i in found[counts == 1]]
    if lone:
        more = len(lone) - 1
        others = f" (and {more:,} other class{'es' * (more > 1)})" if more else ""
        do = "add images, leave the class out, raise --limit where it was given, or give --held-out"
        wrong = f"the class '{lone[0]}' of {images.name} has one image alone{others}"
        raise CueError(wrong, wanted="at least two images of each class", do=do)


def _lacking(classes: ClassSpace, outputs: set[int]) -> list[str]:
    """A note on classes that nothing is tried of."""
    names = ", ".join(f"'{classes.names[i]}'" for i in sorted(outputs)[:3])
    if len(outputs) <= 3:
        return [f"no image is held out of the class{'es' * (len(outputs) > 1)} {names}"] if outputs else []
    return [f"no image is held out of {len(outputs):,} classes, such as {names}"]


def _held_out(images: ImageSet, network: Network, notes: list[str]) -> HeldOut:
    """Images of their own to try the network on, whose labels name its classes."""
    wanted, do = "held-out images of the same classes", "give --held-out a folder with a folder for each class"
    if images.classes is None or "label" not in images.knows:
        raise CueError(f"the held-out images of {images.name} have no labels", wanted=wanted, do=do)
    try:
        places = aligned(images.classes, network.classes)
    except CueError as error:
        raise CueError(f"held out, {images.name}: {error.found}", wanted=wanted, do=do) from None
    labels = labels_of(images, places.places)
    at = np.flatnonzero(labels >= 0)
    if not len(at):
        raise CueError(f"no held-out image of {images.name} has a label of the network", wanted=wanted, do=do)
    notes += [*_lacking(network.classes, set(network.places) - set(labels[at].tolist())), *places.notes]
    return HeldOut(images, at, labels[at], network.preprocessing)
