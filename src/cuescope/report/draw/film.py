"""An image that changes: its frames as a strip on one sheet, or as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cuescope.core.findings import Frame
from cuescope.report.draw import color, words
from cuescope.report.draw.color import Array
from cuescope.report.draw.raster import font, plain, wrapped

COLUMNS = 8
"""Frames in a row of a strip."""
SIDE = 336
"""The longer side of the image in a GIF."""
HOLD_MS, LAST_MS = 260, 1200
"""How long a frame of a GIF stays, and the last one."""
GAP, EDGE = 8, 4

Color = tuple[int, int, int]


def strip(frames: Sequence[Frame], width: int) -> Array:
    """Frames side by side in rows, (H, width, 3): below each its answer on the answer's color, and what was done.

    >>> strip([Frame(np.zeros((8, 8, 3), np.uint8), "cat", 0.5, rank=0)] * 10, 1000).shape[1]
    1000
    """
    side = (width - GAP * (COLUMNS - 1)) // COLUMNS
    lines = max(len(_said(frame, 13, side)) for frame in frames)
    cards = [np.asarray(_card(frame, side, 13, lines)) for frame in frames]
    cards += [np.full_like(cards[0], 255)] * (-len(cards) % COLUMNS)
    spaced = [np.pad(card, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for card in cards]
    rows = [np.concatenate(spaced[i : i + COLUMNS], 1) for i in range(0, len(spaced), COLUMNS)]
    whole = np.concatenate(rows)[:-GAP, :-GAP]
    return np.pad(whole, ((0, 0), (0, width - whole.shape[1]), (0, 0)), constant_values=255)


def write_gif(frames: Sequence[Frame], out: Path) -> Path:
    """Write frames as a GIF that runs in a loop: the answer changes color where it changes, a bar tells how far it is.

    All frames share one palette, so that nothing flickers but what changes.
    """
    lines = max(len(_said(frame, 20, SIDE)) for frame in frames)
    images = [_with_bar(_card(frame, SIDE, 20, lines), frames, i) for i, frame in enumerate(frames)]
    palette = Image.fromarray(np.concatenate([np.asarray(image)[::2, ::2] for image in images])).quantize(256)
    drawn = [image.quantize(palette=palette) for image in images]
    hold = [HOLD_MS] * (len(drawn) - 1) + [LAST_MS]
    drawn[0].save(out, "GIF", save_all=True, append_images=drawn[1:], duration=hold, loop=0, disposal=1)
    return out


def shade(frame: Frame) -> Color:
    """The color of a frame's answer, which it has in a map of labels too; from the ninth answer on all are gray.

    >>> shade(Frame(np.zeros((8, 8, 3), np.uint8), "cat", 0.5, rank=1))
    (230, 159, 0)
    """
    return color.rgb(color.LABELS[frame.rank] if frame.rank < len(color.LABELS) else color.OTHER)


def _said(frame: Frame, size: float, width: int) -> list[str]:
    """The answer in one or two lines and its probability."""
    names = wrapped(plain(frame.answer), size, width - 2 * GAP)
    short = [*names[:1], " ".join(names[1:])] if len(names) > 1 else names
    return [_cut(line, size, width - 2 * GAP) for line in short]


def _cut(text: str, size: float, width: int) -> str:
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _card(frame: Frame, side: int, size: int, lines: int) -> Image.Image:
    """The image above a band in the answer's color that says the answer, and below it what was done."""
    pixels = Image.fromarray(frame.pixels)
    times = side / max(pixels.size)
    way = Image.Resampling.NEAREST if times >= 2 else Image.Resampling.LANCZOS
    pixels = pixels.resize((max(1, round(pixels.width * times)), max(1, round(pixels.height * times))), way)
    pitch = round(size * 1.3)
    top = pixels.height + EDGE
    card = Image.new("RGB", (side, top + pitch * (lines + 2) + 2 * EDGE), color.PAPER)
    card.paste(pixels, ((side - pixels.width) // 2, 0))
    draw = ImageDraw.Draw(card)
    bottom = top + pitch * (lines + 1) + EDGE
    draw.rectangle((0, top, side - 1, bottom - 1), fill=shade(frame))
    said = [*_said(frame, size, side), words.value(frame.probability, "share")]
    for i, line in enumerate(said):
        draw.text((GAP, top + 2 + pitch * i), line, fill=_ink_on(shade(frame)), font=font(size))
    draw.text((GAP, bottom + 2), _cut(plain(frame.caption), size, side - GAP), fill=color.MUTED, font=font(size))
    return card


def _ink_on(ground: Color) -> str:
    """White or black, whichever is told better from a color."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in ground]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return color.PAPER if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else color.INK


def _with_bar(card: Image.Image, frames: Sequence[Frame], place: int) -> Image.Image:
    """The card with white around it and a bar below: a field for each frame in its answer's color, this one higher."""
    width, high = card.width + 2 * GAP, 18
    whole = Image.new("RGB", (width, card.height + 2 * GAP + high), color.PAPER)
    whole.paste(card, (GAP, GAP))
    draw, bottom = ImageDraw.Draw(whole), whole.height - GAP
    for i, frame in enumerate(frames):
        left, right = (GAP + round(card.width * k / len(frames)) for k in (i, i + 1))
        top = bottom - (high if i == place else high // 2)
        draw.rectangle((left, top, right - 2, bottom), fill=shade(frame))
    return whole
