"""Is the answer one of all the labels that are right, and which of the single labels are wrong?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import as_lists, common_by_chance, errors_by_chance
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.naming import short_name
from cuescope.core.published import REAL, REAL_SOURCE, listed
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch, Sample
from cuescope.instruments.base import Instrument, Rows, gallery, typed

ANNOTATED = "label maps of "
"""How a sample's `labels_from` begins where an annotator says what is right."""
MARGIN = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""


@dataclass(frozen=True)
class MultiLabel(Instrument, version=2, order=20, needs={"logits", "labels"}):
    """Multi-label accuracy: the share of images whose answer is one of all the labels that are right.

    Those are ReaL's (Beyer et al. 2020), the classes of an image's boxes, or those of an annotator's label maps (Yun
    et al. 2021): a class is one of these from .1 of the soft target of the whole image on, and the first in any case.
    Images of which no label is known to be right are left out. Beside it stands the accuracy by the single labels, and
    which of these the others dispute: the less probability the annotator's target has for a disputed label, the
    earlier it comes in the list; without an annotator, the less the classifier has for it. The more labels are right,
    the more often a guess is: chance is that of the same answers given to other images.

    >>> MultiLabel(listed=50).shown
    8
    """

    listed: int = 200
    """Disputed labels to list, the most disputed ones."""
    shown: int = 8
    """Images to show of them."""
    errors_shown: int = 4
    """Images to show of errors that are none: the surest answers."""

    question = "Is its answer one of all the right labels, and which single labels are wrong?"
    reference = (
        "Beyer et al. 2020, Are we done with ImageNet? (ReaL); Yun et al. 2021, Re-labeling ImageNet: from Single to "
        "Multi-Labels"
    )
    columns = {
        **typed(pl.String, "id source"),
        **typed(pl.Int32, "label predicted"),
        "labels": pl.List(pl.Int32),
        **typed(pl.Float64, "confidence weight"),
        **typed(pl.Boolean, "multi single disputed"),
    }

    sentences = {
        "nothing": Sentence("cannot tell", "no image is scored", "Nothing can be said of all the right labels: {why}."),
        "itself": Sentence(
            "cannot tell",
            "the annotator is the classifier",
            "What is right comes from its own label maps: that it agrees with itself says nothing.",
        ),
        "knows": Sentence(
            "yes",
            "the interval of the multi-label accuracy lies above chance",
            "By {source} its answer is one of the right labels on {multi:.1%} of {images} (chance: {chance:.1%}).",
        ),
        "guesses": Sentence(
            "no",
            "the multi-label accuracy is surely less than MARGIN above chance, and not surely above it",
            "By {source} its answer is one of the right labels on {multi:.1%} of {images}, no more than by chance "
            "({chance:.1%}).",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "neither of the two",
            "By {source} its answer is one of the right labels on {multi:.1%} of {images}; whether this is more than "
            "chance ({chance:.1%}) cannot be told.",
        ),
        "errors_are_none": Sentence(
            "yes",
            "the interval of the errors that are none lies above chance: the same answers to other images",
            "By the single labels it is right on {single:.1%}; of those {errors:,} errors {count:,} are right labels "
            "({share:.1%}, by chance {chance:.1%}).",
        ),
        "errors_open": Sentence(
            "cannot tell",
            "it does not, or there is no interval",
            "By the single labels it is right on {single:.1%}; that of those {errors:,} errors {count:,} are right "
            "labels may be chance ({chance:.1%}).",
        ),
        "disputed": Sentence(
            "yes",
            "a single label is none of the right ones",
            "The single label is none of the right ones for {images} ({share:.1%}).",
            "look at the listed images; `cuescope make label-maps` writes the labels that an annotator suggests",
        ),
    }

    def __post_init__(self) -> None:
        if self.listed < 0 or not 0 <= self.shown + self.errors_shown <= 12 or min(self.shown, self.errors_shown) < 0:
            raise ValueError("listed must be at least 0, shown and errors_shown together 0 to 12")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its label, all the right ones, the answer, whether it is right by either, and the probability
        of a disputed label.
        """
        probabilities = batch.logits.double().softmax(1)
        confidence, predicted = (part.tolist() for part in probabilities.max(1))
        rows, all_labels = [], batch.all_labels or ((),) * len(batch)
        for i, (sample, label, right) in enumerate(zip(batch.samples, batch.labels.tolist(), all_labels, strict=True)):
            row = {"id": sample.id, "source": sample.labels_from, "labels": list(right)}
            row |= {"predicted": predicted[i], "confidence": confidence[i]}
            if label >= 0:
                row["label"] = label
            if right:
                row["multi"] = predicted[i] in right
            if right and label >= 0:
                row |= {"single": predicted[i] == label, "disputed": label not in right}
                row["weight"] = None if label in right else _weight(sample, probabilities[i, label])
            rows.append(row)
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        scored = rows.drop_nulls("multi")
        source = next(iter(scored["source"].unique(maintain_order=True)), "")
        measures = _measures(rows, scored, source, _itself(source, about))
        caveats = tuple(_caveats(rows, scored, source, about))
        verdict = self._verdict(measures, source, about)
        return Conclusion(measures, tuple(self._panels(scored, about)), verdict, caveats)

    def _verdict(self, measures: Sequence[Measure], source: str, about: About) -> Verdict:
        multi, single, _, errors, disputed = measures[:5]
        if multi.value is None:
            return self.say("nothing", why=multi.why)
        if _itself(source, about):
            return self.say("itself")
        chance, source = multi.chance or 0.0, _called(source)
        guesses = "guesses" if multi.below(chance + MARGIN) else "cannot_tell"
        name = "knows" if multi.above(multi.chance) else guesses
        verdict = self.say(name, source=source, multi=multi.value, images=counted(multi.n, "image"), chance=chance)
        if errors.value is not None:
            name = "errors_are_none" if errors.above(errors.chance) else "errors_open"
            more = {"share": errors.value} if name == "errors_are_none" else {}
            said = {"count": errors.count, "errors": errors.n, "chance": errors.chance or 0.0}
            verdict += self.say(name, single=single.value, **said, **more)
        if disputed.count:
            verdict += self.say("disputed", images=counted(disputed.count, "image"), share=disputed.value)
        return verdict

    def examples(self, rows: Rows) -> list[str]:
        """The most disputed labels, and the surest errors that are none."""
        return [*_disputed(rows)["id"].head(self.shown), *_no_errors(rows)["id"].head(self.errors_shown)]

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        disputed, no_errors = _disputed(rows).head(self.shown), _no_errors(rows).head(self.errors_shown)
        for name, table, title, caption in (
            ("disputed", disputed, "Labels that are disputed", "The most disputed ones first."),
            ("no_errors", no_errors, "Errors that are none", "Another right label than the one that the image has."),
        ):
            captions = {row["id"]: _caption(row, classifier.classes.names) for row in table.iter_rows(named=True)}
            if figures := gallery(batch, captions, captions.__getitem__):
                yield Panel(name, "images", title, caption, figures=figures)

    def _panels(self, scored: pl.DataFrame, about: About) -> Iterator[Panel]:
        disputed, names = _disputed(scored), about.classes
        if disputed.height and self.listed:
            shown = disputed.select("label", "weight", "labels", "predicted", "id").head(self.listed).iter_rows()
            cells = [[names[k], round(w, 4), _names(right, names), names[said], at] for k, w, right, said, at in shown]
            more = f" The first {self.listed} of {disputed.height:,}." if disputed.height > self.listed else ""
            data = {"columns": ["labeled", "its weight", "right instead", "it says", "image"], "rows": cells}
            caption = "To be looked at: the less probability the label has, the earlier." + more
            yield Panel("worklist", "table", "Single labels that are disputed", caption, data)
        if scored.height > 1:
            counts = scored["labels"].list.len().to_list()
            values = [counts.count(k) for k in range(1, max(counts) + 1)]
            data = {"x": "right labels", "y": "images", "edges": [k + 0.5 for k in range(len(values) + 1)]}
            yield Panel("labels_per_image", "bars", "How many labels are right", data={**data, "values": values})


def _weight(sample: Sample, probability: Tensor) -> float:
    """The probability of the image's own label: in the annotator's target of the whole image, else the classifier's."""
    if sample.label_map is not None and sample.label is not None:
        return float(sample.label_map([(0.0, 0.0, 1.0, 1.0)])[0, sample.label])
    return float(probability)


