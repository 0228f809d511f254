"""What the built-in world's networks learn from, and how they are tried once trained. See `recipes/world.py`.

Each recipe draws from seeds of its own, far from the small ones that images are audited with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from cuescope.models.antialias import antialias
from cuescope.models.places import example_of
from cuescope.models.small_resnet import SmallResNet
from cuescope.models.wct import embedded
from cuescope.training import bow
from cuescope.training.loop import train
from cuescope.training.recipe import Trained
from cuescope.training.settings import Blurred, Relabeled, Settings, Stylized, WordSettings
from cuescope.world.draw import SIZE_PX, draw
from cuescope.world.images import WorldImages
from cuescope.world.models import build_world, load_world, packed, unpacked
from cuescope.world.scenes import Placement, Variant, scene
from cuescope.world.strategy import strategy

RESNET = "world-congruent"
"""The network that most of these weights are loaded into."""
SEED, BLUR_SEED, RELABEL_SEED, ANNOTATOR_SEED = 1_000_003, 2_000_003, 3_000_003, 7_000_003
STYLIZED_SEED, POOL_SEED, STYLES_SEED = 4_000_003, 5_000_003, 6_000_003
TESTED = 960
"""Images of each kind that a trained network is tried on."""
CHUNK = 50
"""Images that are annotated at once."""
STYLIZED_CHUNK = 32
"""Images that are stylized at once."""
STRIDE_PX = 8
"""Pixels of an image to one position of the network's last map."""
COVERED = 0.2
"""A position is an object's from this share of its square on; what lies elsewhere teaches nothing."""
IGNORED = -100
"""The label that the loss passes over."""

Batches = Iterator[tuple[Tensor, Tensor]]


def fit_unseen(
    settings: Settings,
    images: None,
    progress: Progress,
    model: str = RESNET,
    variant: Variant = "congruent",
    placement: Placement = "uniform",
) -> Trained:
    """A network on images of one kind, each seen once."""
    return _fit(model, unseen(settings, SEED, variant, placement), settings, progress)


def fit_blurred(settings: Blurred, images: None, progress: Progress) -> Trained:
    """The shipped congruent network, with blurs where it subsamples, trained on."""
    plain = load_world(RESNET).module
    network = antialias(plain, settings.filter_size, example=example_of(plain, (SIZE_PX, SIZE_PX)))
    model = f"{RESNET}+blur{settings.filter_size}"
    return _fit(model, unseen(settings, BLUR_SEED), settings, progress, network)


def fit_annotator(settings: Settings, images: None, progress: Progress) -> Trained:
    """A network that answers at each position."""
    return _fit(RESNET, positions(settings), settings, progress, head=EachPosition)


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
    head: Callable[[nn.Module], nn.Module] | None = None,
) -> Trained:
    """Train a network from scratch, or the one given, inside `head` where there is one; then try it.

    `model` is the network of the world that `load` puts the weights into. They are tried as the package ships them.
    """
    network = network or build_world(model, settings.seed)
    train(head(network) if head else network, batches, settings, progress)
    weights = packed(network)
    network.load_state_dict(unpacked(weights))
    found = strategy(network, count=TESTED)
    bias = "decides by neither cue" if found.shape_bias is None else f"shape bias {found.shape_bias:.3f}"
    return Trained(
        network,
        model,
        safetensors.torch.save(weights),
        correct=round(found.congruent * TESTED),
        held_out=TESTED,
        learned=settings.steps * settings.batch,
        notes=(f"on {TESTED} conflict images: {bias}",),
    )


def unseen(settings: Settings, seed: int, variant: Variant = "congruent", placement: Placement = "uniform") -> Batches:
    """Endless batches (B, 3, 64, 64) uint8 and (B,) labels of images that are never seen twice.

    >>> images, labels = next(unseen(Settings(steps=1, batch=4), seed=0))
    >>> tuple(images.shape), labels.tolist()
    ((4, 3, 64, 64), [0, 1, 2, 3])
    """
    images, start = WorldImages(variant, placement=placement, seed=seed + settings.seed), 0
    while True:
        yield images.render(range(start, start + settings.batch))
        start += settings.batch


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
    start, batch = 0, settings.batch
    while True:
        drawn = scene("several", "uniform", ANNOTATOR_SEED + settings.seed, np.arange(start, start + batch))
        start += batch
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
    model = load_world(RESNET)
    if weights:
        model.module.load_state_dict(unpacked(safetensors.torch.load_file(weights)))
    how = Preprocessing(model.input_size, SIZE_PX, mean=model.mean, std=model.std, source="the world's")
    return Annotator.of(Classifier(model.module, classes=model.classes, preprocessing=how, device="cpu"))


def partly_stylized(settings: Stylized, progress: Progress = quiet) -> Batches:
    """Endless batches: congruent images that are never seen twice, and `share` of them from the stylized pool."""
    of_pool = round(settings.batch * settings.share)
    fresh, start = settings.batch - of_pool, 0
    pool, labels = stylized(settings, progress) if of_pool else (None, None)
    congruent = WorldImages("congruent", seed=STYLIZED_SEED + settings.seed)
    random = np.random.default_rng(settings.seed)
    order = shuffled(settings.pool, of_pool, random)
    while True:
        pixels, said = congruent.render(np.arange(start, start + fresh))
        start += fresh
        if pool is not None and labels is not None:
            chosen = torch.from_numpy(next(order))
            mirrored = torch.from_numpy(random.random(of_pool) < 0.5)[:, None, None, None]
            seen = torch.where(mirrored, pool[chosen].flip(3), pool[chosen])
            pixels, said = torch.cat([pixels, seen]), torch.cat([said, labels[chosen]])
        yield pixels, said


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
