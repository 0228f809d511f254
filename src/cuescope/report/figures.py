"""Panels to what the page's template lays out: plots as SVG, legends, sortable tables, galleries."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cuescope.core.findings import Figure, Map, Panel
from cuescope.report.draw import dots, maps, plots, words
from cuescope.report.draw.axes import Part
from cuescope.report.draw.color import Array
from cuescope.report.draw.scene import glyph_svg, svg
from cuescope.report.gather import Entry, Subject
from cuescope.report.thumbnails import SIDE, WIDE, Picture, Thumbnails

ROOM = 4
"""Images of one figure side by side in a place: with more, the names in their legends break."""
MOST_FIGURES = 6
MOST_TABLE_ROWS = 40
"""What of a panel stands on a page that is not inline; the run folder has all."""


class Cell(NamedTuple):
    """A table's cell: what is read, and what it is sorted by."""

    text: str
    sort: str
    """The same text where that is sorted by."""
    number: bool = False


class Table(NamedTuple):
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    rest: str = ""
    """The file of the run folder that has the rows that are left out."""

    def is_number(self, column: int) -> bool:
        return any(row[column].number for row in self.rows)


class Layer(NamedTuple):
    """One image of a card: an image itself or a map laid over it."""

    picture: Picture
    alt: str
    name: str = ""
    bar: tuple[str, str, str] | None = None
    legend: tuple[tuple[str, str, str], ...] = ()


class Card(NamedTuple):
    subject: Subject
    caption: str
    layers: tuple[Layer, ...]
    wide: bool = False
    """Shown over two places: more than twice as wide as high, or of more images than a place has room for."""


class Drawn(NamedTuple):
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
    subjects: tuple[Subject, ...] = ()


def drawn(panels: Sequence[tuple[Entry, Panel]], pictures: Thumbnails) -> Drawn:
    """Panels of one name from one or several classifiers, as one figure of the page."""
    first, kind = panels[0][1], panels[0][1].kind
    caption = caption_of([(entry.subject.title, panel.caption) for entry, panel in panels if panel.caption])
    plain = Drawn(kind, first.title, caption, subjects=tuple(entry.subject for entry, _ in panels))
    if kind == "images":
        most = max(len(panel.figures) for _, panel in panels)
        note = f"The first {MOST_FIGURES} of {most} images; the others are in the run folder."
        cut = not pictures.whole and most > MOST_FIGURES
        return plain._replace(rows=_gallery(panels, pictures), note=note if cut else "")
    if kind == "table":
        tables = ((e, table(p.data["columns"], p.data["rows"], pictures.whole)) for e, p in panels)
        return plain._replace(tables=tuple((e.subject, of._replace(rest=_rest(e))) for e, of in tables))
    parts = [Part(entry.subject.index, entry.subject.title, panel.data) for entry, panel in panels]
    merged = plots.mergeable(parts, kind)
    groups = [(None, parts)] if merged else [(s, [part]) for s, part in zip(plain.subjects, parts, strict=True)]
    top = max((v for part in parts for v in part.data.get("values", ())), default=None)
    numbers = {"dots": _numbers, "points": _places}.get(kind)
    labels = [f"{first.title}: {words.listed([part.name for part in some])}" for _, some in groups]
    rest = _rest(panels[0][0])
    return plain._replace(
        plots=tuple((who, svg(plots.plot(p, kind, text, top))) for (who, p), text in zip(groups, labels, strict=True)),
        legend=_legend(plain.subjects, parts, kind),
        tables=tuple((who, numbers(some, pictures.whole)._replace(rest=rest)) for who, some in groups if numbers),
        note=_omitted(parts, kind),
    )


def caption_of(captions: Sequence[tuple[str, str]]) -> str:
    """The captions of several classifiers, (title, text): what all have in common once, then what is of one.

    >>> caption_of([("a", "Red speaks for it. 3 px."), ("b", "Red speaks for it. 5 px.")])
    'Red speaks for it. a: 3 px. b: 5 px.'
    """
    parts = [re.split(r"(?<=[.;]) ", text) for _, text in captions]
    common = [part for part in dict.fromkeys(parts[0]) if all(part in other for other in parts)] if parts else []
    own = [(who, " ".join(s for s in some if s not in common)) for (who, _), some in zip(captions, parts, strict=True)]
    return " ".join([*common, *(f"{who}: {text}" for who, text in own if text)])