def _disputed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("disputed")).sort("weight", "id")


def _no_errors(rows: pl.DataFrame) -> pl.DataFrame:
    """Errors by the single label that are right by the others; of undisputed labels, for the others are shown."""
    found = rows.filter(pl.col("multi") & ~pl.col("single") & ~pl.col("disputed"))
    return found.sort("confidence", "id", descending=[True, False])


def _measures(rows: pl.DataFrame, scored: pl.DataFrame, source: str, itself: bool) -> tuple[Measure, ...]:
    none = "no image has labels that are known to be right" if rows.height else "no image was seen"
    real, both = source == "ReaL", scored.drop_nulls("single")
    unlabeled = none if not scored.height else "no image has a single label besides"
    errors, why = both.filter(~pl.col("single")), "it makes no error" if both.height else unlabeled
    ones, others = (both[column].cast(pl.Float64) for column in ("multi", "single"))

    mistaken = errors_by_chance(errors["predicted"], errors["label"], errors["labels"])
    guess = common_by_chance(as_lists(scored["predicted"]), scored["labels"])

    def share(name: str, hits: pl.Series, title: str, why: str, per_image: str = "", **more: Any) -> Measure:
        better = "higher" if per_image else ""
        return stats.share(name, hits, why=why, title=title, per_image=per_image, better=better, **more)

    beside = {"published": listed(REAL, REAL_SOURCE) if real and scored.height else (), "chance": guess}
    title, difference = f"{'ReaL' if real else 'multi-label'} accuracy", "multi-label less single-label accuracy"
    return (
        # Who judged itself is compared with nobody.
        share("multi_label", scored["multi"], title, none, "" if itself else "multi", headline=True, **beside),
        share("single_label", both["single"], "accuracy by the single label", unlabeled, "single"),
        stats.difference("difference", ones, others, why=unlabeled, title=difference),
        share(
            "no_errors",
            errors["multi"],
            "errors by the single label that are none",
            why,
            headline=True,
            chance=mistaken,
        ),
        share("disputed", both["disputed"], "single labels that are disputed", unlabeled, headline=True),
        stats.mean("labels", scored["labels"].list.len(), "", why=none, title="right labels an image"),
        share("left_out", rows["multi"].is_null(), "images left out: no right label is known", none),
    )


