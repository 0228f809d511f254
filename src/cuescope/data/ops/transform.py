"""An image moved, enlarged or turned behind a frame that stays; one color fills what is empty."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Color = Sequence[float]
"""Red, green and blue in [0, 1]."""

PAPER_PX = 224
"""The input for which the paper gives shifts in pixels."""


def shifted(pixels: Tensor, down_px: int, right_px: int, color: Color) -> Tensor:
    """(3, H, W) moved by whole pixels, negative ones up and to the left.

    >>> shifted(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).expand(3, 2, 2), 1, 0, (0, 0, 0))[0].tolist()
    [[0.0, 0.0], [1.0, 2.0]]
    """
    out = _paint(pixels, color).expand_as(pixels).clone()
    height, width = pixels.shape[1:]
    if abs(down_px) < height and abs(right_px) < width:
        rows, columns = (slice(max(0, d), side + min(0, d)) for d, side in ((down_px, height), (right_px, width)))
        before = [slice(max(0, -d), side + min(0, -d)) for d, side in ((down_px, height), (right_px, width))]
        out[:, rows, columns] = pixels[:, before[0], before[1]]
    return out


def scaled(pixels: Tensor, factor: float, color: Color) -> Tensor:
    """(3, H, W) enlarged by a factor about the middle (below 1: made smaller), resampled linearly.

    Raises ValueError for a factor that is not above 0.

    >>> scaled(torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(3, 4, 4), 2.0, (0, 0, 0))[0, 1].tolist()
    [0.75, 1.25, 1.75, 2.25]
    """
    if factor <= 0:
        raise ValueError(f"an image cannot be {factor} times as large")
    return pixels.clone() if factor == 1 else _resampled(pixels, 1 / factor, 0.0, color)


def turned(pixels: Tensor, degrees: float, color: Color) -> Tensor:
    """(3, H, W) turned counterclockwise about the middle, resampled linearly.

    >>> turned(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(3, 2, 2), 90, (0, 0, 0))[0].round(decimals=4).tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    if degrees % 360 == 0:
        return pixels.clone()
    angle = math.radians(degrees)
    return _resampled(pixels, math.cos(angle), math.sin(angle), color)


def _resampled(pixels: Tensor, real: float, imaginary: float, color: Color) -> Tensor:
    """What lies at each pixel of the frame once its place is multiplied by a complex number."""
    height, width = pixels.shape[1:]
    # In float64, since a quarter turn is to hit pixels and not what lies between them and the border.
    y = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2)[:, None]
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2)[None]
    grid = torch.stack([2 * (real * x - imaginary * y) / width, 2 * (real * y + imaginary * x) / height], -1)
    # Less the color, so that the zeros that torch finds outside are that color.
    paint = _paint(pixels, color)
    found = F.grid_sample((pixels - paint)[None], grid[None].to(pixels), "bilinear", "zeros", align_corners=False)
    return found[0] + paint


def _paint(pixels: Tensor, color: Color) -> Tensor:
    return torch.tensor(tuple(color), dtype=pixels.dtype, device=pixels.device)[:, None, None]


@dataclass(frozen=True)
class Transform:
    """One way to move an image by steps, and what it is called.

    A step is in px of an input of 224 px, a factor, or degrees; `neutral` is the one that leaves the image as it is.
    """

    apply: Callable[[Tensor, float, Color], Tensor]
    neutral: float
    unit: str
    noun: str
    verb: str
    every: str
    axis: str

    def near(self, steps: Sequence[float]) -> list[int]:
        """Which of the steps lie nearest to the image as it is: one, or one to either side.

        >>> TRANSFORMS["vertical"].near([-20, -10, 0, 10, 20])
        [1, 3]
        """
        away = [abs(step - self.neutral) for step in steps]
        least = min((distance for distance in away if distance), default=0.0)
        return [k for k, distance in enumerate(away) if distance and distance <= least + 1e-9]

    def text(self, step: float) -> str:
        """A step with its unit, as in "10 px"."""
        return f"{round(step, 1):g} {self.unit}"


def _down(pixels: Tensor, step: float, color: Color) -> Tensor:
    return shifted(pixels, round(step * pixels.shape[1] / PAPER_PX), 0, color)


def _right(pixels: Tensor, step: float, color: Color) -> Tensor:
    return shifted(pixels, 0, round(step * pixels.shape[2] / PAPER_PX), color)


_RIGHT = ("shift to the side", "shifted right", "all shifts to the sides", "shift right (px of 224)")
TRANSFORMS = {
    "vertical": Transform(
        _down, 0.0, "px", "shift", "shifted down", "all shifts up and down", "shift down (px of 224)"
    ),
    "horizontal": Transform(_right, 0.0, "px", *_RIGHT),
    "scale": Transform(scaled, 1.0, "times", "enlargement", "enlarged", "all enlargements", "enlargement"),
    "rotation": Transform(turned, 0.0, "degrees", "turn", "turned", "all turns", "turn (degrees)"),
}


def shifts(farthest_px: int, step_px: int, side: int) -> list[float]:
    """Shifts to both sides in px of 224 that are whole pixels of a side, each once.

    >>> shifts(20, 10, 224), shifts(20, 10, 112), len(shifts(20, 2, 16))
    ([-20.0, -10.0, 0.0, 10.0, 20.0], [-20.0, -10.0, 0.0, 10.0, 20.0], 3)
    """
    count = farthest_px // step_px
    whole = {round(i * step_px * side / PAPER_PX) for i in range(-count, count + 1)}
    return [px * PAPER_PX / side for px in sorted(whole)]


def steps_up(start: float, end: float, step: float) -> list[float]:
    """From start to end, both included where the steps meet the end.

    >>> steps_up(1, 1.4, 0.1)
    [1.0, 1.1, 1.2, 1.3, 1.4]
    """
    return [round(start + i * step, 9) for i in range(int((end - start) / step + 1e-9) + 1)]