def _rest(entry: Entry) -> str:
    """The file of the run folder that has all of an answer's panels."""
    if entry.subject.two:
        return "pairs.json"
    return f"cells/{entry.cell.folder.name}/finding.json"


def _legend(subjects: Sequence[Subject], parts: list[Part], kind: str) -> tuple[tuple[str, str], ...]:
    names = [tuple(s["name"] for s in part.data.get("series", ())) for part in parts]
    # The same curves of every classifier need one key for each dash, not one for each dash and color.
    common = len(parts) > 1 and len(set(names)) == 1 and len(names[0]) > 1
    keys: list[tuple[str, str]] = []
    for subject, curves in zip(subjects, names, strict=True):
        keys.append((subject.mark, subject.title))
        if len(curves) > 1 and not common:
            keys += [(_stroke(subject.role, k), name) for k, name in enumerate(curves)]
    if common:
        keys += [(_stroke("ink", k), name) for k, name in enumerate(names[0])]
    if kind == "dots":
        keys += [(glyph_svg(r.glyph, r.role, hollow=True), r.who) for r in dots.references(parts)]
    if kind == "lines":
        curves = plots.reference_curves(parts)
        keys += [(glyph_svg(shape, "ink", hollow=True), curve["who"]) for shape, curve in curves]
    if any(part.data.get("diagonal") for part in parts):
        keys.append((_stroke("muted", 1), "diagonal"))
    if any(part.data.get("chance") is not None for part in parts):
        keys.append((_stroke("muted", 1), "chance"))
    return tuple(keys)


def _stroke(role: str, k: int) -> str:
    """A short piece of the k-th curve's line."""
    return (
        f'<svg class="dash" viewBox="0 0 28 16" aria-hidden="true"><path class="{role} stroke" '
        f'd="M1 8H27" stroke-width="2" stroke-dasharray="{plots.DASHES[k % len(plots.DASHES)] or "none"}"/></svg>'
    )


def _omitted(parts: list[Part], kind: str) -> str:
    if kind == "points":
        several = any(len(part.data["points"]) > len({(p["x"], p["y"]) for p in part.data["points"]}) for part in parts)
        return "A larger mark stands for several at the same place; its area is their number." if several else ""
    lacking = dots.chosen_rows(parts)[1] if kind == "dots" and plots.mergeable(parts, kind) else 0
    if not lacking:
        return ""
    return f"The first and the last {dots.MOST_ROWS // 2} of {dots.MOST_ROWS + lacking}."


def _numbers(parts: list[Part], whole: bool) -> Table:
    """The data of a dot plot as a table: of the categories that are drawn, or of all."""
    unit = parts[0].data.get("unit", "")
    by_part = [{str(row["label"]): row for row in dots.dot_rows(part.data)} for part in parts]
    marks = {m["who"]: dict(zip(by_part[0], m["values"], strict=True)) for m in parts[0].data.get("marks", ())}
    single = len(parts) == 1
    heads = [h for part in parts for h in (["value", "95% interval", "n"] if single else [part.name, "95% interval"])]
    rows = []
    every = dict.fromkeys(label for of_part in by_part for label in of_part)
    drawn_rows = {
        *dots.chosen_rows(parts)[0],
        *(str(part.data["total"]["label"]) for part in parts if part.data.get("total")),
    }
    for label in (label for label in every if whole or label in drawn_rows):
        cells = [_cell(label)]
        for of_part in by_part:
            row = of_part.get(label, {"value": None})
            span = dots.span(row)
            cells.append(_number(row["value"], unit))
            cells.append(Cell(words.interval(span, unit), str(span[0]) if span else "", True))
            cells += [_number(row.get("n"))] if single else []
        rows.append((*cells, *(_number(mark.get(label), unit) for mark in marks.values())))
    return Table(("category", *heads, *marks), tuple(rows), len(every) - len(rows))


