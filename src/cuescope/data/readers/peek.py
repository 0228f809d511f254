"""What is unusual about the files of a set, as far as their headers tell? Notes for whoever reads its numbers."""

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cuescope.data.images import UnreadableError
from cuescope.data.readers.decode import FORMATS, decode

MOST = 500
"""Files that are looked into, evenly spread: part of a second."""
DECODED = 8
"""Files of 16 bits that are decoded, to see what they hold."""
LARGEST = 1 << 26
"""Bytes of a file that is looked into: in a damaged one Pillow seeks on and on."""
DARK = 64
"""Of 255: where the brightest pixel of 16 bits is below it, fewer bits are used."""

_ORIENTATION = 0x0112
_SAID = {
    "turned": "have an EXIF orientation; pixels are taken as stored, not turned or mirrored",
    "frames": "are animated or have several pages; the first is taken",
    "cmyk": "are CMYK; they are converted to RGB without a color profile",
    "transparent": "have transparency, which is dropped, not blended",
    "deep": "have 16 bits a channel, of which the high 8 are kept",
}


def looked_at(count: int, most: int = MOST) -> Sequence[int]:
    """Which of 0 to `count` - 1 are looked into: all, or `most`, evenly spread."""
    return range(count) if count <= most else [i * count // most for i in range(most)]


def peek(count: int, load: Callable[[int], Path | bytes], most: int = MOST) -> list[str]:
    """Notes on the images 0 to `count` - 1, each a path or its bytes as `load` gives it.

    At most `most` are opened, none is decoded but for a few of 16 bits. What cannot be opened is passed over.
    """
    from PIL import Image

    at = looked_at(count, most)
    found: Counter[str] = Counter()
    deep: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF and of large images: the run has its own words for them
        for i in at:
            try:
                source = load(i)
                if isinstance(source, Path) and source.stat().st_size > LARGEST:
                    continue
                with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                    kinds = _kinds(image)
            except Exception:  # whatever a damaged file makes Pillow stumble over: its reading says why
                continue
            found.update(kinds)
            deep += [i] * ("deep" in kinds)
    looked = f"{len(at):,} images" + (" looked at" if len(at) < count else "")
    notes = [f"{found[kind]:,} of {looked} {said}" for kind, said in _SAID.items() if found[kind]]
    return notes + _dark(deep[:: max(1, len(deep) // DECODED)], load)


def _kinds(image: Any) -> set[str]:
    """Which of `_SAID` hold for an opened Pillow image."""
    kinds = {
        "turned": image.getexif().get(_ORIENTATION, 1) in range(2, 9),
        "frames": getattr(image, "is_animated", False),
        "cmyk": image.mode == "CMYK",
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "deep": image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile),
    }
    return {kind for kind, holds in kinds.items() if holds}


def _dark(deep: Sequence[int], load: Callable[[int], Path | bytes]) -> list[str]:
    """A note where images of 16 bits use few of them."""
    brightest = []
    for i in deep:
        with contextlib.suppress(UnreadableError):
            brightest.append(int(decode(load(i)).max()))
    if not brightest or max(brightest) >= DARK:
        return []
    bits = 8 + max(brightest).bit_length()
    return [
        f"images of 16 bits seem to hold {bits}: none of {len(brightest)} is brighter than {max(brightest)} of 255; "
        "scale them to the full range"
    ]
