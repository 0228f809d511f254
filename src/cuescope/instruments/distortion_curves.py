"""How fast does the classifier fail as images get harder, and do people?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope import distorted_people as others
from cuescope import stats
from cuescope.classes import IMAGENET, SIXTEEN, category_members, category_scores
from cuescope.classifier import Classifier
from cuescope.findings import Figure, Finding, Measure, Panel, Published
from cuescope.images import Batch, Condition
from cuescope.instrument import About, Rows
from cuescope.ops.convert import to_image
from cuescope.ops.distortions import DISTORTIONS, level_text

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
        labeled = rows.filter(pl.col("label").is_not_null() | pl.col("category").is_not_null())
        sixteen = self.rule == "sixteen" or (self.rule == "auto" and _all_known(labeled))
        column = "right_category" if sixteen else "right"
        scored = rows.drop_nulls(column).with_columns(pl.col(column).cast(pl.Float64).alias("score"))
        order = {source: i for i, source in enumerate(sorted(set(scored["source"])))}
        curves = [Curve(name, table, order, sixteen) for name, table in _parted(scored)]
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

    def examples(self, rows: Rows) -> list[str]:
        """One image at the middle level of each distortion."""
        chosen: list[str] = []
        source = ""
        for name, table in _parted(rows):
            levels = _in_order(name, table["level"].unique().to_list())
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
            by_category = row["category"] is not None
            label = row["category"] if by_category else None if row["label"] is None else names[row["label"]]
            answer = row["decision"] if by_category else names[row["predicted"]]
            what = f"{_title(row['distortion'])}, {level_text(row['level'])}"
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


class Curve:
    """Accuracy by level of one distortion, mildest first, with what others reached at the same levels.

    `right` and `seen` are (images, levels); `order` is the row of each image, the same for all curves.
    """

    def __init__(self, name: str, scored: pl.DataFrame, order: Mapping[str, int], sixteen: bool) -> None:
        self.name, self.title = name, _title(name)
        self.levels = _in_order(name, scored["level"].unique().to_list())
        column = {level: i for i, level in enumerate(self.levels)}
        at = [order[source] for source in scored["source"]], [column[level] for level in scored["level"]]
        self.right, self.seen = (np.zeros((len(order), len(self.levels))) for _ in range(2))
        np.add.at(self.right, at, scored["score"].to_numpy())
        np.add.at(self.seen, at, 1)
        self.k, self.n = (array.sum(0).astype(int).tolist() for array in (self.right, self.seen))
        known = others.published(name) if sixteen else {}
        self.known = known if known and all(level in known[others.PEOPLE] for level in self.levels) else {}

    @property
    def shares(self) -> list[float]:
        return [k / n for k, n in zip(self.k, self.n, strict=True)]

    @property
    def area(self) -> float:
        return float(np.mean(self.shares))

    def of(self, who: str) -> list[float]:
        """What others reached at these levels."""
        return [self.known[who][level] for level in self.levels]

    @property
    def places(self) -> tuple[list[float], list[tuple[float, str]]]:
        """Where the levels stand on the axis: published levels at equal distances, others where they are."""
        known = DISTORTIONS[self.name].levels if self.name in DISTORTIONS else ()
        if set(self.levels) <= set(known):
            return [float(known.index(level)) for level in self.levels], [
                (float(i), level_text(level)) for i, level in enumerate(known)
            ]
        if all(map(np.isfinite, self.levels)):
            return self.levels, []
        return [float(i) for i in range(len(self.levels))], [
            (float(i), level_text(x)) for i, x in enumerate(self.levels)
        ]


def _title(name: str) -> str:
    return DISTORTIONS[name].title if name in DISTORTIONS else name


def _axis(name: str) -> str:
    return DISTORTIONS[name].axis if name in DISTORTIONS else "level"


def _in_order(name: str, levels: Sequence[float]) -> list[float]:
    """Levels from the mildest: ascending, but for contrast and the high-pass filter, which take more the lower."""
    known = DISTORTIONS[name].levels if name in DISTORTIONS else ()
    return sorted(levels, reverse=len(known) > 1 and known[0] > known[-1])


def _parted(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each distortion, those known here first and in their order."""
    order = {name: i for i, name in enumerate(DISTORTIONS)}
    for name in sorted(set(rows["distortion"]), key=lambda name: (order.get(name, len(order)), name)):
        yield name, rows.filter(pl.col("distortion") == name)


def _all_known(labeled: pl.DataFrame) -> bool:
    return labeled.height > 0 and not labeled["category"].null_count()


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
            _interval(of),
            title=title,
            chance=chance,
            better="higher",
            published=tuple(Published(w, float(np.mean([np.mean(c.of(w)) for c in of])), others.SOURCE) for w in who),
            headline=headline,
        )

    title = f"area under the curves, mean of {len(curves)} distortions" if len(curves) > 1 else "area under the curve"
    each = [area(f"area_{c.name.replace('-', '_')}", f"area under the curve: {c.title}", [c]) for c in curves]
    return area("area", title, curves, headline=True), *each


def _interval(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Of the mean of the curves' areas, images resampled with all their versions."""
    right, seen = (np.hstack([getattr(curve, name) for curve in curves]) for name in ("right", "seen"))
    shown = seen.any(1)
    right, seen = right[shown], seen[shown]
    weights = np.concatenate([np.full(len(c.levels), 1 / len(c.levels) / len(curves)) for c in curves])
    if (seen == 1).all():
        return stats.mean_of_shares(np.clip(right @ weights, 0, 1)) if len(right) > 1 else None

    def areas(means: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # a resample without any image of a level has no area
            return (means[:, : right.shape[1]] / means[:, right.shape[1] :]) @ weights

    interval = stats.bootstrap_of_means(np.hstack([right, seen]), areas)
    return interval if interval is not None and np.isfinite(interval).all() else None


def _panels(curves: Sequence[Curve], chance: float | None) -> Iterable[Panel]:
    for curve in curves:
        places, ticks = curve.places
        spans = [stats.wilson(k, n) for k, n in zip(curve.k, curve.n, strict=True)]
        low, high = ([span[end] for span in spans] for end in (0, 1))
        data: dict[str, Any] = {"x": _axis(curve.name), "y": "share that is right", "chance": chance}
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
    if len(curves) > 1 and best.area > worst.area:
        text += f". It bears {best.title} best ({best.area:.1%}) and {worst.title} worst ({worst.area:.1%})"
    return text + "."


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
