"""Does masking what a heatmap ranks highest take the answer away?"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Look, Map, Measure, Panel, dot
from cuescope.core.naming import key, short_name
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Observer, Rows, answer, by_id, typed
from cuescope.methods.attribution import KINDS, Attributions
from cuescope.methods.attribution.masking import Masking, area, counts
from cuescope.methods.attribution.places import cell_sums, class_map, heat, patch_map

RANDOM, CLASS_MAP = "random", "class map"
OWN = (RANDOM, *KINDS, CLASS_MAP)
"""The heatmaps that every classifier is asked for; those of its peers come after them."""
MOST_SHOWN = 2
SEEN = 0.1
"""Share of the answer's probability to be lost with every cell masked, for masks to say where it is read."""
MARGIN = 0.02
"""The area, as a share of the probability, that heatmaps that find something take from that of random orders."""
GAIN = "the whole interval of what the mean heatmap takes from the area of random orders"
MASKED = (
    "masking the {most} cells ({share:.0%} of the image) that a heatmap ranks highest takes the probability of its "
    "answer from {clean:.2f} to {left:.2f}, mean over {heatmaps}, masking as many at random to {random:.2f} ({images})."
)
FILLED = {"cell": "its own mean color", "mean": "the color of the mean pixel"}


@dataclass(frozen=True)
class MaskingSensitivity(Instrument, version=3, order=180, needs={"logits", "gradients"}):
    """The probability of the answer while the cells of a grid are masked, those first that a heatmap ranks highest.

    A heatmap that finds what the classifier reads makes it fall at once: the area under its curve is small (Brendel &
    Bethge 2019). The heatmaps are the absolute gradient, integrated gradients, DeepLift and Grad-CAM of the classifier
    itself, its class map where its head averages one, and the patch logits of each BagNet that is audited beside it,
    all summed inside each cell. What fills a masked cell is not given in the paper: here it is its own mean color. That
    keeps what is read from colors alone, so the image with every cell masked is looked at too: where that hardly lowers
    the probability, masks hide nothing that counts. What is said is of the mean over the classifier's own
    heatmaps: the best of several would be chosen on the images that it is measured on.

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

    question = "Does masking what a heatmap ranks highest take the answer away?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, spatial sensitivity"
    columns = {
        "id": pl.String,
        "target": pl.Int32,
        **typed(pl.Float64, "p_clean p_all"),
        "heatmaps": pl.List(pl.String),
        **typed(pl.List(pl.List(pl.Float64)), "curves cells"),
        "whys": pl.List(pl.String),
        **{f"area_{key(name)}": pl.Float64 for name in OWN},
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "No image was seen, so no heatmap was tried."),
        "hidden": Sentence(
            "cannot tell",
            "the interval of the share of the probability lost with every cell masked does not lie above "
            f"{SEEN}, or there is none",
            "Where it reads its answer cannot be said: with every cell masked its probability goes from {clean:.2f} to "
            "{everything:.2f} ({images}), where a masked cell has {fill}.",
            "fill masked cells otherwise: --set masking_sensitivity.fill=mean",
        ),
        "finds": Sentence(
            "yes",
            f"masking all lowers it, and {GAIN} lies above {MARGIN}",
            f"Heatmaps find what it reads: {MASKED}",
        ),
        "no_better": Sentence(
            "no",
            f"masking all lowers it, and {GAIN} lies below {MARGIN}",
            f"Heatmaps find what it reads no better than a random order: {MASKED}",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            f"masking all lowers it, and neither is so: {GAIN} lies above or below {MARGIN}",
            f"Whether heatmaps find what it reads cannot be said: {MASKED}",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.parts, self.most, self.points, self.steps, self.draws) < 1:
            raise ValueError("images, parts, most, points, steps and draws must be at least 1")

    def peers(self, classifier: Classifier, classifiers: Sequence[Classifier]) -> tuple[Classifier, ...]:
        """The networks of local patches with the same classes."""
        others = [c for c in classifiers if c is not classifier and c.classes == classifier.classes]
        return tuple(c for c in others if "patch_logits" in c.capabilities)

    def start(self, classifier: Classifier) -> Observer:
        """The facts: the side of a cell, cells along y ("height") and x ("width"), and how many are masked, from 0."""
        cell_px, height, width = self._grid(*classifier.preprocessing.size)
        masked = counts(self.most, self.points, height * width)
        facts = {"cell_px": cell_px, "height": height, "width": width, "masked": [0, *masked]}
        return Observer(partial(self._rows, Attributions.of(classifier), cell_px, masked), facts=facts)

    def _grid(self, height: int, width: int) -> tuple[int, int, int]:
        """The side of a cell, and cells along y and along x."""
        cell_px = max(2, min(height, width) // self.parts)
        return cell_px, height // cell_px, width // cell_px

    def _rows(self, heatmaps: Attributions, cell_px: int, masked: tuple[int, ...], batch: Batch) -> Rows:
        """Per image: each heatmap summed inside the cells, and the answer's probability as they are masked."""
        classifier, rows = heatmaps.classifier, []
        color = None if self.fill == "cell" else classifier.preprocessing.mean
        for i, (name, pixels, logits) in enumerate(zip(batch.ids, batch.pixels, batch.logits, strict=True)):
            target, clean = int(logits.argmax()), float(logits.double().softmax(0).max())
            masking = Masking(classifier, pixels, target, cell_px, masked, color)
            random = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            orders = [random.permutation(masking.grid[0] * masking.grid[1]) for _ in range(self.draws)]
            found = [(RANDOM, [clean, *np.mean([masking.follow(order) for order in orders], 0).tolist()], [], "")]
            for heatmap, values in self._maps(heatmaps, batch, i, target).items():
                if isinstance(values, str):
                    found.append((heatmap, [], [], values))
                    continue
                cells = cell_sums(values, cell_px).numpy().ravel()
                # A stable order: of equal cells, the first in reading order comes first.
                curve = [clean, *masking.follow(np.argsort(-cells, kind="stable"))]
                found.append((heatmap, curve, cells.tolist(), ""))
            every, curves, cells, whys = map(list, zip(*found, strict=True))
            row = {"id": name, "target": target, "p_clean": clean, "p_all": masking.everything()}
            row |= {"heatmaps": every, "curves": curves, "cells": cells, "whys": whys}
            areas = {own: area([0, *masked], curve) for own, curve, *_ in found if own in OWN and curve}
            rows.append(row | {f"area_{key(own)}": value for own, value in areas.items()})
        return pl.DataFrame(rows, schema=dict(self.columns))

    def _maps(self, heatmaps: Attributions, batch: Batch, i: int, target: int) -> dict[str, Tensor | str]:
        """Each heatmap of image i, or why there is none."""
        pixels = batch.pixels[i]
        found = heatmaps.maps(pixels, target, self.steps)
        found[CLASS_MAP] = class_map(heatmaps.classifier, pixels, target)
        for peer in batch.peers:
            short = f"patches of {short_name(peer.name)}"
            name = short if short not in found else f"patches of {peer.name}"
            found[name] = patch_map(peer, batch.samples[i], target, (pixels.shape[-2], pixels.shape[-1]))
        return found

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        curves, whys = _gathered(rows)
        masked = about.facts["masked"]
        areas, left = {}, {}
        for name, known in curves.items():
            column, why = f"area_{key(name)}", whys.get(name) or "no image was seen"
            more = {"title": f"area under the curve: {name}", "per_image": column if name in OWN else "", "why": why}
            areas[name] = stats.mean(column, [area(masked, curve) for curve in known], "probability", **more)
            more = {"title": f"probability after {masked[-1]} cells: {name}", "why": why}
            left[name] = stats.mean(f"left_{key(name)}", [curve[-1] for curve in known], "probability", **more)
        tried = [name for name in OWN if name != RANDOM and len(curves[name]) == rows.height > 0]
        each = [m for name in curves for m in (areas[name], left[name])]
        by_image = {name: np.array([area(masked, curve) for curve in curves[name]]) for name in (*tried, RANDOM)}
        heatmaps = np.mean([by_image[name] for name in tried], 0) if tried else np.zeros(0)
        why, title = "no image was seen", "area under the curve, mean over its heatmaps"
        headline = stats.mean("mean_area", heatmaps, "probability", why=why, title=title, headline=True)
        headline = replace(headline, chance=areas[RANDOM].value)
        clean, everything = (rows[name].to_numpy() for name in ("p_clean", "p_all"))
        title = "share of the probability by which the heatmaps' curves lie below those of random orders"
        found = stats.ratio("found", by_image[RANDOM] - heatmaps, clean, why=why, title=title)
        title = "share of the probability lost with every cell masked"
        lost = stats.ratio("lost_with_all", clean - everything, clean, why=why, title=title)
        caveats, measures = _caveats(rows, about.facts, self.fill), (headline, found, lost, *each)
        if not tried:
            return Conclusion(measures, (), self.say("nothing"), caveats)
        panels = tuple(_panels(about.classifier, masked, curves, areas))
        after = float(np.mean([left[name].value for name in tried]))
        values = {"left": after, "random": left[RANDOM].value, "heatmaps": counted(len(tried), "heatmap")}
        return Conclusion(measures, panels, self._verdict(rows, about.facts, found, lost, values), caveats)

    def _verdict(
        self, rows: Rows, facts: Mapping[str, Any], found: Measure, lost: Measure, values: Mapping[str, Any]
    ) -> Verdict:
        clean, everything = (float(rows[name].to_numpy().mean()) for name in ("p_clean", "p_all"))
        images = counted(rows.height, "image")
        if not lost.above(SEEN):
            said = self.say("hidden", clean=clean, everything=everything, images=images, fill=FILLED[self.fill])
            return said if self.fill == "cell" else replace(said, remedy="")
        name = "finds" if found.above(MARGIN) else "no_better" if found.below(MARGIN) else "cannot_tell"
        most = facts["masked"][-1]
        share = most / (facts["height"] * facts["width"])
        return self.say(name, most=most, share=share, clean=clean, images=images, **values)

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer was surest: there is most to lose."""
        return rows.sort("p_clean", "id", descending=[True, False])["id"].head(MOST_SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, figures = by_id(rows), []
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            row = row_of[name]
            caption = f"{classifier.classes.names[row['target']]}: P {row['p_clean']:.2f} unmasked"
            figures.append(Figure(caption, to_image(pixels), maps=self._maps_of(row, pixels)))
        caption = "What each heatmap ranks highest, summed inside cells; 1 is its strongest. Red speaks for the answer."
        yield Panel("heatmaps", "images", "The heatmaps", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, pixels = rows.row(0, named=True), batch.pixels[0]
        most, cells = self._most(pixels)
        left = {name: curve[-1] for name, curve in zip(row["heatmaps"], row["curves"], strict=True) if curve}
        random, p = left.pop(RANDOM), f"P({classifier.classes.names[row['target']]})"
        lowest = min(left, key=left.__getitem__, default="")
        said = f"It says {answer(classifier, batch.logits[0])}. "
        said += f"With {most} of {cells} cells masked at random {p} is {random:.2f}"
        if lowest:
            said += f"; with those that {lowest} ranks highest it is {left[lowest]:.2f}, the lowest of its heatmaps"
        figure = Figure("", to_image(pixels), maps=self._maps_of(row, pixels))
        shown = {"nothing": row["p_clean"], "at random": random, **left, "all cells": row["p_all"]}
        data = {"unit": "probability", "rows": [dot(name, value) for name, value in shown.items()]}
        plot = Panel("left", "dots", f"{p} after {most} cells are masked", data=data)
        return Look(f"{said}.", (Panel("heatmaps", "images", "", figures=(figure,)), plot))

    def _most(self, pixels: Tensor) -> tuple[int, int]:
        """How many cells of an image are masked, and of how many."""
        _, height, width = self._grid(pixels.shape[-2], pixels.shape[-1])
        return counts(self.most, self.points, height * width)[-1], height * width

    def _maps_of(self, row: Mapping[str, Any], pixels: Tensor) -> tuple[Map, ...]:
        """The heatmaps of an image, each with what masking in its order leaves."""
        height, width = pixels.shape[-2:]
        cell_px, *grid = self._grid(height, width)
        extent = (0.0, 0.0, grid[1] * cell_px / width, grid[0] * cell_px / height)
        most, _ = self._most(pixels)
        each = zip(row["heatmaps"], row["cells"], row["curves"], strict=True)
        found = [(name, heat(name, np.reshape(cells, grid), extent), curve[-1]) for name, cells, curve in each if cells]
        return tuple(replace(drawn, name=f"{name}: P {p:.2f} after {most} cells") for name, drawn, p in found)


def _gathered(rows: Rows) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Of each heatmap, its curves (images, points); and of those that some image has none of, why."""
    curves: dict[str, list[list[float]]] = {name: [] for name in OWN}
    whys: dict[str, str] = {}
    lists = "heatmaps", "curves", "whys"
    for name, curve, why in rows.select(lists).explode(lists).iter_rows():
        curves.setdefault(name, []).extend([curve] if curve else [])
        if not curve:
            whys.setdefault(name, why)
    return {name: np.array(known) for name, known in curves.items()}, whys


