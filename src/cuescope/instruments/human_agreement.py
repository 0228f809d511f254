"""Does it err on the images that people err on?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores, decision_members
from cuescope.core.error_consistency import ANSWERS, Array, Asked, Kappas, interval_of, mean_over
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot, short_names
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows


@dataclass(frozen=True)
class HumanAgreement(Instrument, version=1, order=50, needs={"logits", "shape", "texture", "answers"}):
    """Error consistency with people, and with other networks, on the very images that they were asked about.

    On cue-conflict images the shape is what is right; images whose two cues agree are kept, no answer in time is wrong
    (Geirhos et al. 2020). Kappa is how much more often two are both right or both wrong than two independent ones of
    the same accuracies would be; with people it is the mean over them. It has no value where either is right on all
    images or on none. Intervals come from resampling images; people's bands go from the least of them to the largest.
    The answers are raw trials, given with `--human-data`.

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
    reference = (
        "Geirhos et al. 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans, section 2; "
        "Geirhos et al. 2019 (the images and the trials)"
    )
    columns = {**ANSWERS, "conflict": pl.Boolean, "same_as_people": pl.Float64}
    compares = True

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise ValueError("resamples must be at least 100")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its cues, the category decided for, whether that is the shape, and everybody's answers."""
        shown = sorted({sample.cues[cue] for sample in batch.samples for cue in ("shape", "texture")})
        members = decision_members(classifier.classes, shown)
        names, scores = list(members), category_scores(batch.logits, members, self.aggregation)
        rows = []
        for sample, score in zip(batch.samples, scores, strict=True):
            decision, shape = names[int(score.argmax())], sample.cues["shape"]
            answers = [(a.who, a.kind == "human", a.category) for a in sample.answers]
            people = [category == decision for _, human, category in answers if human]
            row = {"id": sample.id, "shape": shape, "conflict": shape != sample.cues["texture"], "decision": decision}
            row["right"] = decision == shape if answers else None
            row["same_as_people"] = float(np.mean(people)) if people else None
            rows.append({**row, **{name: [a[i] for a in answers] for i, name in enumerate(("who", "human", "answer"))}})
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        asked = Asked.of(rows)
        kappas = Kappas.of(asked, [asked.right], self.seed, self.resamples)
        standard = about.space == IMAGENET and set(asked.rows["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        measures, panels = tuple(_measures(asked, kappas, standard)), _panels(asked, kappas) if len(asked.who) else ()
        caveats = _caveats(asked, rows.height - asked.rows.height, standard)
        return Conclusion(measures, tuple(panels), _sentence(measures), caveats)

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """Which of two errs more as people do, over the same images; and how far they err as each other."""
        other = second.select("id", pl.col("right").alias("right_2"), pl.col("decision").alias("decision_2"))
        asked = Asked.of(first.join(other, on="id", maintain_order="left").drop_nulls("right_2"))
        measures = tuple(self._of_two(asked, names := short_names(about)))
        return Conclusion(measures, verdict=_sentence_of_two(measures, names))

    def _of_two(self, asked: Asked, names: Sequence[str]) -> Iterable[Measure]:
        n, second = len(asked.right), asked.rows["right_2"].to_numpy().astype(float)
        kappas = Kappas.of(asked, [asked.right, second], self.seed, self.resamples)
        with_people = [mean_over(kappas.table[:, k, asked.human]) for k in range(2)]
        why = _why(asked, asked.human)
        for place, name, values in zip(("first", "second"), names, with_people, strict=True):
            yield _kappa(f"kappa_{place}", values, n, why, title=f"kappa of {name} with people")
        title, difference = f"kappa with people: {names[0]} less {names[1]}", with_people[0] - with_people[1]
        yield _kappa("kappa_difference", difference, n, why, title=title, headline=True)
        title, why = "error consistency of the two (kappa)", "one is right on all images or on none"
        yield _kappa("kappa_of_two", kappas.between[:, 0, 1], n, why, title=title)
        if n:
            yield stats.share("same", asked.rows["decision"] == asked.rows["decision_2"], title="the same decision")


def _kappa(name: str, values: Array, n: int, why: str, **more: Any) -> Measure:
    """The value on the images as they are, with the interval that the resamples give."""
    if not n or not np.isfinite(values[0]):
        return Measure(name, None, "kappa", why=why, **more)
    return Measure(name, float(values[0]), "kappa", n, interval_of(values[1:]), **more)


def _why(asked: Asked, others: Array) -> str:
    """Why there is no kappa with these."""
    if not len(asked.right) or not others.any():
        return "none of them was asked" if len(asked.right) else "no image has answers of others"
    if asked.right.mean() in (0, 1):
        side = "right" if asked.right[0] else "wrong"
        return f"it is {side} on every image, so its accuracy alone fixes the agreement"
    return "none of them is right on some images and wrong on others"


def _measures(asked: Asked, kappas: Kappas, standard: bool) -> Iterable[Measure]:
    n, human, networks = len(asked.right), asked.human, ~asked.human
    published = known.listed(known.KAPPA_WITH_PEOPLE, known.KAPPA_SOURCE) if standard else ()
    for name, who, others, more in (
        ("kappa_people", "people", human, {"published": published, "headline": True}),
        ("kappa_networks", "the other networks", networks, {}),
    ):
        values, title = mean_over(kappas.table[:, 0, others]), f"error consistency (kappa) with {who}"
        yield _kappa(name, values, n, _why(asked, others), title=title, chance=0.0, **more)
    among = mean_over(kappas.people[:, : int(human.sum())])
    why = "there is one person only" if human.sum() == 1 else _why(asked, human)
    yield _kappa("kappa_among_people", among, n, why, title="people among themselves (kappa)")
    why = "none of them was asked" if n else _why(asked, human)
    yield stats.share("accuracy", asked.right, why=why, title="the shape is named", per_image="right")
    for name, title, values, column in (
        ("accuracy_people", "the shape is named by people", asked.others[:, human], ""),
        ("same_as_people", "a person gives the same answer", asked.same[:, human], "same_as_people"),
        ("same_as_networks", "another network gives the same answer", asked.same[:, networks], ""),
    ):
        by_image = _means(values)
        yield stats.mean(name, by_image[np.isfinite(by_image)], why=why, title=title, per_image=column)


def _means(values: Array) -> Array:
    """(n, s) to the mean of what is known of each row, NaN where nothing is."""
    n = np.isfinite(values).sum(1)
    return np.divide(np.nansum(values, 1), n, out=np.full(len(values), np.nan), where=n > 0)


def _panels(asked: Asked, kappas: Kappas) -> Iterable[Panel]:
    human, own = asked.human, kappas.table[:, 0]
    networks = [(asked.who[k], own[:, k], kappas.people[0, k]) for k in np.flatnonzero(~human)]
    people = [("people", mean_over(own[:, human]), kappas.people[0, human])] if human.any() else []
    rows = [dot(who, _finite(values[0]), interval_of(values[1:])) for who, values, _ in people + networks]
    caption = "Error consistency (kappa) with people, on average over them, and with each other network; 0 is chance."
    if people:
        yield _accuracies(asked)
        caption += (
            " Diamonds and bands: how far those themselves agree with people, from the least person to the largest."
        )
    if any("(SIN)" in who for who, *_ in networks):
        caption += " SIN: trained on Stylized-ImageNet."
    marks = [_band("their own kappa with people", [group for *_, group in people + networks])] if people else []
    data = {"unit": "kappa", "rows": rows, "marks": marks}
    yield Panel("with_whom", "dots", "Whose errors are like its own", caption, data)
    numbers = zip(asked.who, _means(asked.others.T), _means(asked.same.T), own[0], strict=True)
    cells = [[who, *(value and round(value, 3) for value in map(_finite, each))] for who, *each in numbers]
    caption = "Shares of the images, those with the classifier's own answer, and kappa with it. People are numbered."
    data = {"columns": ["who", "shape named", "same answer", "kappa"], "rows": cells}
    yield Panel("everybody", "table", "Every person and network", caption, data)


def _accuracies(asked: Asked) -> Panel:
    """How often the shape is named, by condition, with people's spread."""
    conflict = asked.rows["conflict"].to_numpy().astype(bool)
    parts = ("all images", conflict | True), ("cues in conflict", conflict), ("cues agree", ~conflict)
    rows, people = [], []
    for label, part in parts:
        if n := int(part.sum()):
            right = int(asked.right[part].sum())
            rows.append(dot(label, right / n, stats.wilson(right, n), n))
            people.append(_means(asked.others[part][:, asked.human].T))
    caption = "The shape is what is right. The band goes from the least to the most successful person."
    data = {"unit": "share", "rows": rows, "marks": [_band("people", people)]}
    return Panel("accuracy", "dots", "How often the shape is named", caption, data)


def _band(who: str, groups: Iterable[Array]) -> dict[str, Any]:
    """Marks of a dot plot: of each group the mean, and a band from its least value to its largest."""
    found = [[float(value) for value in group.ravel() if np.isfinite(value)] for group in groups]
    values, low, high = ([float(f(group)) if group else None for group in found] for f in (np.mean, min, max))
    return {"who": who, "values": values, "low": low, "high": high}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _caveats(asked: Asked, lost: int, standard: bool) -> tuple[str, ...]:
    caveats = ["Images are resampled, people are not: the intervals hold for these people."] if len(asked.who) else []
    if lost:
        caveats.append(f"{lost:,} images that nobody else was asked about are left out.")
    if standard:
        caveats.append(
            "Published values are of 1,280 images; the authors' networks decided by an aggregation that their README "
            "calls slightly different from the mean."
        )
    return tuple(caveats)


def _sentence(measures: Sequence[Measure]) -> str:
    found = {m.name: m for m in measures}
    kappa, among = found["kappa_people"], found["kappa_among_people"]
    if kappa.value is None:
        return f"Its agreement with people is not measured: {kappa.why}."
    low = kappa.interval[0] if kappa.interval else 0.0
    clear = "beyond chance" if low > 0 else "not clearly beyond chance"
    text = f"Its errors agree with people's {clear}: kappa {round(kappa.value, 2) + 0:.2f}"
    if among.value is not None:
        text += f", where people's agree among themselves at {among.value:.2f}"
    if (networks := found["kappa_networks"]).value is not None:
        text += f" and its own with other networks' at {networks.value:.2f}"
    return text + f". It names the shape of {found['accuracy'].value or 0:.1%} of {kappa.n:,} images."


def _sentence_of_two(measures: Sequence[Measure], names: Sequence[str]) -> str:
    difference = next(m for m in measures if m.name == "kappa_difference")
    if difference.value is None:
        return f"Their agreement with people cannot be compared: {difference.why}."
    low, high = difference.interval or (-1.0, 1.0)
    if low <= 0 <= high:
        return f"Neither errs clearly more as people do: the kappas differ by {abs(difference.value):.2f}."
    better = names[difference.value <= 0]
    return f"{better} errs more as people do: its kappa with them is larger by {abs(difference.value):.2f}."
