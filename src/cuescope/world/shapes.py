"""The 16 silhouettes: polygons with named parts, and the table of their coverage that drawing looks up."""

import functools
from collections.abc import Mapping
from math import tau

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]

TABLE = 256
"""Texels along a side of a coverage table."""
FLIP = [-1, 1]
EXTENT = 1.12
"""A coverage table spans -EXTENT..EXTENT in units of the silhouette's radius, so that its border is empty."""
_OVERSAMPLING = 4
_SOFT_TEXELS = 5
"""Width of the edge, about one pixel at the usual sizes: this is what keeps outlines free of stairs."""


def polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def ellipse(
    cx: float, cy: float, rx: float, ry: float, turn_deg: float = 0.0, arc: tuple[float, float] = (0, 360)
) -> Points:
    """An ellipse, or a part of one, clockwise from the right; y points down."""
    angle = np.linspace(np.radians(arc[0]), np.radians(arc[1]), 49)
    x, y = rx * np.cos(angle), ry * np.sin(angle)
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], 1)


def band(cx: float, cy: float, rx: float, ry: float, width: float, arc: tuple[float, float]) -> Points:
    """A bent strip: the arc of an ellipse and the one `width` inside it."""
    inner = ellipse(cx, cy, rx - width, ry - width, arc=(arc[1], arc[0]))
    return np.concatenate([ellipse(cx, cy, rx, ry, arc=arc), inner])


def mirrored(*right: tuple[float, float]) -> Points:
    """A polygon symmetric about x = 0 from its right half, given from top to bottom."""
    half = polygon(*right)
    return np.concatenate([half, half[::-1] * FLIP])


def _butterfly() -> dict[str, Points]:
    upper, lower = ellipse(0.5, -0.36, 0.6, 0.42, -38), ellipse(0.4, 0.42, 0.46, 0.34, 42)
    return {
        "upper left wing": upper * FLIP,
        "upper right wing": upper,
        "lower left wing": lower * FLIP,
        "lower right wing": lower,
        "body": ellipse(0, 0, 0.13, 0.72),
    }


def _crescent() -> dict[str, Points]:
    outer, inner = ellipse(0, 0, 1, 1, arc=(52, 308)), ellipse(0.5, 0, 0.795, 0.795, arc=(82.5, 277.5))
    cut = 17
    return {
        "upper horn": np.concatenate([outer[-cut:], inner[-cut:][::-1]]),
        "belly": np.concatenate([outer[cut - 1 : 1 - cut], inner[cut - 1 : 1 - cut][::-1]]),
        "lower horn": np.concatenate([outer[:cut], inner[:cut][::-1]]),
    }


def _fish() -> dict[str, Points]:
    along = np.linspace(0, 1, 49)
    x, half = -0.62 + 1.62 * along, np.maximum(0.52 * np.sin(np.pi * along**0.8) ** 0.85, 0.09 * (along < 0.5))
    body = np.concatenate([np.stack([x, -half], 1), np.stack([x, half], 1)[::-1]])
    return {
        "head": body[body[:, 0] > 0.45],
        "body": body,
        "tail": polygon((-0.42, 0.0), (-1.02, -0.56), (-0.86, 0.0), (-1.02, 0.56)),
        "back fin": polygon((-0.3, -0.2), (-0.22, -0.74), (0.42, -0.4)),
    }


def _flower() -> dict[str, Points]:
    petals = {}
    for k in range(6):
        angle = tau * (k + 0.5) / 6
        center = 0.58 * np.cos(angle), 0.58 * np.sin(angle)
        petals[f"petal {k + 1}"] = ellipse(*center, 0.42, 0.27, float(np.degrees(angle)))
    return petals | {"center": ellipse(0, 0, 0.36, 0.36)}


def _heart() -> dict[str, Points]:
    t = np.linspace(0, np.pi, 49)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    right = np.stack([16 * np.sin(t) ** 3, -height], 1) - np.array([0.05, 0.0])
    return {"left half": right * FLIP, "right half": right}


def _rabbit() -> dict[str, Points]:
    ear = ellipse(0.36, -0.46, 0.22, 0.58, 14)
    return {"left ear": ear * FLIP, "right ear": ear, "head": ellipse(0, 0.42, 0.7, 0.6)}


def _star() -> dict[str, Points]:
    angle = tau * np.arange(10) / 10 - tau / 4
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.46)
    corner = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    points = {f"point {k + 1}": np.stack([corner[2 * k - 1], corner[2 * k], corner[2 * k + 1]]) for k in range(5)}
    return points | {"core": corner[1::2] * 1.02}


def _vase() -> dict[str, Points]:
    y = np.linspace(0, 1, 33)
    neck = [(0.2 + 0.22 * (1 - t) ** 2.2, -1.0 + 0.55 * t) for t in y]
    belly = [(0.2 + 0.44 * np.sin(np.pi * t**0.85) ** 1.2 + 0.06 * t, -0.5 + 1.4 * t) for t in y]
    return {"neck": mirrored(*neck), "belly": mirrored(*belly), "foot": mirrored((0.28, 0.82), (0.42, 1.0))}


