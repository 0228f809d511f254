"""Training ZFNet, its variants and the network of 2012 on labeled images, as Zeiler and Fergus did (section 3)."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, unknown
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, frame
from cuescope.models.saved import Saved, to_bytes
from cuescope.models.seeding import seeded
from cuescope.models.zfnet import VARIANTS, ZFNet, variant
from cuescope.network.executor import find_device
from cuescope.training.labeled import Reader, check_labels, held_out, labeled_classes
from cuescope.training.loop import normalized, train
from cuescope.training.recipe import Trained
from cuescope.training.settings import Settings, ZFNetSettings

SQUARE_PX, CROP_PX = 256, 224
"""Side of the square that is cut out of the middle, its short side resized to that, and of the crops of it."""
TEST_BATCH = 32


def fit_zfnet(settings: ZFNetSettings, images: ImageSet, progress: Progress = quiet) -> Trained:
    """Train one of the networks on labeled images.

    A tenth of the images is kept back, and gives the accuracy on the crop of the middle; `ten_crops` are learned from.
    The same images and settings give the same weights on the same machine with the same number of threads. Raises
    CueError for an unknown variant, for images without labels, for a single class, for a class with a single image, and
    where the loss is no longer finite.
    """
    if settings.variant not in VARIANTS:
        raise unknown("variant", settings.variant, VARIANTS)
    classes = labeled_classes(images)
    device = str(find_device(settings.device))
    labels = _labels(images)
    _check(labels, classes, images)
    random = np.random.default_rng(settings.seed)
    learned, back = split(labels, random)
    batch = min(settings.batch, len(learned))
    steps = max(1, round(settings.epochs * len(learned) / batch))
    # With the paper's first weights pixels less their mean stay of 0 to 255.
    std = IMAGENET_STD if settings.initial == "he" else (1 / 255,) * 3
    shared = ("learning_rate", "momentum", "weight_decay", "filter_rms", "precision", "seed")
    given = {key: getattr(settings, key) for key in shared}
    how = Settings(steps, batch, mean=IMAGENET_MEAN, std=std, device=device, **given)
    network, reader = untrained(settings, len(classes)), Reader(images)
    train(network, _crops(reader, learned, batch, random), how, progress, every=5)
    right = _right(reader, network, back, how)
    evaluation = Preprocessing((CROP_PX, CROP_PX), SQUARE_PX, "bilinear", how.mean, how.std, "as it was trained")
    weights = to_bytes(network, Saved(settings.variant, classes, evaluation))
    counts, notes = (sum(right), len(right), len(learned)), (f"{how.steps:,} steps of {batch} images",)
    return Trained(network, settings.variant, weights, *counts, reader.skipped, notes)


def untrained(settings: ZFNetSettings, classes: int) -> ZFNet:
    """The network with its first weights.

    >>> net = untrained(ZFNetSettings("zfnet-without-6-7"), 2)
    >>> round(net.features.conv3.weight.std().item(), 3), round((2 / (256 * 9)) ** 0.5, 3)
    (0.029, 0.029)
    """
    network = variant(settings.variant, classes, settings.seed)

    def scale_to_inputs() -> None:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    # He et al. 2015, eq. 10: with the paper's N(0, .01) a signal shrinks from layer to layer, the narrower the more so.
    if settings.initial == "he":
        seeded(settings.seed, scale_to_inputs)
    return network


def split(labels: NDArray[np.int64], random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the labeled images to learn from, and of those to keep back: a tenth of each class, never all of it.

    >>> learned, back = split(np.repeat([0, 1], 20), np.random.default_rng(0))
    >>> len(learned), np.bincount(np.repeat([0, 1], 20)[back]).tolist()
    (36, [2, 2])
    """
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    back = order[held_out(len(order), random)]
    gone = np.setdiff1d(labels[order], labels[np.setdiff1d(order, back)])
    back = back[~np.isin(labels[back], gone)]
    return np.setdiff1d(order, back), np.sort(back)


def _labels(images: ImageSet) -> NDArray[np.int64]:
    """Of each image, -1 where there is none."""
    labels = np.full(len(images), -1, np.int64)
    for index in range(len(images)):
        with suppress(UnreadableError):
            found = images.label(index)
            labels[index] = -1 if found is None else found
    return labels


def _check(labels: NDArray[np.int64], classes: ClassSpace, images: ImageSet) -> None:
    """Raises CueError where there is nothing to tell apart, or nothing to learn from and to try it on."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    check_labels(images, classes, found, "no labeled image")
    lone = [classes.names[i] for i in found[counts == 1]]
    if lone:
        others = f" (and {len(lone) - 1} other classes)" if len(lone) > 1 else ""
        do = "add images, leave the class out, or raise --limit"
        wrong = f"the class '{lone[0]}' of {images.name} has one image alone{others}"
        raise CueError(wrong, wanted="at least two images of each class", do=do)


def _squares(reader: Reader, at: NDArray[np.int64], size: int, square_px: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, 3, square, square) uint8 from the middle of the images at these indices, and their labels (B,)."""
    how = Preprocessing((square_px, square_px), SQUARE_PX)
    for _, labels, samples in reader.batches(at.tolist(), size):
        # Whatever their framing says: all are cut as photographs are, so that there is room for crops.
        yield frame([Sample(sample.id, sample.pixels) for sample in samples], how), torch.from_numpy(labels)


def _crops(
    reader: Reader, at: NDArray[np.int64], size: int, random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without an end: all images in a new order each time, the last few of them left out of it."""
    while True:
        order = random.permutation(at)
        seen = False
        for squares, labels in _squares(reader, order[: len(at) // size * size], size, SQUARE_PX):
            seen = True
            yield ten_crops(squares, random), labels
        if not seen:
            name, why = reader.images.name, next(iter(reader.unreadable.values())).why
            raise CueError(f"no image of {name} to learn from can be read: {why}", do="check the files")


@torch.no_grad()
def _right(reader: Reader, network: nn.Module, at: NDArray[np.int64], how: Settings) -> list[bool]:
    """Of each image that could be read, whether the answer to its middle crop is right."""
    network.to(how.device).eval()
    found: list[bool] = []
    for pixels, labels in _squares(reader, at, TEST_BATCH, CROP_PX):
        found += (network(normalized(pixels, how)).argmax(1).cpu() == labels).tolist()
    network.to("cpu")
    return found


def ten_crops(squares: Tensor, random: np.random.Generator) -> Tensor:
    """(B, 3, 224, 224): of each square one of its ten crops at random, four corners and the middle, mirrored or not.

    >>> ten_crops(torch.zeros(2, 3, 256, 256, dtype=torch.uint8), np.random.default_rng(0)).shape
    torch.Size([2, 3, 224, 224])
    """
    room = squares.shape[2] - CROP_PX
    corners = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
    places, mirrored = random.integers(5, size=len(squares)), random.integers(2, size=len(squares))
    crops = []
    for square, place, mirror in zip(squares, places, mirrored, strict=True):
        top, left = corners[place]
        crop = square[:, top : top + CROP_PX, left : left + CROP_PX]
        crops.append(crop.flip(2) if mirror else crop)
    return torch.stack(crops)
