"""Every file is decoded as Pillow decodes it, or refused with a reason."""

import io
import os
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from cuescope.data.images import UnreadableError
from cuescope.data.readers import decode as module
from cuescope.data.readers.decode import decode, size_of, sniff
from cuescope.data.readers.peek import peek

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (61, 83, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE).filter(ImageFilter.GaussianBlur(2))
RGBA = RGB.copy()
RGBA.putalpha(Image.fromarray(NOISE[..., 0]))
OTHER = RGB.rotate(90, expand=True)


def slow(data: bytes) -> torch.Tensor:
    """The plain twin: what torchvision's ImageFolder does."""
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)  # a copy, since Pillow leaves its options on what it saves
    return buffer.getvalue()


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = value
    return exif


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth: int, color: int, channels: int, width: int = 5, height: int = 6, extra: bytes = b"") -> bytes:
    """A PNG of random samples in any depth and color type, most of which Pillow cannot write."""
    row = (width * channels * depth + 7) // 8
    rows = b"".join(b"\0" + RANDOM.bytes(row) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def palette(count: int) -> bytes:
    return png_chunk(b"PLTE", RANDOM.bytes(3 * count))


def without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"Adobe") - 4
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4]) :]


def as_ycck(jpeg: bytes) -> bytes:
    at = jpeg.index(b"Adobe") + 11
    return jpeg[:at] + b"\2" + jpeg[at + 1 :]


def frame_moved(jpeg: bytes, before: bytes) -> bytes:
    """The JPEG with its frame header (SOF) moved before another marker."""
    at = jpeg.index(b"\xff\xc0")
    frame = jpeg[at : at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])]
    rest = jpeg.replace(frame, b"", 1)
    to = rest.index(before)
    return rest[:to] + b"\xff\xff" + frame + rest[to:]


CMYK = encoded(RGB.convert("CMYK"), "JPEG")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
GOOD = {
    "jpeg 4:4:4": encoded(RGB, "JPEG", subsampling=0),
    "jpeg 4:2:2": encoded(RGB, "JPEG", subsampling=1),
    "jpeg 4:2:0": encoded(RGB, "JPEG", subsampling=2),
    "jpeg progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg restart markers": encoded(RGB, "JPEG", restart_marker_blocks=2),
    "jpeg stored as RGB": encoded(RGB, "JPEG", keep_rgb=True),
    "jpeg frame after tables": frame_moved(encoded(RGB, "JPEG"), b"\xff\xda"),
    "jpeg gray": encoded(RGB.convert("L"), "JPEG"),
    "jpeg CMYK": CMYK,
    "jpeg CMYK without Adobe's marker": without_adobe(CMYK),
    "jpeg YCCK": as_ycck(CMYK),
    "jpeg upright": encoded(RGB, "JPEG", exif=orientation(1)),
    "jpeg with XMP orientation": encoded(RGB, "JPEG", xmp=XMP),
    "jpeg, several in a file": encoded(RGB, "MPO", save_all=True, append_images=[OTHER.copy()]),
    "png": encoded(RGB, "PNG"),
    "png gray": encoded(RGB.convert("L"), "PNG"),
    "png 1 bit": encoded(RGB.convert("1"), "PNG"),
    "png alpha": encoded(RGBA, "PNG"),
    "png gray and alpha": encoded(RGBA.convert("LA"), "PNG"),
    "png palette": encoded(RGB.quantize(200), "PNG"),
    "png palette, 4 bit": encoded(RGB.quantize(12), "PNG"),
    "png palette, one transparent": encoded(RGB.quantize(200), "PNG", transparency=3),
    "png one transparent color": encoded(RGB, "PNG", transparency=RGB.getpixel((0, 0))),
    "png animated": encoded(RGB, "PNG", save_all=True, append_images=[OTHER.resize(RGB.size)]),
    "png 2-bit gray": png(2, 0, 1),
    "png 2-bit palette too short": png(2, 3, 1, extra=palette(2)),
    "png gamma": png(8, 2, 3, extra=png_chunk(b"gAMA", struct.pack(">I", 100_000))),
    "png 16-bit RGB": png(16, 2, 3),
    "png 16-bit RGBA": png(16, 6, 4),
    "png 16-bit gray and alpha": png(16, 4, 2),
    "webp": encoded(RGB, "WEBP"),
    "webp lossless with alpha": encoded(RGBA, "WEBP", lossless=True),
    "webp animated": encoded(RGB, "WEBP", save_all=True, append_images=[OTHER.resize(RGB.size)]),
    "avif": encoded(RGB, "AVIF"),
    "avif with alpha": encoded(RGBA, "AVIF"),
    "gif animated": encoded(RGB, "GIF", save_all=True, append_images=[OTHER.resize(RGB.size)]),
    "bmp": encoded(RGB, "BMP"),
    "tiff": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "tiff, several pages": encoded(RGB, "TIFF", save_all=True, append_images=[OTHER]),
    "ppm": encoded(RGB, "PPM"),
    "jpeg 2000": encoded(RGB, "JPEG2000"),
    "jpeg turned 6 after frame": frame_moved(encoded(RGB, "JPEG", exif=orientation(6)), b"\xff\xe1"),
    **{
        f"{kind.lower()} turned {n}": encoded(RGB, kind, exif=orientation(n))
        for kind in ("JPEG", "PNG")
        for n in (2, 6)
    },
    **{f"{kind.lower()} turned 6": encoded(RGB, kind, exif=orientation(6)) for kind in ("WEBP", "AVIF")},
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_pixels_are_pillows(data: bytes) -> None:
    pixels = decode(data)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, slow(data))
    assert pixels.permute(1, 2, 0).is_contiguous()


