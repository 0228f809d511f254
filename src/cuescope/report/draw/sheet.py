"""One finding as one PNG: what `cuescope look` shows."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuescope.core import files
from cuescope.core.findings import Figure, Finding, Frame, Map, Measure, Panel
from cuescope.core.naming import short_name, title
from cuescope.report.draw import maps, plots, words
from cuescope.report.draw.axes import domain, track
from cuescope.report.draw.film import strip
from cuescope.report.draw.raster import lines, png, wrapped
from cuescope.report.draw.scene import Item, Placed, Scene, Text, below, beside, picture

WIDTH, EDGE, GAP = 1080, 40, 24
INNER = WIDTH - 2 * EDGE
KEY_WIDTH = 300
MOST_MEASURES = 24
MOST_TABLE_ROWS = 16


def look_png(finding: Finding, cell_folder: Path | None, out: Path, frames: Sequence[Frame] = ()) -> Path:
    """Write one finding as a PNG: its sentence, its frames, its images with their maps, its numbers, its plots.

    `cell_folder` is where the files of figures without pixels lie; None where all still hold theirs.
    """
    files.write(out, png(sheet(_blocks(finding, cell_folder, frames))))
    return out


def sheet(blocks: Iterable[Scene]) -> Scene:
    """Blocks of any height below each other, with edges."""
    inner = below(blocks, GAP)
    return Scene(inner.height + 2 * EDGE, [Placed((EDGE, EDGE), inner)], width=max(WIDTH, inner.width + 2 * EDGE))


def text_block(text: str, size: float, width: float = INNER, role: str = "ink") -> Scene:
    """Wrapped text."""
    return lines(wrapped(text, size, width), size, width, role)


def _blocks(finding: Finding, folder: Path | None, frames: Sequence[Frame]) -> Iterator[Scene]:
    yield text_block(f"{title(finding.instrument)}: {short_name(finding.classifier)}", 30)
    yield text_block(finding.why or finding.sentence or "No sentence was written.", 19)
    if frames:
        yield strip(frames, INNER)
    pictured = [panel for panel in finding.panels if panel.kind == "images"]
    for panel in pictured:
        for figure in panel.figures:
            yield _figure(figure, folder)
    shown = [m for m in finding.measures if not pictured or m.headline]
    if shown:
        yield below(_measure(m) for m in shown[:MOST_MEASURES])
    for panel in finding.panels:
        if panel.kind != "images":
            yield text_block(panel.title, 22)
            yield _plot(panel, finding)


def _figure(figure: Figure, folder: Path | None) -> Scene:
    """An image, its maps laid over it beside it, their color bars or legends below, and the caption."""
    pixels = maps.pixels_of(figure, folder)
    columns = min(3, 1 + len(figure.maps) + len(figure.insets))
    wide = pixels.shape[1] > 2 * pixels.shape[0]
    side = (INNER - GAP * 2) // 3 if columns == 3 else INNER if wide and columns == 1 else 420
    base = maps.resized(pixels, side)
    cards = [_card(base, "image")]
    cards += [_card(maps.resized(maps.pixels_of(i, folder), side), i.name) for i in figure.insets]
    cards += [_card(maps.overlay(base, m), m.name, *_key(m)) for m in figure.maps]
    rows = [beside(cards[i : i + columns], GAP) for i in range(0, len(cards), columns)]
    return below([*rows, text_block(figure.caption, 16, role="muted")])


def _card(pixels: maps.Array, name: str, *key: Scene) -> Scene:
    return below([text_block(name, 16, pixels.shape[1]), picture(pixels), *key])


def _key(layer: Map) -> Iterator[Scene]:
    """The legend of a map of labels, the color bar of any other."""
    if layer.kind == "labels":
        for name, shade, share in maps.legend(layer):
            swatch = picture(np.full((14, 14, 3), shade, np.uint8))
            text = lines([f"{name} {words.value(share, 'share')}"], 15, KEY_WIDTH, at=(22, 3))
            yield Scene(22, [Placed((0, 6), swatch), *text.items], width=KEY_WIDTH)
        return
    bar = maps.shades(layer, np.linspace(*maps.bounds(layer), KEY_WIDTH))
    low, high = (maps.end_text(end, layer.unit) for end in maps.bounds(layer))
    ends = [Text((0, 36), low, size=15), Text((KEY_WIDTH, 36), high, size=15, anchor="end")]
    yield Scene(44, [Placed((0, 8), picture(np.repeat(bar[None], 12, 0))), *ends], width=KEY_WIDTH)


def _measure(m: Measure) -> Scene:
    text = f"{m.label}: {words.value(m.value, m.unit)}"
    if m.value is None:
        return text_block(f"{text} ({m.why})", 16)
    if m.interval:
        text += f"  [{words.interval(m.interval, m.unit)}]  {words.amount(m)}"
    numbers = [m.value, m.chance, *(m.interval or ()), *(p.value for p in m.published)]
    graphic = track(domain(numbers, m.unit), m.unit, m.value, m.interval, index=0, chance=m.chance, name=m.label)
    return beside([text_block(text, 16, 540), enlarged(graphic, 420)], GAP)


def enlarged(scene: Scene, width: float) -> Scene:
    """The scene at another width."""
    times = width / scene.width
    return Scene(scene.height * times, [Placed((0, 0), scene, times)], width=width)


def _plot(panel: Panel, finding: Finding) -> Scene:
    if panel.kind == "table":
        return _table([panel.data["columns"], *panel.data["rows"][:MOST_TABLE_ROWS]])
    scene = plots.plot([plots.Part(0, finding.classifier, panel.data)], panel.kind)
    return enlarged(scene, round(scene.width * 1.9))


def _table(rows: Sequence[Sequence[Any]]) -> Scene:
    """A table; cells are cut where they would touch."""
    width = INNER // max(1, len(rows[0]))
    items: list[Item] = []
    for i, row in enumerate(rows):
        for k, cell in enumerate(row):
            text = wrapped(words.cell(cell), 16, width - 12)[:1]
            items += lines(text, 16, width, "ink" if i else "muted", at=(k * width, 26 * i)).items
    return Scene(26 * len(rows) + 6, items, width=width * len(rows[0]))
