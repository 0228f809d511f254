"""Where texture and shape disagree, which of the two does the classifier follow?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores, decision_members
from cuescope.core.findings import About, Figure, Finding, Measure, Panel, Published
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Rows


@dataclass(frozen=True)
class ShapeBias:
    """Shape bias: the share of shape decisions among all decisions for either cue of a cue-conflict image.

    An image shows the shape of one category in the texture of another. The logits become probabilities, those
    of a category's classes are aggregated, and the best category is the decision. Images whose two cues agree
    are left out, as are decisions for neither (Geirhos et al. 2019, section 2).

    >>> ShapeBias(aggregation="sum").aggregation
    'sum'
    """

    aggregation: Literal["mean", "sum", "max"] = "mean"
    """How the probabilities of a category's classes become one; the mean is the published rule."""

    question: ClassVar[str] = "Texture or shape?"
    reference: ClassVar[str] = "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, section 2"
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "shape", "texture"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"shape_bias": "shape_of_both", "neither": "neither"}

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its two cues, the category decided for, and both cues' probabilities."""
        cues = [(sample.cues["shape"], sample.cues["texture"]) for sample in batch.samples]
        members = decision_members(classifier.classes, sorted({name for pair in cues for name in pair}))
        scores = category_scores(batch.logits, members, self.aggregation)
        names = list(members)
        rows = []
        for sample, (shape, texture), score in zip(batch.samples, cues, scores, strict=True):
            decision = names[int(score.argmax())]
            conflict = shape != texture
            cue = "shape" if decision == shape else "texture" if decision == texture else "neither"
            rows.append(
                {
                    "id": sample.id,
                    "shape": shape,
                    "texture": texture,
                    "decision": decision,
                    "cue": cue if conflict else None,
                    "p_shape": float(score[names.index(shape)]),
                    "p_texture": float(score[names.index(texture)]),
                    "shape_of_both": (cue == "shape" if cue != "neither" else None) if conflict else None,
                    "neither": cue == "neither" if conflict else None,
                }
            )
        return pl.DataFrame(rows, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        conflict = rows.drop_nulls("cue") if rows.height else pl.DataFrame(schema=_SCHEMA)
        published = about.space == IMAGENET and set(conflict["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        measures = _measures(conflict, published)
        return Finding(
            instrument="shape_bias",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_panels(conflict, published)),
            sentence=_sentence(measures, published),
            caveats=self._caveats(rows, conflict, about, published),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """The surest decisions for shape and for texture, four of each."""
        chosen: list[str] = []
        for cue in ("shape", "texture"):
            mine = rows.filter(pl.col("cue").eq(cue)).sort(f"p_{cue}", "id", descending=[True, False])
            chosen += mine.unique("shape", keep="first", maintain_order=True)["id"].head(4).to_list()
        return chosen

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        for cue in ("shape", "texture"):
            mine = [i for i, name in enumerate(batch.ids) if told[name]["cue"] == cue]
            figures = tuple(
                Figure(
                    f"{row['shape']} in the texture of {row['texture']}: it says {row['decision']}",
                    to_image(batch.pixels[i]),
                )
                for i in mine
                if (row := told[batch.ids[i]])
            )
            if figures:
                yield Panel(f"by_{cue}", "images", f"Decided by {cue}", "Its surest decisions.", figures=figures)

    def _caveats(self, rows: Rows, conflict: pl.DataFrame, about: About, published: bool) -> tuple[str, ...]:
        rule = f"Category probability: {self.aggregation} over the category's classes of the softmax over all classes."
        caveats = [rule]
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

_SCHEMA = {
    "id": pl.String,
    "shape": pl.String,
    "texture": pl.String,
    "decision": pl.String,
    "cue": pl.String,
    "p_shape": pl.Float64,
    "p_texture": pl.Float64,
    "shape_of_both": pl.Boolean,
    "neither": pl.Boolean,
}


def _counts(conflict: pl.DataFrame) -> tuple[int, int]:
    return int((conflict["cue"] == "shape").sum()), int((conflict["cue"] == "texture").sum())


def _by_category(conflict: pl.DataFrame) -> list[tuple[str, int, int]]:
    """(shape category, shape decisions, texture decisions), in alphabetical order."""
    table = conflict.group_by("shape").agg(
        (pl.col("cue") == "shape").sum().alias("s"), (pl.col("cue") == "texture").sum().alias("t")
    )
    return [(name, int(s), int(t)) for name, s, t in table.sort("shape").iter_rows()]


def _measures(conflict: pl.DataFrame, published: bool) -> tuple[Measure, ...]:
    shape, texture = _counts(conflict)
    n, both = conflict.height, shape + texture
    why = "no image has cues in conflict" if not n else "no decision was for either cue"
    if not both:
        bias = Measure("shape_bias", None, "share", 0, title="shape bias", why=why, headline=True)
        mean = Measure("category_mean", None, "share", 0, title="mean of the categories' shape biases", why=why)
    else:
        bias = Measure(
            "shape_bias",
            shape / both,
            "share",
            both,
            stats.wilson(shape, both),
            title="shape bias",
            count=shape,
            published=known.listed(known.SHAPE_BIAS, known.SHAPE_BIAS_SOURCE) if published else (),
            headline=True,
        )
        ratios = [s / (s + t) for _, s, t in _by_category(conflict) if s + t]
        mean = Measure(
            "category_mean",
            float(np.mean(ratios)),
            "share",
            len(ratios),
            stats.bootstrap_mean(ratios) if len(ratios) > 1 else None,
            title="mean of the categories' shape biases",
            published=(Published("people", known.CATEGORY_MEAN_OF_PEOPLE, known.SHAPE_BIAS_SOURCE),)
            if published
            else (),
        )
    shares = [
        Measure(name, k / n, "share", n, stats.wilson(k, n), title=title, count=k)
        if n
        else Measure(name, None, "share", 0, title=title, why=why)
        for name, title, k in (
            ("shape_decisions", "decisions for the shape", shape),
            ("texture_decisions", "decisions for the texture", texture),
            ("neither", "decisions for neither", n - both),
        )
    ]
    return (bias, mean, *shares)


def _panels(conflict: pl.DataFrame, published: bool) -> Iterable[Panel]:
    categories = _by_category(conflict)
    if not categories:
        return
    shape, texture = _counts(conflict)
    total = _dot("all images", shape, texture)
    peers = known.SHAPE_BIAS_BY_CATEGORY.items() if published else ()
    marks = [
        {"who": who, "values": [*(by_category[name] for name, _, _ in categories), known.SHAPE_BIAS[who]]}
        for who, by_category in peers
    ]
    rows = [_dot(*category) for category in categories]
    yield Panel(
        "per_category",
        "dots",
        "Shape bias by category of the shape",
        "Left of the middle it decides by texture, right of it by shape. The lines are of all images together; n is "
        "the number of decisions for either cue." + (" SIN: trained on Stylized-ImageNet." if published else ""),
        {"unit": "share", "rows": rows, "total": total, "marks": marks, "ends": ["all texture", "all shape"]},
    )


def _dot(label: str, shape: int, texture: int) -> dict[str, Any]:
    n = shape + texture
    low, high = stats.wilson(shape, n) if n else (None, None)
    return {"label": label, "value": shape / n if n else None, "low": low, "high": high, "n": n}


def _sentence(measures: tuple[Measure, ...], published: bool) -> str:
    bias, neither = measures[0], measures[4]
    if bias.value is None or bias.interval is None:
        return f"Shape bias is not measured: {bias.why}."
    low, high = bias.interval
    if low <= 0.5 <= high and high - low > ALIKE:
        side = "Which cue it goes by cannot be told from so few"
    else:
        side = "It goes by " + ("shape" if low > 0.5 else "texture" if high < 0.5 else "both cues alike")
    people = "; people name it in 95.9%" if published else ""
    return (
        f"{side}: where it names one of the two cues, that is the shape in {bias.value:.1%} of "
        f"{bias.n} images{people}. It names neither in {neither.value:.1%}."
    )