DRAWN: dict[str, dict[str, Points]] = {
    "arrow": {
        "head": polygon((0.05, -0.85), (1.0, 0.0), (0.05, 0.85)),
        "shaft": polygon((-1.0, -0.36), (0.1, -0.36), (0.1, 0.36), (-1.0, 0.36)),
    },
    "bolt": {
        "top": polygon((-0.2, -1.0), (0.62, -1.0), (0.22, -0.3), (0.0, 0.12), (-0.62, 0.12)),
        "tip": polygon((-0.14, 0.12), (0.2, -0.28), (0.74, -0.28), (-0.38, 1.0)),
    },
    "butterfly": _butterfly(),
    "crescent": _crescent(),
    "crown": {
        "band": polygon((-0.82, 0.34), (0.82, 0.34), (0.82, 0.8), (-0.82, 0.8)),
        "spikes": polygon(
            (-0.8, 0.4), (-0.98, -0.5), (-0.45, 0.0), (0.0, -0.72), (0.45, 0.0), (0.98, -0.5), (0.8, 0.4)
        ),
        "left jewel": ellipse(-0.98, -0.52, 0.16, 0.16),
        "middle jewel": ellipse(0, -0.74, 0.18, 0.18),
        "right jewel": ellipse(0.98, -0.52, 0.16, 0.16),
    },
    "fish": _fish(),
    "flower": _flower(),
    "heart": _heart(),
    "house": {
        "roof": polygon((-1.0, -0.1), (0.0, -0.98), (1.0, -0.1)),
        "wall": polygon((-0.72, -0.15), (0.72, -0.15), (0.72, 0.85), (-0.72, 0.85)),
        "chimney": polygon((0.42, -0.9), (0.72, -0.9), (0.72, -0.2), (0.42, -0.2)),
    },
    "mug": {
        "cup": mirrored((0.6, -0.75), (0.58, 0.5), (0.5, 0.68), (0.36, 0.75)) - [0.25, 0],
        "handle": band(0.3, -0.08, 0.66, 0.52, 0.22, (-100, 100)),
    },
    "mushroom": {
        "cap": np.concatenate([ellipse(0, 0, 1.0, 0.88, arc=(180, 360)), ellipse(0, 0, 1.0, 0.16, arc=(0, 180))]),
        "stem": mirrored((0.26, 0.0), (0.25, 0.45), (0.36, 0.78), (0.3, 0.88)),
    },
    "rabbit": _rabbit(),
    "sailboat": {
        "hull": polygon((-1.0, 0.48), (1.0, 0.48), (0.62, 0.92), (-0.66, 0.92)),
        "mainsail": polygon((0.0, -0.98), (0.86, 0.36), (0.0, 0.36)),
        "jib": polygon((-0.14, -0.6), (-0.14, 0.36), (-0.78, 0.36)),
        "mast": polygon((-0.16, -0.98), (0.02, -0.98), (0.02, 0.5), (-0.16, 0.5)),
    },
    "star": _star(),
    "tree": {
        "top": mirrored((0.0, -1.0), (0.46, -0.36)),
        "middle": mirrored((0.0, -0.72), (0.62, 0.14)),
        "bottom": mirrored((0.0, -0.3), (0.8, 0.68)),
        "trunk": mirrored((0.16, 0.6), (0.16, 1.0)),
    },
    "vase": _vase(),
}
"""The silhouettes by name, each by its parts, in any units; y points down."""
NAMES = tuple(DRAWN)
"""The classes of the world, named by their silhouettes, in the order of the logits."""
BLOBS = 16
"""How many shapes without a class there are, for images in which only texture tells the class."""


def _blob(number: int) -> dict[str, Points]:
    """A smooth closed curve that resembles no class: a circle with three random harmonics."""
    rng = np.random.default_rng([number, 0xB10B])
    angle = np.linspace(0, tau, 97)[:-1]
    radius = np.ones_like(angle)
    for order in (2, 3, 4):
        radius += rng.uniform(0.04, 0.3 / order) * np.cos(order * angle + rng.uniform(0, tau))
    return {"blob": np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)}


def _normalized(parts: dict[str, Points]) -> dict[str, Points]:
    """Center the silhouette's box on the origin and give its farthest point the distance 1."""
    points = np.concatenate(list(parts.values()))
    center = (points.min(0) + points.max(0)) / 2
    radius = np.linalg.norm(points - center, axis=1).max()
    return {name: (part - center) / radius for name, part in parts.items()}


@functools.cache
def silhouettes() -> tuple[Mapping[str, Points], ...]:
    """The parts of each silhouette as polygons in units of its radius, the 16 classes first, then the blobs.

    >>> [len(silhouettes()), sorted(silhouettes()[5])]
    [32, ['back fin', 'body', 'head', 'tail']]
    """
    drawn = [*DRAWN.values(), *(_blob(k) for k in range(BLOBS))]
    return tuple(_normalized(parts) for parts in drawn)


def _coverage(parts: Mapping[str, Points]) -> NDArray[np.float32]:
    side = TABLE * _OVERSAMPLING
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for part in parts.values():
        texels = (part / EXTENT + 1) * (side / 2) - 0.5
        pen.polygon([(float(x), float(y)) for x, y in texels], fill=255)
    soft = canvas.filter(ImageFilter.BoxBlur(_SOFT_TEXELS * _OVERSAMPLING / 2)).reduce(_OVERSAMPLING)
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


@functools.cache
def coverage_tables() -> NDArray[np.float32]:
    """How much of each texel a silhouette covers: (32, 256, 256) in 0..1, the classes first, then the blobs."""
    return np.stack([_coverage(parts) for parts in silhouettes()])


@functools.cache
def radius_scale() -> NDArray[np.float32]:
    """What to multiply a silhouette's radius with so that all cover about the same area, as far as they fit.

    Without it area would tell classes apart: a bolt fills 27 % of its circle, a flower 60 %.
    """
    area = coverage_tables().mean((1, 2)) * (2 * EXTENT) ** 2
    return np.sqrt(np.median(area) / area).clip(0.86, 1.16)
