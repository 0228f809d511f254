"""Images whose local statistics are kept and whose shapes are gone."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.data.ops.convert import as_bytes
from cuescope.data.ops.encode import encoded
from cuescope.makers.base import SIDE_PX, Maker, OneEach, Output, Piece, Tools, Work, at_least, listed
from cuescope.makers.synthesis.filters import RandomFilters
from cuescope.makers.synthesis.gram import Features
from cuescope.makers.synthesis.network import NetworkFeatures
from cuescope.makers.synthesis.search import Found, batch_of, search

RANDOM = "random-filters"


@dataclass(frozen=True)
class Texturized(Maker):
    """The same texture without the shape, for each image: noise that is given the image's statistics."""

    what: ClassVar[str] = "the texture of each image without its shapes"
    reference: ClassVar[str] = (
        "Gatys, Ecker and Bethge 2015; used on classifiers by Brendel and Bethge 2019, section 3.3"
    )
    version: ClassVar[int] = 1

    features: str = RANDOM
    """What the texture is measured by: random-filters, or a network, as in torchvision/vgg19@FILE."""
    layers: str = ""
    """Of the network, separated by commas; the paper's five where it is a VGG of torchvision."""
    steps: int = 100
    """Of L-BFGS. The paper's authors take 2000; the random filters hardly change after 100."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus
    keeps its own."""
    average_pooling: bool = True
    """Means in the place of maxima in the network's pooling, as in the paper."""
    match_histogram: bool = False
    """Give each color channel the very values of the source at the end; not done for the paper's figures."""
    seed: int = 0
    """Of the noise. Each image has its own, of this and its name."""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, size_px=self.size_px)
        at_least(0, seed=self.seed)
        if self.features != RANDOM and not set(self.features) & set("/:."):
            do = f"give {RANDOM}, or a network, as in torchvision/vgg19@FILE"
            raise CueError(f"unknown features '{self.features}'", wanted=f"{RANDOM} or the name of a model", do=do)
        if self.layers and self.features == RANDOM:
            found = "layers without a network"
            raise CueError(found, wanted="--features with the network that has them", do="give it, or no --layers")

    def start(self, images: ImageSet, tools: Tools) -> "_Texturizing":
        features: Features = RandomFilters()
        if self.features != RANDOM:
            network, layers = tools.load(self.features), listed(self.layers)
            features = NetworkFeatures(network, layers, average_pooling=self.average_pooling)
        return _Texturizing(self, features, images, tools.device)


def texturize(
    pixels: Tensor,
    features: Features | None = None,
    *,
    steps: int = 100,
    seeds: Sequence[int] | None = None,
    match_histogram: bool = False,
) -> Found:
    """What do these images look like without their shapes? Noise that is given their statistics, one for one.

    `pixels` is (B, 3, H, W) in [0, 1]; `features` measure the texture, random filters by default; `seeds` are of
    the noise, 0 to B - 1 by default. Values keep to the range of the source over all its colors. Neither the other
    images of a batch nor, with random filters on a CPU, the number of threads changes a bit of the result. Gatys, Ecker
    and Bethge 2015. Raises CueError for images that are too small, and for fewer than one step.

    >>> made = texturize(torch.rand(1, 3, 32, 32), steps=5)
    >>> made.pixels.shape, bool(made.end < made.start)
    (torch.Size([1, 3, 32, 32]), True)
    """
    at_least(1, steps=steps)
    features = features or RandomFilters()
    seeds = range(len(pixels)) if seeds is None else seeds
    if len(seeds) != len(pixels):
        raise CueError(f"{len(seeds)} seeds for {len(pixels)} images", wanted="one each", do="correct them")
    source = pixels.detach().float().contiguous()
    if not len(source):
        none = source.new_zeros(0)
        return Found(source, none, none, none.long(), none.long())
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = torch.stack([torch.randn(source.shape[1:], generator=one) for one in generators]).to(source.device)
    found = search(source, features, steps=steps, noise=noise)
    return found._replace(pixels=matched(found.pixels, source)) if match_histogram else found


def matched(pixels: Tensor, source: Tensor) -> Tensor:
    """The source's own values in the order of the pixels', for each image and channel: the same histograms.

    >>> matched(torch.tensor([[[[0.2, 0.9]]]]), torch.tensor([[[[1.0, 0.0]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """
    flat = pixels.flatten(2)
    order = flat.argsort(dim=2, stable=True)
    return torch.empty_like(flat).scatter_(2, order, source.flatten(2).sort(dim=2).values).view(pixels.shape)


class _Texturizing(Work):
    """Texturized, ready to run: features loaded, files named."""

    def __init__(self, how: Texturized, features: Features, images: ImageSet, device: torch.device) -> None:
        self.how, self.features, self.device, self.size_px = how, features, device, how.size_px
        self.about = {"features": dict(features.about)}
        self.pieces = OneEach(images, ".png")
        side, first = how.size_px or SIDE_PX, _first(images)
        example = torch.zeros(3, side, side) if first is None else self.frame(first).float() / 255
        features.target(example[None].to(device))  # Raises now what would be raised after an hour.
        self.batch = batch_of(device, example.shape[1], example.shape[2], features)

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        seeds = [seed_of(self.how.seed, sample.id) for sample in samples]
        source, how = (torch.stack(images).float() / 255).to(self.device), self.how
        found = texturize(source, self.features, steps=how.steps, seeds=seeds, match_histogram=how.match_histogram)
        # What waits to be written holds no memory of the device.
        pixels, columns = as_bytes(found.pixels).cpu(), zip(*(column.tolist() for column in found[1:4]), strict=True)
        return [
            Output(partial(encoded, image), {"seed": seed, "start": start, "end": end, "steps": steps})
            for image, seed, (start, end, steps) in zip(pixels, seeds, columns, strict=True)
        ]


def _first(images: ImageSet) -> Sample | None:
    for index in range(min(len(images), 8)):
        with suppress(UnreadableError):
            return images.read(index)
    return None
