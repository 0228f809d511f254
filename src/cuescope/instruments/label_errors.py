"""Which labels does it contradict, and are these more than it would contradict anyway?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Observer, Rows, answered, by_id, gallery, typed
from cuescope.methods.confident_learning import Array, Learned, Logits, Probabilities, calibrated
from cuescope.methods.flagged_labels import Flagged
from cuescope.methods.label_error_types import IMAGENET_SYNONYMS, TYPES, odds_away, synonyms_of, types_of
from cuescope.methods.patch_annotator import Annotator

MARGIN = 0.02
"""Flagged shares that differ by less than this are the same."""
TEMPERATURES = {"half": 0.5, "": 1.0, "double": 2.0}
"""At which factors of the calibrated temperature flags are counted."""
KEPT = 32
"""Logits of an image that are kept, the largest ones."""


_FOUND = (
    "It contradicts {flagged:.1%} of {n:,} labels; without any error its own probabilities lead to {expected:.1%} "
    "({low:.1%} to {high:.1%}): "
)


CAVEATS = (
    "The classifier must not have been trained on these images: of its own training images it is sure whatever their "
    "labels are, which hides errors. Where it agrees with a wrong label, nothing is flagged.",
    "A flag is no error, and the share of flags is not that of errors: of ImageNet's validation set about 6 % were "
    "flagged and confirmed, and samples of unflagged labels raise the estimate to about 20 %.",
    "That labels are confused by class, whatever the image, is assumed; types are suspected by rules of ours.",
)


@dataclass(frozen=True)
class LabelErrors(Instrument, version=2, order=25, needs={"logits", "label"}):
    """Labels that look wrong to a classifier that has not seen the images, beside those that would look so anyway.

    A label is flagged by the rate of its pair of classes (Northcutt et al. 2021). Classes that overlap are flagged,
    too: so labels are drawn from the classifier's own probabilities and flagged again, which says how many are expected
    where no label is wrong. Probabilities are calibrated first, by a temperature and a share of labels at random, and
    all is asked again at half and at twice that temperature. Each flag has a suspected type, by rules of ours.

    >>> LabelErrors(least_images=10).shown
    12
    """

    least_images: int = 5
    """Images that a class must have; the others are left out."""
    listed: int = 200
    """Flagged labels to list, the most contradicted ones."""
    shown: int = 12
    """Images to show of them."""
    synonyms: str = IMAGENET_SYNONYMS
    """Pairs of class indices that mean the same: a>b, a label a is as good as b; a=b, either way. The default ones
    count where the classes are ImageNet's."""

    question = "Which labels look wrong to it, more than it would contradict anyway?"
    headline = Headline(
        "Do too many labels look wrong?", "excess", "more labels doubted than expected, in points", "fewer", "more"
    )
    reference = (
        "Northcutt, Jiang and Chuang 2021, Confident Learning; Beyer et al. 2020, Are we done with ImageNet?; "
        "Vasudevan et al. 2022, When does dough become a bagel? (types)"
    )
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        **typed(pl.Float64, "margin rest"),
        "classes": pl.List(pl.Int32),
        **typed(pl.List(pl.Float64), "values away"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no class has enough labels", "Whether labels are wrong cannot be said: {why}."
        ),
        "chance": Sentence(
            "cannot tell",
            "the interval of the agreement with the labels does not lie above chance",
            "It agrees with {agrees:.1%} of the labels, by chance with {chance:.1%}: what it contradicts says nothing.",
        ),
        "more": Sentence(
            "yes",
            "at half, at once and at twice the calibrated temperature more is flagged than in 97.5 % of the draws",
            _FOUND + "either some of these labels or the classifier is wrong.",
            "Look at the images that it lists; train on what an annotator says of each crop.",
            "cuescope cure {model} --images {images} --for labels",
            clause="finds labels that look wrong",
        ),
        "if_sure": Sentence(
            "cannot tell",
            "at the calibrated temperature more is flagged than in 97.5 % of the draws, but not at half or twice of it",
            _FOUND + "more, unless it is half or twice as sure as it seems.",
            "Look at the images that it lists.",
        ),
        "expected": Sentence(
            "no",
            "no more is flagged than in 97.5 % of the draws, and what is flagged lies within MARGIN of 95 % of them",
            _FOUND + "no more than overlapping classes explain.",
        ),
        "cannot_tell": Sentence("cannot tell", "none of these", _FOUND + "whether labels are wrong stays open."),
        "types": Sentence("yes", "more is flagged than expected", "Suspected types: {types}."),
    }

    def __post_init__(self) -> None:
        if self.least_images < 2 or self.listed < 0 or not 0 <= self.shown <= 12:
            raise ValueError("least_images must be at least 2, listed at least 0, shown 0 to 12")
        synonyms_of(self.synonyms)

    def start(self, classifier: Classifier) -> Observer:
        annotator = Annotator.of(classifier) if classifier.dense else None
        return Observer(partial(self._observe, annotator), facts={"parts": annotator is not None})

    def _observe(self, annotator: Annotator | None, batch: Batch) -> Rows:
        """Per image: its largest logits, less the largest, what is left of the others, and where it contradicts the
        label the log odds of these classes away from the place of its answer.
        """
        logits = batch.logits.double()
        values, classes = logits.topk(min(KEPT, logits.shape[1]), 1)
        # In the order of the classes where logits are equal.
        rest = logits.scatter(1, classes, -torch.inf).logsumexp(1) - np.log(max(1, logits.shape[1] - values.shape[1]))
        own = logits.gather(1, batch.labels.clamp_min(0)[:, None])
        away: list[list[float] | None] = [None] * len(batch)
        wrong = [i for i, label in enumerate(batch.labels.tolist()) if 0 <= label != int(classes[i, 0])]
        if annotator is not None and wrong:
            found = odds_away(annotator.logits(batch.pixels[wrong]), classes[wrong])
            for i, odds in zip(wrong, found.tolist(), strict=True):
                away[i] = odds
        rows = answered(batch) | {"margin": (own - values[:, :1])[:, 0].tolist(), "classes": classes.tolist()}
        rows |= {"values": (values - values[:, :1]).tolist(), "rest": (rest - values[:, 0]).tolist(), "away": away}
        return self.table(rows)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = rows.drop_nulls("label")
        known = labeled.filter(pl.len().over("label") >= self.least_images)
        if not known.height:
            why = f"no class has {self.least_images} labeled images" if rows.height else "no image was seen"
            none = Measure("flagged", None, "share", title="labels that are flagged", why=why, headline=True)
            beyond = Measure("excess", None, "difference", title="flagged beyond the expected", why=why)
            return Conclusion((none, beyond), verdict=self.say("nothing", why=why))
        labels, logits = known["label"].to_numpy(), _logits(known, len(about.classes))
        temperature, _ = calibrated(logits, labels)
        asked = {name: Flagged.of(logits.at(temperature * t), labels) for name, t in TEMPERATURES.items()}
        agrees, p, learned = _agreement(known), asked[""].p, asked[""].learned
        measures = [m for name, one in asked.items() for m in one.measures(name)]
        names = {m.name: m for m in measures}
        synonyms = synonyms_of(self.synonyms)
        if about.space != IMAGENET and self.synonyms == IMAGENET_SYNONYMS:
            synonyms = frozenset()
        types = types_of(p, labels, learned, _probabilities_away(known, temperature), synonyms)
        of_flagged, why = types[types >= 0], "no label is flagged"
        by_type = [
            stats.share(kind, of_flagged == i, why=why, title=f"of them, suspected: {_said(kind)}")
            for i, kind in enumerate(TYPES)
        ]
        verdict = self._verdict(names, agrees, by_type)
        main, others = measures[3:6], (*measures[:3], *measures[6:])
        ordered = [*main, asked[""].noise(labels), agrees, *by_type, *others]
        panels = tuple(self._panels(known, p, learned, types, about.classes))
        caveats = tuple(self._caveats(labeled.height - known.height, names, about, bool(synonyms)))
        return Conclusion(tuple(ordered), panels, verdict, caveats)

    def _verdict(self, found: Mapping[str, Measure], agrees: Measure, by_type: list[Measure]) -> Verdict:
        if not agrees.above(agrees.chance):
            return self.say("chance", agrees=agrees.value, chance=agrees.chance)
        flagged, (low, high) = found["flagged"], found["expected"].interval or (0.0, 1.0)
        said = {"flagged": flagged.value, "n": flagged.n, "expected": found["expected"].value, "low": low, "high": high}
        if all(found[f"excess{'_' * bool(name)}{name}"].above(0) for name in TEMPERATURES):
            types = ", ".join(f"{m.count:,} {_said(m.name)}" for m in by_type if m.count)
            return self.say("more", **said) + self.say("types", types=types)
        if found["excess"].above(0):
            return self.say("if_sure", **said)
        if found["excess"].within(-MARGIN, MARGIN):
            return self.say("expected", **said)
        return self.say("cannot_tell", **said)

    def _panels(
        self, known: pl.DataFrame, p: Probabilities, learned: Learned, types: Array, names: Sequence[str]
    ) -> Iterator[Panel]:
        flagged = np.flatnonzero(learned.flagged >= 0)
        if not len(flagged) or not self.listed:
            return
        labels, said = known["label"].to_numpy(), np.maximum(learned.flagged, 0)
        own, other = p.of_class(labels), p.of_class(said)
        order = flagged[np.argsort((own - other)[flagged], kind="stable")][: self.listed].tolist()
        columns = {
            "labeled": [names[int(labels[i])] for i in order],
            "its probability": own[order].round(4).tolist(),
            "suspected": [names[int(said[i])] for i in order],
            "that one's": other[order].round(4).tolist(),
            "type": [_said(TYPES[types[i]]) for i in order],
            "image": known["id"].gather(order).to_list(),
        }
        data = {"columns": list(columns), "rows": [list(row) for row in zip(*columns.values(), strict=True)]}
        more = f" The first {self.listed} of {len(flagged):,}." if len(flagged) > self.listed else ""
        caption = f"To be looked at, the most contradicted ones first.{more}"
        yield Panel("worklist", "table", "Labels that it contradicts", caption, data)

    def _caveats(self, lost: int, found: Mapping[str, Measure], about: About, synonyms: bool) -> Iterator[str]:
        yield from CAVEATS
        flags = " and ".join(
            f"{found[f'flagged_{name}'].value or 0:.1%} ({found[f'expected_{name}'].value or 0:.1%} expected)"
            for name in ("half", "double")
        )
        yield f"At half and at twice the calibrated temperature the flagged shares are {flags}."
        if not about.facts.get("parts"):
            yield "It has no logits of the parts of an image, so several objects are not told from other types."
        if synonyms and self.synonyms == IMAGENET_SYNONYMS:
            yield "ImageNet's synonyms are of a public copy of Vasudevan et al. 2022, not verified with the paper."
        if len(about.classes) > KEPT:
            yield f"Of each image's logits the {KEPT} largest are kept; the others count as if they were alike."
        if lost:
            yield f"{lost:,} images of classes with fewer than {self.least_images} are left out."

    def examples(self, rows: Rows) -> list[str]:
        """The images whose labels it contradicts most, by the logits."""
        return (
            rows.filter(pl.col("margin") < 0).drop_nulls("label").sort("margin", "id")["id"].head(self.shown).to_list()
        )

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)

        def caption_of(name: str) -> str:
            return f"labeled {names[row_of[name]['label']]}; it says {names[row_of[name]['predicted']]}"

        if figures := gallery(batch, self.examples(rows), caption_of):
            caption = "Is the model wrong, or the label?"
            yield Panel("contradicted", "images", "Labels that it contradicts most", caption, figures=figures)


def _logits(known: pl.DataFrame, outcomes: int) -> Logits:
    classes, values = (np.array(known[name].to_list()) for name in ("classes", "values"))
    return Logits(classes, values, known["rest"].to_numpy(), outcomes)


def _probabilities_away(known: pl.DataFrame, temperature: float) -> Array:
    lacking = [float("nan")] * len(known["classes"][0])
    odds = np.array([lacking if one is None else one for one in known["away"].to_list()])
    return 1 / (1 + np.exp((-odds / temperature).clip(-700, 700)))


def _agreement(known: pl.DataFrame) -> Measure:
    """How often does it agree with the labels? By chance as often as shuffled answers would."""
    label, predicted = known["label"].to_numpy(), known["predicted"].to_numpy()
    size = int(max(label.max(), predicted.max())) + 1
    chance = float(np.bincount(label, minlength=size) @ np.bincount(predicted, minlength=size)) / len(label) ** 2
    return stats.share("agreement", label == predicted, title="labels that it agrees with", chance=chance)


def _said(kind: str) -> str:
    return kind.replace("_", " ")
