"""Which labels of these images contradict what its features tell of the other images?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Rows, by_id, gallery
from cuescope.instruments.featured import Featured
from cuescope.methods.confident_learning import calibrated
from cuescope.methods.flagged_labels import Flagged
from cuescope.methods.probing import FOLDS, Labeled, told_of

MARGIN = 0.02
"""Flagged shares that differ by less than this are the same."""
TEMPERATURES = {"half": 0.5, "": 1.0, "double": 2.0}
"""At which factors of the calibrated temperature flags are counted."""
KEPT = 32
"""Scores of an image that are kept, the largest ones."""
CAVEATS = (
    "A flag is no error: the images are to be looked at. Where read-outs of the other images agree with a wrong label, "
    "as where all of one kind are labeled wrong, nothing is flagged.",
    "That labels are confused by class, whatever the image, is assumed.",
)
_FOUND = (
    "Read-outs of its features contradict {flagged:.1%} of {n:,} labels; without any error they would contradict "
    "{expected:.1%} ({low:.1%} to {high:.1%}): "
)


@dataclass(frozen=True)
class LabelIssues(Featured, version=2, order=48, needs={"features", "label"}):
    """Labels of your own images that look wrong to read-outs which have not seen these images.

    Multinomial logistic regression of the last layer before the answer learns from four fifths of the images and gives
    the others probabilities; confident learning flags labels by the rate of each pair of classes (Northcutt et al.
    2021). Classes that overlap are flagged, too: so labels are drawn from the probabilities themselves and flagged
    again. The classes are the images' own, and the classifier may have seen the images: what it was trained to answer
    is not used.

    >>> LabelIssues().listed
    200
    """

    layer: str = ""
    """Which layer; by default the last before the answer."""
    listed: int = 200
    """Flagged labels to list, the most contradicted ones."""
    shown: int = 12
    """Images to show of them."""

    question = "Which labels of these images contradict what its features tell of the others?"
    reference = "Northcutt, Jiang and Chuang 2021, Confident Learning; Zeiler and Fergus 2014, section 5 (read-outs)"
    concluded = {"suspected": pl.Int32, "own": pl.Float64, "other": pl.Float64, "said": pl.String}
    sentences = {
        "nothing": Sentence("cannot tell", "no two classes can be learned", "Labels cannot be doubted: {why}."),
        "chance": Sentence(
            "cannot tell",
            "the interval of the agreement with the labels does not lie above chance",
            "Its features tell {agrees:.1%} of the labels, {chance:.1%} by chance: what they contradict says nothing.",
        ),
        "more": Sentence(
            "yes",
            "at half, at once and at twice the calibrated temperature more is flagged than in 97.5 % of the draws",
            _FOUND + "some of these labels look wrong.",
            "Look at the images that it lists.",
            clause="finds labels that look wrong",
        ),
        "if_sure": Sentence(
            "cannot tell",
            "at the calibrated temperature more is flagged than in 97.5 % of the draws, but not at half or twice of it",
            _FOUND + "more, unless they are half or twice as sure as it seems.",
            "Look at the images that it lists.",
        ),
        "expected": Sentence(
            "no",
            "no more is flagged than in 97.5 % of the draws, and what is flagged lies within MARGIN of 95 % of them",
            _FOUND + "no more than overlapping classes explain.",
        ),
        "cannot_tell": Sentence("cannot tell", "none of these", _FOUND + "whether labels are wrong stays open."),
    }

    def __post_init__(self) -> None:
        if self.listed < 0 or not 0 <= self.shown <= 12:
            raise ValueError("listed must be at least 0, shown 0 to 12")
        super().__post_init__()

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = Labeled.of(rows["label"].to_list())
        if labeled.why:
            none = Measure("flagged", None, "share", title="labels that are flagged", why=labeled.why, headline=True)
            return Conclusion((none,), verdict=self.say("nothing", why=labeled.why))
        (features,), labels = self.standard(rows, about, labeled.images), labeled.classes
        told = told_of(features, labels, "softmax", self.seed, kept=KEPT)
        logits = told.logits
        assert logits is not None
        temperature, _ = calibrated(logits, labels)
        asked = {name: Flagged.of(logits.at(temperature * t), labels) for name, t in TEMPERATURES.items()}
        main = asked[""]
        chance = (
            float(np.bincount(labels) @ np.bincount(told.answers, minlength=len(labeled.labels))) / len(labels) ** 2
        )
        agrees = stats.share("agreement", told.answers == labels, title="labels that read-outs tell", chance=chance)
        measures = {m.name: m for name, one in asked.items() for m in one.measures(name)}
        ordered = [measures.pop(name) for name in ("flagged", "expected", "excess")]
        found = {m.name: m for m in (*ordered, main.noise(labels), agrees, *measures.values())}
        flagged = main.learned.flagged
        own, other = main.p.of_class(labels), main.p.of_class(np.maximum(flagged, 0))
        each = {
            "id": rows["id"].gather(labeled.images).to_list(),
            "suspected": [int(labeled.labels[k]) if k >= 0 else None for k in flagged],
            "own": own.tolist(),
            "other": [p if k >= 0 else None for p, k in zip(other.tolist(), flagged, strict=True)],
        }
        numbers = zip(labels, flagged, own, other, strict=True)
        names = [about.classes[label] for label in labeled.labels]
        each["said"] = [
            f"labeled {names[label]} ({p:.0%}), looks like {names[k]} ({q:.0%})" if k >= 0 else None
            for label, k, p, q in numbers
        ]
        panels = tuple(self._panels(self.with_outcomes(rows, Conclusion(each=each)), about.classes))
        caveats = [*CAVEATS, f"Read-outs of {FOLDS} parts, from {about.facts['layers'][0]['name']}."]
        caveats += labeled.left_out(rows["label"].to_list(), about.classes)
        return Conclusion(tuple(found.values()), panels, self._verdict(found, agrees), tuple(caveats), each)

    def _verdict(self, found: Mapping[str, Measure], agrees: Measure) -> Verdict:
        if not agrees.above(agrees.chance):
            return self.say("chance", agrees=agrees.value, chance=agrees.chance)
        flagged, (low, high) = found["flagged"], found["expected"].interval or (0.0, 1.0)
        said = {"flagged": flagged.value, "n": flagged.n, "expected": found["expected"].value, "low": low, "high": high}
        if all(found[f"excess{'_' * bool(name)}{name}"].above(0) for name in TEMPERATURES):
            return self.say("more", **said)
        if found["excess"].above(0):
            return self.say("if_sure", **said)
        return self.say("expected" if found["excess"].within(-MARGIN, MARGIN) else "cannot_tell", **said)

    def _panels(self, rows: Rows, names: Sequence[str]) -> Iterator[Panel]:
        doubted = _doubted(rows)
        if not doubted.height or not self.listed:
            return
        columns = ["labeled", "its probability", "suspected", "that one's", "image"]
        table = [
            [names[row["label"]], round(row["own"], 4), names[row["suspected"]], round(row["other"], 4), row["id"]]
            for row in doubted.head(self.listed).iter_rows(named=True)
        ]
        more = f" The first {self.listed} of {doubted.height:,}." if doubted.height > self.listed else ""
        caption = f"To be looked at, the most contradicted ones first.{more}"
        yield Panel("worklist", "table", "Labels that look wrong", caption, {"columns": columns, "rows": table})

    def examples(self, rows: Rows) -> list[str]:
        """The images whose labels are contradicted most."""
        return _doubted(rows)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        row_of = by_id(rows)
        if figures := gallery(batch, self.examples(rows), lambda name: f"{name}: {row_of[name]['said']}"):
            caption = "Is the label wrong?"
            yield Panel("doubted", "images", "Labels that look wrong, the first of the list", caption, figures=figures)


def _doubted(rows: Rows) -> Rows:
    return rows.drop_nulls("suspected").sort(pl.col("own") - pl.col("other"), "id")
