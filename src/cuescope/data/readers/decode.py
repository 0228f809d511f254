"""Bytes to pixels: the one place that decodes image files.

Pixels are those of Pillow's `Image.open(file).convert("RGB")`, with which the published numbers were measured. JPEG and
PNG go to torchcodec where that is bit-identical and faster (bench/decode.py), everything else to Pillow: other formats,
images with an EXIF orientation (torchcodec would turn them) and 16-bit PNG. Transparency is dropped, not blended.
Pixels are as stored in every format: an orientation turns none but those of HEIC, where it is a part of the image.
"""

import contextlib
import functools
import io
import os
import re
import struct
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.images import OutOfReachError, UnreadableError

MAX_PIXELS = 89_478_485
"""Images of more pixels are refused before decoding; from here on Pillow warns of a decompression bomb."""

MAX_ASPECT = 50
"""Images longer than so many times their width, or wider, are refused: resized by their shorter side they would have
gigabytes, and a crop from their middle shows next to nothing of them."""

BOMB_PIXELS, BOMB_RATIO = 1 << 24, 200
"""Larger images with more pixels than so many a byte are refused: no photograph is packed so, and decoding takes
gigabytes."""

MAX_BYTES = 1 << 29
"""Files of more bytes are refused before reading."""

MAX_WEBP = 1 << 28
"""The same for WebP, of which Pillow holds all bytes three times."""

LARGE_BYTES, PIXEL_BYTES = 1 << 26, 8
"""Larger files are read and decoded one at a time; those with more bytes than so many a pixel besides are refused."""

MOST_SOUGHT = 1 << 24
"""Bytes that are searched for the size of an image. Of larger files no more is read where these are of none."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""What is read, in Pillow's names. Few on purpose: some of Pillow's other formats start programs (EPS)."""

_LARGE = threading.RLock()

_KINDS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(hei[cfmsx]|hev[cx]|mif1|msf1)",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM....\x00\x00\x00\x00",
    "TIFF": rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+",
    "JPEG2000": rb"\x00\x00\x00\x0cjP  \r\n|\xff\x4f\xff\x51",
    "PPM": rb"P[1-6][ \t\r\n#]",
}

_ORIENTATION = 0x0112
# An orientation tag of 2 to 8 in either byte order, whatever its type. Looser than a parser on purpose: a false
# alarm only costs the slower decoder, a missed tag would turn the image.
_TURNED = re.compile(rb"\x12\x01.\x00.{4}[\x02-\x08]\x00|\x01\x12\x00..{4}\x00[\x02-\x08]", re.DOTALL)


def decode(source: bytes | Path) -> Tensor:
    r"""What are the pixels of this image file? (3, H, W) uint8 RGB, of the size that is stored.

    The format is known by content, not by name. Of an animation or a multi-page file the first frame is taken.
    Memory is channels-last. Safe in threads. Raises UnreadableError with the reason where there is no image.

    >>> decode(b"P6 2 1 255 \xff\x00\x00\x00\x00\xff").tolist()
    [[[255, 0]], [[0, 0]], [[0, 255]]]
    """
    if isinstance(source, bytes):
        return _decoded(source)
    with _turn(_size(source) > LARGE_BYTES):
        return _decoded(load(source))


def _decoded(data: bytes) -> Tensor:
    if not data:
        raise UnreadableError("the file is empty")
    kind = sniff(data)
    if kind in _HEADERS:
        size, exact = _header(data, kind)
        check_size(*size, len(data))
        if exact and len(data) <= LARGE_BYTES:
            # What torchcodec refuses goes to Pillow: it may still read it, and if not it knows the reason.
            try:
                # A tensor of our own: for bytes torchcodec changes the warning filters, which is not safe in threads.
                with _turn(_many(size)):
                    return _torchcodec()[kind](torch.frombuffer(bytearray(data), dtype=torch.uint8), mode="RGB")
            except (RuntimeError, ValueError):
                pass
    return _pillow(data, kind)


def size_of(path: Path) -> tuple[int, int]:
    """The (width, height) that an image file states, without decoding it: those of the pixels of `decode`.

    Raises UnreadableError with the reason where it states none.
    """
    data = load(path)
    kind = sniff(data)
    if kind in _HEADERS and (size := _header(data, kind)[0]) != (0, 0):
        return size
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_formats(kind)) as image:
            turned = image.format == "TIFF" and image.getexif().get(_ORIENTATION, 1) in range(5, 9)
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # whatever a damaged file makes Pillow stumble over, as in `_pillow`
        raise UnreadableError(_reason(data, kind, error)) from error


