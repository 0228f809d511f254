"""Maps over images: heat, signed values and labels laid on the gray image, as arrays and as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from cuescope.core.findings import Map
from cuescope.report.draw import color, words
from cuescope.report.draw.color import Array

STRENGTH = 0.6
"""How much of a heat map covers the image beneath."""
LABEL_STRENGTH = 0.62, 0.26
"""The same for labels; the most frequent one, the rule that the others break, is laid on thinly."""
SMALLEST, LARGEST = 192, 288
"""Sides of images in a report: small ones are enlarged pixel by pixel, large ones reduced."""


def fit(pixels: Array, smallest: int = SMALLEST, largest: int = LARGEST) -> Array:
    """(H, W, 3) uint8 of any size to one whose longer side is readable but light.

    >>> fit(np.zeros((64, 48, 3), np.uint8)).shape, fit(np.zeros((600, 300, 3), np.uint8)).shape
    ((192, 144, 3), (288, 144, 3))
    """
    height, width = pixels.shape[:2]
    side = max(height, width)
    if side < smallest:
        times = -(-smallest // side)
        return pixels.repeat(times, 0).repeat(times, 1)
    if side <= largest:
        return pixels
    size = max(1, round(width * largest / side)), max(1, round(height * largest / side))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


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
        return _alone(layer, max(pixels.shape[:2]))
    weights = np.array([0.299, 0.587, 0.114])
    laid = np.repeat((pixels @ weights)[..., None] * 0.75 + 40, 3, -1)
    x0, y0, x1, y1 = _corners(layer, pixels)
    painted, strength = _painted(layer, x1 - x0, y1 - y0)
    # A map may reach beyond the image: what lies there is cut off.
    top, left, (bottom, right) = max(y0, 0), max(x0, 0), (min(y1, laid.shape[0]), min(x1, laid.shape[1]))
    inside = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
    painted, strength = painted[inside], strength[inside]
    laid[top:bottom, left:right] = laid[top:bottom, left:right] * (1 - strength) + painted * strength
    return laid.clip(0, 255).round().astype(np.uint8)


def _alone(layer: Map, side: int) -> Array:
    values = values_of(layer)
    known = np.isfinite(values)
    if layer.kind == "labels":
        table = label_colors(layer)
        shades = np.array(
            [
                [table.get(int(v) if k else -1, (0, 0, 0)) for v, k in zip(row, there, strict=True)]
                for row, there in zip(values, known, strict=True)
            ],
            np.uint8,
        )
        if layer.strength is not None:
            own = np.array(layer.strength, dtype=np.float64)[..., None]
            shades = (own * shades + (1 - own) * color.rgb(color.PAPER)).round()
    else:
        low, high = bounds(layer)
        t = np.where(known, values, low)
        shades = color.signed(t / high) if layer.kind == "signed" else color.heat((t - low) / (high - low))
    shades = np.where(known[..., None], shades, color.rgb(color.RULE)).astype(np.uint8)
    times = max(1, side // max(values.shape))
    return shades.repeat(times, 0).repeat(times, 1)


def _corners(layer: Map, pixels: Array) -> tuple[int, int, int, int]:
    """The rectangle that the map covers, in pixels of the image: at least one of it, and maybe some beyond it."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = layer.extent or (0.0, 0.0, 1.0, 1.0)
    left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
    return left, top, max(round(x1 * width), left + 1, 1), max(round(y1 * height), top + 1, 1)


def _painted(layer: Map, width: int, height: int) -> tuple[Array, Array]:
    values = values_of(layer)
    known = np.isfinite(values)
    there = _stretched(known * 1.0, width, height, smooth=False)[..., None]
    if layer.kind == "labels":
        table = label_colors(layer)
        most = next(iter(table), 0)
        codes = np.where(known, values, most).astype(int)
        shades = np.array([[table.get(c, (0, 0, 0)) for c in row] for row in codes], dtype=np.float64)
        usual = np.where(codes == most, *LABEL_STRENGTH[::-1])
        own = usual if layer.strength is None else np.array(layer.strength, dtype=np.float64)
        weights = _stretched(own, width, height, smooth=False)
        large = np.stack([_stretched(shades[..., c], width, height, smooth=False) for c in range(3)], -1)
        return large, there * weights[..., None]
    low, high = bounds(layer)
    grid = _stretched(np.where(known, values, low), width, height, smooth=True)
    if layer.kind == "signed":
        t = grid / high
        return color.signed(t).astype(float), there * np.minimum(0.15 + np.abs(t)[..., None], 1) * 0.85
    return color.heat((grid - low) / (high - low)).astype(float), there * STRENGTH


def _stretched(values: Array, width: int, height: int, smooth: bool) -> Array:
    way = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), way))


def label_colors(layer: Map) -> dict[int, tuple[int, int, int]]:
    """A color for each label that occurs, the most frequent first; from the ninth on all are gray."""
    values = values_of(layer)
    codes, counts = np.unique(values[np.isfinite(values)].astype(int), return_counts=True)
    order = [int(c) for c in codes[np.argsort(-counts, kind="stable")]]
    palette = [color.rgb(c) for c in color.LABELS]
    return {code: palette[i] if i < len(palette) else color.rgb(color.OTHER) for i, code in enumerate(order)}


def legend(layer: Map) -> list[tuple[str, tuple[int, int, int], float]]:
    """The labels of a map by area: name, color, share of the map; the gray ones together as "others"."""
    values = values_of(layer)
    known = values[np.isfinite(values)].astype(int)
    if not known.size:
        return []
    table = label_colors(layer)
    codes, counts = np.unique(known, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = [(_label(layer, int(codes[i])), table[int(codes[i])], float(counts[i]) / known.size) for i in order]
    named, rest = rows[: len(color.LABELS)], rows[len(color.LABELS) :]
    if rest:
        named.append((f"{len(rest)} others", color.rgb(color.OTHER), sum(float(r[2]) for r in rest)))
    return named


def _label(layer: Map, code: int) -> str:
    return layer.legend[code] if 0 <= code < len(layer.legend) else f"label {code}"


def color_bar(layer: Map) -> tuple[str, str, str]:
    """A CSS gradient for the map's scale and the texts at its two ends."""
    low, high = bounds(layer)
    shades = color.signed(np.linspace(-1, 1, 9)) if layer.kind == "signed" else color.heat(np.linspace(0, 1, 9))
    stops = ", ".join("#" + bytes(shade).hex() for shade in shades)
    return f"linear-gradient(90deg, {stops})", end_text(low, layer.unit), end_text(high, layer.unit)


def end_text(number: float, unit: str) -> str:
    """A number at an end of a color bar.

    >>> end_text(0.0, "probability"), end_text(-1.5, "")
    ('0', '−1.5')
    """
    if number == 0 or unit not in ("share", "px", "images", "nats"):
        return f"{number:.3g}".replace("-", words.MINUS)
    return words.value(number, unit)


def png(pixels: Array) -> bytes:
    """The image as PNG."""
    return _encoded(pixels, "PNG", optimize=True)


def data_uri(pixels: Array) -> str:
    """The image for a page: PNG where that is small (drawn images), else JPEG (photographs)."""
    drawn = png(pixels)
    if len(drawn) <= 24_000:
        return "data:image/png;base64," + base64.b64encode(drawn).decode()
    # Not optimized: Pillow then allots a byte a pixel, and noise (random filters, say) needs more and fails.
    photo = _encoded(pixels, "JPEG", quality=84, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(photo).decode()


def _encoded(pixels: Array, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def read(path: Any) -> Array:
    """An image file of a run folder as (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
