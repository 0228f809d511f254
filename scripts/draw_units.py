"""Draw docs/images/units_*.png: what units of a network of photographs look for, and figure 7, without the photographs.

    python scripts/draw_units.py MODEL IMAGES FILE FILE FILE

MODEL and the folder IMAGES are as for `cuescope audit`; the three FILEs are photographs for the occlusion figure. The
projections and maps are drawn alone: the photographs are not ours to show.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.convert import GAP_PX
from cuescope.data.readers import read_folder
from cuescope.instruments.occlusion import Occlusion
from cuescope.instruments.top_units import TILE_PX, TopUnits
from cuescope.report.draw import maps
from cuescope.report.draw.raster import pixels
from cuescope.report.draw.scene import Scene, below, beside, picture
from cuescope.report.draw.sheet import sheet, text_block

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
GRID = 3 * TILE_PX + 2 * GAP_PX
ACROSS, BETWEEN, MAP_PX = 3, 24, 236


def units(net: Classifier, folder: str) -> Scene:
    """For each stage some units: the projections of the nine images that excite each most."""
    images, tool, rows = read_folder(folder), TopUnits(shown=ACROSS), []
    layers = tuple(name for name, _ in tool.start(net).watch)[:-1]
    tool = TopUnits(shown=ACROSS, layers=layers)
    observer = tool.start(net)
    for samples, _ in images.stream([range(s, min(s + 32, len(images))) for s in range(0, len(images), 32)]):
        rows.append(tool.reduce(observer.observe(net.see([s for _, s in samples], watch=observer.watch))))
    kept = tool.reduce(pl.concat(rows))
    chosen = set(tool.examples(kept))
    batch = net.see([images.read(i) for i in range(len(images)) if images.id(i) in chosen])
    blocks = []
    (panel,) = tool.illustrate(net, batch, kept)
    for layer, figures in groupby(reversed(panel.figures), lambda figure: figure.caption.partition(",")[0]):
        blocks.append(text_block(f"Units of '{layer}': each of nine images projected.", 17))
        blocks.append(beside([picture(np.asarray(figure.pixels)[:, :GRID]) for figure in figures], BETWEEN))
    return sheet(blocks)


def hidden(net: Classifier, files: list[str]) -> Scene:
    """Figure 7 b to e of three photographs: maps and projections alone."""
    tool, blocks = Occlusion(followed=len(files), stride_share=0.05), []
    samples = []
    for file in files:
        images = read_folder(Path(file).parent)
        at = next(i for i in range(len(images)) if images.id(i) == Path(file).name)
        samples.append(images.read(at))
    batch = net.see(samples)
    for figure in next(iter(tool.illustrate(net, batch, tool.start(net).observe(batch)))).figures:
        gray = np.full((MAP_PX, MAP_PX, 3), 150, np.uint8)
        shown = [np.asarray(figure.insets[0].pixels)] + [maps.overlay(gray, m) for m in figure.maps]
        names = [figure.insets[0].name, *(m.name for m in figure.maps)]
        cards = [
            below([text_block(name, 14, MAP_PX), picture(one[:MAP_PX, :MAP_PX])])
            for name, one in zip(names, shown, strict=True)
        ]
        blocks += [text_block(figure.caption, 17), beside(cards, 12)]
    return sheet(blocks)


def main() -> None:
    model, folder, *files = sys.argv[1:]
    net = cuescope.load(model)
    for name, scene in (("units_photographs", units(net, folder)), ("units_occlusion", hidden(net, files))):
        Image.fromarray(pixels(scene)).quantize(128).save(IMAGES / f"{name}.png", optimize=True)
        print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
