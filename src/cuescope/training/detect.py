"""A detector on any classifier, fine-tuned in a folder where it can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import find
from cuescope.classifier.sources.found import RANDOM, Asked
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed, write
from cuescope.core.progress import Progress, Say, quiet, silent
from cuescope.data.images import Skipped
from cuescope.data.marked import MarkedImages
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.mean_precision import Found, Truth
from cuescope.models.detector import Shape, cut, detector, spread, widths_of
from cuescope.models.saved import described
from cuescope.models.seeding import seeded
from cuescope.network import hooks
from cuescope.network.executor import find_device
from cuescope.network.feature_maps import FeatureMaps, Levels, without_head
from cuescope.network.wrappers import assumed
from cuescope.training.evaluate import Right
from cuescope.training.folder import EVERY_S, TrainingFolder
from cuescope.training.loop import Loss, accelerate, train
from cuescope.training.marked import MarkedBatches, MarkedTrial
from cuescope.training.same import about
from cuescope.training.settings import DetectionSettings

FILE, KEY = "detector.safetensors", "detector"
DIVISIBLE = 32
"""Sides of a batch are filled up to a multiple of it."""
SPAN = (0.05, 0.95)
"""Quantiles of the boxes' sizes that the anchors span."""


class Detector(NamedTuple):
    """A detector that is to be trained, what is assumed of it, and what its file says."""

    network: nn.Module
    notes: tuple[str, ...]
    facts: dict[str, Any]
    code: str


class Detected(NamedTuple):
    """A detector tried on the images held out: of each image its index, what is there, what is found."""

    tried: list[tuple[int, Truth, Found]]
    epochs: list[tuple[float, float]]
    """COCO's precision at an IoU of .5 after each epoch."""
    notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    parameters: int


def fit_detector(
    settings: DetectionSettings,
    spec: str,
    learned: MarkedImages,
    held_out: MarkedImages,
    names: tuple[str, ...],
    *,
    masks: bool,
    out: Path,
    every_s: float = EVERY_S,
    progress: Progress = quiet,
    say: Say = silent,
) -> Detected:
    """Fine-tune a detector on a classifier in the folder `out`, and try it: Mask R-CNN with `masks`, else Faster R-CNN.

    The weights of the last step are `detector.safetensors`; nothing is chosen by the images held out. Where the folder
    holds the same training, it goes on. Raises CueError as `TrainingFolder` and `train` do, and for a classifier that
    has no maps over the image.
    """
    progress(0, 0, "making the network")
    labels = {name: i for i, name in enumerate(names)}
    with_objects = [i for i in range(len(learned)) if any(not thing.crowd for thing in learned.things(i))]
    some = learned.only(with_objects)
    made = new_detector(settings, spec, some, len(names), masks)
    network = made.network
    notes = [*made.notes]
    if (empty := len(learned) - len(some)) > 0:
        notes.append(f"{empty:,} images without objects teach nothing")
    batch = min(settings.batch, len(some))
    data, tried = MarkedBatches(some, labels, batch, settings.seed, masks), MarkedTrial(held_out, labels, masks)
    how = made.facts["shape"]
    steps = replace(
        settings.of_steps(data.steps, batch, how["mean"], how["std"]), device=str(find_device(settings.device))
    )
    space, facts = ClassSpace("objects", names, names), {**made.facts, "classes": names}

    def evaluate(tested: nn.Module, accelerator: Any) -> Right:
        return tried.right(tested, accelerator)

    def pack(tested: nn.Module) -> bytes:
        return described(tested, KEY, facts)

    def lost() -> dict[str, Skipped]:
        return {**data.lost, **tried.skipped}

    what = about("segment" if masks else "detect", settings, made.code, space, some, held_out)
    what["recipe"] = f"{what['recipe']} of {spec}"
    told: dict[str, Any] = {"every_s": every_s, "track": settings.track, "progress": progress, "say": say}
    folder = TrainingFolder(out, what, data.steps, settings.epochs, evaluate, pack, lost, metric="mAP50", **told)
    for note in notes:
        say(f"  {note}")
    with folder.locked():
        trained = train(network, data, steps, progress, loss=detection(), keeper=folder)
        progress(0, 0, "trying it on the images held out")
        found = tried.found(trained.to(steps.device), accelerate(steps))
        write(out / FILE, pack(trained.cpu().eval()))
    epochs = [(row["epoch"], row["held_out_mAP50"]) for row in folder.rows if row["held_out_mAP50"] is not None]
    size = sum(parameter.numel() for parameter in trained.parameters())
    return Detected(found, epochs, tuple(notes), tuple(folder.skipped.values()), size)


def detection() -> Loss:
    """The sum of a detector's losses, of the parts of `MarkedBatches`."""

    def loss(
        network: nn.Module, images: Tensor, sizes: Tensor, boxes: Tensor, labels: Tensor, *masks: Tensor
    ) -> tuple[Tensor, Callable[[], str]]:
        given, targets = [], []
        for i, image in enumerate(images):
            high, wide = sizes[i].tolist()
            real = labels[i] > 0
            target = {"boxes": boxes[i][real], "labels": labels[i][real]}
            for planes in masks:
                target["masks"] = planes[i][real][:, :high, :wide]
            targets.append(target)
            given.append(image[:, :high, :wide].float() / 255)
        losses = network(given, targets)
        value = torch.stack([one.float() for one in losses.values()]).sum()

        def describe() -> str:
            return "loss " + ", ".join(
                f"{name.removeprefix('loss_')} {float(one.detach()):.3f}" for name, one in losses.items()
            )

        return value, describe

    return loss


