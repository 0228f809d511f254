"""What does a classifier say of an image that is moved, covered and changed by hand?"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from torch import Tensor
from torch.nn import functional

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.data.ops.occlude import Rectangle
from cuescope.data.ops.shift import Window
from cuescope.data.ops.suppression import PUBLISHED, Change, suppress
from cuescope.data.preprocessing import frame
from cuescope.makers.synthesis.styles import Styles, square
from cuescope.methods.incremental import PaintedImage

MOST_IMAGES = 48
"""Images that the page offers: more are no longer looked through."""
THUMBNAIL_PX = 128
TOP = 5
TILES = 16
"""Along a side, at most."""
GRAY = 0.5
"""Of the square that hides a part, in [0, 1]."""
KEPT = 8
"""Changed images that are kept, so that a slider moved back answers at once."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Pixels = Annotated[int, Meta(ge=-(2**16), le=2**16)]


class Look(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The image, and what is done to its looks: what is sent of it as a picture."""

    image: Annotated[int, Meta(ge=0)]
    smoothed: Annotated[int, Meta(ge=0, le=len(PUBLISHED["bilateral"]))] = 0
    """Texture taken away by the bilateral filter: a step of its published series, 0 none."""
    tiles: Annotated[int, Meta(ge=1, le=TILES)] = 1
    """Along a side, which trade places: no global shape is left."""
    gray: Share = 0.0
    style: Annotated[int, Meta(ge=-1)] = -1
    """The number of the image whose texture it gets, -1 none."""
    alpha: Share = 0.0
    """How strongly."""


class Scene(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: a look, where the window lies off the middle in pixels, and the square that hides a part."""

    look: Look
    dy: Pixels = 0
    dx: Pixels = 0
    square: tuple[Pixels, Pixels, Annotated[int, Meta(ge=1, le=2**16)]] | None = None
    """Top, left and side in pixels of the input."""


class Stage:
    """One classifier and some images of a set; one question at a time.

    >>> stage = Stage(classifier, read_folder("photographs"))           # doctest: +SKIP
    >>> stage.answer(Scene(Look(0), dx=1))["top"][0]                    # doctest: +SKIP
    {'name': 'tabby', 'p': 0.83}
    """

    def __init__(self, classifier: Classifier, images: ImageSet, styles: Styles) -> None:
        """Raises CueError where no image can be read."""
        self.classifier, self.styles = classifier, styles
        self.numbers, self.samples = zip(*_readable(images).items(), strict=True)
        self.window, how = Window(), classifier.preprocessing
        self.room = self.window.offsets(how)
        self.size = how.size
        self._one = threading.Lock()
        self._changed = functools.lru_cache(KEPT)(self._change)
        self._painted = functools.lru_cache(1)(self._window)
        self._framed = functools.lru_cache(MOST_IMAGES)(self._frame)
        self._before = functools.lru_cache(MOST_IMAGES)(self._unchanged)

    def about(self) -> dict[str, Any]:
        """What the page has to know before its first question."""
        middle = self.room // 2
        return {
            "model": self.classifier.name,
            "size": self.size,
            "least": [-middle, -middle],
            "most": [self.room - 1 - middle] * 2,
            "images": [sample.id for sample in self.samples],
            "smoothings": len(PUBLISHED["bilateral"]),
            "tiles": TILES,
            "assumed": list(self.classifier.assumed),
        }

    def picture(self, look: Look) -> Tensor:
        """(3, h, w) uint8: the input with the room around it in which the window moves."""
        with self._one:
            return self._changed(self._checked(look))

    def thumbnail(self, image: int) -> Tensor:
        """(3, s, s) uint8: the middle of an image, small. Raises CueError for an image that there is not."""
        return square(self.samples[self._checked(Look(image)).image].pixels, THUMBNAIL_PX)

    def answer(self, scene: Scene) -> dict[str, Any]:
        """The five best classes, P of the class that it gives the unchanged image, and the time in milliseconds."""
        with self._one:
            start = time.perf_counter()
            look = self._checked(scene.look)
            name, p_before = self._before(look.image)
            logits = self._logits(look, scene.dy, scene.dx, scene.square)
            p = logits.softmax(0)
            best = p.topk(min(TOP, len(p)))
            names = self.classifier.classes.names
            top = [{"name": names[k], "p": float(v)} for v, k in zip(best.values, best.indices.tolist(), strict=True)]
            own = {"name": names[name], "p": float(p[name]), "before": p_before}
            mirrored = self._framed(look.image)[1]
            return {"top": top, "own": own, "mirrored": mirrored, "ms": 1000 * (time.perf_counter() - start)}

    def _checked(self, look: Look) -> Look:
        """The look as it is kept: what does nothing is left out. Raises CueError for an image that there is not."""
        if not 0 <= look.image < len(self.samples) or look.style >= len(self.samples):
            found = f"image {look.image}, style {look.style}"
            raise CueError(found, wanted=f"numbers below {len(self.samples)}", do="load the page again")
        plain = look.style < 0 or look.alpha == 0
        return Look(look.image, look.smoothed, look.tiles, look.gray) if plain else look

    def _unchanged(self, image: int) -> tuple[int, float]:
        """The class that it gives the unchanged image, and its probability."""
        p = self._logits(Look(image), 0, 0, None).softmax(0)
        return int(p.argmax()), float(p.max())

    def _logits(self, look: Look, dy: int, dx: int, square: Sequence[int] | None) -> Tensor:
        painted = self._painted(look, dy, dx)
        rectangle = _inside(square, self.size) if square else None
        if rectangle is None:
            # A square of no effect would cost a patch.
            return self.classifier.logits(painted.pixels[None])[0].double()
        return painted.logits([rectangle], torch.full((3,), GRAY)).logits[0].double()

    def _window(self, look: Look, dy: int, dx: int) -> PaintedImage:
        height, width = self.size
        top, left = (min(max(self.room // 2 + d, 0), self.room - 1) for d in (dy, dx))
        cut = self._changed(look)[:, top : top + height, left : left + width]
        return PaintedImage(self.classifier, cut.to(self.classifier.device).float() / 255)

    def _change(self, look: Look) -> Tensor:
        sample = self.samples[look.image]
        pixels = self._framed(look.image)[0]
        if look.style >= 0:
            pixels = self.styles.applied(pixels, [self.styles.usable(self.numbers[look.style])], look.alpha)
        if look.smoothed:
            pixels = suppress(pixels, PUBLISHED["bilateral"][look.smoothed - 1], [sample.id])
        if look.gray:
            pixels = suppress(pixels, Change("greyscale", look.gray), [sample.id])
        if look.tiles > 1:
            pixels = suppress(pixels, Change("shuffle", look.tiles), [sample.id], rule="full")
        return pixels[0]

    def _frame(self, image: int) -> tuple[Tensor, bool]:
        """(1, 3, h, w) uint8, the evaluation's own crop in its middle, and whether its border had to be mirrored."""
        how, before = self.classifier.preprocessing, self.room // 2
        own, around = (f([self.samples[image]], how) for f in (frame, self.window.pixels))
        height, width = self.size
        if torch.equal(around[:, :, before : before + height, before : before + width], own):
            return around, False
        sides = before, self.room - before, before, self.room - before
        return functional.pad(own.float(), sides, mode="reflect").to(torch.uint8), True


def _readable(images: ImageSet) -> dict[int, Sample]:
    """By number the images that can be read, of one of each of as many equal parts as the page offers."""
    found, why = {}, ""
    count = min(MOST_IMAGES, len(images))
    for number in (i * len(images) // count for i in range(count)):
        try:
            found[number] = images.read(number)
        except UnreadableError as error:
            why = f", such as '{images.id(number)}': {error}"
    if not found:
        raise CueError(f"none of {count} images of '{images.name}' can be read{why}", wanted="images", do="give others")
    return found


def _inside(square: Sequence[int], size: tuple[int, int]) -> Rectangle | None:
    """The part of the square that lies in the input, None where that is nothing."""
    top, left, side = square
    bottom, right = min(top + side, size[0]), min(left + side, size[1])
    top, left = max(top, 0), max(left, 0)
    return Rectangle(top, left, bottom, right) if top < bottom and left < right else None
