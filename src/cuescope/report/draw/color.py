"""Colors: one accent a classifier, perceptually even maps for heat and signed values, and a palette for labels.

The accents differ also for the common kinds of color blindness and never stand alone: each has its glyph.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ACCENTS = ("#0b62c4", "#c2500c", "#00795a", "#93399c", "#866a00", "#0a7690", "#ae2250", "#565d69")
"""On white, each with a contrast above 4.5 : 1; the page's style sheet has the same and their dark twins."""

GLYPHS = ("circle", "square", "triangle", "wedge", "hexagon", "cross")
REFERENCES = ("diamond", "square", "circle", "triangle", "wedge", "cross")
INK, MUTED, RULE, PAPER = "#12161b", "#59626d", "#d5dae0", "#ffffff"

# Points of matplotlib's viridis (CC0) and ColorBrewer's RdBu; between them straight lines in sRGB.
_HEAT = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"]
_SIGNED = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#f7f7f7", "#f4a582", "#d6604d", "#b2182b", "#67001f"]

LABELS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c564b"]
"""Okabe and Ito's colors and a brown, for the most frequent labels of a map."""
OTHER = "#9aa0a8"


def rgb(color: str) -> tuple[int, int, int]:
    """A hexadecimal color as three bytes.

    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def label(rank: int) -> tuple[int, int, int]:
    """The color of a label or an answer by how frequent it is, 0 first; from the ninth on all are gray.

    >>> label(1), label(8) == rgb(OTHER)
    ((230, 159, 0), True)
    """
    return rgb(LABELS[rank] if rank < len(LABELS) else OTHER)


def role(name: str) -> str:
    """The light theme's color of a role: an accent by number ("c1"), or ink, muted, rule, paper."""
    named = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER}
    return named[name] if name in named else ACCENTS[int(name[1:]) % len(ACCENTS)]


def accent(index: int | None) -> str:
    """The role of a classifier's color; the ninth classifier starts again. What is no single classifier's is ink.

    >>> accent(1), accent(9), accent(None)
    ('c1', 'c1', 'ink')
    """
    return "ink" if index is None else f"c{index % len(ACCENTS)}"


def glyph(index: int | None) -> str:
    """The shape of a classifier's mark: six shapes and eight colors give 24 different marks. None gets a diamond."""
    return "diamond" if index is None else GLYPHS[index % len(GLYPHS)]


def heat(t: Array) -> Array:
    """Numbers in [0, 1] to (..., 3) uint8, dark violet to yellow with evenly rising lightness."""
    return _between(_HEAT, t)


def signed(t: Array) -> Array:
    """Numbers in [-1, 1] to (..., 3) uint8, blue below, near white at 0, red above."""
    return _between(_SIGNED, (np.asarray(t) + 1) / 2)


def _between(points: Sequence[str], t: Array) -> Array:
    table = np.array([rgb(p) for p in points], dtype=np.float64)
    place = np.clip(np.nan_to_num(np.asarray(t, dtype=np.float64)), 0, 1)
    grid = np.linspace(0, 1, len(table))
    return np.stack([np.interp(place, grid, table[:, c]) for c in range(3)], -1).round().astype(np.uint8)
