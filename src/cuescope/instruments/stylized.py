"""Does it still know the class when the shapes are kept and the texture is another image's?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import published as known
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Figure, Inset, Measure, Panel
from cuescope.core.ranks import Ranks
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.readers.imagenet import real_position
from cuescope.instruments.base import Instrument, Rows, by_id, typed, where_labeled
from cuescope.methods.cue_conflict import EVEN
from cuescope.methods.versions import in_frame_of, logits_in_frame_of, versions_of

NAMES = {"clean": "the same images as they are", "stylized": "stylized images"}
MARGIN = 0.1
"""Of the accuracy on clean images above chance: what is surely lost less keeps it, what surely keeps less has lost
all."""
KNOWS = "it recognizes {stylized:.1%} of {images} in the texture of others, and {clean:.1%} of them as they are."


@dataclass(frozen=True)
class Stylized(Instrument, version=1, order=75, needs={"logits", "label", "stylized"}):
    """Accuracy on stylized images beside that on the same images as they are, in the same frame (Geirhos et al. 2019).

    A stylized image has the shapes of its source and the texture of another image, which says nothing of the class
    (`cuescope make stylized`). A classifier that goes by local texture loses nearly all, one that goes by shape little.
    Equal logits share their ranks. Chance is what the same answers would give if the labels were dealt out at random.

    >>> Stylized(shown=4).shown
    4
    """

    shown: int = 8
    """Images to show beside their stylized versions."""

    question = "Does it still know an image in the texture of another?"
    reference = "Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture, table 1"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label clean_predicted stylized_predicted"),
        **typed(pl.Float64, "clean clean_top5 stylized stylized_top5 lost"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "no image has a label and a stylized version",
            "No image has a label and a stylized version.",
            "Make stylized images.",
            "cuescope make stylized {images} stylized --styles {styles}",
        ),
        "unrecognized": Sentence(
            "cannot tell",
            "the interval of the clean accuracy does not lie above chance",
            "Nothing can be lost by stylizing: it recognizes {clean:.1%} of {images} as they are, with {chance:.1%} by "
            "chance.",
        ),
        "keeps": Sentence(
            "yes",
            "clean accuracy lies above chance, and the whole interval of what is lost below MARGIN of what it has "
            "above chance",
            "It does not need their own texture: " + KNOWS,
        ),
        "loses_all": Sentence(
            "no",
            "clean accuracy lies above chance, and the whole interval of the stylized one less than MARGIN of that "
            "above chance, which is at most EVEN",
            "Stylized, it recognizes them no more than by chance: " + KNOWS,
            "Train on stylized images, in which texture tells nothing.",
            "cuescope cure {model} --images {images} --for shape_bias",
        ),
        "loses": Sentence(
            "no",
            "clean accuracy lies above chance, that of what is lost above 0, and neither of these two is so",
            "It loses {lost:.1f} points by stylizing: " + KNOWS,
            "Train on stylized images, in which texture tells nothing.",
            "cuescope cure {model} --images {images} --for shape_bias",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "clean accuracy lies above chance, and the interval of what is lost holds 0 and reaches MARGIN, or there "
            "is none",
            "Whether it loses anything by stylizing cannot be said: " + KNOWS,
            "give more images",
        ),
    }

    def __post_init__(self) -> None:
        if self.shown < 0:
            raise ValueError("shown must be at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the label, and what is said of it and of its stylized version, both in the version's frame."""
        stylized = classifier.logits(classifier.prepare(versions_of(batch, "stylized")))
        columns: dict[str, Any] = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        labels = {str(k): (k,) for k in sorted(set(batch.labels.clamp(min=0).tolist()))}
        at = [list(labels).index(str(max(0, k))) for k in batch.labels.tolist()]
        for name, logits in (("clean", logits_in_frame_of(classifier, batch, "stylized")), ("stylized", stylized)):
            columns[f"{name}_predicted"] = logits.argmax(1).tolist()
            ranks = Ranks.of(logits, labels)
            for suffix, k in (("", 1), ("_top5", 5)):
                columns[name + suffix] = where_labeled(batch, ranks.among_first(k)[np.arange(len(at)), at])
        pairs = zip(columns["clean"], columns["stylized"], strict=True)
        columns["lost"] = [None if a is None else a - b for a, b in pairs]
        return self.table(columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = rows.drop_nulls("label")
        published = about.space == IMAGENET and all(real_position(name) is not None for name in rows["id"])
        clean, stylized = (_share(rows, name, headline=name == "stylized") for name in NAMES)
        more: dict[str, Any] = {"title": "accuracy lost by stylizing", "why": NOTHING, "headline": True}
        lost = stats.difference("lost", rows["clean"], rows["stylized"], per_image="lost", **more)
        measures = [stylized, clean, lost]
        if len(about.classes) > 10:
            measures += [_top5(rows, name, place, published) for place, name in enumerate(NAMES)]
        caveat = (
            "Stylizing takes away texture and color, and blurs shapes too: a loss alone does not show that it goes by "
            "texture. How much is lost depends on the styles and the stylizer: compare classifiers on the same images. "
            "On Stylized-ImageNet the top-5 accuracy of a ResNet-50 fell from 92.9 to 16.4 %, of one trained on it "
            "from 82.6 to 79.0 %, of a BagNet-9 from 70.0 to 1.4 % (Geirhos et al. 2019)."
        )
        return Conclusion(tuple(measures), (), self._verdict(clean, stylized, lost), (caveat,))

    def _verdict(self, clean: Measure, stylized: Measure, lost: Measure) -> Verdict:
        if clean.value is None or stylized.value is None or lost.value is None or clean.chance is None:
            return self.say("nothing")
        images = counted(clean.n, "image")
        if not clean.above(clean.chance):
            return self.say("unrecognized", clean=clean.value, images=images, chance=clean.chance)
        both: dict[str, Any] = {"clean": clean.value, "stylized": stylized.value, "images": images}
        little, chance = MARGIN * (clean.value - clean.chance), stylized.chance or 0.0
        if lost.below(little):
            return self.say("keeps", **both)
        if chance <= EVEN and stylized.below(chance + little):
            return self.say("loses_all", **both)
        return self.say("loses", lost=100 * lost.value, **both) if lost.above(0) else self.say("cannot_tell", **both)

    def examples(self, rows: Rows) -> list[str]:
        """One image of each of the first classes."""
        return rows.unique("label", keep="first", maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)
        both, figures = [of(batch, "stylized") for of in (in_frame_of, versions_of)], []
        for name, clean, stylized in zip(batch.ids, *map(classifier.prepare, both), strict=True):
            first, then = (names[row_of[name][f"{kind}_predicted"]] for kind in ("clean", "stylized"))
            inset = Inset(f"stylized: {then}", to_image(stylized))
            figures.append(Figure(f"clean: {first}", to_image(clean), insets=(inset,)))
        caption = "What it says to an image and to its stylized version."
        yield Panel("stylized", "images", "What is left in another texture", caption, figures=tuple(figures))


NOTHING = "no image has a label and a stylized version"


def _share(rows: pl.DataFrame, name: str, headline: bool) -> Measure:
    chance = agreement_by_chance(rows["label"], rows[f"{name}_predicted"])
    more: dict[str, Any] = {"title": f"accuracy on {NAMES[name]}", "chance": chance, "headline": headline}
    return stats.mean(name, rows[name], "share", why=NOTHING, better="higher", per_image=name, **more)


def _top5(rows: pl.DataFrame, name: str, place: int, published: bool) -> Measure:
    more: dict[str, Any] = {"title": f"top-5 accuracy on {NAMES[name]}", "better": "higher", "why": NOTHING}
    if published and rows.height:
        values: Sequence[tuple[str, tuple[float, float]]] = tuple(known.STYLIZED_TOP5.items())
        more["published"] = known.listed({who: both[place] for who, both in values}, known.STYLIZED_SOURCE)
    return stats.mean(f"{name}_top5", rows[f"{name}_top5"], "share", **more)
