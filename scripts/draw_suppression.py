"""Draw the images of the world that docs/cue_suppression.md shows: each cue taken away.

python scripts/draw_suppression.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from cuescope.data.ops.convert import sheet
from cuescope.data.ops.suppression import Change, suppress
from cuescope.world.images import WorldImages

PATH = Path(__file__).resolve().parents[1] / "docs" / "images" / "cue_suppression.png"
IMAGES = (1, 22, 26)
CHANGES = (
    *(Change("shuffle", 3), Change("shuffle", 6), Change("bilateral", 12, 170), Change("bilateral", 10, 400)),
    *(Change("greyscale", 1), Change("cuts", 6)),
)
SCALE = 2


def main() -> None:
    world = WorldImages("congruent", count=max(IMAGES) + 1)
    pixels, _ = world.render(IMAGES)
    names = [world.id(i) for i in IMAGES]
    views = [pixels, *(suppress(pixels, change, names) for change in CHANGES)]
    drawn = Image.fromarray(sheet(list(torch.stack(views, 1).float() / 255), len(views)))
    PATH.parent.mkdir(parents=True, exist_ok=True)
    drawn.resize((drawn.width * SCALE, drawn.height * SCALE), Image.Resampling.NEAREST).save(PATH, optimize=True)
    print(PATH)


if __name__ == "__main__":
    main()
