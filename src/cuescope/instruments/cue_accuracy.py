"""Which single cue is enough for it?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores, decision_members
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, by_id, gallery, typed

MARGIN = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""

TITLES = {cue: cue for cue in known.CUES} | {"original": "original images", "greyscale": "greyscale images"}


@dataclass(frozen=True)
class CueAccuracy(Instrument, version=1, order=40, needs={"logits", "shown"}):
    """Accuracy on images that show one cue of an object and nothing else: its silhouette, its edges, its texture.

    The images lie in folders named by what they show, as original, greyscale, silhouettes, edges and textures, and
    are named by category. The decision is that of shape_bias (Geirhos et al. 2019, figures 2 and 5).

    >>> CueAccuracy(aggregation="max").aggregation
    'max'
    """

    aggregation: Literal["mean", "sum", "max"] = "mean"
    """How the probabilities of a category's classes become one, as in shape_bias."""

    question = "Which single cue is enough for it?"
    reference = "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, figures 2 and 5"
    columns = {**typed(pl.String, "id shown category decision"), "right": pl.Boolean}
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no image shows one cue alone", "Nothing was seen that shows one cue alone."
        ),
        "recognizes": Sentence(
            "yes", "on each kind listed, the whole interval lies above chance", "It recognizes {accuracies}."
        ),
        "not": Sentence(
            "no",
            "on each kind listed, the whole interval lies less than MARGIN above chance",
            "{Kinds} tell it nothing: it is right about {accuracies}, with {chance:.1%} by chance.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "on each kind listed, the interval holds chance and reaches beyond MARGIN above it, or there is none",
            "Whether {kinds} tell it anything cannot be said from so few images: it is right about {accuracies}, with "
            "{chance:.1%} by chance.",
        ),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: what it shows, the category it shows, and the one decided for."""
        members = decision_members(classifier.classes, sorted({s.cues["category"] for s in batch.samples}))
        names, scores = list(members), category_scores(batch.logits, members, self.aggregation)
        decisions = [names[k] for k in scores.argmax(1).tolist()]
        shown, category = ([s.cues[key] for s in batch.samples] for key in ("shown", "category"))
        right = [d == c for d, c in zip(decisions, category, strict=True)]
        return self.table(
            {"id": batch.ids, "shown": shown, "category": category, "decision": decisions, "right": right}
        )

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        standard = about.space == IMAGENET and set(rows["category"]) <= set(SIXTEEN) and self.aggregation == "mean"
        chance = 1 / (len(SIXTEEN) if standard else max(1, len(about.classes)))
        measures = tuple(_measure(rows.filter(shown=shown), shown, chance, standard) for shown in known.CUES)
        panels = tuple(_panels(measures, standard))
        return Conclusion(measures, panels, self._verdict(measures, chance), _caveats(standard))

    def _verdict(self, measures: Sequence[Measure], chance: float) -> Verdict:
        said: dict[str, list[Measure]] = {"recognizes": [], "not": [], "cannot_tell": []}
        for measure in measures:
            if measure.value is not None:
                nothing = "not" if measure.below(chance + MARGIN) else "cannot_tell"
                said["recognizes" if measure.above(chance) else nothing].append(measure)
        verdicts = []
        for name, found in said.items():
            accuracies = ", ".join(f"{m.value:.1%} of {m.n} {TITLES[m.name]}" for m in found)
            listed = " and ".join(TITLES[m.name] for m in found)
            which = {"not": {"Kinds": listed.capitalize()}, "cannot_tell": {"kinds": listed}}.get(name, {})
            kinds = which | {"chance": chance} if which else {}
            if found:
                verdicts.append(self.say(name, accuracies=accuracies, **kinds))
        return sum(verdicts[1:], verdicts[0]) if verdicts else self.say("nothing")

    def examples(self, rows: Rows) -> list[str]:
        """Of each kind of image the first that is right and the first that is wrong."""
        first = rows.sort("id").unique(["shown", "right"], keep="first", maintain_order=True)
        return first["id"].to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of = by_id(rows)

        def caption_of(name: str) -> str:
            return "{shown}, {category}: it says {decision}".format(**row_of[name])

        ids = sorted(batch.ids, key=lambda name: known.CUES.index(row_of[name]["shown"]))
        figures = gallery(batch, ids, caption_of)
        caption = "Of each kind one that it names and one that it misses."
        yield Panel("shown", "images", "What it sees", caption, figures=figures)


def _measure(rows: pl.DataFrame, shown: str, chance: float, standard: bool) -> Measure:
    beside: dict[str, Any] = {"chance": chance} if rows.height else {}
    if rows.height and standard:
        values = {who: by_cue[shown] for who, by_cue in known.CUE_ACCURACY.items()}
        beside["published"] = known.listed(values, known.CUE_ACCURACY_SOURCE)
    title, headline = f"accuracy on {TITLES[shown]}", shown in ("silhouettes", "textures")
    why = "there are no such images"
    return stats.share(shown, rows["right"], why=why, title=title, headline=headline, **beside)


def _panels(measures: Sequence[Measure], standard: bool) -> Iterable[Panel]:
    found = [m for m in measures if m.value is not None]
    if not found:
        return
    reference = known.CUE_ACCURACY.items() if standard else ()
    marks = [{"who": who, "values": [by_cue[m.name] for m in found]} for who, by_cue in reference]
    caption = "Original images show all cues; silhouettes and edges show shape alone, textures texture alone."
    caption += " SIN: trained on Stylized-ImageNet." if standard else ""
    data = {"unit": "share", "rows": [dot(TITLES[m.name], m.value, m.interval, m.n) for m in found], "marks": marks}
    yield Panel("by_cue", "dots", "Accuracy by what is shown", caption, data)


def _caveats(standard: bool) -> tuple[str, ...]:
    if not standard:
        return ()
    return (
        "Published values are of the authors' own images (160 of each kind, 48 textures), which were chosen so that "
        "four networks are right about the photographs and the textures; other images are easier or harder.",
        "The authors' networks decided by an aggregation that their README calls slightly different from the mean.",
    )
