"""Style images: read when they are needed, their statistics computed once."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from cuescope.classifier.sources.stylizers import load_stylizer
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Skipped, UnreadableError
from cuescope.data.ops.convert import as_bytes
from cuescope.makers.base import SIDE_PX
from cuescope.models.adain import SMALLEST_PX, Style, Stylizer

TOGETHER, TOGETHER_GPU = 8, 64
"""Images of the usual side that go through a stylizer at once, on a processor and on a GPU."""
KEPT_BYTES = 1 << 30
"""Of statistics in memory: those of all 79,395 paintings for VGG-19, and some 30,000 of the embedded stylizer."""


class Styles:
    """Style images by number, each read once and its statistics kept, of its `square`.

    An image that cannot be read or is too small cannot be used: the next one takes its place, and `skipped` lists it.

    >>> from cuescope.models.wct import embedded
    >>> from cuescope.world.images import WorldImages
    >>> styles = Styles(WorldImages("texture-only", count=3), embedded(), 64)
    >>> len(styles), styles.usable(2), len(styles.statistics(2))
    (3, 2, 1)
    """

    def __init__(self, images: ImageSet, stylizer: Stylizer, side_px: int) -> None:
        self.images, self.stylizer, self.side_px = images, stylizer, side_px
        self.numbers: list[int] | range = range(len(images))
        self._unfit: dict[int, Skipped] = {}
        self._kept: OrderedDict[int, Style] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def about(self, name: str) -> dict[str, dict[str, Any]]:
        """The stylizer, and the images under a name, for a manifest."""
        images = {"name": self.images.name, "count": len(self), "digest": self.images.digest}
        return {"stylizer": {"name": self.stylizer.name, "digest": self.stylizer.digest}, name: images}

    def leave_out_small(self, least_px: int) -> None:
        """Number only those that can be read and have sides of so many px: each is decoded for it."""
        whole = range(len(self.images))
        self.numbers = [number for number in whole if self.pixels(number, least_px) is not None]
        if not self.numbers:
            raise self._none()

    @property
    def skipped(self) -> list[Skipped]:
        """The images that cannot be used, as far as is known."""
        return list(self._unfit.values())

    def usable(self, number: int) -> int:
        """The number in the image set of style `number`, or of the next that can be used; CueError without one."""
        for step in range(len(self)):
            found = self.numbers[(number + step) % len(self)]
            if self.serves(found):
                return found
        raise self._none()

    def serves(self, number: int) -> bool:
        """Whether the image of this number can be read and is large enough."""
        return number in self._kept or (number not in self._unfit and self._read(number))

    def statistics(self, number: int) -> Style:
        """What the stylizer takes of the image of this number, of those that are usable."""
        if number not in self._kept:
            self._read(number)
        return self._kept[number]

    def _read(self, number: int) -> bool:
        """Keep the statistics of an image; False where it cannot be used."""
        pixels = self.pixels(number)
        if pixels is None:
            return False
        # One at a time: what else is in a batch would change the last bits.
        style = self.stylizer.statistics(pixels[None]).to("cpu")
        self._kept[number] = style
        self._bytes += _size(style)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return True

    def applied(self, contents: torch.Tensor, numbers: Sequence[int], alpha: float) -> torch.Tensor:
        """Contents (B, 3, H, W) uint8 in the textures of these images, one each: (B, 3, H, W) uint8 on the CPU."""
        style = Style.joined([self.statistics(number) for number in numbers])
        return as_bytes(self.stylizer.stylize(contents.float() / 255, style, alpha)).cpu()

    def pixels(self, number: int, least_px: int = SMALLEST_PX) -> torch.Tensor | None:
        """The image as a style, (3, s, s) in [0, 1]; None, with the reason in `skipped`, where it cannot be used."""
        try:
            pixels = self.images.read(number).pixels
            height, width = pixels.shape[1:]
            if min(height, width) < least_px:
                raise UnreadableError(f"{width} x {height} px; styles have sides of at least {least_px} px")
        except UnreadableError as error:
            self._unfit[number] = Skipped(f"{self.images.name}/{self.images.id(number)}", str(error))
            return None
        return square(pixels, self.side_px).float() / 255

    def _none(self) -> CueError:
        found = f"none of the {len(self.images)} images of {self.images.name} serves as a style"
        for first in self.skipped[:1]:
            found += f": '{first.id}' is {first.why}"
        wanted = f"images with sides of at least {SMALLEST_PX} px"
        return CueError(found, wanted=wanted, do="give another folder of styles")


def stylizer_of(spec: str, precision: Literal["float32", "bfloat16"], device: torch.device) -> Stylizer:
    """The stylizer of a maker's parameter, where and how it is to run. Raises CueError as `load_stylizer` does."""
    encoder, comma, decoder = spec.partition(",")
    found = load_stylizer((encoder.strip(), decoder.strip()) if comma else spec)
    found.network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Stylizer(found.name, found.network, precision)


def batch_of(device: torch.device, side_px: int) -> int:
    """How many images of this side are best stylized at once: 8 of 224 px on a CPU, 32 of 112 px."""
    return max(1, (TOGETHER if device.type == "cpu" else TOGETHER_GPU) * SIDE_PX**2 // side_px**2)


def square(pixels: torch.Tensor, side_px: int) -> torch.Tensor:
    """The largest middle square of an image (3, H, W) uint8, reduced to `side_px` (Lanczos), as Stylized-ImageNet's.

    >>> square(torch.zeros(3, 50, 90, dtype=torch.uint8), 40).shape
    torch.Size([3, 40, 40])
    """
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = pixels[:, top : top + side, left : left + side]
    if side <= side_px:
        return cut
    image = Image.fromarray(cut.permute(1, 2, 0).contiguous().numpy())
    resized = np.asarray(image.resize((side_px, side_px), Image.Resampling.LANCZOS))
    return torch.from_numpy(resized.copy()).permute(2, 0, 1)


def _size(style: Style) -> int:
    return sum(part.nbytes for part in (*style.mean, *style.std))
