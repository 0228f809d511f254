"""Draw the grid of stylized images for the docs: 4 contents in the texture of 4 styles, all of them drawn by formulas.

python scripts/draw_stylizer.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cuescope.data.ops.convert import to_image
from cuescope.models.wct import embedded
from cuescope.world.draw import SIZE_PX
from cuescope.world.images import WorldImages
from cuescope.world.procedural import scenes, textures

PATH = Path(__file__).resolve().parents[1] / "docs" / "images" / "stylizer.png"
CONTENTS = STYLES = 4
SHOWN_PX = 3 * SIZE_PX
GAP_PX = 6
SCENES = (5, 13)
WORLD = (26, 31)
TEXTURES = (27, 54, 3, 12)
SEED = 77


def main() -> None:
    stylizer = embedded()
    large = torch.from_numpy(scenes(max(SCENES) + 1, SHOWN_PX, SEED)[0])[list(SCENES)].float() / 255
    small = WorldImages("conflict", placement="centered").render(WORLD)[0].float() / 255
    styles = torch.from_numpy(textures(max(TEXTURES) + 1, SHOWN_PX, SEED))[list(TEXTURES)].float() / 255
    rows = [[torch.ones(3, SHOWN_PX, SHOWN_PX), *styles]]
    for content in (*large, *small):
        # Images of 64 px are stylized at their own size, in the texture of a corner, and shown three times as large.
        size = content.shape[1]
        known = stylizer.statistics(styles[:, :, :size, :size])
        made = stylizer.stylize(content.expand(STYLES, -1, -1, -1), known)
        rows.append([shown(content), *map(shown, made)])
    framed = [torch.cat([F.pad(cell, (0, GAP_PX, 0, GAP_PX), value=1) for cell in row], 2) for row in rows]
    PATH.parent.mkdir(parents=True, exist_ok=True)
    # A palette: textures compress badly, and the docs are no place for megabytes.
    Image.fromarray(to_image(torch.cat(framed, 1))).quantize(256).save(PATH, optimize=True)
    print(PATH)


def shown(image: Tensor) -> Tensor:
    times = SHOWN_PX // image.shape[1]
    return image.repeat_interleave(times, 1).repeat_interleave(times, 2)


if __name__ == "__main__":
    main()
