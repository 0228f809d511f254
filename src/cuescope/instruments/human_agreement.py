"""Does it err on the images that people err on?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.class_names import ClassNames
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores
from cuescope.core.error_consistency import ANSWERS, Array, Asked, Kappas, interval_of, mean_over
from cuescope.core.findings import About, Conclusion, Measure, short_names
from cuescope.core.published.stimuli import are_published
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, typed
from cuescope.methods.cue_conflict import SHARED, TOO_NARROW, categories, clusters_of, instances, labels_of
from cuescope.methods.others_answers import PEOPLE, means, panels, shape_biases

MARGIN = 0.05
"""A kappa that is surely below this is no agreement; kappas that surely differ by less are equal."""


@dataclass(frozen=True)
class HumanAgreement(Instrument, version=2, order=50, needs={"logits", "shape", "texture", "answers"}):
    """Error consistency with people, and with other networks, on the very images that they were asked about.

    On cue-conflict images the shape is what is right; images whose two cues agree are kept, no answer in time is wrong
    (Geirhos et al. 2020). Kappa is how much more often two are both right or both wrong than two independent ones of
    the same accuracies would be; with people it is the mean over them. It has no value where either is right on all
    images or on none. Intervals come from resampling images, or the objects and texture images that they share;
    people's bands go from the least of them to the largest. The answers are raw trials, given with `--human-data`.

    >>> HumanAgreement().aggregation
    'mean'
    """

    aggregation: Literal["mean", "sum", "max"] = "mean"
    """How the probabilities of a category's classes become one, as in shape_bias."""
    resamples: int = 1000
    """Of the images, for the intervals."""
    seed: int = 0
    """Of the resampling."""

    question = "Does it err on the images that people err on?"
    headline = Headline(
        "Does it err like people at all?",
        "kappa_people",
        "agreement of errors beyond chance (kappa)",
        "chance",
        "the same",
    )
    reference = (
        "Geirhos et al. 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans, section 2; "
        "Geirhos et al. 2019 (the images and the trials)"
    )
    columns = {
        **ANSWERS,
        **typed(pl.String, "texture object texture_image"),
        "conflict": pl.Boolean,
        "same_as_people": pl.Float64,
    }
    compares = True
    sentences = {
        "unmeasured": Sentence(
            "cannot tell", "kappa with people has no value", "Its agreement with people is not measured: {why}."
        ),
        "agrees": Sentence(
            "yes",
            "the whole interval of kappa with people lies above 0",
            "Its errors agree with people's beyond chance: kappa {kappa:.2f} on {images}.",
        ),
        "by_chance": Sentence(
            "no",
            "the whole interval of kappa with people lies below MARGIN, and not above 0",
            "Its errors agree with people's no more than by chance: kappa {kappa:.2f} on {images}.",
            clause="errs unlike people",
        ),
        "unclear": Sentence(
            "cannot tell",
            "the interval of kappa with people holds 0 and reaches beyond MARGIN, or there is none",
            "Whether its errors agree with people's cannot be said from {images}: kappa {kappa:.2f}.",
        ),
        "people": Sentence("yes", "kappa among people has a value", "People agree with each other at {among:.2f}."),
        "networks": Sentence(
            "yes", "kappa with networks has a value", "It agrees with the other networks at {networks:.2f}."
        ),
        "not_compared": Sentence(
            "cannot tell", "one of both has no kappa", "Their agreement with people cannot be compared: {why}."
        ),
        "more": Sentence(
            "yes",
            "of two: the whole interval of the difference of kappas lies on one side of 0",
            "{better} errs more as people do: its kappa with them is larger by {by:.2f}.",
        ),
        "alike": Sentence(
            "no",
            "of two: the whole interval of the difference of kappas lies within MARGIN of 0, and holds it",
            f"Both err as people do equally, within {MARGIN}: their kappas differ by {{by:.2f}}.",
        ),
        "open": Sentence(
            "cannot tell",
            "of two: the interval of the difference of kappas holds 0 and leaves MARGIN, or there is none",
            "Which of the two errs more as people do cannot be said from {images}: the kappas differ by {by:.2f}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise ValueError("resamples must be at least 100")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its cues, the category decided for, whether that is the shape, and everybody's answers."""
        cues = (sample.cues[cue] for sample in batch.samples for cue in ("shape", "texture"))
        members, named = categories(classifier.classes, cues)
        names, scores = list(members), category_scores(batch.logits, dict(members), self.aggregation)
        known, rows = ClassNames(members), []
        for sample, score in zip(batch.samples, scores, strict=True):
            decision, shape = names[int(score.argmax())], named[sample.cues["shape"]]
            said = [known.candidates(a.category or "") for a in sample.answers]
            each = zip(sample.answers, said, strict=True)
            answers = [(a.who, a.kind == "human", names[at[0]] if len(at) == 1 else None) for a, at in each]
            people = [category == decision for _, human, category in answers if human]
            row: dict[str, Any] = {
                "id": sample.id,
                "shape": shape,
                "texture": sample.cues["texture"],
                **instances(sample),
            }
            row |= {"conflict": shape != sample.cues["texture"], "decision": decision}
            row["right"] = decision == shape if answers else None
            row["same_as_people"] = float(np.mean(people)) if people else None
            rows.append({**row, **{name: [a[i] for a in answers] for i, name in enumerate(("who", "human", "answer"))}})
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        asked = Asked.of(rows)
        kappas = self._kappas(asked, asked.right)
        standard = about.space == IMAGENET and set(asked.rows["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        published = standard and are_published(asked.rows["id"])
        measures = tuple(_measures(asked, kappas, published))
        drawn = tuple(panels(asked, kappas)) if asked.who else ()
        caveats = _caveats(asked, rows.height - asked.rows.height, published)
        return Conclusion(measures, drawn, self._verdict(measures), caveats)

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """Which of two errs more as people do, over the same images; and how far they err as each other."""
        other = second.select("id", pl.col("right").alias("right_2"), pl.col("decision").alias("decision_2"))
        asked = Asked.of(first.join(other, on="id", maintain_order="left").drop_nulls("right_2"))
        measures = tuple(self._of_two(asked, names := short_names(about)))
        return Conclusion(measures, verdict=self._verdict_of_two(measures, names))

    def _kappas(self, asked: Asked, *rights: Array) -> Kappas:
        return Kappas.of(asked, rights, self.seed, self.resamples, labels_of(asked.rows))

    def _verdict(self, measures: Sequence[Measure]) -> Verdict:
        found = {m.name: m for m in measures}
        kappa, among, networks = (found[f"kappa_{who}"] for who in ("people", "among_people", "networks"))
        if kappa.value is None:
            return self.say("unmeasured", why=kappa.why)
        name = "agrees" if kappa.above(0) else "by_chance" if kappa.below(MARGIN) else "unclear"
        verdict = self.say(name, kappa=round(kappa.value, 2) + 0, images=counted(kappa.n, "image"))
        if among.value is not None:
            verdict += self.say("people", among=among.value)
        return verdict + self.say("networks", networks=networks.value) if networks.value is not None else verdict

    def _verdict_of_two(self, measures: Sequence[Measure], names: Sequence[str]) -> Verdict:
        difference = next(m for m in measures if m.name == "kappa_difference")
        if difference.value is None:
            return self.say("not_compared", why=difference.why)
        if difference.above(0) or difference.below(0):
            return self.say("more", better=names[difference.value <= 0], by=abs(difference.value))
        if difference.within(-MARGIN, MARGIN):
            return self.say("alike", by=abs(difference.value))
        return self.say("open", by=abs(difference.value), images=counted(difference.n, "image"))

    def _of_two(self, asked: Asked, names: Sequence[str]) -> Iterable[Measure]:
        rows, second = asked.rows, asked.rows["right_2"].to_numpy().astype(float)
        kappas = self._kappas(asked, asked.right, second)
        with_people = [mean_over(kappas.table[:, k, asked.human]) for k in range(2)]
        why = _why(asked, asked.human)
        for place, name, values in zip(("first", "second"), names, with_people, strict=True):
            yield _kappa(f"kappa_{place}", values, rows, why, title=f"kappa of {name} with people")
        title, difference = f"kappa with people: {names[0]} less {names[1]}", with_people[0] - with_people[1]
        yield _kappa("kappa_difference", difference, rows, why, title=title, headline=True)
        title, why = "error consistency of the two (kappa)", "one is right on all images or on none"
        yield _kappa("kappa_of_two", kappas.between[:, 0, 1], rows, why, title=title)
        if rows.height:
            same = rows["decision"] == rows["decision_2"]
            yield stats.share("same", same, clusters=labels_of(rows), title="the same decision")


def _kappa(name: str, values: Array, rows: pl.DataFrame, why: str, **more: Any) -> Measure:
    """The value on the images as they are, with the interval that the resamples give."""
    if not rows.height or not np.isfinite(values[0]):
        return Measure(name, None, "kappa", why=why, **more)
    units = min([rows.height, *(labels.n_unique() for labels in labels_of(rows))])
    interval = interval_of(values[1:]) if units >= stats.UNITS else None
    lacking = "" if interval else "too few images or objects, or too few that are right and wrong, for an interval"
    return Measure(name, float(values[0]), "kappa", rows.height, interval, lacking, **more)


def _why(asked: Asked, others: Array) -> str:
    """Why there is no kappa with these."""
    if not len(asked.right) or not others.any():
        return "none of them was asked" if len(asked.right) else "no image has answers of others"
    if asked.right.mean() in (0, 1):
        side = "right" if asked.right[0] else "wrong"
        return f"it is {side} on every image, so its accuracy alone fixes the agreement"
    return "none of them is right on some images and wrong on others"


def _measures(asked: Asked, kappas: Kappas, published: bool) -> Iterable[Measure]:
    n, human, networks = len(asked.right), asked.human, ~asked.human
    theirs = known.listed(known.KAPPA_WITH_PEOPLE, known.KAPPA_SOURCE) if published else ()
    for name, who, others, more in (
        ("kappa_people", "people", human, {"published": theirs, "headline": True}),
        ("kappa_networks", "the other networks", networks, {}),
    ):
        values, title = mean_over(kappas.table[:, 0, others]), f"error consistency (kappa) with {who}"
        yield _kappa(name, values, asked.rows, _why(asked, others), title=title, chance=0.0, **more)
    among = mean_over(kappas.people[:, : int(human.sum())])
    why = "there is one person only" if human.sum() == 1 else _why(asked, human)
    yield _kappa("kappa_among_people", among, asked.rows, why, title="people among themselves (kappa)")
    why = "none of them was asked" if n else _why(asked, human)
    shared: dict[str, Any] = {"why": why, "clusters": labels_of(asked.rows)}
    named = stats.share("accuracy", asked.right, title="the shape is named", per_image="right", **shared)
    yield replace(named, clusters=clusters_of(asked.rows))
    for name, title, values, column in (
        ("accuracy_people", "the shape is named by people", asked.others[:, human], ""),
        ("same_as_people", "a person gives the same answer", asked.same[:, human], "same_as_people"),
        ("same_as_networks", "another network gives the same answer", asked.same[:, networks], ""),
    ):
        by_image = means(values)
        known_of = np.isfinite(by_image)
        labels = [series.to_numpy()[known_of] for series in labels_of(asked.rows)]
        measure = stats.mean(name, by_image[known_of], why=why, clusters=labels, title=title, per_image=column)
        yield replace(measure, clusters=clusters_of(asked.rows))
    bias, title = shape_biases(asked).get(PEOPLE), "shape bias of people"
    yield bias or Measure("shape_bias_people", None, "share", why=why, title=title)


def _caveats(asked: Asked, lost: int, published: bool) -> tuple[str, ...]:
    caveats = ["People are not resampled: the intervals hold for these people."] if len(asked.who) else []
    if len(asked.right):
        caveats.append(SHARED if clusters_of(asked.rows) else TOO_NARROW)
    if lost:
        caveats.append(f"{counted(lost, 'image')} that nobody else was asked about: left out.")
    if published:
        caveats.append(
            "Published values are of 1,280 images; the authors' networks decided by an aggregation that their README "
            "calls slightly different from the mean."
        )
    return tuple(caveats)