def _panels(
    classifier: str, masked: list[int], curves: Mapping[str, NDArray[Any]], areas: Mapping[str, Measure]
) -> Iterable[Panel]:
    dots = [dot(name, m.value, m.interval, m.n) for name, m in areas.items() if m.value is not None]
    caption = (
        f"P(answer) while up to {masked[-1]} cells are masked in its order: the area under the curve, 95% intervals."
    )
    yield Panel("areas", "dots", "Which heatmap takes the answer away", caption, {"unit": "probability", "rows": dots})
    means = {name: known.mean(0).round(6).tolist() for name, known in curves.items() if len(known)}
    series = [{"name": name, "x": masked, "y": ys} for name, ys in means.items()]
    caption = "In the order of each heatmap; means over images."
    data = {"x": "cells masked", "y": "probability of the answer", "series": series}
    # A name of its own: the curves of several classifiers in one plot could not be distinguished.
    yield Panel(f"curves_{key(classifier)}", "lines", "What masking leaves", caption, data)


def _caveats(rows: Rows, facts: Mapping[str, Any], fill: str) -> tuple[str, ...]:
    found = [f"A masked cell has {FILLED[fill]}: an image that no camera makes, to which the answer may be anything."]
    if any(name not in OWN for names in rows["heatmaps"] for name in names):
        found.append("The patches of another classifier lie where they do only if both crop the image alike.")
    if rows.height:
        found.append("Cells are {cell_px} x {cell_px} px, {height} x {width} of them.".format(**facts))
    return tuple(found)
