"""How far do its features and its answer move when the image is moved, enlarged or turned?"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Look, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, listed
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet, to_image
from cuescope.data.ops.occlude import FILLS, Fill, fill_color
from cuescope.data.ops.transform import TRANSFORMS, shifts, steps_up
from cuescope.instruments.base import Instrument, Observer, Rows, answer, by_id, typed
from cuescope.methods.end_features import EndFeatures
from cuescope.methods.moved_features import SIDES, MovedFeatures, same_answer, sketch

MOST_SHOWN, MOST_FRAMES, LOOKED_AT = 2, 7, 5
MARGIN = 0.05
"""Answers that surely stay in all but less than this share of cases stay."""


@dataclass(frozen=True)
class Invariance(Instrument, version=3, order=270, needs={"logits"}):
    """How far do its features and its answer move when the image is moved, enlarged or turned?

    Figure 5 of Zeiler & Fergus (2014): the Euclidean distance of the features of a transformed image to those of the
    image itself, at the first and at the last layer, and P(class), for shifts, enlargements and turns. The paper leaves
    the normalization of the distance open; here it is divided by the mean distance between two images, so that 1 is as
    far as another image, whatever the scale and the offset of the features. P(class) depends on the scale of the
    logits, so the verdict goes by whether the answer stays. The class is the label, else the answer to the image as
    it is. The low layer is the first convolution's map after its nonlinearity, position by position; the high layer
    is what the last layer with weights reads, averaged over positions where it is a map: layer 7 of the paper's
    network, the pooled map of a ResNet.

    >>> Invariance(rotation_step=45).images
    20
    """

    images: int = 20
    """How many images are looked at, spread evenly over the set; 5 in the paper."""
    translation_px: int = 60
    """Farthest shift up and down, for an input of 224 px; for other inputs in proportion."""
    translation_step_px: int = 10
    """Step of the shifts, in the same pixels."""
    scale_most: float = 1.8
    """Largest enlargement, from 1 on."""
    scale_step: float = 0.1
    """Step of the enlargements."""
    rotation_most: float = 350.0
    """Largest turn in degrees counterclockwise, from 0 on."""
    rotation_step: float = 10.0
    """Step of the turns in degrees."""
    horizontal: bool = False
    """Whether shifts to the left and right are looked at too."""
    fill: Fill = "mean"
    """Color of what comes into the frame: the mean pixel that the classifier subtracts, middle gray, or black."""
    low_layer: str = ""
    """Name of another low layer."""
    high_layer: str = ""
    """Name of another high layer; its map is averaged over positions."""

    question = "How far do its features and its answer move when the image is moved, enlarged or turned?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4 and figure 5"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label tracked answer"),
        "p_clean": pl.Float64,
        **{f"{side}_own": pl.List(pl.Float32) for side in SIDES},
        **{f"{kind}_{what}": pl.List(pl.Float64) for kind in TRANSFORMS for what in (*SIDES, "p", "stays")},
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "How far they move is not measured: {why}."),
        "features": Sentence(
            "yes",
            "the distance between two images is known at a layer",
            "A shift by {shift} of 224 moves {moved} as another image would.",
        ),
        "moves": Sentence(
            "yes",
            "the whole interval of the share of answers that stay when the image is turned lies below 1 - MARGIN",
            "When the image is turned, the answer stays in {kept:.0%} of all turns ({images}; {chance:.0%} of other "
            "images have the same answer).",
        ),
        "stays": Sentence(
            "no",
            "that whole interval lies above 1 - MARGIN, and above how often two images have the same answer",
            "When the image is turned, the answer stays ({kept:.0%} of all turns, {images}; {chance:.0%} of other "
            "images have the same answer).",
        ),
        "one_answer": Sentence(
            "cannot tell",
            "that whole interval lies above 1 - MARGIN, and not above how often two images have the same answer",
            "The answer stays when the image is turned, but {chance:.0%} of other images have the same one ({images}).",
        ),
        "unsure": Sentence(
            "cannot tell",
            "that interval holds 1 - MARGIN, or there is none",
            "Whether the answer stays when the image is turned cannot be told from {images}: it does in {kept:.0%} of "
            "all turns.",
        ),
    }

    def __post_init__(self) -> None:
        steps = (self.translation_step_px, self.scale_step, self.rotation_step)
        if self.images < 1 or min(steps) <= 0:
            raise ValueError("images must be at least 1 and steps above 0")
        if self.translation_px < self.translation_step_px or self.rotation_most < self.rotation_step:
            raise ValueError("translation_px and rotation_most must hold at least one step")
        if self.scale_most < 1 + self.scale_step - 1e-9:
            raise ValueError("scale_most must be at least 1 + scale_step")

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in TRANSFORMS if kind != "horizontal" or self.horizontal]

    def steps(self, kind: str, size: tuple[int, int]) -> list[float]:
        """What an input of this size (H, W) is asked: shifts in px of 224, factors, or degrees."""
        if kind == "scale":
            return steps_up(1.0, self.scale_most, self.scale_step)
        if kind == "rotation":
            return steps_up(0.0, self.rotation_most, self.rotation_step)
        return shifts(self.translation_px, self.translation_step_px, size[kind == "horizontal"])

    def start(self, classifier: Classifier) -> Observer:
        """The facts: what the low and the high layer are, or why there is none, and the steps of each transform."""
        layers, size = EndFeatures.of(classifier, self.low_layer, self.high_layer), classifier.preprocessing.size
        facts: dict[str, Any] = {f"{kind}_at": self.steps(kind, size) for kind in self.kinds}
        for side, layer in zip(SIDES, (layers.low, layers.high), strict=True):
            facts |= {f"{side}_name": layer.name, f"{side}_why": layer.why}
        return Observer(partial(self._rows, layers), facts=facts)

    def _rows(self, layers: EndFeatures, batch: Batch) -> Rows:
        """Per image and kind of transform: at each step the distances at both layers and P(class)."""
        return pl.DataFrame([self._row(layers, batch, i) for i in range(len(batch))], self.columns)

    def _row(self, layers: EndFeatures, batch: Batch, i: int) -> dict[str, Any]:
        classifier, pixels, label = layers.classifier, batch.pixels[i], int(batch.labels[i])
        color = fill_color(self.fill, classifier.preprocessing.mean)
        known, answer = (label, label) if label >= 0 else (None, int(batch.logits[i].argmax()))
        own, logits = layers.look(pixels[None])
        said, clean = int(logits[0].argmax()), float(logits.double().softmax(1)[0, answer])
        row: dict[str, Any] = {"id": batch.ids[i], "label": known, "tracked": answer, "answer": said, "p_clean": clean}
        row |= {f"{side}_own": sketch(features)[0].tolist() for side, features in own.items()}
        for kind in self.kinds:
            how, steps = TRANSFORMS[kind], self.steps(kind, (pixels.shape[1], pixels.shape[2]))
            views = torch.stack([how.apply(pixels, step, color) for step in steps if step != how.neutral])
            features, logits = layers.look(views)
            found = {"p": logits.double().softmax(1)[:, answer].tolist()}
            found["stays"] = (logits.argmax(1) == said).double().tolist()
            found |= {side: (seen - own[side]).norm(dim=1).tolist() for side, seen in features.items()}
            neutral = {"p": clean, "stays": 1.0}
            for name, curve in found.items():
                curve.insert(steps.index(how.neutral), neutral.get(name, 0.0))
                row[f"{kind}_{name}"] = curve
        return row

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        moved = MovedFeatures(rows, about.facts)
        measures = (*(m for kind in self.kinds for m in self._measures(moved, kind)), *_shapes(moved))
        found = {measure.name: measure for measure in measures}
        panels = tuple(panel for kind in self.kinds if rows.height for panel in _panels(moved, kind))
        return Conclusion(measures, panels, self._verdict(about.facts, found), tuple(_caveats(moved, self.fill)))

    def _measures(self, moved: MovedFeatures, kind: str) -> Iterable[Measure]:
        how, steps = TRANSFORMS[kind], moved.facts[f"{kind}_at"]
        near, others = how.near(steps), [k for k, step in enumerate(steps) if step != how.neutral]
        one = f"one {how.noun} by {how.text(abs(steps[near[-1]]))}"
        for side in SIDES:
            title = f"distance at the {side} layer after {one}, in distances between two images"
            yield moved.distance(side, kind, near, f"{side}_{kind}", title=title, headline=kind == "vertical")
        p, stays = moved.curves(kind, "p"), moved.curves(kind, "stays")
        chance, why = same_answer(moved.rows["answer"].to_list()), moved.nothing
        for name, which, after in (("near", near, one), ("far", others, f"{how.every}, on average")):
            more = {"title": f"answers that stay after {after}", "chance": chance, "why": why}
            headline = (name, kind) == ("far", "rotation")
            yield stats.mean_share(f"stays_{name}_{kind}", stays[:, which].mean(1), headline=headline, **more)
            title = f"P(class) kept after {after} (depends on the scale of the logits)"
            yield stats.ratio(f"kept_{name}_{kind}", p[:, which].mean(1), moved.rows["p_clean"], why=why, title=title)

    def _verdict(self, facts: Mapping[str, Any], found: Mapping[str, Measure]) -> Verdict:
        kept = found["stays_far_rotation"]
        if kept.value is None:
            return self.say("nothing", why=kept.why)
        images, chance = counted(kept.n, "image"), kept.chance
        surely = kept.above(1 - MARGIN)
        if surely and kept.above(chance):
            said = self.say("stays", kept=kept.value, images=images, chance=chance)
        elif surely:
            said = self.say("one_answer", images=images, chance=chance)
        elif kept.below(1 - MARGIN):
            said = self.say("moves", kept=kept.value, images=images, chance=chance)
        else:
            said = self.say("unsure", kept=kept.value, images=images)
        pairs = [(which, found[f"{side}_vertical"].value) for side, which in (("low", "first"), ("high", "last"))]
        if moved := [f"its {which} layer's features {value:.0%} as far" for which, value in pairs if value is not None]:
            how, steps = TRANSFORMS["vertical"], facts["vertical_at"]
            said += self.say("features", shift=how.text(abs(steps[how.near(steps)[-1]])), moved=" and ".join(moved))
        return said

    def examples(self, rows: Rows) -> list[str]:
        """A few images, the same for every classifier, so that they stand side by side."""
        ids = rows["id"].sort()
        return [ids[i * len(ids) // MOST_SHOWN] for i in range(MOST_SHOWN)] if len(ids) > MOST_SHOWN else ids.to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, names, figures = by_id(rows), classifier.classes.names, []
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            strips = [[seen for _, seen in self._some(classifier, pixels, kind, MOST_FRAMES)] for kind in self.kinds]
            caption = f"{names[row_of[name]['answer']]}: stays after {self._kept(classifier, row_of[name])}"
            figures.append(Figure(caption, sheet(strips)))
        caption = "A row for each transform, some of its steps from left to right."
        yield Panel("strips", "images", "What was done to the images", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        pixels, figures = batch.pixels[0], []
        for kind in self.kinds:
            how = TRANSFORMS[kind]
            for step, moved in self._some(classifier, pixels, kind, LOOKED_AT):
                if step != how.neutral:
                    says = answer(classifier, classifier.logits(moved[None])[0])
                    figures.append(Figure(f"{how.verb} by {how.text(step)}: {says}", to_image(moved)))
        said = f"It says {answer(classifier, batch.logits[0])}, and still does after "
        said += f"{self._kept(classifier, rows.row(0, named=True))}."
        return Look(said, (Panel("moved", "images", "", figures=tuple(figures)),))

    def _some(self, classifier: Classifier, pixels: Tensor, kind: str, most: int) -> list[tuple[float, Tensor]]:
        """Some steps of a transform, evenly spread, and the image after each."""
        color, steps = (
            fill_color(self.fill, classifier.preprocessing.mean),
            self.steps(kind, classifier.preprocessing.size),
        )
        picked = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
        return [(steps[k], TRANSFORMS[kind].apply(pixels, steps[k], color)) for k in picked]

    def _kept(self, classifier: Classifier, row: Mapping[str, Any]) -> str:
        """After how many of the steps of each transform the answer to this image stays."""
        found = []
        for kind in self.kinds:
            how, steps = TRANSFORMS[kind], self.steps(kind, classifier.preprocessing.size)
            moved = [bool(x) for x, step in zip(row[f"{kind}_stays"], steps, strict=True) if step != how.neutral]
            found.append(f"{sum(moved)} of {len(moved)} {how.every.removeprefix('all ')}")
        return listed(found)


def _shapes(moved: MovedFeatures) -> Iterable[Measure]:
    """How much steeper the low layer is, and whether a layer jumps at the first step or moves along a line."""
    near = TRANSFORMS["vertical"].near(moved.facts["vertical_at"])
    for side in SIDES:
        known = moved.curves("vertical", side)
        title = f"part of the farthest shift's distance that one step makes, {side} layer"
        why = moved.facts[f"{side}_why"] or "no distance is known, or all are 0"
        yield stats.ratio(f"rise_{side}", known[:, near].mean(1), known[:, [0, -1]].mean(1), why=why, title=title)
    why = moved.lacking("low") or moved.lacking("high")
    low, high = ([] if why else moved.curves("vertical", s)[:, near].mean(1) / moved.apart[s].mean() for s in SIDES)
    title = "distance at the low layer over that at the high layer, after one shift"
    yield stats.ratio("low_over_high", low, high, "", why=why or "the high layer does not move", title=title)


def _panels(moved: MovedFeatures, kind: str) -> Iterable[Panel]:
    how, steps = TRANSFORMS[kind], moved.facts[f"{kind}_at"]

    def series(name: str, found: Iterable[Measure]) -> dict[str, Any]:
        shown = list(found)
        low, high = zip(*(m.interval or (m.value, m.value) for m in shown), strict=True)
        spans = {"low": list(low), "high": list(high)} if any(m.interval for m in shown) else {}
        return {"name": name, "x": steps, "y": [round(m.value or 0.0, 6) for m in shown], **spans}

    quarters = [[degrees, str(degrees)] for degrees in range(0, math.ceil(steps[-1] / 90) * 90 + 1, 90)]
    ticks = {"ticks": quarters} if kind == "rotation" else {}
    known = [side for side in SIDES if not moved.lacking(side)]
    if known:
        caption = "From the features of the image as it is, with 95% intervals over images."
        each = [[moved.distance(side, kind, [k]) for k in range(len(steps))] for side in known]
        shown = [series(f"{side} layer", found) for side, found in zip(known, each, strict=True)]
        data = {"x": how.axis, "y": "distance (1: another image)", "series": shown, **ticks}
        yield Panel(f"features_{kind}", "lines", f"Features after {how.every}", caption, data)
    shown = [series("answer stays", (stats.mean_share("", step) for step in moved.curves(kind, "stays").T))]
    caption = "How often the answer is that to the image as it is, with 95% intervals over images."
    data = {"x": how.axis, "y": "images whose answer stays", "series": shown, "y_ends": [0, 1], **ticks}
    yield Panel(f"stays_{kind}", "lines", f"The answer after {how.every}", caption, data)


def _caveats(moved: MovedFeatures, fill: Fill) -> Iterable[str]:
    rows, facts = moved.rows, moved.facts
    yield f"What comes into the frame is {FILLS[fill]}: a border that moves is something to see as well."
    yield (
        "Enlarging and turning resample the image, which blurs it a little; quarter turns do not, which makes part of "
        "the bumps at 90, 180 and 270 degrees. The paper's curves are not normalized; other images give another unit."
    )
    steps = facts["vertical_at"]
    line = abs(steps[TRANSFORMS["vertical"].near(steps)[-1]] / steps[-1])
    yield f"Along a straight line one step would make {line:.0%} of the farthest shift's distance."
    yield from (f"The {side} layer is {facts[f'{side}_name']}." for side in SIDES if facts[f"{side}_name"])
    if unlabeled := rows["label"].null_count():
        yield f"The class is the label; for {unlabeled} images without one it is the classifier's own answer."