def _names(labels: Iterable[int], names: Sequence[str]) -> str:
    return ", ".join(names[k] for k in labels)


def _caption(row: Mapping[str, Any], names: Sequence[str]) -> str:
    says = "the annotator has" if row["source"].startswith(ANNOTATED) else "right is"
    return f"labeled {names[row['label']]}; {says} {_names(row['labels'], names)}; it says {names[row['predicted']]}"


def _called(source: str) -> str:
    """What a sentence calls those who say what is right."""
    annotator = source.removeprefix(ANNOTATED)
    return (source or "the given labels") if annotator == source else f"the label maps of {short_name(annotator)}"


def _itself(source: str, about: About) -> bool:
    return source.startswith(ANNOTATED) and source == f"{ANNOTATED}{about.classifier}"


def _caveats(rows: pl.DataFrame, scored: pl.DataFrame, source: str, about: About) -> Iterator[str]:
    if source:
        yield f"What is right comes from: {source}."
    if source.startswith(ANNOTATED):
        yield "An annotator is a classifier, too: what it disputes need not be wrong, nor what it says right."
        if _itself(source, about):
            yield "The annotator is this classifier itself: that it agrees with itself says nothing of its accuracy."
    if lost := rows.height - scored.height:
        yield f"Left out of all but their own share, since no right label is known: {counted(lost, 'image')}."
