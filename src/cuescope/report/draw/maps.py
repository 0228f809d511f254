"""Maps over images: heat, signed values and labels laid on the gray image, as arrays and as data URIs."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cuescope.core.files import read_picture
from cuescope.core.findings import Figure, Inset, Map
from cuescope.report.draw import color, words
from cuescope.report.draw.color import Array

STRENGTH = 0.6
"""How much of a heat map covers the image beneath."""
LABEL_STRENGTH = 0.62, 0.26
"""The same for labels; the most frequent one, the rule that the others break, is laid on thinly."""
DRAWN = 256
"""Colors of an image that was drawn."""


def resized(pixels: Array, side: int) -> Array:
    """(H, W, 3) uint8 with a longer side of `side`; where that is twice as long or more, pixels stay squares."""
    height, width = pixels.shape[:2]
    times = side / max(height, width)
    size = max(1, round(width * times)), max(1, round(height * times))
    way = Image.Resampling.NEAREST if times >= 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, way))


def values_of(layer: Map) -> Array:
    """The map's numbers as (h, w) float64; what is None becomes NaN."""
    return np.array(layer.values, dtype=np.float64)


def bounds(layer: Map) -> tuple[float, float]:
    """The ends of the map's color scale; symmetric about 0 where it is signed."""
    values = values_of(layer)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low = low if layer.low is None else layer.low
    high = high if layer.high is None else layer.high
    if layer.kind == "signed":
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return low, high if high > low else low + 1.0


def overlay(pixels: Array, layer: Map) -> Array:
    """The image in gray with the map in color over it, (H, W, 3) uint8. Where the map has no value, gray only.

    A map that stands alone is drawn without the image, about as large, each cell a square of whole pixels.
    """
    if layer.alone:
        cells = alone(layer)
        times = max(1, max(pixels.shape[:2]) // max(cells.shape[:2]))
        return cells.repeat(times, 0).repeat(times, 1)
    weights = np.array([0.299, 0.587, 0.114])
    gray = np.repeat((pixels @ weights)[..., None] * 0.75 + 40, 3, -1)
    colors, strength = _cover(layer, *pixels.shape[1::-1])
    return (gray * (1 - strength) + colors * strength).clip(0, 255).round().astype(np.uint8)


def alone(layer: Map) -> Array:
    """A map that stands alone, a pixel a cell, (h, w, 3) uint8."""
    values = values_of(layer)
    height, width = values.shape
    own = np.array(1.0 if layer.strength is None else layer.strength, dtype=np.float64)[..., None]
    cells = (own * _painted(layer, width, height) + (1 - own) * color.rgb(color.PAPER)).round()
    return np.where(np.isfinite(values)[..., None], cells, color.rgb(color.RULE)).astype(np.uint8)


def cover(layer: Map, width: int, height: int) -> Array:
    """The map without the image, (height, width, 4) uint8: laid over the gray image it is the overlay."""
    colors, strength = _cover(layer, width, height)
    return np.concatenate([colors, strength * 255], -1).round().astype(np.uint8)


def _cover(layer: Map, width: int, height: int) -> tuple[Array, Array]:
    """Colors, (height, width, 3), and how much they cover, (height, width, 1) in [0, 1]."""
    x0, y0, x1, y1 = layer.extent or (0.0, 0.0, 1.0, 1.0)
    # In pixels of the image: at least one of it, and maybe some beyond it.
    x0, y0 = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
    x1, y1 = max(round(x1 * width), x0 + 1, 1), max(round(y1 * height), y0 + 1, 1)
    painted, strength = _painted(layer, x1 - x0, y1 - y0), _strength(layer, x1 - x0, y1 - y0)
    # A map may reach beyond the image: what lies there is cut off.
    top, left, (bottom, right) = max(y0, 0), max(x0, 0), (min(y1, height), min(x1, width))
    inside = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
    colors, covered = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    colors[top:bottom, left:right], covered[top:bottom, left:right] = painted[inside], strength[inside]
    return colors, covered


def _painted(layer: Map, width: int, height: int) -> Array:
    """The map's colors, (height, width, 3); any color where it has no value."""
    values = values_of(layer)
    known = np.isfinite(values)
    if layer.kind != "labels":
        filled = np.where(known, values, bounds(layer)[0])
        return shades(layer, _stretched(filled, width, height, smooth=True)).astype(float)
    table = label_colors(layer)
    codes = np.where(known, values, -1).astype(int)
    cells = np.array([[table.get(code, (0, 0, 0)) for code in row] for row in codes], dtype=np.float64)
    return np.stack([_stretched(cells[..., c], width, height, smooth=False) for c in range(3)], -1)


def _strength(layer: Map, width: int, height: int) -> Array:
    """How much the map covers, (height, width, 1) in [0, 1]: nothing where it has no value."""
    values = values_of(layer)
    known = np.isfinite(values)
    if layer.kind == "labels":
        most = next(iter(label_colors(layer)), 0)
        usual = np.where(values == most, *LABEL_STRENGTH[::-1])
        own = usual if layer.strength is None else np.array(layer.strength, dtype=np.float64)
        return _stretched(own * known, width, height, smooth=False)[..., None]
    there = _stretched(known * 1.0, width, height, smooth=False)[..., None]
    if layer.kind == "heat":
        return there * STRENGTH
    low, high = bounds(layer)
    grid = _stretched(np.where(known, values, low), width, height, smooth=True)[..., None]
    return there * np.minimum(0.15 + np.abs(grid / high), 1) * 0.85


def shades(layer: Map, values: Array) -> Array:
    """Numbers to (..., 3) uint8 on the scale of a heat map or a signed map."""
    low, high = bounds(layer)
    return color.signed(values / high) if layer.kind == "signed" else color.heat((values - low) / (high - low))


def _stretched(values: Array, width: int, height: int, smooth: bool) -> Array:
    way = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), way))


