"""Where texture and shape disagree, which of the two does the classifier follow?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores
from cuescope.core.findings import About, Conclusion, Measure, Panel, Published, dot
from cuescope.core.published.stimuli import are_published
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, by_id, gallery, typed
from cuescope.methods.cue_conflict import (
    MORE,
    SHARED,
    TOO_NARROW,
    categories,
    clusters_of,
    instances,
    labels_of,
    uses,
)

ALIKE = 0.1
"""A shape bias that is surely no farther than this from one half goes by both cues alike."""

NO_DECISION = "no decision was for either cue"
SAID = "where it names either cue, that is the shape in {bias:.1%} of {images}; it names neither in {neither:.1%}."


@dataclass(frozen=True)
class ShapeBias(Instrument, version=2, order=30, needs={"logits", "shape", "texture"}):
    """Shape bias: the share of shape decisions among all decisions for either cue of a cue-conflict image.

    An image shows the shape of one category in the texture of another. The logits become probabilities, those
    of a category's classes are aggregated, and the best category is the decision. Images whose two cues agree
    are left out, as are decisions for neither (Geirhos et al. 2019, section 2). Chance is what the same decisions would
    give if the images' labels were dealt out at random; below it a bias says nothing. Images that share an object or a
    texture image are resampled together.

    >>> ShapeBias(aggregation="sum").aggregation
    'sum'
    """

    aggregation: Literal["mean", "sum", "max"] = "mean"
    """How the probabilities of a category's classes become one; the mean is the published rule."""

    question = "Does it go by shape where texture disagrees?"
    headline = Headline(
        "Does it go by shape, not texture?",
        "shape_bias",
        "shape bias: share of decisions by shape",
        "texture",
        "shape",
    )
    reference = "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, section 2"
    columns = {
        **typed(pl.String, "id shape texture object texture_image decision cue"),
        **typed(pl.Float64, "p_shape p_texture"),
        **typed(pl.Boolean, "shape_of_both neither"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image has cues in conflict", "No image has cues in conflict."),
        "neither_cue": Sentence(
            "no",
            "the whole interval of decisions for neither lies less than MARGIN below chance, and for each cue "
            "chance is at most EVEN; of two categories, the decisions for each cue lie less than MARGIN above chance",
            "It uses neither cue: it names one of the two in {either:.1%} of {images}, with {chance:.1%} by chance.",
            clause="uses neither shape nor texture",
        ),
        "unclear": Sentence(
            "cannot tell",
            "decisions for neither are not surely below chance, and it may not be said either that it uses neither cue",
            "Whether it uses either cue cannot be said from {images}: it names one of the two in {either:.1%}, with "
            "{chance:.1%} by chance.",
            *MORE,
        ),
        "shape": Sentence(
            "yes",
            "it uses a cue, the whole interval of shape bias lies above one half, and that of shape decisions above "
            "chance",
            "It goes by shape: " + SAID,
            clause="goes by shape",
        ),
        "texture": Sentence(
            "no",
            "it uses a cue, the whole interval of shape bias lies below one half, and that of texture decisions above "
            "chance",
            "It goes by texture: " + SAID,
            "Train on stylized images, in which texture tells nothing.",
            "cuescope cure {model} --images {images} --for shape_bias",
            clause="goes by texture",
        ),
        "alike": Sentence(
            "no",
            "it uses both cues, and the whole interval of shape bias lies within ALIKE of one half",
            f"It goes by both cues alike, within {100 * ALIKE:.0f} points: " + SAID,
            clause="goes by shape and texture alike",
        ),
        "undecided": Sentence(
            "cannot tell",
            "it uses a cue, and none of shape, texture and alike may be said",
            "It uses a cue; which of the two more often cannot be said from {images}: "
            + SAID.replace("{images}", "these"),
            *MORE,
        ),
        "people": Sentence(
            "yes",
            "all images are the authors' own",
            "Of people's decisions for either cue {people:.1%} are for the shape.",
        ),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: its two cues and what it was made of, the category decided for, both cues' probabilities."""
        shown = [(sample.cues["shape"], sample.cues["texture"]) for sample in batch.samples]
        members, named = categories(classifier.classes, (name for pair in shown for name in pair))
        cues = [(named[shape], named[texture]) for shape, texture in shown]
        scores = category_scores(batch.logits, dict(members), self.aggregation)
        names, rows = list(members), []
        decisions = [names[k] for k in scores.argmax(1).tolist()]
        for sample, (shape, texture), decision, score in zip(
            batch.samples, cues, decisions, scores.tolist(), strict=True
        ):
            row = {"id": sample.id, "shape": shape, "texture": texture, **instances(sample), "decision": decision}
            row |= {"p_shape": score[names.index(shape)], "p_texture": score[names.index(texture)]}
            if shape != texture:
                row["cue"] = "shape" if decision == shape else "texture" if decision == texture else "neither"
                row["neither"] = row["cue"] == "neither"
                row["shape_of_both"] = None if row["neither"] else row["cue"] == "shape"
            rows.append(row)
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        conflict = rows.drop_nulls("cue")
        standard = about.space == IMAGENET and set(conflict["shape"]) <= set(SIXTEEN) and self.aggregation == "mean"
        published = standard and are_published(rows["id"])
        categories = _by_category(conflict)
        found = {measure.name: measure for measure in _measures(conflict, categories, published)}
        panels = tuple(_panels(categories, found["shape_bias"], published))
        caveats = self._caveats(rows, conflict, published)
        return Conclusion(tuple(found.values()), panels, self._verdict(found, published), caveats)

    def _verdict(self, found: Mapping[str, Measure], published: bool) -> Verdict:
        bias, _, shape, texture, neither = found.values()
        if neither.value is None or neither.chance is None:
            return self.say("nothing")
        used = uses(shape, texture, neither)
        if used != "yes" or bias.value is None:
            numbers = {"images": counted(neither.n, "image"), "either": 1 - neither.value, "chance": 1 - neither.chance}
            verdict = self.say("neither_cue" if used == "no" else "unclear", **numbers)
        else:
            shown = {"bias": bias.value, "images": counted(bias.n, "image"), "neither": neither.value}
            verdict = self.say(_side(bias, shape, texture), **shown)
        return verdict + self.say("people", people=known.SHAPE_BIAS["people"]) if published else verdict

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
        if left_out := rows.height - conflict.height:
            caveats.append(f"{counted(left_out, 'image')} whose two cues agree: left out.")
        if published:
            caveats.append(
                "Published values are of the named networks' own weights, computed from their trial-by-trial answers "
                "on the authors' 1,200 conflict images by the pooled rule; other weights of the same architecture "
                "differ."
            )
        if conflict.height:
            caveats.append(SHARED if clusters_of(conflict) else TOO_NARROW)
        return tuple(caveats)


def _side(bias: Measure, shape: Measure, texture: Measure) -> str:
    """Which cue does it go by, of one that uses any? The name of the sentence."""
    by_shape, by_texture = shape.above(shape.chance), texture.above(texture.chance)
    if bias.above(0.5):
        return "shape" if by_shape else "undecided"
    if bias.below(0.5):
        return "texture" if by_texture else "undecided"
    return "alike" if by_shape and by_texture and bias.within(0.5 - ALIKE, 0.5 + ALIKE) else "undecided"


def _measures(conflict: pl.DataFrame, categories: Mapping[str, Measure], published: bool) -> Iterable[Measure]:
    seen: dict[str, Any] = {"clusters": labels_of(conflict), "why": "no image has cues in conflict"}
    chance = {cue: agreement_by_chance(conflict[cue], conflict["decision"]) or 0.0 for cue in ("shape", "texture")}
    either = sum(chance.values())
    decided = [
        stats.share(f"{cue}_decisions", conflict["cue"] == cue, title=f"decisions for the {cue}", chance=p, **seen)
        for cue, p in chance.items()
    ]
    more: dict[str, Any] = {"title": "decisions for neither", "chance": round(1 - either, 12), "per_image": "neither"}
    decided.append(stats.share("neither", conflict["neither"], **more, **seen))
    more = {"why": NO_DECISION if conflict.height else seen["why"]}
    more |= {"published": known.listed(known.SHAPE_BIAS, known.SHAPE_BIAS_SOURCE)} if published else {}
    more |= {"chance": chance["shape"] / either} if either else {}
    bias = _bias(conflict, title="shape bias", headline=True, per_image="shape_of_both", **more)
    shared = clusters_of(conflict)
    yield replace(bias, clusters=shared)
    yield _category_mean(categories, published, used=uses(*decided) == "yes")
    yield from (replace(measure, clusters=shared) for measure in decided)


def _category_mean(categories: Mapping[str, Measure], published: bool, used: bool) -> Measure:
    """A constant answer has a mean, too: 1 for its own category and 0 for all others, which means nothing."""
    values = [measure.value for measure in categories.values() if measure.value is not None]
    more: dict[str, Any] = {"why": "decisions for either cue are not above chance" if values else NO_DECISION}
    if published and used:
        more["published"] = (Published("people", known.CATEGORY_MEAN_OF_PEOPLE, known.SHAPE_BIAS_SOURCE),)
    title = "mean of the categories' shape biases"
    return stats.mean("category_mean", values if used else [], title=title, **more)


def _by_category(conflict: pl.DataFrame) -> dict[str, Measure]:
    """The shape bias of each category of the shape, in alphabetical order."""
    parts = conflict.partition_by("shape", as_dict=True)
    return {str(name): _bias(parts[name,], why=NO_DECISION) for (name,) in sorted(parts)}


def _bias(conflict: pl.DataFrame, **more: Any) -> Measure:
    either = conflict.drop_nulls("shape_of_both")
    return stats.share("shape_bias", either["shape_of_both"], clusters=labels_of(either), **more)


def _panels(categories: Mapping[str, Measure], whole: Measure, published: bool) -> Iterable[Panel]:
    if not categories:
        return
    reference = known.SHAPE_BIAS_BY_CATEGORY.items() if published else ()
    marks = [
        {"who": who, "values": [*(by_category[name] for name in categories), known.SHAPE_BIAS[who]]}
        for who, by_category in reference
    ]
    data = {"unit": "share", "rows": [_dot(*category) for category in categories.items()], "marks": marks}
    data |= {"total": _dot("all images", whole), "ends": ["all texture", "all shape"]}
    caption = "Left of the middle it decides by texture, right of it by shape. Lines: all images together."
    yield Panel("per_category", "dots", "Shape bias by category of the shape", caption, data)


def _dot(label: str, found: Measure) -> dict[str, Any]:
    return dot(label, found.value, found.interval, found.n)
