"""Training ZFNet, its variants and the network of 2012 on labeled images, as Zeiler and Fergus did (section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import ImageSet, Sample, Skipped, UnreadableError
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, frame
from cuescope.models.saved import Saved, to_bytes
from cuescope.models.seeding import seeded
from cuescope.models.zfnet import VARIANTS, ZFNet, variant
from cuescope.network.executor import find_device
from cuescope.training import loop
from cuescope.training.labeled import held_out, labeled_classes, one_class
from cuescope.training.loop import Told, now_and_then, train

SQUARE_PX, CROP_PX = 256, 224
"""Side of the square that is cut out of the middle, its short side resized to that, and of the crops of it."""
TEST_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """How a network is trained. Raises CueError for values that cannot be."""

    variant: str = "zfnet"
    """Which network: zfnet, one of its variants in the paper's table 3, or alexnet-2012, as `cuescope list models`."""
    epochs: float = 70
    """How many times each image is seen; 70 in the paper. The learning rate falls to zero over them."""
    batch: int = 128
    """Images a step."""
    learning_rate: float = 0.01
    """Of the first step. The paper lowers it by hand where the error stays; here it falls along a half cosine."""
    momentum: float = 0.9
    """Of stochastic gradient descent."""
    weight_decay: float = 5e-4
    """The paper gives none; this is that of Krizhevsky et al. 2012."""
    filter_rms: float = 0.1
    """The most root mean square of a convolution's filter, for pixels of 0 to 255 less their mean; inf for no limit."""
    initial: Literal["he", "paper"] = "he"
    """First weights: scaled to each layer's inputs, or the paper's N(0, .01), which needs ImageNet's patience."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is faster where the processor has it; weights and their updates stay in float32."""
    device: str = "auto"
    """Where it is trained: auto is a GPU where there is one."""
    seed: int = 0
    """Of the first weights, the images held out, their order, the crops and the dropout."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        for found, right in (
            (f"epochs={self.epochs}", self.epochs > 0),
            (f"batch={self.batch}", self.batch >= 1),
            (f"learning_rate={self.learning_rate}", self.learning_rate > 0),
            (f"momentum={self.momentum}", 0 <= self.momentum < 1),
            (f"weight_decay={self.weight_decay}", self.weight_decay >= 0),
            (f"filter_rms={self.filter_rms}", self.filter_rms > 0),
        ):
            if not right:
                wanted = "epochs, batch, learning_rate and filter_rms above 0, momentum below 1"
                raise CueError(found, wanted=wanted, do="see `cuescope list recipes` for the usual values")

    @property
    def std(self) -> tuple[float, ...]:
        """What pixels in [0, 1], less their mean, are divided by: with the paper's weights they stay of 0 to 255."""
        return IMAGENET_STD if self.initial == "he" else (1 / 255,) * 3


class Trained(NamedTuple):
    """A network, and how often it is right on the images held out."""

    network: ZFNet
    saved: Saved
    correct: int
    held_out: int
    learned: int
    """Images it was trained on."""
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @property
    def model(self) -> str:
        """What `load` calls it."""
        return self.saved.name

    def to_bytes(self) -> bytes:
        """The file that `load` reads."""
        return to_bytes(self.network, self.saved)


def fit(images: ImageSet, settings: Settings, show: Told | None = None) -> Trained:
    """Train one of the networks on labeled images.

    A tenth of the images is kept back, and tells the accuracy on the crop of the middle. Each time an image is seen,
    it is one of ten crops, drawn at random: of the corners or the middle of its square, mirrored or not. The same
    images and settings give the same weights on the same machine with the same number of threads. Raises CueError for
    images without labels, of one class only, for a class with one image alone, and where the loss is lost.
    """
    classes = labeled_classes(images)
    device = str(find_device(settings.device))
    labels = _labels(images)
    _check(labels, classes, images)
    random = np.random.default_rng(settings.seed)
    learned, back = split(labels, random)
    batch = min(settings.batch, len(learned))
    how = loop.Settings(
        steps=max(1, round(settings.epochs * len(learned) / batch)),
        batch=batch,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        filter_rms=settings.filter_rms,
        mean=_three(IMAGENET_MEAN),
        std=_three(settings.std),
        precision=settings.precision,
        device=device,
        seed=settings.seed,
    )
    network = untrained(settings, len(classes))
    reader = _Reader(images, labels)
    train(network, reader.crops(learned, batch, random), how, now_and_then(show, how, steps=5))
    correct, tried = reader.right(network, back, how)
    evaluation = Preprocessing(
        (CROP_PX, CROP_PX), SQUARE_PX, "bilinear", IMAGENET_MEAN, settings.std, source="as it was trained"
    )
    saved = Saved(settings.variant, classes, evaluation)
    skipped = {one.id: one for one in (*images.skipped, *reader.skipped.values())}
    notes = (f"{how.steps:,} steps of {batch} images",)
    return Trained(network, saved, correct, tried, len(learned), tuple(skipped.values()), notes)


