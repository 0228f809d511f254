"""Does masking what a heatmap ranks highest take the answer away?"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Map, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Rows
from cuescope.methods.attribution import KINDS, attributions
from cuescope.methods.attribution.masking import Masking, counts
from cuescope.methods.attribution.places import cell_sums, class_map, patch_map

RANDOM, CLASS_MAP = "random", "class map"
OWN = (RANDOM, *KINDS, CLASS_MAP)
"""The heatmaps that every classifier is asked for; those of its peers come after them."""
NEVER_NEGATIVE = ("saliency", "Grad-CAM")
MOST_SHOWN = 3


def key(name: str) -> str:
    """A heatmap's name as a part of a measure's.

    >>> key("Grad-CAM"), key("patches of cuescope/bagnet33")
    ('grad_cam', 'patches_of_cuescope_bagnet33')
    """
    return "".join(c if c.isalnum() else "_" for c in name.lower())


@dataclass(frozen=True)
class MaskingSensitivity:
    """Does masking what a heatmap ranks highest take the answer away?

    The image is a grid of cells; a heatmap, summed inside each cell, ranks them; the highest are masked, more and more
    of them, and the probability of the answer to the unmasked image is followed (Brendel & Bethge 2019).
    A heatmap that finds what the classifier reads makes it fall at once: the area under its curve is small. The
    heatmaps are the absolute gradient, integrated gradients, DeepLift and Grad-CAM of the classifier itself, its class
    map where its head averages one, and the patch logits of each BagNet that is audited beside it. What fills a masked
    cell is not given in the paper: here it is the cell's own mean color.

    >>> MaskingSensitivity(most=50, fill="mean").images
    12
    """

    images: int = 12
    """How many images are looked at, spread evenly over the set."""
    parts: int = 28
    """Cells along the shorter side of the classifier's input; more where that makes them whole pixels, at least 2."""
    most: int = 100
    """The most cells that are masked."""
    points: int = 10
    """How many times the probability is looked at on the way: after few cells, then after ever more."""
    fill: Literal["cell", "mean"] = "cell"
    """Color of a masked cell: its own mean, or the mean pixel that the classifier subtracts."""
    steps: int = 16
    """Steps of integrated gradients."""
    draws: int = 3
    """Random orders for each image; their curves are averaged."""
    seed: int = 0
    """Of the random orders."""

    question: ClassVar[str] = "Does masking what a heatmap ranks highest take the answer away?"
    reference: ClassVar[str] = (
        "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, spatial sensitivity"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "gradients"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {f"area_{key(name)}": f"area_{key(name)}" for name in OWN}
    peers: ClassVar[str] = "patches"

    def __post_init__(self) -> None:
        if min(self.images, self.parts, self.most, self.points, self.steps, self.draws) < 1:
            raise ValueError("images, parts, most, points, steps and draws must be at least 1")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: each heatmap summed inside the cells, and the answer's probability as they are masked."""
        return pl.DataFrame([self._row(classifier, batch, i) for i in range(len(batch))], schema=_SCHEMA)

    def _row(self, classifier: Classifier, batch: Batch, i: int) -> dict[str, Any]:
        target, clean = int(batch.logits[i].argmax()), float(batch.logits[i].double().softmax(0).max())
        masking = self._masking(classifier, batch.pixels[i], target)
        sums, whys = self._sums(classifier, batch, i, masking)
        draw = np.random.default_rng([self.seed, zlib.crc32(batch.ids[i].encode())])
        chance = [masking.follow(draw.permutation(masking.grid[0] * masking.grid[1])) for _ in range(self.draws)]
        curves = {RANDOM: [clean, *np.mean(chance, 0).tolist()]}
        for name, values in sums.items():
            # A stable order: of equal cells, the first in reading order comes first.
            curves[name] = [clean, *masking.follow(np.argsort(-values, kind="stable"))]
        masked = [0, *masking.counts]
        return {
            "id": batch.ids[i],
            "target": target,
            "p_clean": clean,
            "cell_px": masking.cell_px,
            "height": masking.grid[0],
            "width": masking.grid[1],
            "masked": masked,
            "heatmaps": [*curves, *whys],
            "curves": [*curves.values(), *([] for _ in whys)],
            "cells": [[], *(values.tolist() for values in sums.values()), *([] for _ in whys)],
            "whys": [*("" for _ in curves), *whys.values()],
            **{f"area_{key(name)}": area(masked, curves[name]) if name in curves else None for name in OWN},
        }

    def _masking(self, classifier: Classifier, pixels: Tensor, target: int) -> Masking:
        cell_px = max(2, min(pixels.shape[-2:]) // self.parts)
        cells = (pixels.shape[-2] // cell_px) * (pixels.shape[-1] // cell_px)
        color = None if self.fill == "cell" else classifier.preprocessing.mean
        return Masking(classifier, pixels, target, cell_px, counts(self.most, self.points, cells), color)

    def _sums(
        self, classifier: Classifier, batch: Batch, i: int, masking: Masking
    ) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Each heatmap summed inside the cells, in reading order; and of those that are not to be had, why."""
        pixels, target = masking.pixels, masking.target
        found: dict[str, Tensor | str] = attributions(classifier, pixels, target, self.steps)
        found[CLASS_MAP] = class_map(classifier, pixels, target)
        for peer in batch.peers:
            size = (pixels.shape[-2], pixels.shape[-1])
            short = f"patches of {peer.name.partition('@')[0].rpartition('/')[2]}"
            found[short if short not in found else f"patches of {peer.name}"] = patch_map(
                peer, batch.samples[i], target, size
            )
        sums = {
            n: cell_sums(m, masking.cell_px).double().numpy().ravel()
            for n, m in found.items()
            if not isinstance(m, str)
        }
        return sums, {n: m for n, m in found.items() if isinstance(m, str)}

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        curves, whys = _gathered(rows)
        masked = rows["masked"][0].to_list() if rows.height else [0]
        areas = {name: _area(name, masked, known, whys.get(name, "")) for name, known in curves.items()}
        left = {name: _left(name, masked[-1], known, whys.get(name, "")) for name, known in curves.items()}
        tried = [name for name, measure in areas.items() if name != RANDOM and measure.value is not None]
        best = min(tried, key=lambda name: areas[name].value or 0.0, default="")
        return Finding(
            instrument="masking_sensitivity",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=(_headline(best, areas), *(m for name in curves for m in (areas[name], left[name]))),
            panels=tuple(_panels(about.classifier, masked, curves, areas)) if best else (),
            sentence=_sentence(rows, best, left),
            caveats=_caveats(rows, self.fill),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer was surest: there is most to lose."""
        return rows.sort("p_clean", "id", descending=[True, False])["id"].head(MOST_SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        names = classifier.classes.names
        figures = tuple(
            _figure(told[name], pixels, names) for name, pixels in zip(batch.ids, batch.pixels, strict=True)
        )
        caption = "What each heatmap ranks highest, summed inside the cells that are masked. Red speaks for the answer."
        yield Panel("heatmaps", "images", "The heatmaps", caption, figures=figures)


_SCHEMA = {
    "id": pl.String,
    "target": pl.Int32,
    "p_clean": pl.Float64,
    "cell_px": pl.Int32,
    "height": pl.Int32,
    "width": pl.Int32,
    "masked": pl.List(pl.Int32),
    "heatmaps": pl.List(pl.String),
    "curves": pl.List(pl.List(pl.Float64)),
    "cells": pl.List(pl.List(pl.Float64)),
    "whys": pl.List(pl.String),
    **{f"area_{key(name)}": pl.Float64 for name in OWN},
}


def area(masked: list[int], curve: list[float]) -> float:
    """The mean probability along the way: the area under the curve by trapezoids, as a share of the way.

    >>> area([0, 1, 3], [1.0, 0.0, 0.0])
    0.16666666666666666
    """
    return float(np.trapezoid(curve, masked) / masked[-1])


def _gathered(rows: Rows) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Of each heatmap, its curves (images, points); and of those that some image has none of, why."""
    curves: dict[str, list[list[float]]] = {name: [] for name in OWN}
    whys: dict[str, str] = {}
    for names, found, why in rows.select("heatmaps", "curves", "whys").iter_rows():
        for name, curve, reason in zip(names, found, why, strict=True):
            curves.setdefault(name, [])
            if curve:
                curves[name].append(curve)
            else:
                whys.setdefault(name, reason)
    return {name: np.array(known) for name, known in curves.items()}, whys


def _mean(name: str, title: str, values: NDArray[Any], why: str) -> Measure:
    n = len(values)
    if not n:
        return Measure(name, None, "probability", 0, title=title, why=why or "no image was seen")
    interval = stats.bootstrap_mean(values) if n > 1 else None
    return Measure(name, float(values.mean()), "probability", n, interval, title=title)


def _area(name: str, masked: list[int], curves: NDArray[Any], why: str) -> Measure:
    values = np.array([area(masked, curve) for curve in curves])
    return _mean(f"area_{key(name)}", f"area under the curve: {name}", values, why)


def _left(name: str, most: int, curves: NDArray[Any], why: str) -> Measure:
    values = curves[:, -1] if len(curves) else np.array([])
    return _mean(f"left_{key(name)}", f"probability after {most} cells: {name}", values, why)


def _headline(best: str, areas: Mapping[str, Measure]) -> Measure:
    """The area of the best heatmap beside that of a random order."""
    title = "area under the best heatmap's curve"
    if not best:
        return Measure("best_area", None, "probability", title=title, why="no image was seen", headline=True)
    return replace(areas[best], name="best_area", title=title, chance=areas[RANDOM].value, headline=True)


def _panels(
    classifier: str, masked: list[int], curves: Mapping[str, NDArray[Any]], areas: Mapping[str, Measure]
) -> Iterable[Panel]:
    ends = {name: measure.interval or (None, None) for name, measure in areas.items()}
    dots = [
        {"label": name, "value": measure.value, "low": ends[name][0], "high": ends[name][1], "n": measure.n}
        for name, measure in areas.items()
        if measure.value is not None
    ]
    caption = (
        f"The mean probability of the answer while up to {masked[-1]} cells are masked, in the order of each heatmap. "
        "Small: the heatmap finds what the classifier reads. The bars are 95% intervals over images."
    )
    yield Panel("areas", "dots", "Which heatmap takes the answer away", caption, {"unit": "probability", "rows": dots})
    series = [
        {"name": name, "x": masked, "y": known.mean(0).round(6).tolist()}
        for name, known in curves.items()
        if len(known)
    ]
    caption = "The probability of the answer to the whole image, as a mean over images."
    axes = {"x": "cells masked", "y": "probability of the answer"}
    # A name of its own: the curves of several classifiers in one plot could not be told apart.
    yield Panel(f"curves_{key(classifier)}", "lines", "What masking leaves", caption, {**axes, "series": series})


def _sentence(rows: Rows, best: str, left: Mapping[str, Measure]) -> str:
    after, chance = (left[best].value, left[RANDOM].value) if best else (None, None)
    if after is None or chance is None:
        return "Which heatmap finds what it reads is not measured: no image was seen."
    first = rows.row(0, named=True)
    most, share = first["masked"][-1], first["masked"][-1] / (first["height"] * first["width"])
    clean = float(rows["p_clean"].to_numpy().mean())
    images = f"{rows.height} image{'s' * (rows.height > 1)}"
    return (
        f"Masking the {most} cells ({share:.0%} of the image) that {best} ranks highest takes the probability of its "
        f"answer from {clean:.2f} to {after:.2f}; as many at random leave {chance:.2f} ({images})."
    )


def _caveats(rows: Rows, fill: str) -> tuple[str, ...]:
    color = "its own mean color" if fill == "cell" else "the color of the mean pixel"
    found = [
        f"A masked cell has {color}: an image that no camera makes, to which the answer may be anything.",
        "The best of several heatmaps is chosen on the same images that it is measured on.",
    ]
    if any(name not in OWN for names in rows["heatmaps"] for name in names):
        found.append("The patches of another classifier lie where they do only if both crop the image alike.")
    sizes = rows["cell_px"].unique().to_list()
    if sizes:
        grid = rows.row(0, named=True)
        found.append(f"Cells are {sizes[0]} x {sizes[0]} px, {grid['height']} x {grid['width']} of them.")
    return tuple(found)


def _figure(row: Mapping[str, Any], pixels: Tensor, names: tuple[str, ...]) -> Figure:
    height, width = pixels.shape[-2:]
    extent = (0.0, 0.0, row["width"] * row["cell_px"] / width, row["height"] * row["cell_px"] / height)
    maps = []
    for name, cells in zip(row["heatmaps"], row["cells"], strict=True):
        if not cells:
            continue
        values = np.array(cells).reshape(row["height"], row["width"])
        # One cell of a hundred may be so strong that nothing else would show.
        most = float(np.percentile(np.abs(values), 99)) or 1.0
        shown = (values.clip(-most, most) / most).round(3).tolist()
        kind, low = ("heat", 0.0) if name in NEVER_NEGATIVE else ("signed", -1.0)
        maps.append(Map(kind, shown, name, low=low, high=1.0, extent=extent))
    return Figure(f"{names[row['target']]}: P {row['p_clean']:.2f}", to_image(pixels), maps=tuple(maps))
