"""Draw the grid of cue-conflict images for the docs: shapes of the built-in world in the textures of others.

python scripts/draw_conflicts.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cuescope.api.make import make
from cuescope.data.ops.convert import sheet
from cuescope.data.readers import read_cue_conflict
from cuescope.world.images import WorldImages

PATH = Path(__file__).resolve().parents[1] / "docs" / "images" / "cue_conflict.png"
SHAPES = ("butterfly", "crescent", "fish", "mushroom", "star")
TEXTURES = ("arrow", "bolt", "house", "heart", "rabbit", "sailboat", "vase")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make("cue-conflict", "world:congruent:16", Path(folder) / "made", textures="world:texture-only:16", pairs=1)
        images = read_cue_conflict(Path(folder) / "made")
        made = {(s.cues["shape"], s.cues["texture"]): s.pixels for s in map(images.read, range(len(images)))}
    originals = {variant: _originals(variant) for variant in ("congruent", "texture-only")}
    blank = torch.ones(3, 64, 64)
    rows = [[blank, *(originals["texture-only"][name] for name in TEXTURES)]]
    rows += [[originals["congruent"][s], *(made[s, t].float() / 255 for t in TEXTURES)] for s in SHAPES]
    image = Image.fromarray(sheet(rows, len(TEXTURES) + 1))
    image.resize((image.width * 3 // 2, image.height * 3 // 2), Image.Resampling.LANCZOS).quantize(256).save(
        PATH, optimize=True
    )
    print(PATH)


def _originals(variant: str) -> dict[str, Tensor]:
    images = WorldImages(variant, count=16)  # pyright: ignore[reportArgumentType]
    samples = [images.read(i) for i in range(16)]
    key = "shape" if variant == "congruent" else "texture"
    return {sample.cues[key]: sample.pixels.float() / 255 for sample in samples}


if __name__ == "__main__":
    main()