def untrained(settings: Settings, classes: int) -> ZFNet:
    """The network with its first weights.

    >>> net = untrained(Settings("zfnet-without-6-7"), 2)
    >>> round(net.features.conv3.weight.std().item(), 3), round((2 / (256 * 9)) ** 0.5, 3)
    (0.029, 0.029)
    """
    network = variant(settings.variant, classes, settings.seed)
    if settings.initial == "he":
        seeded(settings.seed, lambda: scale_to_inputs(network))
    return network


def scale_to_inputs(network: nn.Module) -> None:
    """First weights under which a signal keeps its size through rectified layers (He et al. 2015, eq. 10).

    With the paper's N(0, .01) it shrinks from layer to layer, the more so the narrower they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


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

    def label(index: int) -> int:
        try:
            found = images.label(index)
        except UnreadableError:
            return -1
        return -1 if found is None else found

    return np.array([label(index) for index in range(len(images))], np.int64)


def _check(labels: NDArray[np.int64], classes: ClassSpace, images: ImageSet) -> None:
    """Raises CueError where there is nothing to tell apart, or nothing to learn from and to try it on."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    if len(found) < 2:
        told = f"the class '{classes.names[found[0]]}' alone" if len(found) else "no labeled image"
        raise one_class(images, told)
    lone = [classes.names[i] for i in found[counts == 1]]
    if lone:
        others = f" (and {len(lone) - 1} other classes)" if len(lone) > 1 else ""
        raise CueError(
            f"the class '{lone[0]}' of {images.name} has one image alone{others}",
            wanted="at least two images of each class",
            do="add images, leave the class out, or raise --limit",
        )


class _Reader:
    """Reads images in batches; remembers each that cannot be read."""

    def __init__(self, images: ImageSet, labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels
        self.skipped: dict[str, Skipped] = {}

    def batches(self, at: NDArray[np.int64], size: int, square_px: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, 3, square, square) uint8 from the middle of the images at these indices, and their labels (B,)."""
        groups: Sequence[Sequence[int]] = [at[i : i + size].tolist() for i in range(0, len(at), size)]
        how = Preprocessing((square_px, square_px), SQUARE_PX)
        for samples, skipped in self.images.stream(groups):
            self.skipped |= {one.id: one for one in skipped}
            if samples:
                # Whatever their framing says: all are cut as photographs are, so that there is room for crops.
                squares = frame([Sample(sample.id, sample.pixels) for _, sample in samples], how)
                yield squares, torch.from_numpy(self.labels[[index for index, _ in samples]])

    def crops(self, at: NDArray[np.int64], size: int, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without an end: all images in a new order each time, the last few of them left out of it."""
        while True:
            order = random.permutation(at)
            seen = 0
            for squares, labels in self.batches(order[: len(at) // size * size], size, SQUARE_PX):
                seen += len(labels)
                yield ten_crops(squares, random), labels
            if not seen:
                why = next(iter(self.skipped.values())).why
                raise CueError(f"no image of {self.images.name} to learn from can be read: {why}", do="check the files")

    @torch.no_grad()
    def right(self, network: nn.Module, at: NDArray[np.int64], how: loop.Settings) -> tuple[int, int]:
        """Of how many images the answer to the middle crop is right, and of how many that could be read."""
        network = network.to(how.device).eval()
        correct = tried = 0
        for pixels, labels in self.batches(at, TEST_BATCH, CROP_PX):
            said = network(loop.normalized(pixels, how)).argmax(1).cpu()
            correct, tried = correct + int((said == labels).sum()), tried + len(labels)
        network.to("cpu")
        return correct, tried


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


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
