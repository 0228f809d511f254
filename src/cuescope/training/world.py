"""What the built-in world's networks learn from, and how they are tried once trained. See `recipes/world.py`."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core.progress import Progress, quiet
from cuescope.data.label_maps.pooling import LabelPooling, RandomResizedCropWithCoords
from cuescope.data.ops.convert import as_bytes
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.patch_annotator import Annotator
from cuescope.models.antialias import antialias, example_of
from cuescope.models.small_resnet import SmallResNet
from cuescope.models.wct import embedded
from cuescope.training import bow
from cuescope.training.loop import train
from cuescope.training.recipe import Trained
from cuescope.training.settings import Blurred, Relabeled, Settings, Stylized, WordSettings
from cuescope.world.draw import SIZE_PX, draw
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.models import MEAN, STD, build_world, load_world, packed, unpacked
from cuescope.world.scenes import Placement, Variant, scene
from cuescope.world.strategy import strategy

RESNET = "world-congruent"
"""The network that most of these weights are loaded into."""
SEED, BLUR_SEED, RELABEL_SEED, ANNOTATOR_SEED = 1_000_003, 2_000_003, 3_000_003, 7_000_003
STYLIZED_SEED, POOL_SEED, STYLES_SEED = 4_000_003, 5_000_003, 6_000_003
"""Far from the small seeds that images are audited with."""
TESTED = 960
"""Images of each kind that a trained network is tried on."""
CHUNK, STYLIZED_CHUNK = 50, 32
"""Images that are annotated at once, and stylized at once."""
STRIDE_PX = 8
"""Pixels of an image to one position of the network's last map."""
COVERED = 0.2
"""A position is an object's from this share of its square on; what lies elsewhere teaches nothing."""
IGNORED = -100
"""The label that the loss passes over."""

Batches = Iterator[tuple[Tensor, Tensor]]


def fit_unseen(settings: Settings, images: None, progress: Progress, model: str = RESNET, **kind: Any) -> Trained:
    """A network on images of one kind (see `unseen`), each seen once."""
    return _fit(model, unseen(settings, SEED, **kind), settings, progress)


def fit_blurred(settings: Blurred, images: None, progress: Progress) -> Trained:
    """The shipped congruent network, with blurs where it subsamples, trained on."""
    plain = load_world(RESNET)
    network = antialias(plain, settings.filter_size, example=example_of(plain, (SIZE_PX, SIZE_PX)))
    return _fit(f"{RESNET}+blur{settings.filter_size}", unseen(settings, BLUR_SEED), settings, progress, network)


def fit_annotator(settings: Settings, images: None, progress: Progress) -> Trained:
    """A network that answers at each position."""
    return _fit(RESNET, positions(settings), settings, progress, each_position=True)


def fit_relabeled(settings: Relabeled, images: None, progress: Progress) -> Trained:
    """A network on random crops."""
    return _fit(RESNET, crops(settings), settings, progress)


def fit_stylized(settings: Stylized, images: None, progress: Progress) -> Trained:
    """A network on congruent and stylized images."""
    return _fit(RESNET, partly_stylized(settings, progress), settings, progress)


def fit_words(settings: WordSettings, images: None, progress: Progress) -> Trained:
    """A bag of visual words of the images that networks learn from too."""
    return bow.fit_words(settings, WorldImages(count=settings.images, seed=SEED + settings.seed), progress)


def _fit(
    model: str,
    batches: Batches,
    settings: Settings,
    progress: Progress,
    network: nn.Module | None = None,
    each_position: bool = False,
) -> Trained:
    """Train a network from scratch, or the one given; then try it, with the weights as the package ships them.

    `model` is the network of the world that `load` puts the weights into.
    """
    network = network or build_world(model, settings.seed)
    train(EachPosition(network) if each_position else network, batches, settings, progress)
    weights = packed(network)
    network.load_state_dict(unpacked(weights))
    found = strategy(network, count=TESTED)
    bias = "decides by neither cue" if found.shape_bias is None else f"shape bias {found.shape_bias:.3f}"
    correct, learned = round(found.congruent * TESTED), settings.steps * settings.batch
    notes = (f"on {TESTED} conflict images: {bias}",)
    return Trained(network, model, safetensors.torch.save(weights), correct, TESTED, learned, notes=notes)


def unseen(settings: Settings, seed: int, variant: Variant = "congruent", placement: Placement = "uniform") -> Batches:
    """Endless batches (B, 3, 64, 64) uint8 and (B,) labels of images that are never seen twice.

    >>> images, labels = next(unseen(Settings(steps=1, batch=4), seed=0))
    >>> tuple(images.shape), labels.tolist()
    ((4, 3, 64, 64), [0, 1, 2, 3])
    """
    images = WorldImages(variant, placement=placement, seed=seed + settings.seed)
    for start in itertools.count(step=settings.batch):
        yield images.render(range(start, start + settings.batch))


