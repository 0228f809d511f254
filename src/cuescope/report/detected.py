"""The page of fine-tuned detectors: which is best, of which class, and boxes drawn over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cuescope.core import files
from cuescope.core.called import apart
from cuescope.core.findings import Figure, Finding, Inset, Measure, Panel
from cuescope.data.images import UnreadableError
from cuescope.data.marked import MarkedImages
from cuescope.methods.mean_precision import IOUS, Found, Truth
from cuescope.report.draw import words
from cuescope.report.draw.color import LABELS, Array, rgb
from cuescope.report.gather import Entry, Group, Section, Subject
from cuescope.report.html import rendered

SIDE_PX = 352
"""Longest side of an image with boxes, twice that of its place on the page."""
SCORE = 0.5
"""Only what is found with this score or more is drawn."""
WANTED, HIT, WRONG = rgb(LABELS[0]), rgb(LABELS[2]), rgb(LABELS[5])
FILL = 0.45
"""How much of the image a mask covers."""


def pictures(
    images: MarkedImages,
    tried: Sequence[tuple[int, Truth, Found]],
    names: Sequence[str],
    masks: bool,
    count: int,
) -> Panel:
    """Some images, evenly spread over those held out: as they are, with what is there, with what is found."""
    figures = []
    for place in np.unique(np.linspace(0, len(tried) - 1, count).astype(int)):
        index, truth, found = tried[place]
        try:
            pixels = images.read(index).pixels.permute(1, 2, 0).numpy()
        except UnreadableError:
            continue
        shown = found.scores >= SCORE
        right = hits(truth, found)
        there: list[tuple[Any, str, tuple[int, int, int]]] = [
            (box, f"({names[label]})" if crowd else str(names[label]), WANTED)
            for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True)
        ]
        seen: list[tuple[Any, str, tuple[int, int, int]]] = [
            (
                found.boxes[k],
                f"{names[found.labels[k]]} {found.scores[k]:.2f}{'' if right[k] else ' ?'}",
                HIT if right[k] else WRONG,
            )
            for k in np.flatnonzero(shown)
        ]
        outlines = [found.masks[k] for k in np.flatnonzero(shown)] if masks else []
        insets = (
            Inset("marked", drawn(pixels, there, list(truth.masks))),
            Inset("found", drawn(pixels, seen, outlines)),
        )
        caption = f"{images.id(index)}: {int(right[shown].sum())} of {int((~truth.crowd).sum())} found"
        caption += f", {int((~right[shown]).sum())} wrong" if (~right[shown]).any() else ""
        figures.append(Figure(caption, drawn(pixels, [], []), insets=insets))
    text = (
        f"Found with a score of {SCORE:g} or more; right where its box overlaps one of the class with an IoU of .5. "
        "Wrong finds have a question mark, crowds stand in brackets."
    )
    return Panel("boxes", "images", "What is there, and what was found", text, figures=tuple(figures))


def hits(truth: Truth, found: Found) -> Any:
    """Of each find whether it is an object's, the best ones first; each object has one."""
    from torch import from_numpy
    from torchvision.ops import box_iou

    overlap = box_iou(from_numpy(found.boxes), from_numpy(truth.boxes)).numpy()
    right, taken = np.zeros(len(found.boxes), bool), set[int]()
    for k in np.argsort(-found.scores, kind="stable"):
        own = [i for i in np.flatnonzero(truth.labels == found.labels[k]) if i not in taken]
        best = max(own, key=lambda i: overlap[k, i], default=None)
        if best is not None and overlap[k, best] >= IOUS[0]:
            right[k] = True
            if not truth.crowd[best]:
                taken.add(int(best))
    return right


def drawn(pixels: Array, boxes: Sequence[tuple[Any, str, tuple[int, int, int]]], masks: Sequence[Any]) -> Array:
    """An image (H, W, 3) uint8, enlarged or made smaller, with named boxes and masks in their colors."""
    times = SIDE_PX / max(pixels.shape[:2])
    canvas = pixels.astype(float)
    for mask, (_, _, shade) in zip(masks, boxes, strict=False):
        from pycocotools import mask as rle

        where = rle.decode(mask).astype(bool)
        canvas[where] = (1 - FILL) * canvas[where] + FILL * np.array(shade)
    size = max(1, round(pixels.shape[1] * times)), max(1, round(pixels.shape[0] * times))
    way = Image.Resampling.NEAREST if times >= 2 else Image.Resampling.LANCZOS
    image = Image.fromarray(canvas.round().astype(np.uint8)).resize(size, way)
    pen = ImageDraw.Draw(image)
    for box, _, shade in boxes:
        x0, y0, x1, y1 = (float(side) * times for side in box)
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=shade, width=3)
    for box, text, shade in boxes:
        place = pen.textbbox((0, 0), text, font_size=15)
        x = min(max(float(box[0]) * times, 0.0), max(size[0] - place[2] - 4, 0))
        above = float(box[1]) * times - place[3] - 3
        y = above if above >= 0 else min(float(box[3]) * times, size[1] - place[3] - 3)
        pen.rectangle((x, y, x + place[2] + 4, y + place[3] + 3), fill=shade)
        pen.text((x + 2, y), text, fill=(255, 255, 255), font_size=15)
    return np.asarray(image)


def write(
    out: Path, findings: Sequence[Finding], differences: Sequence[tuple[str, Measure, float]], notes: Sequence[str]
) -> None:
    """Write the page. `findings` are the best first; differences have their p, corrected for all of them.

    Raises CueError where it cannot be written.
    """
    called = apart([finding.classifier for finding in findings])
    entries = []
    for i, (finding, name) in enumerate(zip(findings, called, strict=True)):
        cell: Any = SimpleNamespace(status="done", folder=Path(), why="")
        entries.append(Entry(Subject(i, finding.classifier, {"name": finding.classifier}, name), cell, finding))
    first = findings[0]
    section = Section(first.instrument, "", (Group(first.images, tuple(entries)),))
    told = [
        (title, words.value(m.value, "difference"), words.interval(m.interval, "difference"), words.p_value(p))
        for title, m, p in differences
    ]
    what = "objects and their masks" if first.instrument == "segment" else "objects"
    title = f"Which backbone finds your {what} best?" if len(findings) > 1 else f"How well does it find your {what}?"
    page = rendered("detected", title=title, section=section, differences=told, notes=notes)
    files.write(out, page.encode(errors="backslashreplace"))
