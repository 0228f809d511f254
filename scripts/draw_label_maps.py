"""Draw docs/images/label_maps.png: label maps of photographs alone, with their legends, without the photographs.

    python scripts/draw_label_maps.py MAPS IMAGE...

MAPS is what `cuescope make label-maps` made, IMAGE the id of an image in it. Each position has the color of its class,
where its probability among all classes is over .5, the classes that are not stored taken as logits of 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cuescope.core.findings import Map
from cuescope.data.label_maps import LabelMapFile, open_label_maps
from cuescope.report.draw import maps
from cuescope.report.draw.raster import pixels
from cuescope.report.draw.scene import Placed, Scene, Text, below, beside, picture
from cuescope.report.draw.sheet import sheet, text_block

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "label_maps.png"
SIDE, ACROSS, GAP, LEAST, MOST = 225, 4, 30, 0.5, 5


def layer(file: LabelMapFile, name: str) -> Map:
    """The classes that win, as a map that is drawn alone."""
    scores, ids = file[name]
    weights = np.exp(scores[0].astype(float))
    others = np.exp(scores[1:].astype(float)).sum(0) + len(file.classes) - len(scores)
    sure, top = weights / (weights + others), ids[0]
    won = sure > LEAST
    codes = np.unique(top[won])
    places = np.where(won, np.searchsorted(codes, top), np.nan)
    legend = tuple(file.classes.names[k] for k in codes)
    strength = (0.35 + 0.65 * (sure - LEAST) / (1 - LEAST)).clip(0, 1).tolist()
    return Map("labels", places.tolist(), "labels", legend=legend, alone=True, strength=strength)  # type: ignore[arg-type]


def card(file: LabelMapFile, name: str) -> Scene:
    """A map below the name of its image, above its legend."""
    found = layer(file, name)
    square = maps.resized(maps.overlay(np.zeros((SIDE, SIDE, 3), np.uint8), found), SIDE)
    rows = [swatch(text, shade, share) for text, shade, share in maps.legend(found)[:MOST]]
    title = Path(name).stem.partition("_")[2].replace("_", " ") or name
    return below([text_block(f"labeled {title}", 15, SIDE), picture(square), Scene(8, [], width=SIDE), *rows])


def swatch(text: str, shade: tuple[int, int, int], share: float) -> Scene:
    square = Placed((0, 4), picture(np.full((13, 13, 3), shade, np.uint8)))
    texts = [Text((20, 16), text, "ink", 14), Text((SIDE - 1, 16), f"{share:.0%}", "muted", 14, "end")]
    return Scene(21, [square, *texts], width=SIDE)


def main() -> None:
    folder, *names = sys.argv[1:]
    file = open_label_maps(folder)
    cards = [card(file, name) for name in names]
    rows = [beside(cards[at : at + ACROSS], GAP) for at in range(0, len(cards), ACROSS)]
    Image.fromarray(pixels(sheet(rows))).quantize(128).save(OUT, optimize=True)
    print(OUT)


if __name__ == "__main__":
    main()
