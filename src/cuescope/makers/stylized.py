"""Images whose shapes are kept and whose texture is another image's: Stylized-ImageNet of any images and styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.ops.encode import SUFFIX, ImageFormat, encoded
from cuescope.makers.base import SIDE_PX, Made, OneEach, Piece, Tools, alike, at_least, framed, seed_of
from cuescope.makers.synthesis.styles import Styles, batch_of, stylizer_of
from cuescope.models.adain import SMALLEST_PX

MOST_PX = 4096 * 4096
"""Of an image in its own size: larger ones do not fit into the memory of most machines."""

PUBLISHED_SEED = 49809
PUBLISHED_PX = 224
"""Styles smaller than this on a side were left out of Stylized-ImageNet."""

VALIDATION = frozenset({"val", "valid", "validation"})


@dataclass(frozen=True)
class Stylized:
    """Each image in the texture of a style image: what shows is the shape, what is there is another's texture.

    >>> Stylized(styles="paintings/", alpha=0.5).stylizer
    'embedded'
    """

    what: ClassVar[str] = "images in the texture of others, their shapes kept"
    reference: ClassVar[str] = "Geirhos et al. 2019, section 2 (Stylized-ImageNet), by AdaIN of Huang and Belongie 2017"
    version: ClassVar[int] = 1

    styles: str
    """Folder of style images, at any depth, or world:VARIANT[:COUNT]."""
    stylizer: str = "embedded"
    """embedded; or a folder with vgg_normalised.pth and decoder.pth; or two such files, ENCODER,DECODER."""
    alpha: float = 1.0
    """How much of the style, from 0 to 1; 1 is the published value."""
    styles_each: int = 1
    """Styles for each image, no two the same; where there are several, files are numbered: name-1.png, name-2.png."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224, as published; a
    stimulus keeps its own."""
    original_size: bool = False
    """Keep each image's own size, uncut."""
    style_px: int = SIDE_PX
    """Side to which the largest middle square of a style image is reduced, if it is larger."""
    pairing: Literal["seeded", "published"] = "seeded"
    """Which style for which image: drawn from the seed and the image's name, so that it stays when images are added;
    or the rule of Stylized-ImageNet, one stream of random numbers over all images, val before train."""
    drawn_before: int = 0
    """Of the published stream: 50000 for a train folder alone, as if val had been made before."""
    format: ImageFormat = "png"
    """png, or jpeg (quality 95, full color resolution)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the stylizer's convolutions."""
    seed: int = 0
    """Of the pairing."""

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("styles_each", self.styles_each, 1)
        at_least("drawn_before", self.drawn_before, 0)
        at_least("size_px", SIDE_PX if self.size_px is None else self.size_px, SMALLEST_PX)
        at_least("style_px", self.style_px, SMALLEST_PX)
        if not 0 <= self.alpha <= 1:
            raise CueError(f"alpha is {self.alpha}", wanted="from 0 (no style) to 1 (all of it)", do="correct alpha")
        if self.original_size and self.size_px is not None:
            raise CueError("size_px and original_size", wanted="one of them", do="leave one out")
        if self.pairing == "published" and self.styles_each > 1:
            found = f"{self.styles_each} styles for each image with the published pairing"
            raise CueError(found, wanted="one style for each image, as published", do="leave one of them out")
        if self.pairing != "published" and self.drawn_before:
            raise CueError("drawn_before without the published pairing", wanted="--pairing published", do="add it")

    def start(self, images: ImageSet, tools: Tools) -> _Stylizing:
        stylizer = stylizer_of(self.stylizer, self.precision, tools.device)
        styles = Styles(tools.images(self.styles), stylizer, self.style_px)
        if self.pairing == "published":
            styles.leave_out_small(PUBLISHED_PX)
        return _Stylizing(self, styles, images)


def published_pairs(count: int, styles: int, drawn_before: int = 0) -> np.ndarray:
    """Which style has each image in Stylized-ImageNet? (count,) numbers below `styles`, for images in its order.

    One stream of numpy's RandomState(49809), val first, then train, each in the order of torchvision's ImageFolder
    (rgeirhos/Stylized-ImageNet, preprocess_imagenet.py); `drawn_before` numbers are passed over.

    >>> published_pairs(3, 79395).tolist()
    [75686, 79149, 64876]
    """
    return np.random.RandomState(PUBLISHED_SEED).randint(0, styles, drawn_before + count)[drawn_before:]