def shuffled(count: int, batch: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Endless batches of the numbers below `count`, all of them in a new order each round."""
    order = np.empty(0, np.int64)
    while True:
        while len(order) < batch:
            order = np.concatenate([order, random.permutation(count)])
        yield order[:batch]
        order = order[batch:]


class EachPosition(nn.Module):
    """The network's head at each position of its last map, not on their mean: (B, 3, H, W) to (B h w, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, SmallResNet)
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.fc(self.network.maps(pixels).movedim(1, 3).flatten(0, 2))


def positions(settings: Settings) -> Batches:
    """Endless images (B, 3, 64, 64) uint8, never seen twice, with the class of each position (B h w,)."""
    batch = settings.batch
    for start in itertools.count(step=batch):
        drawn = scene("several", "uniform", ANNOTATOR_SEED + settings.seed, np.arange(start, start + batch))
        pixels, seen = draw(drawn.backdrop, drawn.things)
        covered, which = F.avg_pool2d(seen.float(), STRIDE_PX).max(1)
        named = torch.from_numpy(np.stack([thing.named for thing in drawn.things], 1))
        labels = named[torch.arange(batch)[:, None, None], which]
        yield pixels, labels.where(covered >= COVERED, IGNORED).flatten()


def crops(settings: Relabeled) -> Batches:
    """Endless batches of random crops (B, 3, 64, 64) uint8 with soft targets (B, 16), or with labels (B,).

    Crops are drawn from torch's global generator, which the training loop seeds: the same ones for either target.
    """
    pixels, labels = WorldImages("several", seed=RELABEL_SEED + settings.seed).render(np.arange(settings.images))
    maps = label_maps(pixels, settings) if settings.targets == "maps" else None
    crop = RandomResizedCropWithCoords(SIZE_PX, scale=(settings.least, 1.0), antialias=True)
    pooling = LabelPooling(16)
    for chosen in shuffled(settings.images, settings.batch, np.random.default_rng(settings.seed)):
        cut, places = zip(*(crop(pixels[i]) for i in chosen), strict=True)
        targets = labels[chosen] if maps is None else pooling(maps[1][chosen], maps[0][chosen], places)
        yield torch.stack(cut), targets


def label_maps(pixels: Tensor, settings: Relabeled) -> tuple[np.ndarray, np.ndarray]:
    """The annotator's maps of images (N, 3, 64, 64) uint8: the highest scores and their classes, (N, k, h, w) each."""
    annotator = annotator_of(settings.annotator)
    parts = [annotator.logits(some.float() / 255).topk(settings.top, 1) for some in pixels.split(CHUNK)]
    return torch.cat([part.values for part in parts]).numpy(), torch.cat([part.indices for part in parts]).numpy()


def annotator_of(weights: str = "") -> Annotator:
    """The world's congruent network as an annotator, with its own weights or those of a file."""
    network = load_world(RESNET)
    if weights:
        network.load_state_dict(unpacked(safetensors.torch.load_file(weights)))
    how = Preprocessing((SIZE_PX, SIZE_PX), SIZE_PX, mean=MEAN, std=STD, source="the world's")
    return Annotator.of(Classifier(network, classes=CLASSES, preprocessing=how, device="cpu"))


def partly_stylized(settings: Stylized, progress: Progress = quiet) -> Batches:
    """Endless batches: congruent images that are never seen twice, and a `share` from the stylized pool."""
    of_pool = round(settings.batch * settings.share)
    fresh = settings.batch - of_pool
    pool = stylized(settings, progress) if of_pool else None
    congruent = WorldImages("congruent", seed=STYLIZED_SEED + settings.seed)
    random = np.random.default_rng(settings.seed)
    order = shuffled(settings.pool, of_pool, random)
    for step in itertools.count():
        pixels, labels = congruent.render(np.arange(step * fresh, (step + 1) * fresh))
        if pool is not None:
            chosen = torch.from_numpy(next(order))
            seen, known = pool[0][chosen], pool[1][chosen]
            mirrored = torch.from_numpy(random.random(of_pool) < 0.5)[:, None, None, None]
            seen = torch.where(mirrored, seen.flip(3), seen)
            pixels, labels = torch.cat([pixels, seen]), torch.cat([labels, known])
        yield pixels, labels


def stylized(settings: Stylized, progress: Progress = quiet) -> tuple[Tensor, Tensor]:
    """The pool: congruent images (N, 3, 64, 64) uint8, each in the texture of another image, and their labels (N,)."""
    stylizer, count = embedded(), settings.pool
    textures, _ = WorldImages("texture-only", seed=STYLES_SEED + settings.seed).render(np.arange(settings.styles))
    styles = stylizer.statistics(textures.float() / 255)
    pixels, labels = WorldImages("congruent", seed=POOL_SEED + settings.seed).render(np.arange(count))
    which = np.random.default_rng(settings.seed).integers(0, settings.styles, count)
    parts = []
    for start in range(0, count, STYLIZED_CHUNK):
        progress(start, count, "stylizing")
        part = slice(start, start + STYLIZED_CHUNK)
        parts.append(as_bytes(stylizer.stylize(pixels[part].float() / 255, styles.at(which[part].tolist()))))
    return torch.cat(parts), labels
