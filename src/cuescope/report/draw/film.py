"""An image that changes: its frames as a strip on one sheet, or as an animated GIF."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cuescope.core import files
from cuescope.core.findings import Frame
from cuescope.report.draw import color, maps, words
from cuescope.report.draw.axes import shortened
from cuescope.report.draw.raster import lines, pixels, width_of, wrapped
from cuescope.report.draw.scene import Item, Placed, Scene, below, beside, picture

LARGEST = 560
"""Side of a frame that stands alone."""
SIDE = 336
"""The longer side of the image in a GIF."""
HOLD_MS, LAST_MS = (260, 800), 1200
"""How long a frame of a GIF stays, at least and at most, and how long the last one."""
GAP, EDGE = 8, 4
BAR = 18
"""Height of the bar that shows how far a GIF has come."""

Color = tuple[int, int, int]


def strip(frames: Sequence[Frame], width: int, columns: int = 8) -> Scene:
    """Frames side by side in rows: below each its answer on the answer's color, and what was done.

    >>> strip([Frame(np.zeros((8, 8, 3), np.uint8), "cat", 0.5, rank=0)] * 10, 1000).width
    1000
    """
    side = min((width - GAP * (columns - 1)) // columns, LARGEST)
    cards = _cards(frames, side, 13 if columns > 4 else 17)
    rows = below((beside(cards[i : i + columns], GAP) for i in range(0, len(cards), columns)), GAP)
    return Scene(rows.height, rows.items, width=width)


def write_gif(frames: Sequence[Frame], out: Path) -> Path:
    """Write frames as a GIF that runs in a loop: the answer changes color where it changes, a bar shows how far it is.

    All frames share one palette, so that only what changes flickers.
    """
    cards = _cards(frames, SIDE, 20)
    images = [Image.fromarray(pixels(_with_bar(card, frames, i))) for i, card in enumerate(cards)]
    palette = Image.fromarray(np.concatenate([np.asarray(image)[::2, ::2] for image in images])).quantize(256)
    drawn = [image.quantize(palette=palette) for image in images]
    hold, data = [hold_ms(len(drawn))] * (len(drawn) - 1) + [LAST_MS], io.BytesIO()
    drawn[0].save(data, "GIF", save_all=True, append_images=drawn[1:], duration=hold, loop=0, disposal=1)
    files.write(out, data.getvalue())
    return out


def hold_ms(count: int) -> int:
    """How long each of so many frames stays: a few are read one by one.

    >>> hold_ms(32), hold_ms(10), hold_ms(2)
    (260, 400, 800)
    """
    return min(max(HOLD_MS[0], 4000 // count), HOLD_MS[1])


def _cards(frames: Sequence[Frame], side: int, size: float) -> list[Scene]:
    """Of each frame the image above a band in the answer's color that says the answer, and below it what was done."""
    room = side - 2 * GAP
    names = [wrapped(frame.answer, size, room) for frame in frames]
    answers = [
        [shortened(line, room, size, width_of) for line in (name[0], " ".join(name[1:])) if line] for name in names
    ]
    height = lines([""] * (max(map(len, answers)) + 1), size, side).height
    cards = []
    for frame, answer in zip(frames, answers, strict=True):
        image, shade = maps.resized(frame.pixels, side), color.label(frame.rank)
        top = image.shape[0] + EDGE
        said = lines([*answer, words.value(frame.probability, "share")], size, side, _ink_on(shade), (GAP, 2))
        items: list[Item] = [Placed(((side - image.shape[1]) // 2, 0), picture(image))]
        items += [Placed((0, top), _field(side, height, shade)), Placed((0, top), said)]
        caption = shortened(frame.caption, side - GAP, size, width_of)
        done = lines([caption], size, side, "muted", (GAP, top + height + 2))
        cards.append(Scene(done.height, [*items, *done.items], width=side))
    return cards


def _field(width: float, height: float, shade: Color) -> Scene:
    return picture(np.full((int(height), int(width), 3), shade, np.uint8))


def _ink_on(ground: Color) -> str:
    """White or black, whichever is easier to read on a color."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in ground]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "paper" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "ink"


def _with_bar(card: Scene, frames: Sequence[Frame], place: int) -> Scene:
    """The card with white around it and a bar below: a field for each frame in its answer's color, this one higher."""
    height = card.height + 2 * GAP + BAR
    items: list[Item] = [Placed((GAP, GAP), card)]
    for i, frame in enumerate(frames):
        left, right = (GAP + round(card.width * k / len(frames)) for k in (i, i + 1))
        high = BAR if i == place else BAR // 2
        field = _field(max(1, right - left - 1), high, color.label(frame.rank))
        items.append(Placed((left, height - GAP - high), field))
    return Scene(height, items, width=card.width + 2 * GAP)