def _places(parts: list[Part], whole: bool) -> Table:
    """The data of a scatter as a table."""
    data = parts[0].data
    rows = [[p["label"], p["x"], p["y"], p.get("n")] for p in data["points"]]
    return table(["", data.get("x") or "x", data.get("y") or "y", "n"], rows, whole)


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], whole: bool = True) -> Table:
    """A table: whole, or its first rows with the number of those left out."""
    kept = rows if whole else rows[:MOST_TABLE_ROWS]
    shown = tuple(tuple(_cell(content) for content in row) for row in kept)
    return Table(tuple(str(column) or "name" for column in columns), shown, len(rows) - len(kept))


def _cell(content: Any) -> Cell:
    number = isinstance(content, int | float) and not isinstance(content, bool)
    text = words.cell(content)
    return Cell(text, "" if content is None else text if not number or _digits(text) else f"{content:.7g}", number)


def _digits(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _number(number: float | None, unit: str = "") -> Cell:
    if number is None:
        return Cell(words.DASH, "", True)
    text = words.value(number, unit)
    return Cell(text, text if _digits(text) else f"{number:.7g}", True)


def _gallery(panels: Sequence[tuple[Entry, Panel]], pictures: Thumbnails) -> tuple[tuple[Card, ...], ...]:
    """Cards in rows: the same image as several classifiers saw it side by side, else a row for each classifier."""
    chosen = [p.figures if pictures.whole else p.figures[:MOST_FIGURES] for _, p in panels]
    read = [
        [(f, maps.pixels_of(f, e.cell.folder)) for f in figures] for (e, _), figures in zip(panels, chosen, strict=True)
    ]
    cards = [[_card(e, f, px, pictures) for f, px in fs] for (e, _), fs in zip(panels, read, strict=True)]
    small = [[Image.fromarray(px).convert("L").resize((12, 12), Image.Resampling.BOX) for _, px in fs] for fs in read]
    prints = [[np.asarray(image, dtype=np.float64) for image in images] for images in small]
    if len(panels) > 1 and all(_alike(prints[0], other) for other in prints[1:]):
        return tuple(zip(*cards, strict=True))
    return tuple(tuple(row) for row in cards)


def _alike(first: list[Array], second: list[Array]) -> bool:
    # Two preprocessings of one image differ by a few gray levels, two photographs by dozens.
    return len(first) == len(second) and all(abs(a - b).mean() < 10 for a, b in zip(first, second, strict=True))


def _card(entry: Entry, figure: Figure, pixels: Array, pictures: Thumbnails) -> Card:
    wide, folder = pixels.shape[1] > 2 * pixels.shape[0], entry.cell.folder
    file = folder / figure.file if figure.file else None
    base = pictures.picture(pixels, file, WIDE if wide else SIDE)
    layers = [Layer(base, f"Image: {figure.caption}", "image" if figure.maps or figure.insets else "")]
    for inset in figure.insets:
        file = folder / inset.file if inset.file else None
        shown = pictures.picture(maps.pixels_of(inset, folder), file)
        layers.append(Layer(shown, f"{inset.name}: {figure.caption}", inset.name))
    layers += [_layer(pictures.over(base, m), m, figure.caption) for m in figure.maps]
    return Card(entry.subject, figure.caption, tuple(layers), wide or len(layers) > ROOM)


def _layer(picture: Picture, layer: Map, caption: str) -> Layer:
    name = layer.name or {"heat": "heat map", "signed": "signed map", "labels": "label map"}[layer.kind]
    alt = f"{name} over the image: {caption}"
    if layer.kind != "labels":
        return Layer(picture, alt, name, maps.color_bar(layer))
    keys = ((label, "#" + bytes(shade).hex(), words.value(n, "share")) for label, shade, n in maps.legend(layer))
    return Layer(picture, alt, name, legend=tuple(keys))
