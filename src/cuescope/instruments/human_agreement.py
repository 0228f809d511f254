"""Does it err on the images that people err on?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores, decision_members
from cuescope.core.error_consistency import ANSWERS, Array, Asked, Kappas, around, kappa_table, mean_over
from cuescope.core.findings import About, Finding, Measure, Panel, about_two
from cuescope.data.images import Batch
from cuescope.instruments.base import Rows


@dataclass(frozen=True)
class HumanAgreement:
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

    question: ClassVar[str] = "Does it err on the images that people err on?"
    reference: ClassVar[str] = (
        "Geirhos et al. 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans, section 2; "
        "Geirhos et al. 2019 (the images and the trials)"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "shape", "texture", "answers"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"accuracy": "right", "same_as_people": "same_as_people"}

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
            people = [a.category == decision for a in sample.answers if a.kind == "human"]
            rows.append(
                {
                    "id": sample.id,
                    "shape": shape,
                    "conflict": shape != sample.cues["texture"],
                    "decision": decision,
                    "right": decision == shape if sample.answers else None,
                    "same_as_people": float(np.mean(people)) if people else None,
                    "who": [a.who for a in sample.answers],
                    "human": [a.kind == "human" for a in sample.answers],
                    "answer": [a.category for a in sample.answers],
                }
            )
        return pl.DataFrame(rows, schema_overrides=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        asked = Asked.of(rows)
        kappas = Kappas.of(asked, [asked.right], self.seed, self.resamples)
        standard = about.space == IMAGENET and set(asked.rows["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        measures = tuple(_measures(asked, kappas, standard))
        return Finding(
            instrument="human_agreement",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_panels(asked, kappas)) if len(asked.who) else (),
            sentence=_sentence(measures),
            caveats=_caveats(asked, rows.height - asked.rows.height, standard),
            references=(self.reference,),
        )

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Finding:
        """Which of two errs more as people do, over the same images; and how far they err as each other."""
        other = second.select("id", pl.col("right").alias("right_2"), pl.col("decision").alias("decision_2"))
        asked = Asked.of(first.join(other, on="id", maintain_order="left").drop_nulls("right_2"))
        names = [a.classifier.partition("@")[0].rpartition("/")[2] for a in about]
        measures = tuple(self._of_two(asked, names))
        return Finding(
            instrument="human_agreement",
            version=self.version,
            params=asdict(self),
            classifier=about_two(about),
            images=about[0].images,
            measures=measures,
            sentence=_sentence_of_two(measures, names),
            references=(self.reference,),
        )

    def _of_two(self, asked: Asked, names: Sequence[str]) -> Iterable[Measure]:
        n, second = len(asked.right), asked.rows["right_2"].to_numpy().astype(float)
        kappas = Kappas.of(asked, [asked.right, second], self.seed, self.resamples)
        with_people = [mean_over(kappas.table[:, k, asked.human]) for k in range(2)]
        why = _why(asked, asked.human)
        for place, name, values in zip(("first", "second"), names, with_people, strict=True):
            yield _measure(f"kappa_{place}", values, "kappa", n, why, title=f"kappa of {name} with people")
        title = f"kappa with people: {names[0]} less {names[1]}"
        difference = with_people[0] - with_people[1]
        yield _measure("kappa_difference", difference, "kappa", n, why, title=title, headline=True)
        title = "error consistency of the two (kappa)"
        between = kappa_table(asked.right[:, None], second[:, None], kappas.drawn)[:, 0, 0]
        yield _measure("kappa_of_two", between, "kappa", n, "one is right on all images or on none", title=title)
        if n:
            same = int((asked.rows["decision"] == asked.rows["decision_2"]).sum())
            yield Measure("same", same / n, "share", n, stats.wilson(same, n), title="the same decision", count=same)


_SCHEMA = {**ANSWERS, "conflict": pl.Boolean, "same_as_people": pl.Float64}


def _measure(name: str, values: Array, unit: Any, n: int, why: str, **more: Any) -> Measure:
    """Of the value on the images as they are, and what the resamples make of it."""
    value = float(values[0]) if n and np.isfinite(values[0]) else None
    if value is None:
        return Measure(name, None, unit, 0, why=why, **more)
    return Measure(name, value, unit, n, around(values[1:]), **more)


def _why(asked: Asked, others: Array) -> str:
    """Why there is no kappa with these."""
    if not len(asked.right):
        return "no image has answers of others"
    if not others.any():
        return "none of them was asked"
    if asked.right.mean() in (0, 1):
        return (
            f"it is {'right' if asked.right[0] else 'wrong'} on every image, so its accuracy alone fixes the agreement"
        )
    return "none of them is right on some images and wrong on others"


def _measures(asked: Asked, kappas: Kappas, standard: bool) -> Iterable[Measure]:
    n, human, networks = len(asked.right), asked.human, ~asked.human
    published = known.listed(known.KAPPA_WITH_PEOPLE, known.KAPPA_SOURCE) if standard else ()
    for name, who, others, shown in (
        ("kappa_people", "people", human, published),
        ("kappa_networks", "the other networks", networks, ()),
    ):
        values, title = mean_over(kappas.table[:, 0, others]), f"error consistency (kappa) with {who}"
        more: dict[str, Any] = {"title": title, "chance": 0.0, "published": shown, "headline": name == "kappa_people"}
        yield _measure(name, values, "kappa", n, _why(asked, others), **more)
    title, why = (
        "people among themselves (kappa)",
        _why(asked, human) if human.sum() != 1 else "there is one person only",
    )
    among = mean_over(kappas.people[:, : int(human.sum())])
    yield _measure("kappa_among_people", among, "kappa", n, why, title=title)
    for name, title, values in (
        ("accuracy", "the shape is named", asked.right),
        ("accuracy_people", "the shape is named by people", _by_image(asked.theirs[:, human])),
        ("same_as_people", "a person gives the same answer", _by_image(asked.same[:, human])),
        ("same_as_networks", "another network gives the same answer", _by_image(asked.same[:, networks])),
    ):
        usable = values[np.isfinite(values)]
        if not len(usable):
            yield Measure(
                name, None, "share", 0, why="none of them was asked" if n else _why(asked, human), title=title
            )
        else:
            yield Measure(name, unit="share", title=title, **stats.of_images(usable, counted=name == "accuracy"))


def _by_image(values: Array) -> Array:
    """(n, s) to the mean over those who were asked, NaN where nobody was."""
    n = np.isfinite(values).sum(1)
    return np.divide(np.nansum(values, 1), n, out=np.full(len(values), np.nan), where=n > 0)


def _panels(asked: Asked, kappas: Kappas) -> Iterable[Panel]:
    human, own = asked.human, kappas.table[:, 0]
    if human.any():
        yield _accuracies(asked)
    names = [who for who, person in zip(asked.who, human, strict=True) if not person]
    rows, values, low, high = [], [], [], []
    if human.any():
        rows.append(_dot("people", mean_over(own[:, human])))
    rows += [_dot(name, own[:, k]) for k, name in enumerate(asked.who) if not human[k]]
    groups = ([kappas.people[0, human]] if human.any() else []) + [row[None] for row in kappas.people[0, ~human]]
    for group in groups:
        found = group[np.isfinite(group)]
        values.append(float(found.mean()) if len(found) else None)
        low.append(float(found.min()) if len(found) else None)
        high.append(float(found.max()) if len(found) else None)
    marks = [{"who": "their own kappa with people", "values": values, "low": low, "high": high}] if human.any() else []
    yield Panel(
        "with_whom",
        "dots",
        "Whose errors are like its own",
        "Error consistency (kappa) with people, on average over them, and with each other network; 0 is chance."
        + (
            " Diamonds and bands: how far those themselves agree with people, from the least person to the largest."
            if marks
            else ""
        )
        + (" SIN: trained on Stylized-ImageNet." if any("(SIN)" in name for name in names) else ""),
        {"unit": "kappa", "rows": rows, "marks": marks},
    )
    cells = [
        [who, *(value and round(value, 3) for value in (_mean(theirs), _mean(same), _finite(kappa)))]
        for who, theirs, same, kappa in zip(asked.who, asked.theirs.T, asked.same.T, own[0], strict=True)
    ]
    data = {"columns": ["who", "shape named", "same answer", "kappa"], "rows": cells}
    yield Panel(
        "everybody",
        "table",
        "Every person and network",
        "Shares of the images, those with the classifier's own answer, and kappa with it. People are numbered.",
        data,
    )


def _accuracies(asked: Asked) -> Panel:
    """How often the shape is named, by condition, with people's spread."""
    conflict = asked.rows["conflict"].to_numpy().astype(bool)
    rows, values, low, high = [], [], [], []
    for label, part in (("all images", conflict | True), ("cues in conflict", conflict), ("cues agree", ~conflict)):
        n, right = int(part.sum()), int(asked.right[part].sum())
        if not n:
            continue
        ends = stats.wilson(right, n)
        rows.append({"label": label, "value": right / n, "low": ends[0], "high": ends[1], "n": n})
        each = [m for m in (_mean(column) for column in asked.theirs[part][:, asked.human].T) if m is not None]
        values.append(float(np.mean(each)) if each else None)
        low.append(min(each, default=None))
        high.append(max(each, default=None))
    marks = [{"who": "people", "values": values, "low": low, "high": high}]
    caption = "The shape is what is right. The band goes from the least to the most successful person."
    return Panel(
        "accuracy", "dots", "How often the shape is named", caption, {"unit": "share", "rows": rows, "marks": marks}
    )


