"""What an instrument shows of one image as one PNG: what `cuescope look` writes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cuescope.core import files
from cuescope.core.findings import Figure, Look, Map, Panel
from cuescope.report.draw import maps, plots, words
from cuescope.report.draw.axes import shortened
from cuescope.report.draw.film import strip
from cuescope.report.draw.raster import lines, png, width_of, wrapped
from cuescope.report.draw.scene import Item, Placed, Scene, Text, below, beside, picture

WIDTH, EDGE, GAP = 1080, 40, 24
INNER = WIDTH - 2 * EDGE
MOST_TABLE_ROWS = 16
PLOT = 684
"""Width of a plot below the pictures."""
FRAMES = 8
"""Frames below other pictures."""
NAME, LEGEND = 17, 15
"""Sizes of the names of pictures, and of their legends and color bars."""


def look_png(look: Look, title: str, out: Path) -> Path:
    """Write a look as a PNG: its title, its pictures with their maps, the sentence, the frames and the plots."""
    files.write(out, png(sheet(_blocks(look, title))))
    return out


def sheet(blocks: Iterable[Scene]) -> Scene:
    """Blocks of any height below each other, with edges."""
    inner = below(blocks, GAP)
    return Scene(inner.height + 2 * EDGE, [Placed((EDGE, EDGE), inner)], width=max(WIDTH, inner.width + 2 * EDGE))


def text_block(text: str, size: float, width: float = INNER, role: str = "ink") -> Scene:
    """Wrapped text."""
    return lines(wrapped(text, size, width), size, width, role)


def _blocks(look: Look, title: str) -> Iterator[Scene]:
    yield text_block(title, 28)
    pictured = [panel for panel in look.panels if panel.kind == "images"]
    others = [panel for panel in look.panels if panel.kind != "images"]
    if [len(panel.figures) for panel in pictured] == [1] and others and not pictured[0].figures[0].maps:
        # One picture leaves room for its plot.
        yield beside([_grid([_alone(pictured[0].figures[0], _side(2))], 2), _plotted(others.pop(0), _side(2))], GAP)
    else:
        for panel in pictured:
            yield from _pictures(panel)
    if look.frames and not pictured:
        yield strip(look.frames, INNER, _columns(len(look.frames)))
    yield text_block(look.sentence, 20)
    if look.frames and pictured:
        yield strip(look.frames[:: -(-len(look.frames) // FRAMES)], INNER, FRAMES)
    for panel in others:
        yield _plotted(panel, PLOT)


class Card(NamedTuple):
    """A picture under its name, above its key."""

    name: str
    pixels: maps.Array
    key: Sequence[Scene] = ()


def _pictures(panel: Panel) -> Iterator[Scene]:
    """The figures of a panel: those of one image each beside each other, one with maps or insets by itself."""
    if panel.title:
        yield text_block(panel.title, 20)
    if any(figure.maps or figure.insets for figure in panel.figures):
        for figure in panel.figures:
            yield _figure(figure)
    else:
        columns = _columns(len(panel.figures))
        yield _grid([_alone(figure, _side(columns)) for figure in panel.figures], columns)


def _alone(figure: Figure, side: int) -> Card:
    return Card(figure.caption, maps.resized(maps.pixels_of(figure, None), side))


def _figure(figure: Figure) -> Scene:
    """An image, what stands beside it and its maps, each with its color bar or legend, and the caption."""
    columns = _columns(1 + len(figure.maps) + len(figure.insets))
    side = _side(columns)
    base = maps.resized(maps.pixels_of(figure, None), side)
    cards = [Card("image", base)]
    cards += [Card(inset.name, maps.resized(maps.pixels_of(inset, None), side)) for inset in figure.insets]
    cards += [Card(m.name, _fitted(maps.overlay(base, m), side), [*_key(m, side)]) for m in figure.maps]
    caption = [text_block(figure.caption, 16, role="muted")] if figure.caption else []
    return below([_grid(cards, columns), *caption], 8)


def _columns(count: int) -> int:
    """So many pictures stand best in rows of this many."""
    return {1: 1, 2: 2, 4: 2}.get(count, 3 if count < 7 else 4)


def _side(columns: int) -> int:
    """The longer side of pictures in so many columns."""
    return 640 if columns == 1 else (INNER - GAP * (columns - 1)) // columns


def _fitted(pixels: maps.Array, side: int) -> maps.Array:
    """A map that stands alone has whole cells, so it may be a little smaller than the image beside it."""
    return maps.resized(pixels, side) if max(pixels.shape[:2]) > side else pixels


def _grid(cards: Sequence[Card], columns: int) -> Scene:
    """Cards in rows, their pictures in line however long their names are."""
    side, rows = _side(columns), []
    for i in range(0, len(cards), columns):
        row = cards[i : i + columns]
        names = [wrapped(shortened_words(card.name, side), NAME, side) for card in row]
        most = max(map(len, names))
        tops = [lines([*name, *[""] * (most - len(name))], NAME, side) for name in names]
        scenes = [below([top, picture(card.pixels), *card.key]) for top, card in zip(tops, row, strict=True)]
        rows.append(beside([scene._replace(width=side) for scene in scenes], GAP))
    return below(rows, GAP)


def shortened_words(text: str, room: float) -> str:
    """A text of whose words none is wider than the room."""
    return " ".join(shortened(word, room, NAME, width_of) for word in text.split())


def _key(layer: Map, width: int) -> Iterator[Scene]:
    """The legend of a map of labels, the color bar of any other."""
    if layer.kind == "labels":
        for name, shade, share in maps.legend(layer):
            swatch, amount = picture(np.full((14, 14, 3), shade, np.uint8)), f" {words.value(share, 'share')}"
            # resvg sets text a little wider than Pillow measures it.
            room = 0.95 * (width - 22) - width_of(amount, LEGEND)
            text = shortened(name, room, LEGEND, width_of) + amount
            yield Scene(24, [Placed((0, 7), swatch), *lines([text], LEGEND, width, at=(22, 3)).items], width=width)
        return
    low, high = maps.bounds(layer)
    bar = maps.shades(layer, np.linspace(low, high, width))
    texts = [maps.end_text(tick, layer.unit) for tick in (low, (low + high) / 2, high)]
    places = zip((0, width / 2, width), ("start", "middle", "end"), texts, strict=True)
    items: list[Item] = [Text((x, 38), text, "ink", LEGEND, anchor) for x, anchor, text in places]
    if layer.unit and not any(words.value(high, layer.unit) == text for text in texts):
        items.append(Text((width / 2, 58), layer.unit, "muted", LEGEND, "middle"))
    yield Scene(64, [Placed((0, 8), picture(np.repeat(bar[None], 12, 0))), *items], width=width)


def enlarged(scene: Scene, width: float) -> Scene:
    """The scene at another width."""
    times = width / scene.width
    return Scene(scene.height * times, [Placed((0, 0), scene, times)], width=width)


def _plotted(panel: Panel, width: float) -> Scene:
    """A panel that is no picture, under its title."""
    if panel.kind == "table":
        drawn = _table([panel.data["columns"], *panel.data["rows"][:MOST_TABLE_ROWS]])
    else:
        drawn = enlarged(plots.plot([plots.Part(0, "", panel.data)], panel.kind), width)
    return below([text_block(panel.title, 17, width), drawn], 8) if panel.title else drawn


def _table(rows: Sequence[Sequence[Any]]) -> Scene:
    """A table; cells are cut where they would touch."""
    width = INNER // max(1, len(rows[0]))
    items: list[Item] = []
    for i, row in enumerate(rows):
        for k, cell in enumerate(row):
            text = wrapped(words.cell(cell), 16, width - 12)[:1]
            items += lines(text, 16, width, "ink" if i else "muted", at=(k * width, 26 * i)).items
    return Scene(26 * len(rows) + 6, items, width=width * len(rows[0]))
