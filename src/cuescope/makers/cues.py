"""What each image shows in one cue alone: its silhouette, its edges; beside it the original and its gray version."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core.class_names import folded
from cuescope.core.errors import CueError, unknown
from cuescope.data.images import ImageSet, Sample, Skipped, UnreadableError
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.distortions import gray
from cuescope.data.ops.edges import SIGMA_PX, edges
from cuescope.data.ops.encode import encoded
from cuescope.data.ops.suppression import luma
from cuescope.data.readers.cues import category_of
from cuescope.makers.base import Maker, Output, Piece, Tools, Work, at_least, framed, listed

KINDS = ("original", "greyscale", "silhouettes", "edges")
ON_OBJECT = 32
"""Of 255: a mask is brighter than this on the object. Every color of VOC's masks is, and the noise of JPEG is not."""


@dataclass(frozen=True)
class Cues(Maker):
    """Each image as one cue shows it, in folders by what they show, named by category: what --cues reads."""

    what: ClassVar[str] = "the silhouette and the edges of each image, beside the image and its gray version"
    reference: ClassVar[str] = (
        "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, section 2.1; Canny 1986"
    )
    version: ClassVar[int] = 1

    kinds: str = ""
    """original, greyscale, silhouettes, edges, separated by commas. All by default, silhouettes only where masks are
    known: of VOC's and the world's objects, or given by --masks."""
    masks: str = ""
    """Folder of masks with the images' names, black but for the object: silhouettes are made of them."""
    sigma_px: float = SIGMA_PX
    """Deviation in px of the blur before edges are looked for; the default is MATLAB's."""
    size_px: int | None = None
    """Side of the images: a photograph's short side is resized to 8/7 of it, the middle cut out. 224; a stimulus
    keeps its own."""

    def __post_init__(self) -> None:
        at_least(1, size_px=self.size_px)
        at_least(0.1, sigma_px=self.sigma_px)
        for kind in listed(self.kinds):
            if kind not in KINDS:
                raise unknown("kind of cue", kind, KINDS)

    def start(self, images: ImageSet, tools: Tools) -> "_Showing":
        if images.classes is None:
            found, wanted = f"{images.name} has no labels", "labels, since stimuli are named by category"
            raise CueError(found, wanted=wanted, do="give --labels, or a folder for each class")
        masks = tools.images(self.masks) if self.masks else None
        why = _no_silhouettes(images, masks)
        kinds = listed(self.kinds) or [kind for kind in KINDS if kind != "silhouettes" or not why]
        if why and "silhouettes" in kinds:
            do = "leave silhouettes out: --kinds original,greyscale,edges"
            do = do if self.masks else f"give --masks DIR, or {do}"
            raise CueError(f"no silhouettes can be made of {images.name}: {why}", wanted="masks of objects", do=do)
        return _Showing(self, images, masks, list(dict.fromkeys(kinds)))


def _no_silhouettes(images: ImageSet, masks: ImageSet | None) -> str:
    """Why these images have no silhouettes that show their category, or ""."""
    if "texture" in images.knows and "shape" not in images.knows:
        return "their labels name textures, not shapes"
    return "" if masks is not None or "mask" in images.knows else "where their objects are is not known"


class _Showing(Work):
    """Cues, ready to run: kinds chosen, files named by category."""

    labeled = False

    def __init__(self, how: Cues, images: ImageSet, masks: ImageSet | None, kinds: Sequence[str]) -> None:
        self.how, self.size_px, self.masks, self.batch = how, how.size_px, masks, len(kinds)
        self.silhouettes = "silhouettes" in kinds
        self.about = {"masks": masks.digest} if masks is not None and self.silhouettes else {}
        self.places = {} if masks is None else {_stem(masks.id(i)): i for i in range(len(masks))}
        self.pieces, self.unlabeled = [], []
        assert images.classes is not None
        for i in range(len(images)):
            if (label := images.label(i)) is None:
                self.unlabeled.append(Skipped(images.id(i), "it has no label, and stimuli are named by category"))
                continue
            name = _category(images.classes.names[label])
            self.pieces += [Piece(i, f"{kind}/{name}{i + 1}.png", key=kind) for kind in kinds]
        # Each image is asked for its mask once for all its kinds.
        self.mask = lru_cache(maxsize=2)(self._mask)

    @property
    def skipped(self) -> Sequence[Skipped]:
        return self.unlabeled

    def unfit(self, sample: Sample) -> str:
        return self.mask(sample)[1] if self.silhouettes else ""

    def _mask(self, sample: Sample) -> tuple[Tensor | None, str]:
        """Where the object is, (H, W) bool as decoded, and why it is not known."""
        mask = sample.mask
        if self.masks is not None:
            place = self.places.get(_stem(sample.id))
            if place is None:
                return None, "it has no mask in the folder of masks"
            try:
                mask = self.masks.read(place).pixels.amax(0) > ON_OBJECT
            except UnreadableError as error:
                return None, f"its mask cannot be used: {error}"
        if mask is None:
            return None, "where its object is is not known"
        if mask.shape != sample.pixels.shape[1:]:
            (height, width), (h, w) = mask.shape, sample.pixels.shape[1:]
            return None, f"its mask has {width} x {height} px, the image {w} x {h}"
        if not mask.any() or mask.all():
            return None, "its mask shows no outline: it is all of one value"
        return mask, ""

    def apply(self, pieces: Sequence[Piece], samples: Sequence[Sample], images: list[Tensor]) -> list[Output]:
        shown = (self._shown(piece.key, s, image) for piece, s, image in zip(pieces, samples, images, strict=True))
        return [Output(partial(encoded, pixels), {}) for pixels in shown]

    def _shown(self, kind: str, sample: Sample, image: Tensor) -> NDArray[np.uint8]:
        if kind == "silhouettes":
            mask = self.mask(sample)[0]
            assert mask is not None
            white = sample.but(pixels=mask[None].expand(3, -1, -1).byte() * 255)
            return np.where(framed(white, self.size_px)[0].numpy() > 127, 0, 255).astype(np.uint8)
        if kind == "edges":
            return np.where(edges(gray(image.double() / 255), self.how.sigma_px), 0, 255).astype(np.uint8)
        return luma(image[None])[0, 0].numpy() if kind == "greyscale" else to_image(image)


def _category(name: str) -> str:
    """A class's name as file names have it. Raises CueError where the number behind it would be taken for its end."""
    category = folded(name)
    if category_of(f"{category}1.png") != category:
        found = f"a class named '{name}' cannot be told from a number behind it"
        raise CueError(found, wanted="names that do not end in a digit", do="rename the class")
    return category


def _stem(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))
