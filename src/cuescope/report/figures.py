"""Panels to what the page's template lays out: plots as SVG, legends, sortable tables, galleries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cuescope.core.findings import Figure, Map, Panel
from cuescope.report.draw import dots, maps, plots, words
from cuescope.report.draw.axes import Part
from cuescope.report.draw.color import Array
from cuescope.report.draw.scene import glyph_svg, svg
from cuescope.report.gather import Entry
from cuescope.report.subjects import Subject

ROOM = 4
"""Images of one figure side by side in a place: with more, the names in their legends break."""
MOST_FIGURES = 12
MOST_TABLE_ROWS = 400


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is read, and what it is sorted by."""

    text: str
    sort: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0

    def is_number(self, column: int) -> bool:
        return any(row[column].number for row in self.rows)


@dataclass(frozen=True)
class Layer:
    """One image of a card: an image itself or a map laid over it."""

    uri: str
    alt: str
    name: str = ""
    bar: tuple[str, str, str] | None = None
    legend: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Card:
    subject: Subject
    caption: str
    layers: tuple[Layer, ...]
    wide: bool = False
    """Shown over two places: more than twice as wide as high, or of more images than a place has room for."""


@dataclass(frozen=True)
class Drawn:
    """A panel ready to be laid out, with one plot for all classifiers or one for each."""

    kind: str
    title: str
    caption: str
    plots: tuple[tuple[Subject | None, str], ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    tables: tuple[tuple[Subject | None, Table], ...] = ()
    rows: tuple[tuple[Card, ...], ...] = ()
    """Of a gallery: cards that belong beside each other."""
    note: str = ""
    subjects: tuple[Subject, ...] = field(default=())


def drawn(panels: Sequence[tuple[Entry, Panel]]) -> Drawn:
    """Panels of one name from one or several classifiers, as one figure of the page."""
    first = panels[0][1]
    captions = list(dict.fromkeys(p.caption for _, p in panels if p.caption))
    common: dict[str, Any] = {
        "kind": first.kind,
        "title": first.title,
        "caption": captions[0]
        if len(captions) == 1
        else " ".join(f"{e.subject.title}: {p.caption}" for e, p in panels if p.caption),
        "subjects": tuple(entry.subject for entry, _ in panels),
    }
    if first.kind == "images":
        return Drawn(**common, rows=_gallery(panels), note=_cut(panels))
    if first.kind == "table":
        return Drawn(**common, tables=tuple((e.subject, table(p.data["columns"], p.data["rows"])) for e, p in panels))
    parts = [(entry.subject, Part(entry.subject.index, entry.subject.title, panel.data)) for entry, panel in panels]
    merge = plots.mergeable([part for _, part in parts], first.kind)
    groups = [parts] if merge else [[part] for part in parts]
    scenes = tuple((None if merge else group[0][0], _plot(group, parts, first)) for group in groups)
    only = [part for _, part in parts]
    numbers = {"dots": _numbers, "points": _places}.get(first.kind)
    tables = tuple((None if merge else g[0][0], numbers([p for _, p in g])) for g in groups if numbers)
    return Drawn(**common, plots=scenes, legend=_legend(parts, first.kind), tables=tables, note=_omitted(only, first))


def _plot(group: list[tuple[Subject, Part]], every: list[tuple[Subject, Part]], panel: Panel) -> str:
    parts = [part for _, part in group]
    top = max((v for _, part in every for v in part.data.get("values", ())), default=None)
    return svg(plots.plot(parts, panel.kind, f"{panel.title}: {words.listed([part.name for part in parts])}", top))


def _legend(parts: list[tuple[Subject, Part]], kind: str) -> tuple[tuple[str, str], ...]:
    names = [tuple(s["name"] for s in part.data.get("series", ())) for _, part in parts]
    # The same curves of every classifier need one key for each dash, not one for each dash and color.
    common = len(parts) > 1 and len(set(names)) == 1 and len(names[0]) > 1
    keys: list[tuple[str, str]] = []
    for (subject, _), curves in zip(parts, names, strict=True):
        keys.append((subject.mark, subject.title))
        if len(curves) > 1 and not common:
            keys += [(_stroke(subject.role, k), name) for k, name in enumerate(curves)]
    if common:
        keys += [(_stroke("ink", k), name) for k, name in enumerate(names[0])]
    if kind == "dots":
        keys += [(glyph_svg(r.glyph, r.role, hollow=True), r.who) for r in dots.references([p for _, p in parts])]
    if kind == "lines":
        curves = plots.reference_curves([part for _, part in parts])
        keys += [(glyph_svg(shape, "ink", hollow=True), curve["who"]) for shape, curve in curves]
    if any(part.data.get("diagonal") for _, part in parts):
        keys.append((_stroke("muted", 1), "diagonal"))
    if any(part.data.get("chance") is not None for _, part in parts):
        keys.append((_stroke("muted", 1), "chance"))
    return tuple(keys)


def _stroke(role: str, k: int) -> str:
    """A short piece of the k-th curve's line."""
    return (
        f'<svg class="dash" viewBox="0 0 28 16" aria-hidden="true"><polyline class="{role} stroke" '
        f'points="1,8 27,8" stroke-width="2" stroke-dasharray="{plots.DASHES[k % len(plots.DASHES)] or "none"}"/></svg>'
    )


def _omitted(parts: list[Part], panel: Panel) -> str:
    if panel.kind == "points":
        several = any(len(part.data["points"]) > len({(p["x"], p["y"]) for p in part.data["points"]}) for part in parts)
        return "A larger mark stands for several at the same place; its area is their number." if several else ""
    lacking = dots.chosen_rows(parts)[1] if panel.kind == "dots" and plots.mergeable(parts, "dots") else 0
    if not lacking:
        return ""
    return f"Drawn: the first and the last {dots.MOST_ROWS // 2}; the {lacking} between them stand in the table."


def _numbers(parts: list[Part]) -> Table:
    """The data of a dot plot as a table."""
    unit = parts[0].data.get("unit", "")
    labels = list(dict.fromkeys(str(row["label"]) for part in parts for row in dots.dot_rows(part.data)))
    by_part = [{str(row["label"]): row for row in dots.dot_rows(part.data)} for part in parts]
    marks = {m["who"]: dict(zip(by_part[0], m["values"], strict=True)) for m in parts[0].data.get("marks", ())}
    single = len(parts) == 1
    heads = [h for part in parts for h in (["value", "95% interval", "n"] if single else [part.name, "95% interval"])]
    rows = []
    for label in labels:
        cells = [text_cell(label)]
        for rows_of in by_part:
            row = rows_of.get(label, {"value": None})
            cells.append(number_cell(row["value"], unit))
            span = (row["low"], row["high"]) if row.get("low") is not None and row.get("high") is not None else None
            cells.append(Cell(words.interval(span, unit), str(span[0]) if span else "", True))
            cells += [number_cell(row.get("n"), "")] if single else []
        rows.append((*cells, *(number_cell(mark.get(label), unit) for mark in marks.values())))
    return Table(("category", *heads, *marks), tuple(rows))


def _places(parts: list[Part]) -> Table:
    """The data of a scatter as a table."""
    data = parts[0].data
    rows = [[p["label"], p["x"], p["y"], p.get("n")] for p in data["points"]]
    return table(["", data.get("x") or "x", data.get("y") or "y", "n"], rows)


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Table:
    """A panel's table; beyond some hundred rows the rest is left out, and said to be."""
    shown = tuple(tuple(_any_cell(cell) for cell in row) for row in rows[:MOST_TABLE_ROWS])
    return Table(tuple(map(str, columns)), shown, max(0, len(rows) - MOST_TABLE_ROWS))


def _any_cell(cell: Any) -> Cell:
    number = isinstance(cell, int | float) and not isinstance(cell, bool)
    return Cell(words.cell(cell), "" if cell is None else str(cell), number)


def text_cell(text: str) -> Cell:
    return Cell(text, text)


def number_cell(number: float | None, unit: str) -> Cell:
    if number is None:
        return Cell(words.DASH, "", True)
    return Cell(words.value(number, unit), repr(float(number)), True)


def _cut(panels: Sequence[tuple[Entry, Panel]]) -> str:
    most = max(len(panel.figures) for _, panel in panels)
    return (
        f"The first {MOST_FIGURES} of {most} images; the others are in the run folder." if most > MOST_FIGURES else ""
    )


def _gallery(panels: Sequence[tuple[Entry, Panel]]) -> tuple[tuple[Card, ...], ...]:
    """Cards in rows: the same image as several classifiers saw it side by side, else a row for each classifier."""
    read = [[(f, maps.pixels_of(f, e.cell.folder)) for f in p.figures[:MOST_FIGURES]] for e, p in panels]
    cards = [[_card(e.subject, f, px, e.cell.folder) for f, px in fs] for (e, _), fs in zip(panels, read, strict=True)]
    prints = [[_thumbprint(px) for _, px in fs] for fs in read]
    if len(panels) > 1 and all(_alike(prints[0], other) for other in prints[1:]):
        return tuple(zip(*cards, strict=True))
    return tuple(tuple(row) for row in cards)


def _thumbprint(pixels: Array) -> Array:
    small = Image.fromarray(pixels).convert("L").resize((12, 12), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _alike(first: list[Array], second: list[Array]) -> bool:
    # Two preprocessings of one image differ by a few gray levels, two photographs by dozens.
    return len(first) == len(second) and all(abs(a - b).mean() < 10 for a, b in zip(first, second, strict=True))


def _card(subject: Subject, figure: Figure, pixels: Array, folder: Path) -> Card:
    wide = pixels.shape[1] > 2 * pixels.shape[0]
    base = maps.fit(pixels, largest=maps.LARGEST * (2 if wide else 1))
    alone = not figure.maps and not figure.insets
    layers = [Layer(maps.data_uri(base), f"Image: {figure.caption}", "" if alone else "image")]
    for inset in figure.insets:
        uri = maps.data_uri(maps.fit(maps.pixels_of(inset, folder)))
        layers.append(Layer(uri, f"{inset.name}: {figure.caption}", inset.name))
    layers = (*layers, *(_layer(base, m, figure) for m in figure.maps))
    return Card(subject, figure.caption, layers, wide or len(layers) > ROOM)


def _layer(base: Array, layer: Map, figure: Figure) -> Layer:
    name = layer.name or {"heat": "heat map", "signed": "signed map", "labels": "label map"}[layer.kind]
    uri, alt = maps.data_uri(maps.overlay(base, layer)), f"{name} over the image: {figure.caption}"
    if layer.kind == "labels":
        keys = (
            (label, "#" + bytes(shade).hex(), words.value(share, "share")) for label, shade, share in maps.legend(layer)
        )
        return Layer(uri, alt, name, None, tuple(keys))
    return Layer(uri, alt, name, maps.color_bar(layer))


def skipped_table(rows: Iterable[Mapping[str, str]]) -> Table:
    """The images that could not be used."""
    listed = [[row["set"], row["id"], row["why"]] for row in rows]
    return table(["image set", "image", "why"], listed)