def _areas(layer: Map) -> list[tuple[int, int]]:
    """The labels of a map, each with how many cells it has, the most frequent first."""
    values = values_of(layer)
    codes, counts = np.unique(values[np.isfinite(values)].astype(int), return_counts=True)
    return [(int(codes[i]), int(counts[i])) for i in np.argsort(-counts, kind="stable")]


def label_colors(layer: Map) -> dict[int, tuple[int, int, int]]:
    """A color for each label that occurs, the most frequent first; from the ninth on all are gray."""
    return {code: color.label(i) for i, (code, _) in enumerate(_areas(layer))}


def legend(layer: Map) -> list[tuple[str, tuple[int, int, int], float]]:
    """The labels of a map by area: name, color, share of the map; the gray ones together as "others"."""
    areas = _areas(layer)
    total, most = sum(count for _, count in areas), len(color.LABELS)
    names = [layer.legend[k] if 0 <= k < len(layer.legend) else f"label {k}" for k, _ in areas[:most]]
    named = [(name, color.label(i), areas[i][1] / total) for i, name in enumerate(names)]
    if rest := areas[most:]:
        named.append(
            (f"{len(rest)} other{'s' * (len(rest) > 1)}", color.rgb(color.OTHER), sum(n for _, n in rest) / total)
        )
    return named


def color_bar(layer: Map) -> tuple[str, str, str]:
    """A CSS gradient for the map's scale and the texts at its two ends."""
    low, high = bounds(layer)
    stops = ", ".join("#" + bytes(shade).hex() for shade in shades(layer, np.linspace(low, high, 9)))
    return f"linear-gradient(90deg, {stops})", end_text(low, layer.unit), end_text(high, layer.unit)


def end_text(number: float, unit: str) -> str:
    """A number at an end of a color bar.

    >>> end_text(0.0, "probability"), end_text(-1.5, "")
    ('0', '−1.5')
    """
    if number == 0 or unit not in ("share", "px", "images", "nats"):
        return f"{number:.3g}".replace("-", words.MINUS)
    return words.value(number, unit)


def data_uri(pixels: Array, quality: int | None = None) -> str:
    """The image for a page: PNG where each pixel must stay as it is, else WebP, whichever kind of it is smaller."""
    image = Image.fromarray(pixels)
    if quality is None:
        kind, data = "png", _encoded(image, "PNG")
    else:
        kind, data = "webp", _encoded(image, "WEBP", quality=quality, alpha_quality=quality, method=4)
        if image.getcolors(DRAWN):  # Few colors: it was drawn, and is smaller and sharper as it is.
            data = min(data, _encoded(image, "WEBP", lossless=True, quality=20, method=0), key=len)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def pixels_of(image: Figure | Inset, folder: Path | None) -> Array:
    """The image, (H, W, 3) uint8: its pixels, or its file in the folder of its cell.

    Raises CueError where the file is not in the folder, missing, no PNG or huge: a run folder may come from anyone.
    """
    if image.pixels is not None:
        return np.asarray(image.pixels)
    if folder is None:
        raise ValueError(f"the image '{image.file}' holds no pixels and no folder was given")
    return read_picture(folder, image.file)
