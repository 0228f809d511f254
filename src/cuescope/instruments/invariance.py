"""How far do its features and its answer move when the image is moved, enlarged or turned?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.data.ops.occlude import FILLS, Fill, fill_color
from cuescope.data.ops.transform import PAPER_PX, TRANSFORMS, shifts, steps_up
from cuescope.instruments.base import Instrument, Observer, Rows, by_id, typed
from cuescope.methods.end_features import EndFeatures

SIDES, MOST_SHOWN, MOST_FRAMES = ("low", "high"), 3, 7


@dataclass(frozen=True)
class Invariance(Instrument, version=2, order=270, needs={"logits"}):
    """How far do its features and its answer move when the image is moved, enlarged or turned?

    Figure 5 of Zeiler & Fergus (2014): the Euclidean distance of the features of a transformed image to those of the
    image itself, at the first and at the last layer, and P(class), for shifts, enlargements and turns. The paper leaves
    the normalization of the distance open; here it is divided by the length of the image's own feature vector. The
    class is the label, else the answer to the image as it is. The low layer is the first convolution's map after its
    nonlinearity, position by position; the high layer is what the last layer with weights reads, averaged over
    positions where it is a map: layer 7 of the paper's network, the pooled map of a ResNet.

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
        **typed(pl.Int32, "label tracked"),
        "p_clean": pl.Float64,
        **{f"{kind}_{what}": pl.List(pl.Float64) for kind in TRANSFORMS for what in (*SIDES, "p")},
        **{f"{side}_{kind}": pl.Float64 for side in SIDES for kind in TRANSFORMS},
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
        clean = float(logits.double().softmax(1)[0, answer])
        row: dict[str, Any] = {"id": batch.ids[i], "label": known, "tracked": answer, "p_clean": clean}
        for kind in self.kinds:
            how, steps = TRANSFORMS[kind], self.steps(kind, (pixels.shape[1], pixels.shape[2]))
            views = torch.stack([how.apply(pixels, step, color) for step in steps if step != how.neutral])
            features, logits = layers.look(views)
            found: dict[str, list[float | None]] = {"p": logits.double().softmax(1)[:, answer].tolist()}
            found |= {side: distances(seen, own[side]) for side, seen in features.items()}
            for name, curve in found.items():
                curve.insert(steps.index(how.neutral), clean if name == "p" else 0.0)
                row[f"{kind}_{name}"] = curve
                near = [value for k in how.near(steps) if (value := curve[k]) is not None]
                if name != "p" and near:
                    row[f"{name}_{kind}"] = sum(near) / len(near)
        return row

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        facts, kinds = about.facts, self.kinds
        measures = (*(m for kind in kinds for m in self._measures(rows, facts, kind)), *shapes(rows, facts))
        found = {measure.name: measure for measure in measures}
        panels = tuple(panel for kind in kinds if rows.height for panel in panels_of(rows, facts, kind))
        return Conclusion(measures, panels, sentence_of(rows, facts, found), tuple(caveats(rows, facts, self.fill)))

    def _measures(self, rows: Rows, facts: Mapping[str, Any], kind: str) -> Iterable[Measure]:
        how, steps, lacking = TRANSFORMS[kind], facts[f"{kind}_at"], "" if rows.height else "no image was seen"
        near, others = how.near(steps), [k for k, step in enumerate(steps) if step != how.neutral]
        one = f"one {how.noun} by {how.text(abs(steps[near[-1]]))}"
        for side in SIDES:
            name, values = f"{side}_{kind}", rows[f"{side}_{kind}"].drop_nulls()
            why = lacking or facts[f"{side}_why"] or "its features are all 0"
            title, headline = f"distance at the {side} layer after {one}", kind == "vertical"
            yield stats.mean(name, values, "", why=why, title=title, headline=headline, per_image=name)
        p, clean = curves(rows, facts, kind, "p"), rows["p_clean"]
        for name, which, after in (("kept", near, one), ("kept_far", others, f"{how.every}, on average")):
            more = {"title": f"P(class) kept after {after}", "headline": (name, kind) == ("kept_far", "rotation")}
            yield stats.ratio(f"{name}_{kind}", p[:, which].mean(1), clean, why=lacking, better="higher", **more)

    def examples(self, rows: Rows) -> list[str]:
        """A few images, the same for every classifier, so that they stand side by side."""
        ids = rows["id"].sort()
        return [ids[i * len(ids) // MOST_SHOWN] for i in range(MOST_SHOWN)] if len(ids) > MOST_SHOWN else ids.to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, names, figures = by_id(rows), classifier.classes.names, []
        color = fill_color(self.fill, classifier.preprocessing.mean)
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            row, strips, lines = row_of[name], [], []
            for kind in self.kinds:
                how, steps = TRANSFORMS[kind], self.steps(kind, (pixels.shape[1], pixels.shape[2]))
                picked = np.unique(np.linspace(0, len(steps) - 1, min(MOST_FRAMES, len(steps))).round().astype(int))
                strips.append([how.apply(pixels, steps[k], color) for k in picked])
                values = " ".join(f"{row[f'{kind}_p'][k]:.2f}" for k in picked)
                lines.append(f"{how.verb} by {steps[picked[0]]:g} to {how.text(steps[picked[-1]])}: {values}")
            figures.append(Figure(f"P({names[row['tracked']]}) {'; '.join(lines)}", sheet(strips)))
        caption = "Some of the transforms, and below P(class) of each image from left to right, row by row."
        yield Panel("strips", "images", "What was done to the images", caption, figures=tuple(figures))


def distances(features: Tensor, own: Tensor) -> list[float | None]:
    """The Euclidean distance of each of (N, D) to (1, D), in lengths of the latter; None where that is 0.

    >>> distances(torch.tensor([[3.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0]]))
    [0.8, 0.0]
    """
    length = float(own.norm())
    return [float(d) / length if length else None for d in (features - own).norm(dim=1)]


def curves(rows: Rows, facts: Mapping[str, Any], kind: str, what: str) -> NDArray[np.float64]:
    """(images, steps): of each image that has one, the curve of a kind."""
    known = [curve for curve in rows[f"{kind}_{what}"].to_list() if curve and None not in curve]
    return np.array(known, float).reshape(-1, len(facts[f"{kind}_at"]))


def shapes(rows: Rows, facts: Mapping[str, Any]) -> Iterable[Measure]:
    """How much steeper the low layer is, and whether a layer jumps at the first step or moves along a line."""
    near, why = TRANSFORMS["vertical"].near(facts["vertical_at"]), "no distance is known, or all are 0"
    both = rows.drop_nulls(["low_vertical", "high_vertical"])
    title = "distance at the low layer over that at the high layer, after one shift"
    yield stats.ratio("low_over_high", both["low_vertical"], both["high_vertical"], "", why=why, title=title)
    for side in SIDES:
        known = curves(rows, facts, "vertical", side)
        step, farthest = known[:, near].mean(1), known[:, [0, -1]].mean(1)
        title = f"part of the farthest shift's distance that one step makes, {side} layer"
        yield stats.ratio(f"rise_{side}", step, farthest, why=why, title=title)


def panels_of(rows: Rows, facts: Mapping[str, Any], kind: str) -> Iterable[Panel]:
    how, series = TRANSFORMS[kind], []
    for what, name in (("low", "low layer"), ("high", "high layer"), ("p", "P(class)")):
        known, spans = curves(rows, facts, kind, what), {}
        if len(known) > 1:
            low, high = zip(*map(stats.bootstrap_mean, known.T), strict=True)
            spans = {"low": list(low), "high": list(high)}
        if len(known):
            series.append({"name": name, "x": facts[f"{kind}_at"], "y": known.mean(0).round(6).tolist(), **spans})
    if len(series) > 1:
        caption = "Distance to the features of the image as it is, in lengths of the latter, with 95% intervals."
        data = {"x": how.axis, "y": "distance of the features", "series": series[:-1]}
        yield Panel(f"features_{kind}", "lines", f"Features after {how.every}", caption, data)
    caption = "The mean probability of the class, with its 95% interval over images."
    data = {"x": how.axis, "y": "P(class)", "series": series[-1:]}
    yield Panel(f"p_{kind}", "lines", f"P(class) after {how.every}", caption, data)


def sentence_of(rows: Rows, facts: Mapping[str, Any], found: Mapping[str, Measure]) -> str:
    kept = found["kept_far_rotation"]
    if kept.value is None:
        return f"How far features and answer move is not measured: {kept.why}."
    how, steps = TRANSFORMS["vertical"], facts["vertical_at"]
    pairs = [(which, found[f"{side}_vertical"].value) for side, which in (("low", "first"), ("high", "last"))]
    moved = [f"its {which} layer's features by {v:.0%} of their length" for which, v in pairs if v is not None]
    images = "one image" if rows.height == 1 else f"{rows.height} images"
    shift = f"A shift by {how.text(abs(steps[how.near(steps)[-1]]))} of {PAPER_PX} moves {' and '.join(moved)}; when"
    when = shift if moved else "When"
    return f"{when} the image is turned, the class keeps {kept.value:.0%} of its probability on average ({images})."


def caveats(rows: Rows, facts: Mapping[str, Any], fill: Fill) -> Iterable[str]:
    yield f"What comes into the frame is {FILLS[fill]}: a border that moves is something to see as well."
    yield (
        "Enlarging and turning resample the image, which blurs it a little; quarter turns do not, which makes part of "
        "the bumps at 90, 180 and 270 degrees. The paper's curves are not normalized."
    )
    steps = facts["vertical_at"]
    line = abs(steps[TRANSFORMS["vertical"].near(steps)[-1]] / steps[-1])
    yield f"Along a straight line one step would make {line:.0%} of the farthest shift's distance."
    yield from (f"The {side} layer is {facts[f'{side}_name']}." for side in SIDES if facts[f"{side}_name"])
    if unlabeled := rows["label"].null_count():
        yield f"The class is the label; for {unlabeled} images without one it is the classifier's own answer."
