"""Draw the distortions of an image of the world that docs/makers.md shows.

python scripts/draw_distorted.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from cuescope.data.ops.convert import sheet
from cuescope.data.ops.distortions import OURS, distort
from cuescope.world.images import WorldImages

PATH = Path(__file__).resolve().parents[1] / "docs" / "images" / "distorted.png"
IMAGE = 3
SCALE = 2


def main() -> None:
    pixels = WorldImages("congruent", count=IMAGE + 1).read(IMAGE).pixels.double() / 255
    rows = []
    for distortion in OURS:
        made = (torch.from_numpy(distort(pixels, distortion.name, level, 1)) for level in distortion.levels)
        rows.append([plane.expand(3, -1, -1).float() / 255 for plane in made])
    drawn = Image.fromarray(sheet(rows, max(map(len, rows))))
    PATH.parent.mkdir(parents=True, exist_ok=True)
    drawn.resize((drawn.width * SCALE, drawn.height * SCALE), Image.Resampling.NEAREST).save(PATH, optimize=True)
    print(PATH)


if __name__ == "__main__":
    main()