def sniff(data: bytes) -> str | None:
    """The format that the first bytes announce, in Pillow's names, or "HEIC"; None where they announce none."""
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, data, re.DOTALL)), None)


def check_size(width: int, height: int, size: int = 0) -> None:
    """Raises UnreadableError where an image of this width and height, of so many bytes, is not to be decoded."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableError(f"too elongated: {width} x {height}, the limit is {MAX_ASPECT} to 1")
    if width * height > MAX_PIXELS:
        pixels = f"{width} x {height} is {width * height / 1e6:.0f} million pixels"
        raise UnreadableError(f"too large: {pixels}, the limit is {MAX_PIXELS / 1e6:.0f} million")
    if size and width * height > max(BOMB_PIXELS, BOMB_RATIO * size):
        pixels = f"{width * height / 1e6:.0f} million pixels in {size / 1e3:.0f} kB"
        raise UnreadableError(f"a decompression bomb: {pixels}, the limit is {BOMB_RATIO} pixels a byte")


def unreached(path: Path, error: OSError, what: str = "the file") -> UnreadableError:
    """Why a file of a set cannot be read, to be raised. Raises CueError where its whole folder is gone."""
    if not path.parent.is_dir():
        do = "put it back, or mount it, and run the same command again: it goes on"
        raise CueError(f"the folder '{path.parent}' is gone", wanted="the folder of the images", do=do) from None
    if isinstance(error, FileNotFoundError):
        return OutOfReachError(f"{what} is not there (moved, deleted, or a link to nothing)")
    lasting = isinstance(error, PermissionError)
    return (UnreadableError if lasting else OutOfReachError)(f"{what} cannot be read: {error.strerror}")


def _turn(large: bool) -> contextlib.AbstractContextManager[object]:
    """Large images are decoded one at a time: each may take a gigabyte or two."""
    return _LARGE if large else contextlib.nullcontext()


def _many(size: tuple[int, int]) -> bool:
    return size[0] * size[1] > BOMB_PIXELS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreached(path, error) from None


def load(path: Path) -> bytes:
    """The bytes of an image file. Raises UnreadableError with the reason where they are too many or not there."""
    try:
        with path.open("rb") as file:
            return read_part(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise unreached(path, error) from None


def read_part(file: BinaryIO, size: int) -> bytes:
    """The bytes of an image that begins where a file stands.

    Raises UnreadableError with the reason where they are too many. That is known of most before they are read.
    """
    if size > MAX_BYTES:
        raise UnreadableError(too_large(size))
    if size > MOST_SOUGHT:
        start = file.tell()
        _check_start(file.read(MOST_SOUGHT), size)
        file.seek(start)
    return file.read(size)


def too_large(size: int, most: int = MAX_BYTES) -> str:
    """Why an image of so many bytes is not read."""
    return f"too large: a file of {size / 2**20:,.0f} MiB, the limit is {most >> 20} MiB"


def _check_start(data: bytes, size: int) -> None:
    """Raises UnreadableError where a file of so many bytes that begins so is no image, or has too few pixels for it."""
    if (kind := sniff(data)) is None:
        raise UnreadableError(_reason(data, kind))
    if kind == "WEBP" and size > MAX_WEBP:
        raise UnreadableError(too_large(size, MAX_WEBP))
    if kind in _HEADERS:
        (width, height), _ = _header(data, kind)
        if size > LARGE_BYTES + PIXEL_BYTES * width * height:
            raise UnreadableError(f"damaged: {width} x {height} pixels in a file of {size / 2**20:,.0f} MiB")


@functools.cache
def _torchcodec() -> dict[str, Any]:
    # Both are documented; the package only re-exports them in a way that pyright takes for private.
    from torchcodec.decoders import decode_jpeg, decode_png  # pyright: ignore[reportPrivateImportUsage]

    return {"JPEG": decode_jpeg, "PNG": decode_png}


def _jpeg_header(data: bytes) -> tuple[tuple[int, int], bool]:
    """The (width, height) that a JPEG states, and whether torchcodec gives Pillow's pixels for it.

    Read by hand: opening in Pillow parses EXIF, and warns where that is damaged.
    """
    size, at = (0, 0), 2
    while at <= len(data) - 9 and data[at] == 0xFF and data[at + 1] != 0xDA:  # up to the start of the scan
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        # A marker may be preceded by fill bytes; all that stand before the scan have a length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return size, size != (0, 0) and not _turned(data[:at], b"Exif\0")


def _png_header(data: bytes) -> tuple[tuple[int, int], bool]:
    """The (width, height) that a PNG states, and whether torchcodec gives Pillow's pixels for it."""
    if len(data) < 25:
        return (0, 0), False
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    return (width, height), depth < 16 and not _turned(data, b"eXIf")


