"""How fast does the classifier fail as images get harder, and do people?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import IMAGENET, SIXTEEN, category_members, category_scores
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot, short_names
from cuescope.core.published import distortions as others
from cuescope.data.images import Batch, Condition
from cuescope.data.ops.distortions import level_text
from cuescope.instruments.base import Instrument, Rows, answered, by_id, gallery, typed, where_labeled
from cuescope.instruments.severity_curves import Curve, areas, curves_of, difference, in_order, panels, parted, title_of

_CATEGORY = {index: name for name, members in SIXTEEN.items() for index in members}


@dataclass(frozen=True)
class DistortionCurves(Instrument, version=1, order=80, needs={"logits", "label", "distortion"}):
    """Accuracy by the level of each distortion, and the area under the curve: the mean over the levels.

    Images that an ImageNet classifier sees, labeled in the 16 categories of Geirhos et al. 2018, are decided as
    there: the probabilities of a category's classes are averaged, and the best category is the answer. People's
    accuracies by that rule stand beside. Elsewhere it is plain top-1 accuracy over the classifier's own classes.
    Levels weigh alike in the area; its interval resamples images, each with all its versions.

    >>> DistortionCurves(rule="sixteen").rule
    'sixteen'
    """

    rule: Literal["auto", "sixteen", "own"] = "auto"
    """sixteen: a choice among the 16 categories; own: top-1 accuracy; auto: the first where it fits all images."""

    question = "How fast does it fail as images are distorted?"
    reference = (
        "Geirhos et al. 2018, Generalisation in humans and deep neural networks; Geirhos et al. 2019, "
        "ImageNet-trained CNNs are biased towards texture"
    )
    columns = {
        **typed(pl.String, "id distortion source category decision"),
        "level": pl.Float64,
        **typed(pl.Int32, "side_px label predicted"),
        **typed(pl.Boolean, "right right_category"),
    }
    compares = True

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per distorted image: its condition, its label and the answer, by class and by the 16 categories."""
        conditions = [sample.condition or Condition("none", 0.0, sample.id) for sample in batch.samples]
        rows = answered(batch) | {key: [getattr(one, key) for one in conditions] for key in Condition._fields}
        rows["side_px"] = [min(sample.pixels.shape[1:]) for sample in batch.samples]
        rows["right"] = where_labeled(batch, batch.logits.argmax(1) == batch.labels)
        if classifier.classes.name == IMAGENET:
            members = category_members(classifier.classes, sorted(SIXTEEN))
            names, best = list(members), category_scores(batch.logits, members).argmax(1).tolist()
            labels = zip(batch.samples, batch.labels.tolist(), strict=True)
            rows["category"] = [sample.cues.get("category") or _CATEGORY.get(label) for sample, label in labels]
            rows["decision"] = [names[i] for i in best]
            both = zip(rows["decision"], rows["category"], strict=True)
            rows["right_category"] = [decision == category if category else None for decision, category in both]
        return self.table(rows)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        sixteen = self._sixteen(rows)
        scored = _scored(rows, sixteen)
        curves = curves_of(scored, sixteen)
        chance = others.CHANCE if sixteen else 1 / len(about.classes) if about.classes else None
        lacking = "no image has a label among the classifier's classes" if rows.height else "no image was seen"
        if rows.height and sixteen:
            lacking = "no image is labeled in the 16 categories, or the classifier's classes are not ImageNet's"
        measures, caveats = areas(curves, chance, lacking), tuple(_caveats(rows, scored, curves, sixteen))
        return Conclusion(measures, tuple(panels(curves, chance)), _sentence(measures, curves), caveats)

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """By how much the areas differ, on the images that both were shown, by the rule that both allow."""
        sixteen = self._sixteen(first) and self._sixteen(second)
        one, other = _scored(first, sixteen), _scored(second, sixteen)
        curves = [curves_of(a.join(b.select("id"), on="id"), sixteen) for a, b in ((one, other), (other, one))]
        title, names = "area under the curves, first less second", short_names(about)
        if not curves[0]:
            none = Measure("difference", None, "difference", title=title, why="no scored image is shared")
            return Conclusion((none,), verdict=f"Their curves cannot be compared: {none.why}.")
        both = list(zip(*curves, strict=True))
        each = [difference(f"difference_{a.key}", [a], [b], f"{a.title}, first less second") for a, b in both]
        rows = [dot(curve.title, m.value, m.interval, m.n) for (curve, _), m in zip(both, each, strict=True)]
        caption, data = f"First and second: {' and '.join(names)}.", {"unit": "difference", "rows": rows}
        panel = Panel("difference", "dots", "Area of the first less that of the second", caption, data)
        overall = difference("difference", curves[0], curves[1], title)
        return Conclusion((overall, *each), (panel,), _sentence_of_two(overall, names))

    def _sixteen(self, rows: Rows) -> bool:
        """Whether the answer is a choice among the 16 categories."""
        categories = rows.filter(pl.any_horizontal(pl.col("label", "category").is_not_null()))["category"]
        fits = len(categories) > 0 and not categories.null_count()
        return self.rule == "sixteen" or (self.rule == "auto" and fits)

    def examples(self, rows: Rows) -> list[str]:
        """One image at the middle level of each distortion."""
        chosen, source = [], ""
        for name, table in parted(rows):
            levels = in_order(name, table["level"].unique().to_list())
            middle = table.filter(pl.col("level") == levels[len(levels) // 2]).sort("source")
            same = middle.filter(pl.col("source") == source)
            image, source = (same if same.height else middle).select("id", "source").row(0)
            chosen.append(image)
        return chosen[:12]

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of, names = by_id(rows), classifier.classes.names

        def caption_of(name: str) -> str:
            row = row_of[name]
            by_category = row["category"] is not None and self.rule != "own"
            label = row["category"] if by_category else None if row["label"] is None else names[row["label"]]
            answer = row["decision"] if by_category else names[row["predicted"]]
            what = f"{title_of(row['distortion'])}, {level_text(row['level'])}:"
            return f"{what} it says {answer}" if label is None else f"{what} labeled {label}; it says {answer}"

        if figures := gallery(batch, batch.ids, caption_of):
            caption = "One image of each distortion, at its middle level."
            yield Panel("distorted", "images", "What it was shown", caption, figures=figures)


def _scored(rows: Rows, sixteen: bool) -> pl.DataFrame:
    """The rows that count by this rule, with 1 for a right answer in `score`."""
    column = "right_category" if sixteen else "right"
    return rows.drop_nulls(column).with_columns(pl.col(column).cast(pl.Float64).alias("score"))


def _sentence(measures: Sequence[Measure], curves: Sequence[Curve]) -> str:
    overall, *each = measures
    if overall.value is None:
        return f"Its accuracy on distorted images is not measured: {overall.why}."
    which = f"{len(curves)} distortions" if len(curves) > 1 else curves[0].title
    text = f"Over the levels of {which} it is right on {overall.value:.1%}"
    if overall.published:
        text += f"; people, by the same rule on the authors' images, on {overall.published[0].value:.1%}"
    if len(curves) > 1:
        ranked = sorted(zip(curves, each, strict=True), key=lambda one: one[0].area)
        (worst, low), (best, high) = ranked[0], ranked[-1]
        if low.interval and high.interval and low.interval[1] < high.interval[0]:
            text += f". It is most robust to {best.title} ({best.area:.1%}), least to {worst.title} ({worst.area:.1%})"
        else:
            text += ". These images do not show which of them it is most robust to"
    return text + "."


def _sentence_of_two(measure: Measure, names: tuple[str, str]) -> str:
    value, (low, high) = measure.value or 0.0, measure.interval or (-1.0, 1.0)
    if low <= 0 <= high:
        return f"Which of them is more robust to the distortions is open: {100 * value:+.1f} points for {names[0]}."
    better, worse = names if value > 0 else names[::-1]
    return f"On average {better} is more robust to the distortions than {worse}, by {100 * abs(value):.1f} points."


def _caveats(rows: Rows, scored: pl.DataFrame, curves: Sequence[Curve], sixteen: bool) -> Iterator[str]:
    yield (
        "Category probability: mean over the category's classes of the softmax over all classes; the best of the "
        f"16 is the answer. The images here show {scored['category'].n_unique()} of them and count alike."
        if sixteen
        else "Top-1 accuracy over the classifier's own classes: no choice among 16 categories, as people's are."
    )
    if any(curve.known for curve in curves):
        yield (
            "Published accuracies are of the authors' own images, as many of each category; by what aggregation those "
            "of networks were found is not stated there. Compare how curves fall more than where they lie."
        )
        low, high = scored["side_px"].min(), scored["side_px"].max()
        if (low, high) != (224, 224):
            yield f"These images are of {low} to {high} px, the authors' of 224 px."
    if lost := rows.height - scored.height:
        yield f"{lost:,} images without a label {'in the 16 categories ' * sixteen}are left out."
    if curves:
        yield (
            "The area is the mean over the levels, which weigh alike: it depends on their choice. What is wrong on the "
            "mildest level already lowers it, too."
        )