def _dot(label: str, values: Array) -> dict[str, Any]:
    low, high = around(values[1:]) or (None, None)
    return {"label": label, "value": _finite(values[0]), "low": low, "high": high}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: Array) -> float | None:
    usable = values[np.isfinite(values)]
    return float(usable.mean()) if len(usable) else None


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
    told = {m.name: m for m in measures}
    kappa, among = told["kappa_people"], told["kappa_among_people"]
    if kappa.value is None:
        return f"Its agreement with people is not measured: {kappa.why}."
    low = kappa.interval[0] if kappa.interval else 0.0
    text = f"Its errors agree with people's {'beyond chance' if low > 0 else 'not clearly beyond chance'}: "
    text += f"kappa {round(kappa.value, 2) + 0:.2f}"
    if among.value is not None:
        text += f", where people's agree among themselves at {among.value:.2f}"
    if (networks := told["kappa_networks"]).value is not None:
        text += f" and its own with other networks' at {networks.value:.2f}"
    return text + f". It names the shape of {told['accuracy'].value or 0:.1%} of {kappa.n:,} images."


def _sentence_of_two(measures: Sequence[Measure], names: Sequence[str]) -> str:
    difference = next(m for m in measures if m.name == "kappa_difference")
    if difference.value is None:
        return f"Their agreement with people cannot be compared: {difference.why}."
    low, high = difference.interval or (-1.0, 1.0)
    if low <= 0 <= high:
        return f"Neither errs clearly more as people do: the kappas differ by {abs(difference.value):.2f}."
    better = names[0] if difference.value > 0 else names[1]
    return f"{better} errs more as people do: its kappa with them is larger by {abs(difference.value):.2f}."
