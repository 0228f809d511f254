"""Scenes as pixels, for images that stand alone: the SVG of the page, painted by resvg in the light theme."""

import io
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from cuescope.report.draw import color
from cuescope.report.draw.color import Array
from cuescope.report.draw.scene import FONT, Point, Scene, Text, svg

PITCH = 1.35
"""From one line of text to the next, in sizes of the text."""
_MARKS = (
    f"""text {{ font-size: {FONT}px }} .middle {{ text-anchor: middle }} .end {{ text-anchor: end }}
.catch {{ fill: none }}
"""
    + """text, .mark, .fill { fill: currentColor } .mark { stroke: #fff; stroke-width: 0.8 }
.hollow { fill: #fff; stroke: currentColor; stroke-width: 1.4 }
.stroke { stroke: currentColor; fill: none; stroke-linejoin: round; stroke-linecap: round }"""
)
_ROLES = ("ink", "muted", "rule", "paper", *(f"c{i}" for i in range(len(color.ACCENTS))))
_STYLE = _MARKS + "".join(f".{role} {{ color: {color.role(role)} }}" for role in _ROLES)
_ASCII = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{HORIZONTAL ELLIPSIS}": "..."}
)


@cache
def font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that a sheet looks the same everywhere."""
    return ImageFont.load_default(size)  # pyright: ignore[reportReturnType]


@cache
def _font_folder() -> tempfile.TemporaryDirectory[str]:
    """The font as a file, which resvg needs; removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="cuescope-font-")
    Path(folder.name, "font.ttf").write_bytes(font(10).font_bytes)
    return folder


def plain(text: str) -> str:
    """Text with only what the font can draw: letters without their accents, a question mark for all others.

    >>> plain("−5 – 3, Škoda, 日")
    '-5 - 3, Skoda, ?'
    """
    parts = unicodedata.normalize("NFKD", text.translate(_ASCII))
    return "".join(c if c.isascii() else "?" for c in parts if not unicodedata.combining(c))


def width_of(text: str, size: float) -> float:
    """The width of a text in this font."""
    return font(size).getlength(plain(text))


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Lines no wider than `width`; a word wider than that stands alone."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def lines(texts: list[str], size: float, width: float, role: str = "ink", at: Point = (0, 0)) -> Scene:
    """Lines of text below each other; `at` leaves room to the left and above."""
    pitch = round(size * PITCH)
    items = [Text((at[0], at[1] + size + pitch * i), text, role, size) for i, text in enumerate(texts)]
    return Scene(at[1] + pitch * len(texts) + 4, items, width=width)


def png(scene: Scene) -> bytes:
    """The scene on white as a PNG, a pixel each unit."""
    from resvg_py import svg_to_bytes

    drawing = plain(svg(scene)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return svg_to_bytes(
        svg_string=drawing,
        background=color.PAPER,
        style_sheet=_STYLE,
        skip_system_fonts=True,
        font_dirs=[_font_folder().name],
        font_family=font(10).getname()[0],
        width=round(scene.width),
    )


def pixels(scene: Scene) -> Array:
    """The scene on white, (H, W, 3) uint8."""
    with Image.open(io.BytesIO(png(scene))) as image:
        return np.asarray(image.convert("RGB"))