def new_detector(settings: DetectionSettings, spec: str, images: MarkedImages, classes: int, masks: bool) -> Detector:
    """A detector on a classifier's maps, for images like these. Raises CueError as `fit_detector`."""
    name, found = find(spec, Asked(seed=settings.seed))
    module, how = found.module, found.preprocessing
    if isinstance(module, Classifier):
        module, how = module.module, module.preprocessing
    if not isinstance(module, nn.Module):
        do = "give a network of torch"
        raise CueError(f"{name} is a black box, which cannot be trained", wanted="a torch network", do=do)
    module, how = module.requires_grad_(True), how or assumed(module)
    random = name.partition("@")[2] == RANDOM
    side = settings.size_px or int(np.median([min(entry.size) for entry in images.entries]))
    side = min(side, settings.longest_px)
    body, widths, levels, trained = _body(module, how, name, side, 0 if random else settings.frozen, random)
    fixed = levels.size if levels.fixed else None
    sides = _sides(images, side, settings.longest_px, fixed)
    anchors = spread(sides[0], sides[1], len(widths) + 1)
    if settings.anchors:
        try:
            anchors = cut(settings.anchors, len(widths) + 1)
        except ValueError as error:
            wanted = f"a multiple of {len(widths) + 1}, the levels of the pyramid"
            raise CueError(f"{name}: {error}", wanted=wanted, do="correct --set anchors=") from None
    shape = Shape(
        *(classes, masks, side, settings.longest_px, fixed, anchors, how.mean, how.std),
        *(settings.channels, settings.width, settings.rois, settings.proposals),
    )
    network = seeded(settings.seed, lambda: detector(body, widths, shape))
    layers = ", ".join(
        f"{layer.name} ({stride:.3g} px)" for layer, stride in zip(levels.layers, levels.strides, strict=True)
    )
    size = (
        f"squeezed to {fixed[1]} x {fixed[0]} px, as it takes no other"
        if fixed
        else f"short side {side} px, at most {settings.longest_px}"
    )
    norms = "batch norms learn statistics of their own" if random else "batch norms keep their statistics"
    notes = (
        *found.notes,
        f"maps of {layers}; {trained}; {norms}",
        f"images: {size}",
        f"anchors: {'; '.join(', '.join(map(str, level)) for level in anchors)} px by level, 1:2, 1:1 and 2:1"
        + ("" if settings.anchors else f"; 90% of the boxes have {sides[0]:.0f} to {sides[1]:.0f} px"),
    )
    facts = {"name": found.spec or name.partition("@")[0], "shape": shape._asdict(), "own": list(how.size)}
    facts |= {"random": random, "frozen": settings.frozen}
    return Detector(network, notes, facts, found.code)


def _body(
    module: nn.Module, how: Preprocessing, name: str, side: int, frozen: int, random: bool
) -> tuple[FeatureMaps, list[int], Levels, str]:
    """The maps of a classifier, their channels, where they come from, and what of it is trained."""
    filled = -(-side // DIVISIBLE) * DIVISIBLE
    if how.channels == "BGR":
        hooks.changed(module, image=lambda pixels: pixels.flip(1))
    levels = Levels(module, (filled, filled), name, how.size)
    parts = without_head(module, levels.layers, levels.size)
    for parameter in [parameter for level in parts[:frozen] for parameter in level]:
        parameter.requires_grad_(False)
    body = FeatureMaps(module, levels.layers, frozen_norms=not random)
    some = min(frozen, len(parts))
    return (
        body,
        widths_of(body, levels.size),
        levels,
        f"the first {some} of {len(parts)} kept as they are" if some else "all trained",
    )


def _sides(images: MarkedImages, side: int, longest: int, fixed: tuple[int, int] | None) -> tuple[float, float]:
    """The small and the large ones of the boxes: the root of their area, in px of the resized images."""
    found = []
    for entry in images.entries:
        width, height = entry.size
        scale = min(side / min(entry.size), longest / max(entry.size))
        if fixed:
            scale = float(np.sqrt(fixed[0] / height * fixed[1] / width))
        boxes = [thing.box for thing in entry.things if not thing.crowd]
        found += [scale * float(np.sqrt((box.x1 - box.x0) * (box.y1 - box.y0))) for box in boxes]
    low, high = np.quantile(found, SPAN)
    return max(float(low), 4.0), max(float(high), 8.0)


def load_detector(path: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
    """A detector from the file that a training wrote, in evaluation mode, and the names of its classes.

    It takes a list of images (3, H, W) float in [0, 1] and gives torchvision's boxes, labels from 1 on, and scores.
    Raises CueError for another file.
    """
    try:
        with safe_open(path, "pt") as file:
            facts: Mapping[str, Any] = parsed((file.metadata() or {})[KEY])
        given = dict(facts["shape"])
        shape = Shape(**{key: _tuples(value) for key, value in given.items()})
        name, random = str(facts["name"]), bool(facts["random"])
        own: Sequence[int] = facts["own"]
        classes = tuple(map(str, facts["classes"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        do, wanted = "give detector.safetensors of its folder", "a file that `cuescope transfer detect` wrote"
        raise CueError(f"'{path}' is no detector: {error}", wanted=wanted, do=do) from None
    found = find(f"{name}@{RANDOM}")[1]
    module = found.module.module if isinstance(found.module, Classifier) else found.module
    assert isinstance(module, nn.Module), "it was trained"
    how = found.preprocessing or assumed(module)
    how = replace(how, size=(own[0], own[1]))
    body, widths, _, _ = _body(module.requires_grad_(True), how, name, shape.size_px, 0, random)
    network = detector(body, widths, shape)
    network.load_state_dict(load_file(path))
    return network.eval(), classes


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
