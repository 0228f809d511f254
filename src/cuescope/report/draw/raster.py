"""Scenes as pixels, for images that stand alone."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cuescope.report.draw import color
from cuescope.report.draw.color import Array
from cuescope.report.draw.scene import Area, Line, Mark, Scene, Text, outline

FINE = 3
"""Scenes are painted this many times larger and reduced, for Pillow's lines have hard edges."""

_PLAIN = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "…": "...", "\N{EM DASH}": "-"})


@cache
def font(size: float) -> Any:
    """Pillow's own font, so that a sheet looks the same everywhere."""
    return ImageFont.load_default(size)


def plain(text: str) -> str:
    """Text with only what Pillow's own font can draw: anything else would be an empty box."""
    return "".join(c if ord(c) < 0x180 else "?" for c in text.translate(_PLAIN))


def wrapped(text: str, size: float, width: int) -> list[str]:
    """Lines no wider than `width`; a word wider than that stands alone."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def raster(scene: Scene, width: int) -> Array:
    """The scene on white, `width` pixels wide, (H, W, 3) uint8."""
    times = width * FINE / scene.width
    canvas = Image.new("RGB", (width * FINE, round(scene.height * times)), color.PAPER)
    for item in scene.items:
        _paint(canvas, item, times)
    size = width, max(1, round(scene.height * width / scene.width))
    return np.asarray(canvas.resize(size, Image.Resampling.LANCZOS))


def _paint(canvas: Image.Image, item: Line | Area | Mark | Text, times: float) -> None:
    draw, shade = ImageDraw.Draw(canvas), color.rgb(color.role(item.role))
    if isinstance(item, Text):
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
        at = item.at[0] * times, item.at[1] * times
        draw.text(at, plain(item.text), fill=shade, font=font(item.size * times), anchor=anchor)
    elif isinstance(item, Line):
        points = [(x * times, y * times) for x, y in item.points]
        width = max(1, round(item.width * times))
        if len(points) == 1:
            return
        if item.dash:
            _dashed(draw, points, shade, width, [float(d) * times for d in item.dash.split()])
        else:
            draw.line(points, fill=shade, width=width, joint="curve")
    elif isinstance(item, Area):
        if item.opacity:
            _fill(canvas, [(x * times, y * times) for x, y in item.points], shade, item.opacity)
    else:
        points = [(x * times, y * times) for x, y in outline(item.glyph, item.at, item.radius)]
        inside = color.rgb(color.PAPER) if item.hollow else shade
        draw.polygon(points, fill=inside, outline=shade, width=max(1, round(1.3 * times)))


def _fill(canvas: Image.Image, points: list[tuple[float, float]], shade: tuple[int, ...], opacity: float) -> None:
    mask = Image.new("L", canvas.size, 0)
    ImageDraw.Draw(mask).polygon(points, fill=round(255 * opacity))
    canvas.paste(shade, mask=mask)


def _dashed(draw: Any, points: list[tuple[float, float]], shade: Any, width: int, dashes: list[float]) -> None:
    pattern, place, drawn = dashes, 0, True
    left = pattern[0]
    for (x1, y1), (x2, y2) in pairwise(points):
        length, done = float(np.hypot(x2 - x1, y2 - y1)), 0.0
        while done < length:
            step = min(left, length - done)
            a, b = done / length, (done + step) / length
            if drawn:
                ends = [(x1 + (x2 - x1) * t, y1 + (y2 - y1) * t) for t in (a, b)]
                draw.line(ends, fill=shade, width=width)
            done, left = done + step, left - step
            if left <= 1e-9:
                place, drawn = (place + 1) % len(pattern), not drawn
                left = pattern[place]
