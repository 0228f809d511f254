"""The images of a page: each embedded once, no larger than it is shown, with a way to the full one beside it."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from cuescope.core.findings import Map
from cuescope.report.draw import maps
from cuescope.report.draw.color import Array

SIDE, WIDE = 176, 336
"""Longest sides of what is shown in one place of a gallery, and over two."""
SMALL = 96
"""Images smaller than this are enlarged by the browser, pixel by pixel."""
QUALITY, SMALL_QUALITY, WHOLE_QUALITY = 45, 80, 90
"""Of photographs (some 4 kB), of images whose pixels will be seen, and where nothing may be lost."""
SMOOTH = 64
"""Longest side of a smooth map: the browser makes what lies between."""


class Picture(NamedTuple):
    """An image that the page's style sheet holds."""

    names: str
    """Its classes."""
    shape: tuple[int, int]
    """Width and height: the room is kept before it is there."""
    full: str = ""
    """Where the full image lies, seen from the page."""


@dataclass
class Thumbnails:
    """Images and maps by what they hold, so that the same under many captions are one.

    `page` is the folder of the page: what lies in or below it is linked. With `whole` nothing is made smaller.
    """

    page: Path | None = None
    whole: bool = False
    rules: dict[str, str] = field(default_factory=dict)
    """What the style sheet of the images says, by class."""

    def picture(self, pixels: Array, file: Path | None = None, side: int = SIDE) -> Picture:
        """An image, (H, W, 3) uint8; `file` is where it lies in the run folder."""
        small = max(pixels.shape[:2]) <= SMALL
        shown = pixels if self.whole or max(pixels.shape[:2]) <= side else maps.resized(pixels, side)
        quality = WHOLE_QUALITY if self.whole else SMALL_QUALITY if small else QUALITY
        name = self._kept(maps.data_uri(shown, quality), "before")
        return Picture(f"{name} pixels" if small else name, (shown.shape[1], shown.shape[0]), self._link(file))

    def over(self, picture: Picture, layer: Map) -> Picture:
        """A map over an image that is there already, or alone."""
        if layer.alone:
            cells = maps.alone(layer)
            name = self._kept(maps.data_uri(cells, WHOLE_QUALITY), "before")
            return Picture(f"{name} pixels", (cells.shape[1], cells.shape[0]))
        width, height = picture.shape
        if layer.kind != "labels" and not self.whole:
            times = min(1.0, SMOOTH / max(width, height))
            width, height = max(1, round(width * times)), max(1, round(height * times))
        uri = maps.data_uri(maps.cover(layer, width, height), WHOLE_QUALITY if self.whole else QUALITY)
        return picture._replace(names=f"{picture.names} gray {self._kept(uri, 'after')}")

    def style(self) -> str:
        """The rules of all images so far."""
        return "\n".join(self.rules.values())

    def _kept(self, uri: str, where: str) -> str:
        name = f"{where[0]}{hashlib.blake2b(uri.encode(), digest_size=5).hexdigest()}"
        self.rules.setdefault(name, f".{name}::{where}{{background-image:url({uri})}}")
        return name

    def _link(self, file: Path | None) -> str:
        if self.page is None or file is None:
            return ""
        way = os.path.relpath(file.resolve(), self.page.resolve())
        return "" if way.startswith("..") else quote(Path(way).as_posix())
