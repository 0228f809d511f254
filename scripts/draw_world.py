"""Draw the contact sheet of the built-in world that docs/world.md shows.

python scripts/draw_world.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from cuescope.data.ops.convert import to_image
from cuescope.world.images import WorldImages

PATH = Path(__file__).resolve().parents[1] / "docs" / "images" / "world.png"
VARIANTS = ("congruent", "conflict", "shape-only", "texture-only", "several")


def main() -> None:
    rows = [torch.cat(list(WorldImages(variant, count=16).render(range(16))[0]), 2) for variant in VARIANTS]
    PATH.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_image(torch.cat(rows, 1))).save(PATH, optimize=True)
    print(PATH)


if __name__ == "__main__":
    main()