_HEADERS = {"JPEG": _jpeg_header, "PNG": _png_header}


def _header(data: bytes, kind: str) -> tuple[tuple[int, int], bool]:
    """The (width, height) that is stated, and whether torchcodec gives Pillow's pixels.

    Raises UnreadableError for a large file that states none: Pillow would look for it byte by byte.
    """
    size, exact = _HEADERS[kind](data)
    if size == (0, 0) and len(data) >= MOST_SOUGHT:
        raise UnreadableError(f"damaged: its {kind} header states no size")
    return size, exact


def _turned(data: bytes, mark: bytes) -> bool:
    """Whether any EXIF block in the data may hold an orientation other than upright."""
    starts = (found.start() for found in re.finditer(re.escape(mark), data))
    return any(_TURNED.search(data, at, at + 65_536) for at in starts)


@functools.cache
def _heic() -> tuple[str, ...]:
    """Pillow's names of HEIC, where the extra that reads it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    pillow_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


def _pillow(data: bytes, kind: str | None) -> Tensor:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_formats(kind)) as image:
            check_size(*image.size, len(data))
            with _turn(_many(image.size)):
                pixels = _rgb(image)
    except UnreadableError:
        raise
    except Exception as error:  # whatever a damaged file makes Pillow's plugins stumble over, even an OverflowError
        raise UnreadableError(_reason(data, kind, error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _formats(kind: str | None) -> tuple[str, ...]:
    return (_heic() if kind == "HEIC" else ()) or FORMATS


def _rgb(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 of an opened Pillow image."""
    if image.mode in ("I", "F"):
        raise UnreadableError(f"pixels of Pillow's mode {image.mode} have no fixed range: save as 8 bits a channel")
    upright = _upright(image)
    image.load()
    if upright is not None:
        image = image.transpose(upright)
    if image.mode.startswith("I;16"):
        # Pillow's convert("RGB") would clip at 255 and give white; keep the high byte, as Pillow does for 16-bit RGB.
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    image.info.pop("transparency", None)  # it is dropped anyway, and convert() warns of some kinds
    return np.array(image.convert("RGB"))


def _upright(image: Any) -> Any:
    """What undoes the turn that Pillow gives a TIFF by its orientation, alone of all formats; None for the others."""
    from PIL import Image

    if image.format != "TIFF":
        return None
    turn = Image.Transpose
    undone = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE}
    undone |= {6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    return undone.get(image.getexif().get(_ORIENTATION, 1))


def _reason(data: bytes, kind: str | None, error: Exception | None = None) -> str:
    """Why the bytes are no image, in words for people."""
    if kind == "HEIC" and not _heic():
        return "a HEIC image: pip install 'cuescope[heic]', or convert it to JPEG or PNG"
    if kind is None:
        text = data[:40].decode(errors="replace").strip()
        if data.startswith(b"%PDF"):
            return "not an image: the file is a PDF"
        if text and all(c.isprintable() or c.isspace() for c in text) and "\ufffd" not in text:
            # Not which: a link in a stranger's folder may lead to any file, and this stands in the page.
            what = "a web page" if text.startswith(("<!doc", "<!DOC", "<html")) else "text"
            return f"not an image: the file holds {what}"
        return "not an image of a format that is read: " + ", ".join(FORMATS)
    text = str(error)
    if "DecompressionBomb" in type(error).__name__:
        return f"too large: over the limit of {MAX_PIXELS / 1e6:.0f} million pixels"
    if type(error).__name__ == "UnidentifiedImageError":
        return f"damaged or cut off: its {kind} header cannot be read"
    if re.search("truncated|Truncated|not enough|unexpected end|Unexpected end|premature", text):
        return f"cut off: the {kind} data end too early"
    return f"damaged: the {kind} data cannot be decoded ({text or type(error).__name__})"
