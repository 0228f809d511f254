"""Paint the empty part of a canvas from what surrounds it."""

import functools
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cuescope.core.errors import CueError

Fill = Literal["none", "blur", "opencv"]

WEIGHTS = 12
"""Of the blur along each axis: [.5 .5] ten times convolved with itself, as in the authors' code."""
BEFORE, AFTER = WEIGHTS // 2, (WEIGHTS - 1) // 2
"""How many cells to the left and to the right of a pixel its blur reads."""
ENOUGH_PX, MOST_ROUNDS = 200, 80
"""The authors stop where no more than so many pixels are black, or after so many rounds."""
RADIUS_PX = 3.0
"""Of OpenCV's inpainting: its neighborhood."""

Corners = tuple[int, int, int, int]
"""Top, left, bottom and right of a rectangle, the far edges excluded."""


def inpaint(image: NDArray[np.float32], known: Corners, fill: Fill = "blur") -> NDArray[np.float32]:
    """What would the black canvas about this image be if its surroundings went on? (H, W, 3) float32, 0 to 255.

    With "blur", round after round each black pixel that a blur of 12 x 12 cells reaches from known ones gets their
    weighted mean and is known from then on, until 200 pixels are left or 80 rounds are done. From the second round on
    pixels of the image itself that are black in all channels are painted too (Azulay & Weiss 2019, their code). With
    "opencv" it is OpenCV's inpainting by fast marching (Telea 2004); raises CueError where that is not installed.

    >>> canvas = np.zeros((40, 40, 3), np.float32)
    >>> canvas[8:12, 8:12] = 50
    >>> inpaint(canvas, (8, 8, 12, 12))[0, 0].round(3)
    array([50., 50., 50.], dtype=float32)
    """
    if fill == "opencv":
        return _opencv(image, known)
    # Premultiplied colors and, last, whether a pixel is known.
    planes = np.zeros((4, *image.shape[:2]), np.float32)
    planes[:3] = image.transpose(2, 0, 1)
    top, left, bottom, right = known
    planes[3, top:bottom, left:right] = 1
    for _ in range(MOST_ROUNDS):
        # Lit before the round; what is black is a hole only after the first.
        if int((planes[:3].sum(0) == 0).sum()) <= ENOUGH_PX:
            break
        _grow(planes)
        planes[3] = planes[:3].sum(0) != 0
    return np.ascontiguousarray(planes[:3].transpose(1, 2, 0))


def _grow(planes: NDArray[np.float32]) -> None:
    """One round, in place: only where something unknown can be reached."""
    rows, cols = np.flatnonzero(planes[3].any(1)), np.flatnonzero(planes[3].any(0))
    if not len(rows):
        return
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    height, width = planes.shape[1:]
    # A pixel reads BEFORE cells before it and AFTER cells after it: what is known grows the other way round.
    up, down = max(0, y0 - AFTER), min(height, y1 + BEFORE)
    west, east = max(0, x0 - AFTER), min(width, x1 + BEFORE)
    regions = [(up, west, y0, east), (y1, west, down, east), (y0, west, y1, x0), (y0, x1, y1, east)]
    holes = planes[3, y0:y1, x0:x1] == 0
    if holes.any():
        inner_rows, inner_cols = np.flatnonzero(holes.any(1)) + y0, np.flatnonzero(holes.any(0)) + x0
        regions.append((int(inner_rows[0]), int(inner_cols[0]), int(inner_rows[-1]) + 1, int(inner_cols[-1]) + 1))
    painted = [_blurred(planes, region) for region in regions]
    for (top, left, bottom, right), blurred in zip(regions, painted, strict=True):
        unknown = planes[3, top:bottom, left:right] == 0
        mean = blurred[:3] / (blurred[3] + (blurred[3] == 0))
        np.copyto(planes[:3, top:bottom, left:right], mean, where=unknown)


def _blurred(planes: NDArray[np.float32], region: Corners) -> NDArray[Any]:
    """(4, h, w): the blur of the planes inside a rectangle."""
    top, left, bottom, right = region
    if top == bottom or left == right:
        return np.zeros((4, bottom - top, right - left), np.float32)
    height, width = planes.shape[1:]
    y0, y1 = max(0, top - BEFORE), min(height, bottom + AFTER)
    x0, x1 = max(0, left - BEFORE), min(width, right + AFTER)
    along_y, along_x = _band(height)[top:bottom, y0:y1], _band(width)[left:right, x0:x1]
    known = planes[:, y0:y1, x0:x1] * planes[3, y0:y1, x0:x1]
    if bottom - top < right - left:
        return (along_y @ known) @ along_x.T
    return along_y @ (known @ along_x.T)


@functools.cache
def _band(size: int) -> NDArray[np.float32]:
    """The blur along an axis of `size` cells as a matrix: cell i of the outcome is its row i times the cells."""
    weights = np.array([math.comb(WEIGHTS - 1, k) for k in range(WEIGHTS)], np.float64) / 2 ** (WEIGHTS - 1)
    band = np.zeros((size, size), np.float32)
    for k, weight in enumerate(weights):
        i = np.arange(max(0, BEFORE - k), min(size, size + BEFORE - k))
        band[i, i + k - BEFORE] = weight
    return band


def _opencv(image: NDArray[np.float32], known: Corners) -> NDArray[np.float32]:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        do = 'pip install "cuescope[inpaint]" (opencv-python-headless), or ask for fill "blur"'
        raise CueError("inpainting by OpenCV", wanted="the package cv2", do=do) from None
    mask = np.ones(image.shape[:2], np.uint8)
    top, left, bottom, right = known
    mask[top:bottom, left:right] = 0
    return cv2.inpaint(image.round().astype(np.uint8), mask, RADIUS_PX, cv2.INPAINT_TELEA).astype(np.float32)
