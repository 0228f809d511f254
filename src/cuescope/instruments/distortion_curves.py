"""How fast does the classifier fail as images get harder, and do people?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_members, category_scores
from cuescope.core.findings import About, Figure, Finding, Measure, Panel, Published, about_two
from cuescope.core.published import distortions as others
from cuescope.data.images import Batch, Condition
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.distortions import level_text
from cuescope.instruments.base import Rows
from cuescope.instruments.severity_curves import (
    Curve,
    area_interval,
    axis_of,
    curves_of,
    difference,
    in_order,
    parted,
    title_of,
)

Rule = Literal["auto", "sixteen", "own"]
_CATEGORY = {index: name for name, members in SIXTEEN.items() for index in members}


@dataclass(frozen=True)
class DistortionCurves:
    """Accuracy by the level of each distortion, and the area under the curve: the mean over the levels.

    Images that an ImageNet classifier sees, labeled in the 16 categories of Geirhos et al. 2018, are decided as
    there: the probabilities of a category's classes are averaged, and the best category is the answer. People's
    accuracies by that rule stand beside. Elsewhere it is plain top-1 accuracy over the classifier's own classes.
    Levels weigh alike in the area; its interval resamples images, each with all its versions.

    >>> DistortionCurves(rule="sixteen").rule
    'sixteen'
    """

    rule: Rule = "auto"
    """sixteen: a choice among the 16 categories; own: top-1 accuracy; auto: the first where it fits all images."""

    question: ClassVar[str] = "How fast does it fail as images are distorted?"
    reference: ClassVar[str] = (
        "Geirhos et al. 2018, Generalisation in humans and deep neural networks; Geirhos et al. 2019, "
        "ImageNet-trained CNNs are biased towards texture"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "label", "distortion"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per distorted image: its condition, its label and the answer, by class and by the 16 categories."""
        predicted = batch.logits.argmax(1).tolist()
        decisions: list[str | None] = [None] * len(batch)
        if classifier.classes.name == IMAGENET:
            members = category_members(classifier.classes, sorted(SIXTEEN))
            best = category_scores(batch.logits, members).argmax(1).tolist()
            decisions = [list(members)[i] for i in best]
        rows = []
        for sample, label, answer, decision in zip(
            batch.samples, batch.labels.tolist(), predicted, decisions, strict=True
        ):
            condition = sample.condition or Condition("none", 0.0, sample.id)
            category = None if decision is None else sample.cues.get("category") or _CATEGORY.get(label)
            rows.append(
                {
                    "id": sample.id,
                    **condition._asdict(),
                    "side_px": min(sample.pixels.shape[1:]),
                    "label": label if label >= 0 else None,
                    "predicted": answer,
                    "right": answer == label if label >= 0 else None,
                    "category": category,
                    "decision": decision,
                    "right_category": decision == category if category else None,
                }
            )
        return pl.DataFrame(rows, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        sixteen = self._sixteen(rows)
        scored = _scored(rows, sixteen)
        curves = curves_of(scored, sixteen)
        chance = others.CHANCE if sixteen else 1 / len(about.classes) if about.classes else None
        measures = _measures(curves, chance, _lacking(rows, sixteen))
        return Finding(
            instrument="distortion_curves",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_panels(curves, chance)),
            sentence=_sentence(measures, curves),
            caveats=tuple(_caveats(rows, scored, curves, sixteen)),
            references=(self.reference,),
        )

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Finding:
        """By how much the areas differ, on the images that both were shown, by the rule that both allow."""
        sixteen = self._sixteen(first) and self._sixteen(second)
        one, other = _scored(first, sixteen), _scored(second, sixteen)
        curves = [curves_of(a.join(b.select("id"), on="id"), sixteen) for a, b in ((one, other), (other, one))]
        measures, rows = _differences(*curves)
        title = "Area of the first less that of the second"
        data = {"unit": "difference", "rows": rows}
        names = " and ".join(_names(about))
        return Finding(
            instrument="distortion_curves",
            version=self.version,
            params=asdict(self),
            classifier=about_two(about),
            images=about[0].images,
            measures=measures,
            panels=(Panel("difference", "dots", title, f"First and second: {names}.", data),) if rows else (),
            sentence=_sentence_of_two(measures[0], about),
            references=(self.reference,),
        )

    def _sixteen(self, rows: Rows) -> bool:
        """Whether the answer is a choice among the 16 categories."""
        labeled = rows.filter(pl.col("label").is_not_null() | pl.col("category").is_not_null())
        fits = labeled.height > 0 and not labeled["category"].null_count()
        return self.rule == "sixteen" or (self.rule == "auto" and fits)

    def examples(self, rows: Rows) -> list[str]:
        """One image at the middle level of each distortion."""
        chosen: list[str] = []
        source = ""
        for name, table in parted(rows):
            levels = in_order(name, table["level"].unique().to_list())
            middle = table.filter(pl.col("level") == levels[len(levels) // 2]).sort("source")
            same = middle.filter(pl.col("source") == source)
            row = (same if same.height else middle).row(0, named=True)
            source = row["source"]
            chosen.append(row["id"])
        return chosen[:12]

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        names = classifier.classes.names
        figures = []
        for i, sample in enumerate(batch.samples):
            row = told[sample.id]
            by_category = row["category"] is not None and self.rule != "own"
            label = row["category"] if by_category else None if row["label"] is None else names[row["label"]]
            answer = row["decision"] if by_category else names[row["predicted"]]
            what = f"{title_of(row['distortion'])}, {level_text(row['level'])}"
            said = f"it says {answer}" if label is None else f"labeled {label}; it says {answer}"
            figures.append(Figure(f"{what}: {said}", to_image(batch.pixels[i])))
        if figures:
            caption = "One image of each distortion, at its middle level."
            yield Panel("distorted", "images", "What it was shown", caption, figures=tuple(figures))


_SCHEMA = {
    "id": pl.String,
    "distortion": pl.String,
    "level": pl.Float64,
    "source": pl.String,
    "side_px": pl.Int32,
    "label": pl.Int32,
    "predicted": pl.Int32,
    "right": pl.Boolean,
    "category": pl.String,
    "decision": pl.String,
    "right_category": pl.Boolean,
}


def _scored(rows: Rows, sixteen: bool) -> pl.DataFrame:
    """The rows that count by this rule, with 1 for a right answer in `score`."""
    column = "right_category" if sixteen else "right"
    return rows.drop_nulls(column).with_columns(pl.col(column).cast(pl.Float64).alias("score"))


def _lacking(rows: pl.DataFrame, sixteen: bool) -> str:
    if not rows.height:
        return "no image was seen"
    if sixteen:
        return "no image is labeled in the 16 categories, or the classifier's classes are not ImageNet's"
    return "no image has a label among the classifier's classes"


def _measures(curves: Sequence[Curve], chance: float | None, why: str) -> tuple[Measure, ...]:
    if not curves:
        return (Measure("area", None, "share", title="area under the curves", why=why, headline=True),)

    def area(name: str, title: str, of: Sequence[Curve], *, headline: bool = False) -> Measure:
        who = [name for name in of[0].known if all(name in curve.known for curve in of)]
        return Measure(
            name,
            float(np.mean([curve.area for curve in of])),
            "share",
            int(np.any(np.hstack([curve.seen for curve in of]), 1).sum()),
            area_interval(of),
            title=title,
            chance=chance,
            better="higher",
            published=tuple(Published(w, float(np.mean([np.mean(c.of(w)) for c in of])), others.SOURCE) for w in who),
            headline=headline,
        )

    title = f"area under the curves, mean of {len(curves)} distortions" if len(curves) > 1 else "area under the curve"
    each = [area(f"area_{c.name.replace('-', '_')}", f"area under the curve: {c.title}", [c]) for c in curves]
    return area("area", title, curves, headline=True), *each


def _panels(curves: Sequence[Curve], chance: float | None) -> Iterable[Panel]:
    for curve in curves:
        places, ticks = curve.places
        spans = [stats.wilson(k, n) for k, n in zip(curve.k, curve.n, strict=True)]
        low, high = ([span[end] for span in spans] for end in (0, 1))
        data: dict[str, Any] = {"x": axis_of(curve.name), "y": "share that is right", "chance": chance}
        data["y_ends"] = [0.0, 1.0]
        data["series"] = [{"name": "", "x": places, "y": curve.shares, "low": low, "high": high}]
        if ticks:
            data["ticks"] = [list(tick) for tick in ticks]
        if curve.known:
            data["marks"] = [{"who": others.PEOPLE, "x": places, "y": curve.of(others.PEOPLE)}]
        # Levels of one's own stand elsewhere on the axis: such a curve is not to be drawn into the same plot.
        name = curve.name if ticks else f"{curve.name}-by-level"
        yield Panel(name, "lines", curve.title.capitalize(), "Bands are 95 % intervals.", data)
    if curves:
        columns = ["distortion", "level", "share", "95 % interval", "n", others.PEOPLE]
        known = any(curve.known for curve in curves)
        cells = [cell if known else cell[:-1] for curve in curves for cell in _cells(curve)]
        data = {"columns": columns if known else columns[:-1], "rows": cells}
        yield Panel("levels", "table", "Every level", "The share that is right at each level.", data)


def _cells(curve: Curve) -> Iterator[list[Any]]:
    for i, level in enumerate(curve.levels):
        low, high = stats.wilson(curve.k[i], curve.n[i])
        known = curve.known[others.PEOPLE][level] if curve.known else None
        yield [curve.title, level_text(level), round(curve.shares[i], 3), f"{low:.3f}–{high:.3f}", curve.n[i], known]


def _sentence(measures: Sequence[Measure], curves: Sequence[Curve]) -> str:
    area = measures[0]
    if area.value is None:
        return f"How it bears distortions is not measured: {area.why}."
    worst, best = (f(curves, key=lambda curve: curve.area) for f in (min, max))
    text = f"Over the levels of {curves[0].title} it is right on {area.value:.1%}"
    if len(curves) > 1:
        text = f"Over the levels of {len(curves)} distortions it is right on {area.value:.1%}"
    if area.published:
        text += f"; people, by the same rule on the authors' images, on {area.published[0].value:.1%}"
    if len(curves) > 1:
        below, above = (area_interval([curve]) for curve in (worst, best))
        apart = f". It bears {best.title} best ({best.area:.1%}) and {worst.title} worst ({worst.area:.1%})"
        told = below is not None and above is not None and below[1] < above[0]
        text += apart if told else ". Which of them it bears best cannot be told from these images"
    return text + "."


def _differences(first: Sequence[Curve], second: Sequence[Curve]) -> tuple[tuple[Measure, ...], list[dict[str, Any]]]:
    """The measures of two classifiers, and a row of a dot plot for each distortion."""
    title = "area under the curves, first less second"
    if not first:
        return (Measure("difference", None, "difference", title=title, why="no scored image is shared"),), []
    value, interval, n = difference(first, second)
    measures, rows = [Measure("difference", value, "difference", n, interval, title=title)], []
    for one, other in zip(first, second, strict=True):
        value, interval, n = difference([one], [other])
        name, low, high = f"difference_{one.name.replace('-', '_')}", *(interval or (None, None))
        measures.append(Measure(name, value, "difference", n, interval, title=f"{one.title}, first less second"))
        rows.append({"label": one.title, "value": value, "low": low, "high": high, "n": n})
    return tuple(measures), rows


def _names(about: tuple[About, About]) -> tuple[str, str]:
    """Short names, unless both would be called the same."""
    first, second = (a.classifier.partition("@")[0].rpartition("/")[2] for a in about)
    return (first, second) if first != second else (about[0].classifier, about[1].classifier)


def _sentence_of_two(measure: Measure, about: tuple[About, About]) -> str:
    if measure.value is None:
        return f"Their curves cannot be compared: {measure.why}."
    names = _names(about)
    if measure.interval is None or measure.interval[0] <= 0 <= measure.interval[1]:
        return f"Which of them bears the distortions better is open: {100 * measure.value:+.1f} points for {names[0]}."
    better, worse = names if measure.value > 0 else names[::-1]
    return f"On average {better} bears the distortions better than {worse}, by {100 * abs(measure.value):.1f} points."


def _caveats(rows: Rows, scored: pl.DataFrame, curves: Sequence[Curve], sixteen: bool) -> Iterator[str]:
    if sixteen:
        yield (
            "Category probability: mean over the category's classes of the softmax over all classes; the best of the "
            f"16 is the answer. The images here show {scored['category'].n_unique()} of them and count alike."
        )
    else:
        yield "Top-1 accuracy over the classifier's own classes: no choice among 16 categories, as people's are."
    if any(curve.known for curve in curves):
        yield (
            "Published accuracies are of the authors' own images, as many of each category; by what aggregation those "
            "of networks were found is not stated there. Compare how curves fall more than where they lie."
        )
        sides = sorted(set(scored["side_px"]))
        if sides != [224]:
            yield f"These images are of {sides[0]} to {sides[-1]} px, the authors' of 224 px."
    if lost := rows.height - scored.height:
        yield f"{lost:,} images without a label {'in the 16 categories ' * sixteen}are left out."
    if curves:
        yield (
            "The area is the mean over the levels, which weigh alike: it depends on their choice. What is wrong on the "
            "mildest level already lowers it, too."
        )
