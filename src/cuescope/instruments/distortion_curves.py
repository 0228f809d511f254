"""How fast does the classifier fail as images get harder, and do people?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import IMAGENET, SIXTEEN, category_members, category_scores
from cuescope.core.findings import About, Conclusion, Measure, Panel, short_names
from cuescope.core.published import distortions as others
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch, Condition
from cuescope.data.ops.distortions import DISTORTIONS, level_text
from cuescope.instruments.base import Instrument, Rows, answered, by_id, gallery, typed, where_labeled
from cuescope.instruments.severity_curves import (
    MARGIN,
    Curve,
    apart,
    areas,
    curves_of,
    in_order,
    lost,
    panels,
    parted,
    points,
    title_of,
)
from cuescope.instruments.severity_pairs import OF_TWO, compared, nothing_shared, relative_to, sayings_of_two

_CATEGORY = {index: name for name, members in SIXTEEN.items() for index in members}


@dataclass(frozen=True)
class DistortionCurves(Instrument, version=2, order=80, needs={"logits", "label", "distortion"}):
    """Accuracy by the level of each distortion, the area under the curve (the mean over the levels), and what is lost.

    Images that an ImageNet classifier sees, labeled in the 16 categories of Geirhos et al. 2018, are decided as
    there: the probabilities of a category's classes are averaged, and the best category is the answer. People's
    accuracies by that rule stand beside. Elsewhere it is plain top-1 accuracy over the classifier's own classes.
    Levels weigh alike in the area; what is lost is the accuracy at the mildest level less the mean of the others. An
    image counts once, with all its versions. Of two classifiers the corruption errors of Hendrycks and Dietterich 2019
    are those of the first by those of the second, which stands in the place of their AlexNet.

    >>> DistortionCurves(rule="sixteen").rule
    'sixteen'
    """

    rule: Literal["auto", "sixteen", "own"] = "auto"
    """sixteen: a choice among the 16 categories; own: top-1 accuracy; auto: the first where it fits all images."""

    question = "How fast does it fail as images are distorted?"
    headline = Headline(
        "Is it worse on distorted images?",
        "lost",
        "points of accuracy lost as images get worse",
        "gains",
        "loses",
    )
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
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no image is scored", "Its accuracy on distorted images is not measured: {why}."
        ),
        "falls": Sentence(
            "yes",
            "the whole interval of the area lies above chance, and that of what is lost above 0",
            "At the mildest levels of {which} it is right on {mild:.1%}, at the others it loses {lost} points of it.",
            clause="loses accuracy on distorted images",
        ),
        "holds": Sentence(
            "no",
            "the area lies above chance, and the whole interval of what is lost within MARGIN of 0, which it holds",
            "Under {which} it loses less than {margin:.0f} points: {lost} against the mildest levels, at which "
            "it is right on {mild:.1%}.",
            clause="keeps its accuracy on distorted images",
        ),
        "rises": Sentence(
            "cannot tell",
            "the area lies above chance, and the whole interval of what is lost below 0",
            "At the levels of {which} that are taken for the mildest it is right on {mild:.1%}, at the others it gains "
            "{gained} points: perhaps larger levels are milder there.",
        ),
        "chance": Sentence(
            "no",
            "the area is surely less than MARGIN above chance, and not surely above it",
            "Over the levels of {which} it is right on {area:.1%}, no more than by chance ({chance:.1%}): it has "
            "nothing to lose.",
        ),
        "one_level": Sentence(
            "cannot tell",
            "no distortion has several levels",
            "Under {which}, at one level, it is right on {area:.1%}; what it loses needs several levels.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "none of the others holds",
            "From {images} it cannot be told what it loses as {which} gets stronger: {lost} points; over all levels it "
            "is right on {area:.1%}, with {chance:.1%} by chance.",
        ),
        "people": Sentence(
            "yes",
            "people were measured at all these levels, by the same rule",
            "Over all levels it is right on {area:.1%}, people by this rule on the authors' images on {people:.1%}.",
        ),
        "apart": Sentence(
            "yes",
            "the largest and the smallest area differ by more than the largest difference that resampled images make",
            "At these levels it is right more often under {best} ({high:.1%}) than under {worst} ({low:.1%}).",
        ),
        **OF_TWO,
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
        caveats = tuple(_caveats(rows, scored, curves, sixteen))
        if not curves:
            measures = areas(curves, chance, lacking)
            return Conclusion(measures, verdict=self.say("nothing", why=lacking), caveats=caveats)
        overall, *each = areas(curves, chance, lacking)
        loss = lost(curves)
        verdict = self._verdict(overall, loss, curves)
        return Conclusion((overall, loss, *each), tuple(panels(curves, chance)), verdict, caveats)

    def _verdict(self, area: Measure, loss: Measure, curves: Sequence[Curve]) -> Verdict:
        which = curves[0].title if len(curves) == 1 else f"{len(curves)} distortions"
        several = [curve for curve in curves if len(curve.levels) > 1]
        chance = area.chance or 0.0
        if area.below(chance + MARGIN) and not area.above(chance):
            verdict = self.say("chance", which=which, area=area.value, chance=chance)
        elif not several:
            verdict = self.say("one_level", which=which, area=area.value)
        elif area.above(chance) and (loss.above(0) or loss.within(-MARGIN, MARGIN) or loss.below(0)):
            said = {"which": which, "mild": sum(curve.shares[0] for curve in several) / len(several)}
            if loss.above(0):
                verdict = self.say("falls", lost=points(loss, absolute=True), **said)
            elif loss.within(-MARGIN, MARGIN):
                verdict = self.say("holds", lost=points(loss), margin=100 * MARGIN, **said)
            else:
                verdict = self.say("rises", gained=points(loss, absolute=True), **said)
        else:
            said = {"which": which, "area": area.value, "chance": chance}
            verdict = self.say("cannot_tell", images=counted(area.n, "image"), lost=points(loss), **said)
        if area.published:
            verdict += self.say("people", area=area.value, people=area.published[0].value)
        if (two := apart(curves)) is not None:
            (worst, low), (best, high) = ((curve.title, curve.area) for curve in two)
            verdict += self.say("apart", best=best, high=high, worst=worst, low=low)
        return verdict

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """By how much the areas differ, on the images that both were shown, by the rule that both allow."""
        sixteen = self._sixteen(first) and self._sixteen(second)
        one, other = _scored(first, sixteen), _scored(second, sixteen)
        curves = [curves_of(a.join(b.select("id"), on="id"), sixteen) for a, b in ((one, other), (other, one))]
        if not curves[0]:
            return Conclusion((nothing_shared(),), verdict=self.say("not_compared", why=nothing_shared().why))
        chance = others.CHANCE if sixteen else 1 / len(about[0].classes) if about[0].classes else None
        names = short_names(about)
        knows = all(areas(one, chance, "")[0].above(chance) and not lost(one).below(0) for one in curves)
        measures, panel = compared(curves[0], curves[1], names)
        (name, said), (more, besides) = sayings_of_two(measures[0], measures[1], knows, names)
        verdict = self.say(name, **said) + self.say(more, **besides)
        return Conclusion(measures, (panel,), verdict, (relative_to(names[1]),))

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
    if missing := rows.height - scored.height:
        yield f"Left out, without a label{' in the 16 categories' * sixteen}: {counted(missing, 'image')}."
    if own := [curve.title for curve in curves if curve.name not in DISTORTIONS and len(curve.levels) > 1]:
        yield f"Not known here, so that larger levels are taken for harder ones: {', '.join(own)}."
    if curves:
        yield (
            "The area is the mean over the levels, which weigh alike: it depends on their choice. What is wrong on the "
            "mildest level already lowers it, too."
        )
