"""Which single cue is enough for it?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET, SIXTEEN, category_scores
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.core.published.stimuli import are_published_objects
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, by_id, gallery, typed
from cuescope.methods.cue_conflict import EVEN, categories

MARGIN = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""

TITLES = {cue: cue for cue in known.CUES} | {"original": "original images", "greyscale": "greyscale images"}


@dataclass(frozen=True)
class CueAccuracy(Instrument, version=2, order=40, needs={"logits", "shown"}):
    """Accuracy on images that show one cue of an object and nothing else: its silhouette, its edges, its texture.

    The images lie in folders named by what they show, as original, greyscale, silhouettes, edges and textures, and
    are named by category. The decision is that of shape_bias (Geirhos et al. 2019, figures 2 and 5). Chance is what the
    same decisions would give if the categories were dealt out among the images at random.

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
            "on each kind listed, the whole interval lies less than MARGIN above chance, which is at most EVEN",
            "It does not recognize {kinds}: it is right about {accuracies}.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "on each kind listed, neither of the two may be said, or there is no interval",
            "Whether it recognizes {kinds} cannot be said from these images: it is right about {accuracies}.",
            "give more images of that kind, of several categories alike",
        ),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: what it shows, the category it shows, and the one decided for."""
        members, named = categories(classifier.classes, (s.cues["category"] for s in batch.samples))
        names, scores = list(members), category_scores(batch.logits, dict(members), self.aggregation)
        decisions = [names[k] for k in scores.argmax(1).tolist()]
        shown, category = [s.cues["shown"] for s in batch.samples], [named[s.cues["category"]] for s in batch.samples]
        right = [d == c for d, c in zip(decisions, category, strict=True)]
        return self.table(
            {"id": batch.ids, "shown": shown, "category": category, "decision": decisions, "right": right}
        )

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        standard = about.space == IMAGENET and set(rows["category"]) <= set(SIXTEEN) and self.aggregation == "mean"
        measures = tuple(_measure(rows.filter(shown=shown), shown, standard) for shown in known.CUES)
        return Conclusion(measures, tuple(_panels(measures)), self._verdict(measures), _caveats(measures))

    def _verdict(self, measures: Sequence[Measure]) -> Verdict:
        said: dict[str, list[Measure]] = {"recognizes": [], "not": [], "cannot_tell": []}
        for measure in measures:
            if measure.value is not None:
                said[_outcome(measure)].append(measure)
        verdicts = []
        for name, found in said.items():
            numbers = (f"{m.value:.1%} of {m.n:,} {TITLES[m.name]} ({m.chance:.1%} by chance)" for m in found)
            kinds = {} if name == "recognizes" else {"kinds": _listed(found)}
            if found:
                verdicts.append(self.say(name, accuracies=", ".join(numbers), **kinds))
        return sum(verdicts, UNSAID) if verdicts else self.say("nothing")

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


def _outcome(measure: Measure) -> str:
    if measure.above(measure.chance):
        return "recognizes"
    chance = 1.0 if measure.chance is None else measure.chance
    return "not" if chance <= EVEN and measure.below(chance + MARGIN) else "cannot_tell"


def _measure(rows: pl.DataFrame, shown: str, standard: bool) -> Measure:
    beside: dict[str, Any] = {"chance": agreement_by_chance(rows["category"], rows["decision"])}
    if standard and are_published_objects(rows["id"], textures=shown == "textures"):
        values = {who: by_cue[shown] for who, by_cue in known.CUE_ACCURACY.items()}
        beside["published"] = known.listed(values, known.CUE_ACCURACY_SOURCE)
    title, headline = f"accuracy on {TITLES[shown]}", shown in ("silhouettes", "textures")
    why = "there are no such images"
    return stats.share(shown, rows["right"], why=why, title=title, headline=headline, **beside)


def _panels(measures: Sequence[Measure]) -> Iterable[Panel]:
    found = [m for m in measures if m.value is not None]
    if not found:
        return
    published = [{p.who: p.value for p in m.published} for m in found]
    marks = [{"who": who, "values": [p.get(who) for p in published]} for who in known.CUE_ACCURACY if any(published)]
    caption = "Silhouettes and edges show shape alone, textures texture alone."
    data = {"unit": "share", "rows": [dot(TITLES[m.name], m.value, m.interval, m.n) for m in found], "marks": marks}
    yield Panel("by_cue", "dots", "Accuracy by what is shown", caption, data)


def _listed(found: Sequence[Measure]) -> str:
    return " and ".join(TITLES[m.name] for m in found)


def _caveats(measures: Sequence[Measure]) -> tuple[str, ...]:
    if not any(measure.published for measure in measures):
        return ()
    return (
        "The authors' images were chosen so that four networks are right about the photographs and the textures.",
        "The authors' networks decided by an aggregation that their README calls slightly different from the mean.",
    )
