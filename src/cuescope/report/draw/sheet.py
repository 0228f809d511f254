"""One finding as one PNG: what `cuescope look` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cuescope.core.findings import Figure, Finding, Frame, Inset, Map, Panel
from cuescope.report.draw import color, dots, maps, plots, words
from cuescope.report.draw.axes import domain, track
from cuescope.report.draw.color import Array
from cuescope.report.draw.film import strip
from cuescope.report.draw.raster import font, plain, raster, wrapped

WIDTH, EDGE, GAP = 1080, 40, 24
MOST_MEASURES = 24
MOST_TABLE_ROWS = 16


def look_png(finding: Finding, cell_folder: Path | None, out: Path, frames: Sequence[Frame] = ()) -> Path:
    """Write one finding as a PNG: its sentence, its frames, its images with their maps, its numbers, its plots.

    `cell_folder` is where the files of figures without pixels lie; None where all still hold theirs.
    """
    canvas = stacked(_blocks(finding, cell_folder, frames))
    out.write_bytes(maps.png(canvas))
    return out


def stacked(blocks: Iterable[Array]) -> Array:
    """Blocks of any height below each other on white, with edges."""
    rows = []
    for block in blocks:
        lacking = WIDTH - 2 * EDGE - block.shape[1]
        rows += [np.pad(block, ((0, GAP), (0, max(0, lacking)), (0, 0)), constant_values=255)]
    return np.pad(np.concatenate(rows), ((EDGE, EDGE - GAP), (EDGE, EDGE), (0, 0)), constant_values=255)


def _blocks(finding: Finding, folder: Path | None, frames: Sequence[Frame]) -> Iterator[Array]:
    name = finding.instrument.replace("_", " ").capitalize()
    yield text_block(f"{name}: {finding.classifier.partition('@')[0].rpartition('/')[2]}", 30)
    yield text_block(finding.why or finding.sentence or "No sentence was written.", 19)
    if frames:
        yield strip(frames, WIDTH - 2 * EDGE)
    pictured = [panel for panel in finding.panels if panel.kind == "images"]
    for panel in pictured:
        for figure in panel.figures:
            yield figure_block(figure, folder)
    shown = [m for m in finding.measures if not pictured or m.headline]
    if shown:
        yield _measures(finding, shown[:MOST_MEASURES])
    for panel in finding.panels:
        if panel.kind != "images":
            yield from _plot(panel, finding)


def text_block(text: str, size: float, width: int = WIDTH - 2 * EDGE, shade: str = color.INK) -> Array:
    """Wrapped text on white."""
    lines = wrapped(plain(text), size, width)
    pitch = round(size * 1.35)
    canvas = Image.new("RGB", (width, pitch * len(lines) + 4), color.PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((0, pitch * i), line, fill=shade, font=font(size))
    return np.asarray(canvas)


def figure_block(figure: Figure, folder: Path | None) -> Array:
    """An image, its maps laid over it beside it, their color bars or legends below, and the caption."""
    if figure.pixels is None and folder is None:
        raise ValueError(f"the figure '{figure.caption}' holds no pixels and no folder was given")
    pixels = _pixels(figure, folder)
    columns = min(3, 1 + len(figure.maps) + len(figure.insets))
    wide = pixels.shape[1] > 2 * pixels.shape[0]
    side = (WIDTH - 2 * EDGE - GAP * 2) // 3 if columns == 3 else WIDTH - 2 * EDGE if wide and columns == 1 else 420
    base = _sized(np.asarray(pixels), side)
    cards = [_card(base, "image", [])]
    cards += [_card(_sized(np.asarray(_pixels(i, folder)), side), i.name, []) for i in figure.insets]
    cards += [_card(maps.overlay(base, m), m.name, _key(m)) for m in figure.maps]
    rows = [_beside(cards[i : i + columns]) for i in range(0, len(cards), columns)]
    return np.concatenate(_widened([*rows, text_block(figure.caption, 16, shade=color.MUTED)]))


def _pixels(one: Figure | Inset, folder: Path | None) -> Array:
    return one.pixels if one.pixels is not None else maps.read((folder or Path()) / one.file)


def _sized(pixels: Array, side: int) -> Array:
    height, width = pixels.shape[:2]
    times = side / max(height, width)
    size = max(1, round(width * times)), max(1, round(height * times))
    way = Image.Resampling.NEAREST if times >= 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, way))


def _card(pixels: Array, name: str, key: list[Array]) -> Array:
    parts = [text_block(name, 16, pixels.shape[1]), pixels, *key]
    return np.concatenate(_widened(parts))


def _key(layer: Map) -> list[Array]:
    width = 300
    if layer.kind == "labels":
        return [
            _swatch(f"{name} {words.value(share, 'share')}", shade, width) for name, shade, share in maps.legend(layer)
        ]
    low, high = maps.bounds(layer)
    ramp = np.linspace(-1, 1, width) if layer.kind == "signed" else np.linspace(0, 1, width)
    shades = color.signed(ramp) if layer.kind == "signed" else color.heat(ramp)
    bar = np.concatenate([np.full((8, width, 3), 255, np.uint8), np.repeat(shades[None], 12, 0)])
    ends = Image.new("RGB", (width, 24), color.PAPER)
    draw = ImageDraw.Draw(ends)
    draw.text((0, 2), plain(maps.end_text(low, layer.unit)), fill=color.MUTED, font=font(15))
    draw.text((width - 1, 2), plain(maps.end_text(high, layer.unit)), fill=color.MUTED, font=font(15), anchor="ra")
    return [bar, np.asarray(ends)]


def _swatch(text: str, shade: tuple[int, int, int], width: int) -> Array:
    line = Image.new("RGB", (width, 22), color.PAPER)
    draw = ImageDraw.Draw(line)
    draw.rectangle((0, 6, 13, 19), fill=shade)
    draw.text((22, 4), plain(text), fill=color.INK, font=font(15))
    return np.asarray(line)


def _widened(blocks: list[Array]) -> list[Array]:
    width = max(block.shape[1] for block in blocks)
    return [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in blocks]


def _beside(blocks: list[Array]) -> Array:
    height = max(block.shape[0] for block in blocks)
    gaps = [GAP] * (len(blocks) - 1) + [0]
    room = [((0, height - b.shape[0]), (0, gap), (0, 0)) for b, gap in zip(blocks, gaps, strict=True)]
    return np.concatenate([np.pad(b, r, constant_values=255) for b, r in zip(blocks, room, strict=True)], 1)


def _measures(finding: Finding, measures: list[Any]) -> Array:
    rows = []
    for m in measures:
        text = f"{m.label}: {words.value(m.value, m.unit)}"
        if m.value is None:
            text += f" ({m.why})"
        elif m.interval:
            text += f"  [{words.interval(m.interval, m.unit)}]  {words.amount(m)}"
        numbers = [m.value, m.chance, *(m.interval or ()), *(p.value for p in m.published)]
        graphic = track(domain(numbers, m.unit), m.unit, m.value, m.interval, index=0, chance=m.chance, name=m.label)
        cells = [text_block(text, 16, 540), raster(graphic, 420)] if m.value is not None else [text_block(text, 16)]
        rows.append(_beside(cells))
    return np.concatenate(_widened(rows))


def _plot(panel: Panel, finding: Finding) -> Iterator[Array]:
    part = plots.Part(0, finding.classifier, panel.data)
    yield text_block(panel.title, 22)
    if panel.kind == "table":
        yield text_table(panel.data["columns"], panel.data["rows"][:MOST_TABLE_ROWS])
        return
    make = {"dots": lambda: dots.dots([part]), "lines": lambda: plots.lines([part])}
    make |= {"bars": lambda: plots.bars(part), "points": lambda: plots.points(part)}
    scene = make[panel.kind]()
    yield raster(scene, round(scene.width * 1.9))


def text_table(columns: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Array:
    """A table as pixels; cells are cut where they would touch."""
    cells = [[plain(cell_text(c)) for c in row] for row in ([*columns], *rows)]
    width = (WIDTH - 2 * EDGE) // max(1, len(cells[0]))
    canvas = Image.new("RGB", (width * len(cells[0]), 26 * len(cells) + 6), color.PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(cells):
        for k, text in enumerate(row):
            line = wrapped(text, 16, width - 12)[0]
            draw.text((k * width, 26 * i), line, fill=color.INK if i else color.MUTED, font=font(16))
    return np.asarray(canvas)


def cell_text(cell: Any) -> str:
    """A table's cell as text: numbers in short, None as a dash.

    >>> cell_text(0.33333), cell_text(None), cell_text("tench")
    ('0.3333', '–', 'tench')
    """
    if cell is None:
        return words.DASH
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return words.plain(cell) if isinstance(cell, int | float) else str(cell)