class _Stylizing:
    """Stylized, ready to go: the stylizer loaded, a style found that serves, pairs drawn."""

    def __init__(self, how: Stylized, styles: Styles, images: ImageSet) -> None:
        self.how, self.styles, self.images = how, styles, images
        if how.styles_each > len(styles):
            found = f"{how.styles_each} styles for each image, of {len(styles)}"
            raise CueError(found, wanted="more styles, or fewer for each", do="correct styles_each")
        self.side = how.size_px or SIDE_PX
        stylizer = styles.stylizer
        self.about = {
            "stylizer": {"name": stylizer.name, "digest": stylizer.digest},
            "styles": {"name": styles.images.name, "count": len(styles), "digest": styles.images.digest},
        }
        self.single = OneEach(images, SUFFIX[how.format])
        self.pieces = _Several(self.single, how.styles_each) if how.styles_each > 1 else self.single
        self.published = self._published() if how.pairing == "published" else None
        self.batch = batch_of(stylizer.device, self.side)
        styles.first()  # Raises now what would be raised after an hour.

    @property
    def skipped(self) -> list[Skipped]:
        return [*self.single.skipped, *self.styles.skipped]

    def make(self, pieces: Sequence[Piece], samples: Sequence[Sample]) -> list[Made | Skipped]:
        made: dict[int, Made | Skipped] = {
            i: Skipped(sample.id, why) for i, sample in enumerate(samples) if (why := self._unfit(sample))
        }
        fit = [i for i in range(len(samples)) if i not in made]
        images = [self._framed(samples[i]) for i in fit]
        for which in alike(images):
            height, width = images[which[0]].shape[1:]
            most = max(1, self.batch * self.side**2 // (height * width))
            for at in range(0, len(which), most):
                some = which[at : at + most]
                numbers = [self._style(pieces[fit[k]], samples[fit[k]]) for k in some]
                found = self.styles.applied(torch.stack([images[k] for k in some]), numbers, self.how.alpha)
                for k, number, pixels in zip(some, numbers, found, strict=True):
                    about = {"style": self.styles.images.id(number)}
                    made[fit[k]] = Made(partial(encoded, pixels, self.how.format), about)
        return [made[i] for i in range(len(pieces))]

    def _unfit(self, sample: Sample) -> str:
        """Why this image cannot be stylized, or ""."""
        height, width = sample.pixels.shape[1:]
        if not self._keeps(sample) or (min(height, width) >= SMALLEST_PX and height * width <= MOST_PX):
            return ""
        limits = f"sides of at least {SMALLEST_PX} px and at most {MOST_PX:,} pixels are stylized"
        return f"{width} x {height} px; {limits}, unless size_px is given"

    def _framed(self, sample: Sample) -> Tensor:
        return sample.pixels if self.how.original_size else framed(sample, self.how.size_px)

    def _keeps(self, sample: Sample) -> bool:
        return self.how.original_size or (sample.framing == "stimulus" and self.how.size_px is None)

    def _style(self, piece: Piece, sample: Sample) -> int:
        if self.published is not None:
            return self.styles.usable(int(self.published[piece.source]))
        chance = np.random.default_rng(seed_of(self.how.seed, sample.id))
        number = 0 if self.how.styles_each == 1 else int(piece.file.rpartition("-")[2].partition(".")[0]) - 1
        return self.styles.usable(int(chance.permutation(len(self.styles))[number]))

    def _published(self) -> np.ndarray:
        """The style of each image by its number in the set: val first, as it was published."""
        late = [self.images.id(i).split("/")[0].lower() not in VALIDATION for i in range(len(self.images))]
        order = np.argsort(late, kind="stable")
        pairs = np.empty(len(order), np.int64)
        pairs[order] = published_pairs(len(order), len(self.styles), self.how.drawn_before)
        return pairs


class _Several(Sequence[Piece]):
    """Several files for each image, numbered from 1."""

    def __init__(self, single: OneEach, each: int) -> None:
        self.single, self.each = single, each

    def __len__(self) -> int:
        return len(self.single) * self.each

    def __getitem__(self, index: int) -> Piece:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        piece = self.single[index // self.each]
        stem, dot, suffix = piece.file.rpartition(".")
        return Piece(piece.source, f"{stem}-{index % self.each + 1}{dot}{suffix}")
