"""How far do its features and its answer move when the image is moved, enlarged or turned?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.data.ops.transform import PAPER_PX, TRANSFORMS, shifts, steps_up
from cuescope.instruments.base import Rows
from cuescope.methods.end_features import EndFeatures

KINDS = tuple(TRANSFORMS)
SIDES = ("low", "high")
MOST_SHOWN, MOST_FRAMES = 3, 7


@dataclass(frozen=True)
class Invariance:
    """How far do its features and its answer move when the image is moved, enlarged or turned?

    Figure 5 of Zeiler & Fergus (2014): the Euclidean distance of the features of a transformed image to those of the
    image itself, at the first and at the last layer, and P(class), for shifts, enlargements and turns. The paper gives
    neither the normalization of the distance nor what fills the frame. Here the distance is divided by the length of
    the image's own feature vector, and the frame is filled by the color of `fill`. The class is the label, else the
    answer to the image as it is. The low layer is the first convolution's map after its nonlinearity, position by
    position; the high layer is what the last layer with weights reads, averaged over positions where it is a map: layer
    7 of the paper's network, the pooled map of a ResNet.

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
    fill: Literal["mean", "gray", "black"] = "mean"
    """Color of what comes into the frame: the mean pixel that the classifier subtracts, middle gray, or black."""
    low_layer: str = ""
    """Name of another low layer."""
    high_layer: str = ""
    """Name of another high layer; its map is averaged over positions."""

    question: ClassVar[str] = "How far do its features and its answer move when the image is moved, enlarged or turned?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4 and figure 5"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {
        f"{side}_{kind}": f"{side}_{kind}" for side in SIDES for kind in KINDS if kind != "horizontal"
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
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind != "horizontal" or self.horizontal)

    def steps(self, kind: str, size: tuple[int, int]) -> list[float]:
        """What an input of this size (H, W) is asked: shifts in px of 224, factors, or degrees."""
        if kind == "scale":
            return steps_up(1.0, self.scale_most, self.scale_step)
        if kind == "rotation":
            return steps_up(0.0, self.rotation_most, self.rotation_step)
        return shifts(self.translation_px, self.translation_step_px, size[kind == "horizontal"])

    def color(self, classifier: Classifier) -> tuple[float, ...]:
        return {"mean": classifier.preprocessing.mean, "gray": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}[self.fill]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image and kind of transform: at each step the distances at both layers and P(class)."""
        ends = EndFeatures.of(classifier, self.low_layer, self.high_layer)
        rows = [self._row(ends, batch, i) for i in range(len(batch))]
        return pl.DataFrame(rows, schema=_SCHEMA)

    def _row(self, ends: EndFeatures, batch: Batch, i: int) -> dict[str, Any]:
        pixels, color, label = batch.pixels[i], self.color(ends.classifier), int(batch.labels[i])
        tracked = label if label >= 0 else int(batch.logits[i].argmax())
        own, logits = ends.look(pixels[None])
        p_clean = float(logits.double().softmax(1)[0, tracked])
        row: dict[str, Any] = {"id": batch.ids[i], "label": label if label >= 0 else None, "tracked": tracked}
        row |= {"p_clean": p_clean, "low_name": ends.low.name, "high_name": ends.high.name}
        row |= {"low_why": ends.low.why, "high_why": ends.high.why}
        at_once = ends.classifier.batch_size
        for kind in self.kinds:
            how, steps = TRANSFORMS[kind], self.steps(kind, (pixels.shape[1], pixels.shape[2]))
            moved = [step for step in steps if step != how.neutral]
            curves: dict[str, list[float | None]] = {"p": [], **{side: [] for side in ends.places}}
            for start in range(0, len(moved), at_once):
                views = [how.apply(pixels, step, color) for step in moved[start : start + at_once]]
                features, logits = ends.look(torch.stack(views))
                curves["p"] += logits.double().softmax(1)[:, tracked].tolist()
                for side, seen in features.items():
                    curves[side] += distances(seen, own[side])
            row[f"{kind}_at"] = steps
            for name, curve in curves.items():
                curve.insert(steps.index(how.neutral), p_clean if name == "p" else 0.0)
                row[f"{kind}_{name}"] = curve
                near = [curve[k] for k in how.near(steps)]
                if name != "p" and None not in near:
                    row[f"{name}_{kind}"] = sum(near) / len(near)  # type: ignore[arg-type]
        return row

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        measures = tuple(m for kind in self.kinds for m in self._measures(rows, kind)) + tuple(shapes(rows))
        found = {measure.name: measure for measure in measures}
        return Finding(
            instrument="invariance",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(p for kind in self.kinds for p in panels(rows, kind)) if rows.height else (),
            sentence=sentence_of(rows, found),
            caveats=tuple(caveats(rows, self.fill)),
            references=(self.reference,),
        )

    def _measures(self, rows: Rows, kind: str) -> Iterable[Measure]:
        lacking = "" if rows.height else "no image was seen"
        steps = [] if lacking else rows[f"{kind}_at"][0].to_list()
        how = TRANSFORMS[kind]
        near, others = how.near(steps), [k for k, step in enumerate(steps) if step != how.neutral]
        one = f"one {how.noun}" + (f" by {how.text(abs(steps[near[-1]]))}" if near else "")
        for side in SIDES:
            values = rows[f"{side}_{kind}"].drop_nulls().to_numpy()
            why = lacking or next((w for w in rows[f"{side}_why"] if w), "its features are all 0")
            told: dict[str, Any] = {"value": None, "why": why}
            if len(values):
                interval = stats.bootstrap_mean(values) if len(values) > 1 else None
                told = {"value": float(values.mean()), "n": len(values), "interval": interval}
            title = f"distance at the {side} layer after {one}"
            yield Measure(f"{side}_{kind}", title=title, headline=kind == "vertical", **told)
        p, clean = curves(rows, kind, "p"), rows["p_clean"].to_numpy()
        for name, which, title in (("kept", near, one), ("kept_far", others, f"{how.every}, on average")):
            told = {"value": None, "why": lacking} if lacking else ratio(p[:, which].mean(1), clean)
            title, headline = f"P(class) kept after {title}", (name, kind) == ("kept_far", "rotation")
            yield Measure(f"{name}_{kind}", unit="share", title=title, better="higher", headline=headline, **told)

    def examples(self, rows: Rows) -> list[str]:
        """A few images, the same for every classifier, so that they stand side by side."""
        ids = rows["id"].sort()
        return [ids[i * len(ids) // MOST_SHOWN] for i in range(MOST_SHOWN)] if len(ids) > MOST_SHOWN else ids.to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        color, names, figures = self.color(classifier), classifier.classes.names, []
        for name, pixels in zip(batch.ids, batch.pixels, strict=True):
            row, strips, lines = told[name], [], []
            for kind in self.kinds:
                how, steps, p = TRANSFORMS[kind], row[f"{kind}_at"], row[f"{kind}_p"]
                picked = np.unique(np.linspace(0, len(steps) - 1, min(MOST_FRAMES, len(steps))).round().astype(int))
                strips.append([how.apply(pixels, steps[k], color) for k in picked])
                values = " ".join(f"{p[k]:.2f}" for k in picked)
                lines.append(f"{how.verb} by {steps[picked[0]]:g} to {how.text(steps[picked[-1]])}: {values}")
            figures.append(Figure(f"P({names[row['tracked']]}) {'; '.join(lines)}", sheet(strips)))
        caption = "Some of the transforms, and below P(class) of each image from left to right, row by row."
        yield Panel("strips", "images", "What was done to the images", caption, figures=tuple(figures))


_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "label": pl.Int32,
    "tracked": pl.Int32,
    "p_clean": pl.Float64,
    **{f"{side}_{what}": pl.String for side in SIDES for what in ("name", "why")},
    **{f"{kind}_{what}": pl.List(pl.Float64) for kind in KINDS for what in ("at", "low", "high", "p")},
    **{f"{side}_{kind}": pl.Float64 for side in SIDES for kind in KINDS},
}


def distances(features: Tensor, own: Tensor) -> list[float | None]:
    """The Euclidean distance of each of (N, D) to (1, D), in lengths of the latter; None where that is 0.

    >>> distances(torch.tensor([[3.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0]]))
    [0.8, 0.0]
    """
    length = float(own.norm())
    return [float(d) / length if length else None for d in (features - own).norm(dim=1)]


def curves(rows: Rows, kind: str, what: str) -> NDArray[np.float64]:
    """(images, steps): of each image that has one, the curve of a kind."""
    known = [curve for curve in rows[f"{kind}_{what}"].to_list() if curve and None not in curve]
    return np.array(known, float)


def ratio(above: NDArray[Any], below: NDArray[Any]) -> dict[str, Any]:
    """Of a measure: the sum of one over the sum of the other, its n and interval."""
    if not len(below) or not below.sum():
        return {"value": None, "why": "there is nothing to compare with"}
    interval = stats.bootstrap_ratio(above, below)
    return {"value": float(above.sum() / below.sum()), "n": len(below), "interval": interval}


def shapes(rows: Rows) -> Iterable[Measure]:
    """How much steeper the low layer is, and whether a layer jumps at the first step or moves along a line."""
    both = rows.drop_nulls(["low_vertical", "high_vertical"])
    told = ratio(both["low_vertical"].to_numpy(), both["high_vertical"].to_numpy())
    yield Measure(
        "low_over_high", title="distance at the low layer over that at the high layer, after one shift", **told
    )
    for side in SIDES:
        known = curves(rows, "vertical", side)
        told = {"value": None, "why": "no distances are known"}
        if len(known):
            steps = rows["vertical_at"][0].to_list()
            told = ratio(known[:, TRANSFORMS["vertical"].near(steps)].mean(1), known[:, [0, -1]].mean(1))
        title = f"part of the farthest shift's distance that one step makes, {side} layer"
        yield Measure(f"rise_{side}", unit="share", title=title, **told)


def panels(rows: Rows, kind: str) -> Iterable[Panel]:
    steps = rows[f"{kind}_at"][0].to_list()
    series = []
    for what, name in (("low", "low layer"), ("high", "high layer"), ("p", "P(class)")):
        known = curves(rows, kind, what)
        if not len(known):
            continue
        curve: dict[str, Any] = {"name": name, "x": steps, "y": known.mean(0).round(6).tolist()}
        if len(known) > 1:
            ends = [stats.bootstrap_mean(column) for column in known.T]
            curve |= {"low": [low for low, _ in ends], "high": [high for _, high in ends]}
        series.append(curve)
    how, axis = TRANSFORMS[kind], {"x": TRANSFORMS[kind].axis}
    if len(series) > 1:
        caption = "Distance to the features of the image as it is, in lengths of the latter, with 95% intervals."
        data = {**axis, "y": "distance of the features", "series": series[:-1]}
        yield Panel(f"features_{kind}", "lines", f"Features after {how.every}", caption, data)
    caption = "The mean probability of the class, with its 95% interval over images."
    data = {**axis, "y": "P(class)", "series": series[-1:]}
    yield Panel(f"p_{kind}", "lines", f"P(class) after {how.every}", caption, data)


def sentence_of(rows: Rows, found: Mapping[str, Measure]) -> str:
    kept = found["kept_far_rotation"].value
    if kept is None:
        return f"What moves with the image is not measured: {found['kept_far_rotation'].why}."
    how, steps = TRANSFORMS["vertical"], rows["vertical_at"][0].to_list()
    pairs = [(end, found[f"{side}_vertical"].value) for side, end in (("low", "first"), ("high", "last"))]
    moved = [f"its {end} layer's features by {value:.0%} of their length" for end, value in pairs if value is not None]
    images = "one image" if rows.height == 1 else f"{rows.height} images"
    turned = f"the class keeps {kept:.0%} of its probability on average ({images})"
    if not moved:
        return f"When the image is turned about, {turned}."
    text = f"A shift by {how.text(abs(steps[how.near(steps)[-1]]))} of {PAPER_PX} moves {' and '.join(moved)}; "
    return text + f"when the image is turned about, {turned}."


def caveats(rows: Rows, fill: str) -> Iterable[str]:
    color = {"mean": "the color of the mean pixel", "gray": "gray", "black": "black"}[fill]
    yield f"What comes into the frame is {color}: a border that moves is something to see as well."
    yield (
        "Enlarging and turning resample the image, which blurs it a little; quarter turns do not, which makes part of "
        "the bumps at 90, 180 and 270 degrees. The paper's curves are not normalized."
    )
    if rows.height:
        steps = rows["vertical_at"][0].to_list()
        line = abs(steps[TRANSFORMS["vertical"].near(steps)[-1]] / steps[-1])
        yield f"Along a straight line one step would make {line:.0%} of the farthest shift's distance."
    for side in SIDES:
        yield from (f"The {side} layer is {name}." for name in rows[f"{side}_name"].drop_nulls().unique() if name)
    unlabeled = rows["label"].null_count()
    if unlabeled:
        yield f"The class is the label; for {unlabeled} images without one it is the classifier's own answer."