def test_jpeg_and_png_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_pillow", lambda data, kind: None)
    fast = {name for name, data in GOOD.items() if decode(data) is not None}
    slow_ones = {name for name in GOOD if name.startswith(("jpeg", "png")) and name not in fast}
    assert slow_ones == {name for name in GOOD if re.match("(jpeg|png) turned|png 16|jpeg 2000", name)}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_an_orientation_turns_and_mirrors_no_format(tmp_path: Path, kind: str, turn: int) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    plain, turned = (encoded(RGB, kind, exif=orientation(n), **lossless) for n in (1, turn))
    assert torch.equal(decode(turned), decode(plain))
    (tmp_path / "a").write_bytes(turned)
    assert size_of(tmp_path / "a") == RGB.size
    assert peek(1, lambda _: turned) == (["1 of 1 images have an EXIF " + TURNED] if turn > 1 else [])


TURNED = "orientation; pixels are taken as stored, not turned or mirrored"


def test_a_turned_tiff_of_16_bits_is_as_stored() -> None:
    gray = Image.fromarray((np.arange(64, dtype=np.uint16) * 1024).reshape(4, 16))
    assert decode(encoded(gray, "TIFF", exif=orientation(6)))[0, 0].tolist() == list(range(0, 64, 4))


def test_what_is_unusual_is_noted() -> None:
    gray = NOISE[..., 0].astype(np.uint16)
    frames = [RGB, RGB.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    files = {
        "2 of 10 images have 16 bits a channel": [encoded(Image.fromarray(gray * k), "PNG") for k in (16, 15)],
        "1 of 10 images are CMYK": [encoded(RGB.convert("CMYK"), "JPEG")],
        "4 of 10 images are animated or have several pages": [
            encoded(RGB, kind, save_all=True, append_images=frames) for kind in ("GIF", "WEBP", "TIFF", "PNG")
        ],
        "1 of 10 images have transparency": [encoded(RGB.convert("RGBA"), "PNG")],
        "": [b"no image", encoded(RGB, "JPEG")],
    }
    every = [data for some in files.values() for data in some]
    said = peek(len(every), lambda i: every[i])
    for start in filter(None, files):
        assert any(note.startswith(start) for note in said), start
    assert said[-1].startswith("images of 16 bits seem to hold 12: none of 2 is brighter than 15 of 255")
    assert len(said) == 5


def test_of_many_files_some_are_looked_into_and_that_is_said() -> None:
    assert peek(2000, lambda i: encoded(Image.new("L", (2, 2)), "PNG", exif=orientation(3)))[0].startswith(
        "500 of 500 images looked at have an EXIF"
    )
    assert peek(600, lambda i: encoded(Image.fromarray(np.full((2, 2), 65535, np.uint16)), "PNG")) == [
        "500 of 500 images looked at have 16 bits a channel, of which the high 8 are kept"
    ]


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000), (5100, 100)])
def test_an_elongated_image_is_refused(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        with pytest.raises(UnreadableError, match=f"too elongated: {size[0]} x {size[1]}, the limit is 50 to 1"):
            decode(encoded(Image.new("RGB", size), kind))
    assert decode(encoded(Image.new("RGB", (100, 2)), "PNG")).shape == (3, 2, 100)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {"method": 0} if kind == "WEBP" else {}
        with pytest.raises(UnreadableError, match="a decompression bomb: 25 million pixels in"):
            decode(encoded(Image.new("RGB", (5000, 5000)), kind, **options))


def test_damaged_files_are_read_or_refused_as_by_pillow() -> None:
    """Random bytes are changed; the decoders must agree on which files are readable, and on the pixels."""
    random = np.random.default_rng(1)
    outcomes = set()
    for name in ("jpeg 4:2:0", "jpeg gray", "png", "png palette"):
        for _ in range(40):
            data = bytearray(GOOD[name])
            for at in random.integers(8, len(data), 2):
                data[at] = random.integers(256)
            outcomes.add(_same_outcome(bytes(data)))
    assert outcomes == {True, False}


def _same_outcome(data: bytes) -> bool:
    try:
        expected = slow(data)
    except Exception:  # Pillow raises many kinds
        with pytest.raises(UnreadableError):
            decode(data)
        return False
    assert torch.equal(decode(data), expected)
    return True


def test_palette_with_many_transparencies_does_not_warn() -> None:
    image = RGB.quantize(200)
    plain = encoded(image, "PNG")
    for exif in (orientation(1), orientation(6)):
        assert torch.equal(decode(encoded(image, "PNG", transparency=bytes(range(200)), exif=exif)), decode(plain))


def test_16_bit_gray_keeps_its_high_byte() -> None:
    """Pillow's convert("RGB") clips at 255 and gives white."""
    values = np.array([[0, 255, 256, 40_000, 65_535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encoded(Image.fromarray(values), kind))
        assert pixels[:, 0].tolist() == [[0, 0, 1, 156, 255]] * 3


def bomb(width: int = 20_000, height: int = 10_000) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def large_jpeg() -> bytes:
    data = bytearray(GOOD["jpeg 4:2:0"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def large_bmp(width: int, height: int) -> bytes:
    data = bytearray(GOOD["bmp"])
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"<!doctype html>\n<p>404", "not an image: the file holds a web page"),
    "PDF": (b"%PDF-1.7\n\x80", "not an image: the file is a PDF"),
    "zeros": (bytes(500), "not an image of a format that is read: JPEG, PNG"),
    "zip": (b"PK\3\4" + bytes(range(128, 200)), "not an image of a format that is read: JPEG, PNG"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image: the file holds text"),
    "JPEG, half": (GOOD["jpeg 4:2:0"][:700], "cut off: the JPEG data end too early"),
    "JPEG, last byte": (GOOD["jpeg 4:2:0"][:-1], "cut off: the JPEG data end too early"),
    "JPEG progressive, half": (GOOD["jpeg progressive"][:900], "cut off: the JPEG data end too early"),
    "JPEG, 3 bytes": (b"\xff\xd8\xff", "damaged or cut off: its JPEG header cannot be read"),
    "JPEG, header only": (GOOD["jpeg 4:2:0"][:100], "cut off: the JPEG data end too early"),
    "PNG, half": (GOOD["png"][:3000], "cut off: the PNG data end too early"),
    "PNG, 8 bytes": (GOOD["png"][:8], "damaged or cut off: its PNG header cannot be read"),
    "PNG, bad checksum": (GOOD["png"][:60] + b"\0\0\0\0" + GOOD["png"][64:], "damaged: the PNG data cannot be decoded"),
    "WebP, half": (GOOD["webp"][:300], "damaged: the WEBP data cannot be decoded"),
    "GIF, half": (GOOD["gif animated"][:2000], "cut off: the GIF data end too early"),
    "PNG, huge": (bomb(), "too large: 20000 x 10000 is 200 million pixels, the limit is 89 million"),
    "JPEG, huge": (large_jpeg(), "too large: 60000 x 60000 is 3600 million pixels, the limit is 89 million"),
    "JPEG, huge, frame after tables": (frame_moved(large_jpeg(), b"\xff\xda"), "too large: 60000 x 60000"),
    "BMP, huge": (large_bmp(20_000, 10_000), "too large: over the limit of 89 million pixels"),
    "TIFF of floats": (encoded(Image.fromarray(NOISE[..., 0] / np.float32(255)), "TIFF"), "pixels of Pillow's mode F"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_bad_file_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        decode(data)
    assert str(refused.value).startswith(reason)


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_what_pillow_only_warns_of_is_too_large() -> None:
    with pytest.raises(UnreadableError, match="too large: 10000 x 10000 is 100 million pixels"):
        decode(large_bmp(10_000, 10_000))


def test_warning_filters_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing them in one thread would lose or show warnings in another."""
    with monkeypatch.context() as patch:
        patch.setattr(warnings, "catch_warnings", None)
        for name in ("jpeg 4:2:0", "png", "gif animated"):
            decode(GOOD[name])


def test_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(GOOD["jpeg 4:2:0"])
    assert torch.equal(decode(path), slow(GOOD["jpeg 4:2:0"]))


def test_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableError, match="the file is not there"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(UnreadableError, match="the file cannot be read: Is a directory"):
        decode(tmp_path)
    large = tmp_path / "large.tif"
    large.touch()
    os.truncate(large, 3 << 30)
    with pytest.raises(UnreadableError, match=r"too large: a file of 3,072 MiB, the limit is 512 MiB"):
        decode(large)

    def deny(path: Path, *how: str) -> object:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "private.jpg").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(UnreadableError, match="the file cannot be read: Permission denied"):
        decode(tmp_path / "private.jpg")


def test_threads_give_the_same_pixels() -> None:
    jobs = list(GOOD.values()) * 4
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(decode, jobs))
    assert all(torch.equal(a, b) for a, b in zip(results, map(slow, jobs), strict=True))


@pytest.mark.parametrize("name", GOOD)
def test_sniffing_knows_every_format_that_is_read(name: str) -> None:
    wanted = "JPEG2000" if name == "jpeg 2000" else name.split()[0].strip(",").upper()
    assert sniff(GOOD[name][:32]) == wanted


@pytest.mark.real
def test_real_photographs_and_stimuli_equal_pillow(data: Path) -> None:
    files = sorted((data / "imagenet-sample").glob("*.JPEG")) + sorted((data / "cue-conflict").rglob("*.png"))[::8]
    assert len(files) == 580
    assert [path.name for path in files if not torch.equal(decode(path), slow(path.read_bytes()))] == []


def heic(turned: int = 1) -> bytes:
    """A file of 60 x 40 px, red above and green below; `turned` is its orientation."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :, 0] = pixels[20:, :, 1] = 255
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = turned
    Image.fromarray(pixels).save(file, "HEIF", quality=95, exif=exif.tobytes())
    return file.getvalue()


def test_heic_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_heic", lambda: ())
    with pytest.raises(UnreadableError, match="cuescope\\[heic\\]"):
        decode(b"\0\0\0\x18ftypheic" + bytes(50))


@pytest.mark.extra
def test_heic_is_read_as_its_container_turns_it(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    pixels = decode(heic())
    assert pixels.shape == (3, 40, 60)
    assert (pixels[:, 5, 30] - torch.tensor([255, 0, 0])).abs().max() <= 3
    assert (pixels[:, 35, 30] - torch.tensor([0, 255, 0])).abs().max() <= 3
    file = tmp_path / "turned.heic"
    file.write_bytes(heic(turned=6))
    assert decode(file).shape == (3, 60, 40)
    assert size_of(file) == (40, 60)
    with pytest.raises(UnreadableError, match=r"damaged|cut off"):
        decode(heic()[:-200])
