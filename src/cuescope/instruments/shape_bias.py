"""Where texture and shape disagree, which of the two does the classifier follow?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores, decision_members
from cuescope.core.findings import About, Conclusion, Measure, Panel, Published, dot
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, by_id, gallery, typed


@dataclass(frozen=True)
class ShapeBias(Instrument, version=1, order=30, needs={"logits", "shape", "texture"}):
    """Shape bias: the share of shape decisions among all decisions for either cue of a cue-conflict image.

    An image shows the shape of one category in the texture of another. The logits become probabilities, those
    of a category's classes are aggregated, and the best category is the decision. Images whose two cues agree
    are left out, as are decisions for neither (Geirhos et al. 2019, section 2).

    >>> ShapeBias(aggregation="sum").aggregation
    'sum'
    """

    aggregation: Literal["mean", "sum", "max"] = "mean"
    """How the probabilities of a category's classes become one; the mean is the published rule."""

    question = "Texture or shape?"
    reference = "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, section 2"
    columns = {
        **typed(pl.String, "id shape texture decision cue"),
        **typed(pl.Float64, "p_shape p_texture"),
        **typed(pl.Boolean, "shape_of_both neither"),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its two cues, the category decided for, and both cues' probabilities."""
        cues = [(sample.cues["shape"], sample.cues["texture"]) for sample in batch.samples]
        members = decision_members(classifier.classes, sorted({name for pair in cues for name in pair}))
        scores = category_scores(batch.logits, members, self.aggregation)
        names, rows = list(members), []
        decisions = [names[k] for k in scores.argmax(1).tolist()]
        for name, (shape, texture), decision, score in zip(batch.ids, cues, decisions, scores.tolist(), strict=True):
            row = {"id": name, "shape": shape, "texture": texture, "decision": decision}
            row |= {"p_shape": score[names.index(shape)], "p_texture": score[names.index(texture)]}
            if shape != texture:
                row["cue"] = "shape" if decision == shape else "texture" if decision == texture else "neither"
                row["neither"] = row["cue"] == "neither"
                row["shape_of_both"] = None if row["neither"] else row["cue"] == "shape"
            rows.append(row)
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        conflict = rows.drop_nulls("cue")
        published = about.space == IMAGENET and set(conflict["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        measures = _measures(conflict, published)
        panels, caveats = tuple(_panels(conflict, published)), self._caveats(rows, conflict, published)
        return Conclusion(measures, panels, _sentence(measures, published), caveats)

    def examples(self, rows: Rows) -> list[str]:
        """The surest decisions for shape and for texture, four of each."""
        chosen: list[str] = []
        for cue in ("shape", "texture"):
            mine = rows.filter(cue=cue).sort(f"p_{cue}", "id", descending=[True, False])
            chosen += mine.unique("shape", keep="first", maintain_order=True)["id"].head(4).to_list()
        return chosen

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of = by_id(rows)

        def caption_of(name: str) -> str:
            return "{shape} in the texture of {texture}: it says {decision}".format(**row_of[name])

        for cue in ("shape", "texture"):
            if figures := gallery(batch, [name for name in batch.ids if row_of[name]["cue"] == cue], caption_of):
                yield Panel(f"by_{cue}", "images", f"Decided by {cue}", "Its surest decisions.", figures=figures)

    def _caveats(self, rows: Rows, conflict: pl.DataFrame, published: bool) -> tuple[str, ...]:
        caveats = [
            f"Category probability: {self.aggregation} over the category's classes of the softmax over all classes."
        ]
        if rows.height > conflict.height:
            caveats.append(f"{rows.height - conflict.height} images whose two cues agree are left out.")
        if published:
            caveats.append(
                "Published values are of the named networks' own weights, computed from their trial-by-trial answers "
                "on the authors' 1,200 conflict images by the pooled rule; other weights of the same architecture "
                "differ, and of other stimuli, such as those of `make cue-conflict`, they say nothing."
            )
        if conflict.height:
            caveats.append(
                "The interval treats images as independent; images share objects and textures, so it is narrow."
            )
        return tuple(caveats)


ALIKE = 0.3
"""An interval that is wider and holds .5 tells nothing; a narrower one says that both cues count alike."""


def _counts(conflict: pl.DataFrame) -> tuple[int, int]:
    return int((conflict["cue"] == "shape").sum()), int((conflict["cue"] == "texture").sum())


def _by_category(conflict: pl.DataFrame) -> list[tuple[str, int, int]]:
    """(shape category, shape decisions, texture decisions), in alphabetical order."""
    table = conflict.group_by("shape").agg(
        (pl.col("cue") == "shape").sum().alias("s"), (pl.col("cue") == "texture").sum().alias("t")
    )
    return [(name, int(s), int(t)) for name, s, t in table.sort("shape").iter_rows()]


def _measures(conflict: pl.DataFrame, published: bool) -> tuple[Measure, ...]:
    n, (shape, texture) = conflict.height, _counts(conflict)
    both = shape + texture
    bias: dict[str, Any] = {"why": "no decision was for either cue" if n else "no image has cues in conflict"}
    mean = dict(bias)
    if published and both:
        bias["published"] = known.listed(known.SHAPE_BIAS, known.SHAPE_BIAS_SOURCE)
        mean["published"] = (Published("people", known.CATEGORY_MEAN_OF_PEOPLE, known.SHAPE_BIAS_SOURCE),)
    ratios = [s / (s + t) for _, s, t in _by_category(conflict) if s + t]
    title = "mean of the categories' shape biases"
    return (
        stats.share("shape_bias", shape, both, title="shape bias", headline=True, per_image="shape_of_both", **bias),
        stats.mean("category_mean", ratios, title=title, **mean),
        _share("shape_decisions", "decisions for the shape", shape, n),
        _share("texture_decisions", "decisions for the texture", texture, n),
        _share("neither", "decisions for neither", n - both, n, per_image="neither"),
    )


def _share(name: str, title: str, k: int, n: int, per_image: str = "") -> Measure:
    return stats.share(name, k, n, why="no image has cues in conflict", title=title, per_image=per_image)


def _panels(conflict: pl.DataFrame, published: bool) -> Iterable[Panel]:
    categories = _by_category(conflict)
    if not categories:
        return
    reference = known.SHAPE_BIAS_BY_CATEGORY.items() if published else ()
    marks = [
        {"who": who, "values": [*(by_category[name] for name, _, _ in categories), known.SHAPE_BIAS[who]]}
        for who, by_category in reference
    ]
    data = {"unit": "share", "rows": [_dot(*category) for category in categories], "marks": marks}
    data |= {"total": _dot("all images", *_counts(conflict)), "ends": ["all texture", "all shape"]}
    caption = (
        "Left of the middle it decides by texture, right of it by shape. The lines are of all images together; n is "
        "the number of decisions for either cue." + (" SIN: trained on Stylized-ImageNet." if published else "")
    )
    yield Panel("per_category", "dots", "Shape bias by category of the shape", caption, data)


def _dot(label: str, shape: int, texture: int) -> dict[str, Any]:
    n = shape + texture
    return dot(label, shape / n, stats.wilson(shape, n), n) if n else dot(label, None, n=0)


def _sentence(measures: tuple[Measure, ...], published: bool) -> str:
    bias, neither = measures[0], measures[4]
    if bias.value is None or bias.interval is None:
        return f"Shape bias is not measured: {bias.why}."
    low, high = bias.interval
    if low <= 0.5 <= high and high - low > ALIKE:
        side = "Which cue it goes by cannot be said from so few images"
    else:
        side = "It goes by " + ("shape" if low > 0.5 else "texture" if high < 0.5 else "both cues alike")
    people = "; people name it in 95.9%" if published else ""
    return (
        f"{side}: where it names one of the two cues, that is the shape in {bias.value:.1%} of "
        f"{bias.n} images{people}. It names neither in {neither.value:.1%}."
    )
