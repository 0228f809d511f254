"""Images whose shapes are kept and whose texture is another image's: Stylized-ImageNet of any images and styles."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.data.ops.encode import SUFFIX, ImageFormat, encoded
from cuescope.makers.base import SIDE_PX, Maker, OneEach, Output, Piece, Tools, Work, at_least, share
from cuescope.makers.synthesis.styles import Styles, batch_of, stylizer_of
from cuescope.models.adain import SMALLEST_PX

MOST_PX = 4096 * 4096
"""Of an image in its own size: larger ones do not fit into the memory of most machines."""
PUBLISHED_SEED = 49809
PUBLISHED_PX = 224
"""Styles smaller than this on a side were left out of Stylized-ImageNet."""
VALIDATION = frozenset({"val", "valid", "validation"})


@dataclass(frozen=True)
class Stylized(Maker):
    """Each image in the texture of a style image: what shows is the shape, what is there is another's texture."""

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
        at_least(0, seed=self.seed, drawn_before=self.drawn_before)
        at_least(1, styles_each=self.styles_each)
        at_least(SMALLEST_PX, size_px=self.size_px, style_px=self.style_px)
        share("style", self.alpha)
        if self.original_size and self.size_px is not None:
            raise CueError("size_px and original_size", wanted="one of them", do="leave one out")
        if self.pairing == "published" and self.styles_each > 1:
            found = f"{self.styles_each} styles for each image with the published pairing"
            raise CueError(found, wanted="one style for each image, as published", do="leave one of them out")
        if self.pairing != "published" and self.drawn_before:
            raise CueError("drawn_before without the published pairing", wanted="--pairing published", do="add it")

    def start(self, images: ImageSet, tools: Tools) -> "_Stylizing":
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


@functools.lru_cache(1024)
def seeded_styles(seed: int, image: str, styles: int, each: int) -> tuple[int, ...]:
    """Which styles has this image? `each` different numbers below `styles`; fewer of them are the first of more.

    >>> seeded_styles(0, "cat/a.jpg", 4, 1) == seeded_styles(0, "cat/a.jpg", 4, 3)[:1]
    True
    """
    return tuple(np.random.default_rng(seed_of(seed, image)).permutation(styles)[:each].tolist())


class _Stylizing(Work):
    """Stylized, ready to run: the stylizer loaded, a style found that serves, pairs drawn."""

    def __init__(self, how: Stylized, styles: Styles, images: ImageSet) -> None:
        self.how, self.styles, self.images, self.size_px = how, styles, images, how.size_px
        if how.styles_each > len(styles):
            found = f"{how.styles_each} styles for each image, of {len(styles)}"
            raise CueError(found, wanted="more styles, or fewer for each", do="correct styles_each")
        self.side = how.size_px or SIDE_PX
        self.about = styles.about("styles")
        several = {f"{{}}-{number + 1}": number for number in range(how.styles_each)}
        self.pieces = OneEach(images, SUFFIX[how.format], several if len(several) > 1 else {"{}": 0})
        self.published = self._published() if how.pairing == "published" else None
        self.batch = batch_of(styles.stylizer.device, self.side)
        styles.usable(0)  # Raises now what would be raised after an hour.

    @property
    def skipped(self) -> list[Skipped]:
        return [*super().skipped, *self.styles.skipped]

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        numbers = [self._style(piece, sample) for piece, sample in zip(pieces, samples, strict=True)]
        most = max(1, self.batch * self.side**2 // images[0][0].numel())
        outputs = []
        for at in range(0, len(numbers), most):
            some = numbers[at : at + most]
            found = self.styles.applied(torch.stack(images[at : at + most]), some, self.how.alpha)
            for number, image in zip(some, found, strict=True):
                data = functools.partial(encoded, image, self.how.format)
                outputs.append(Output(data, {"style": self.styles.images.id(number)}))
        return outputs

    def unfit(self, sample: Sample) -> str:
        height, width = sample.pixels.shape[1:]
        keeps = self.how.original_size or (sample.framing == "stimulus" and self.size_px is None)
        if not keeps or (min(height, width) >= SMALLEST_PX and height * width <= MOST_PX):
            return ""
        limits = f"sides of at least {SMALLEST_PX} px and at most {MOST_PX:,} pixels are stylized"
        return f"{width} x {height} px; {limits}, unless size_px is given"

    def frame(self, sample: Sample) -> Tensor:
        return sample.pixels if self.how.original_size else super().frame(sample)

    def _style(self, piece: Piece, sample: Sample) -> int:
        if self.published is not None:
            return self.styles.usable(int(self.published[piece.source]))
        numbers = seeded_styles(self.how.seed, sample.id, len(self.styles), self.how.styles_each)
        return self.styles.usable(numbers[piece.key])

    def _published(self) -> np.ndarray:
        """The style of each image by its number in the set: val first, as it was published."""
        late = [self.images.id(i).split("/")[0].lower() not in VALIDATION for i in range(len(self.images))]
        order = np.argsort(late, kind="stable")
        pairs = np.empty(len(order), np.int64)
        pairs[order] = published_pairs(len(order), len(self.styles), self.how.drawn_before)
        return pairs
