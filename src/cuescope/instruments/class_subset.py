"""Is it right among the classes that these images have?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Measure, Panel, Published
from cuescope.core.published.subsets import top1
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Rows, where_labeled

MARGIN = 0.02
"""An accuracy that is surely less than this above chance is no better than chance."""
LISTED = 60
Subset = Literal["present", "imagenet-a", "imagenet-r"]


@dataclass(frozen=True)
class ClassSubset(Instrument, version=2, order=21, needs={"logits", "label"}):
    """Top-1 accuracy among the classes that a set of images has, as ImageNet-A and ImageNet-R are scored.

    Of the logits those of these classes are kept, and the largest is the answer: not the largest of all. The folders of
    ImageNet-A, -R and -Sketch are named by WordNet id, those of ImageNetV2 by index; each is matched with the
    classes of the classifier by its name. Where folders stand for several classes, as ObjectNet's do, `--labels` takes
    a table folder,class, and any of them is right. The same images among all classes stand beside it. To set the
    accuracy beside that on clean images, ask the validation images of the same subset.

    >>> ClassSubset(subset="imagenet-r").subset
    'imagenet-r'
    """

    subset: Subset = "present"
    """present: the classes that have an image; imagenet-a, imagenet-r: the 200 classes of these sets, which images of
    others are left out of."""

    question = "Is it right among the classes that these images have?"
    reference = (
        "Hendrycks et al. 2021, Natural Adversarial Examples (ImageNet-A), The Many Faces of Robustness (ImageNet-R); "
        "Recht et al. 2019 (V2); Wang et al. 2019 (Sketch)"
    )
    columns = {"id": pl.String, "label": pl.Int32, "answers": pl.List(pl.Int32), "logits": pl.List(pl.Float32)}
    concluded = {"right": pl.Boolean}
    sentences = {
        "nothing": Sentence("cannot tell", "there is nothing to be right about", "Nothing can be told: {why}."),
        "right": Sentence(
            "yes",
            "the whole interval of the accuracy among these classes lies above chance",
            "Among {classes} classes it is right on {value:.1%} of {n:,} images ({chance:.1%} by chance), among all "
            "{all:,} on {whole:.1%}.",
        ),
        "wrong": Sentence(
            "no",
            "that interval lies less than MARGIN above chance",
            "Among {classes} classes it is right on {value:.1%} of {n:,} images, as by chance ({chance:.1%}).",
        ),
        "unsure": Sentence(
            "cannot tell",
            "that interval is neither",
            "Among {classes} classes it is right on {value:.1%} of {n:,} images; whether that is more than by chance "
            "({chance:.1%}) cannot be said.",
        ),
    }

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: all labels that are right, and all logits, since which classes there are is known in the end."""
        right = batch.all_labels or ((),) * len(batch)
        answers = [own or (label,) for own, label in zip(right, batch.labels.tolist(), strict=True)]
        known = {"answers": [list(own) if own[0] >= 0 else None for own in answers], "logits": batch.logits.numpy()}
        return self.table({"id": batch.ids, "label": where_labeled(batch, batch.labels)} | known)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        known, lost = self._known(rows, about)
        why = ""
        if self.subset != "present" and about.space != IMAGENET:
            why = f"the classes of {self.subset} are ImageNet's, the classifier's are others"
        elif not known.height:
            why = "no image has a label among these classes"
        members = self._members(known) if not why else np.empty(0, np.int64)
        if why or len(members) < 2:
            why = why or "all images are of one class"
            title = "top-1 accuracy among the classes of the images"
            return Conclusion(
                (Measure("accuracy", None, "share", why=why, title=title, headline=True),),
                verdict=self.say("nothing", why=why),
            )
        answers = known["answers"].to_list()
        logits = known["logits"].explode().to_numpy().reshape(known.height, -1)
        right, whole = (
            np.array([said in own for said, own in zip(given.tolist(), answers, strict=True)])
            for given in (members[logits[:, members].argmax(1)], logits.argmax(1))
        )
        several = sum(len(own) > 1 for own in answers)
        chance = sum(len(own) for own in answers) / len(answers) / len(members)
        measures = tuple(_measures(right, whole, chance, top1(self.subset)))
        each = {"id": known["id"], "right": right}
        panels = (_classes(answers, right, whole, about.classes),)
        caveats = [f"Chance is one of {len(members)} classes."]
        if several:
            caveats = [f"{several:,} images have several right classes: any counts, and chance is by so many of all."]
        if self.subset == "present":
            caveats.append(f"The classes are the {len(members)} that have an image here.")
        if self.subset == "imagenet-a":
            caveats.append("ImageNet-A was chosen against torchvision's first ResNet-50, which it says nothing about.")
        if lost:
            caveats.append(f"{lost:,} images have no label among these classes: they are left out.")
        return Conclusion(
            measures, panels, self._verdict(measures, len(members), logits.shape[1]), tuple(caveats), each
        )

    def _known(self, rows: Rows, about: About) -> tuple[Rows, int]:
        """The rows of images whose label is one of the subset, and how many are not."""
        known = rows.drop_nulls("answers")
        if self.subset != "present" and about.space == IMAGENET:
            among = pl.col("answers").list.set_intersection(listed(self.subset).astype(np.int32).tolist())
            known = known.with_columns(among).filter(pl.col("answers").list.len() > 0)
        return known, rows.height - known.height

    def _members(self, known: Rows) -> NDArray[np.int64]:
        """The logits that are kept, in increasing order."""
        present = np.unique(known["answers"].explode().to_numpy()).astype(np.int64)
        return present if self.subset == "present" else listed(self.subset)

    def _verdict(self, measures: Sequence[Measure], classes: int, every: int) -> Verdict:
        accuracy, whole = measures[0], measures[1]
        chance = accuracy.chance or 0.0
        how = {"classes": classes, "value": accuracy.value, "n": accuracy.n, "chance": chance}
        if accuracy.above(chance):
            return self.say("right", all=every, whole=whole.value, **how)
        return self.say("wrong" if accuracy.below(chance + MARGIN) else "unsure", **how)


def listed(subset: str) -> NDArray[np.int64]:
    """ImageNet's indices of the classes of ImageNet-A or -R, increasing.

    >>> len(listed("imagenet-a")), int(listed("imagenet-r").sum())
    (200, 86135)
    """
    name = f"{subset.replace('-', '_')}_indices.txt"
    text = (resources.files("timm") / "data" / "_info" / name).read_text()
    return np.array(sorted(map(int, text.split())), np.int64)


def _measures(
    right: NDArray[np.bool_], whole: NDArray[np.bool_], chance: float, published: tuple[Published, ...]
) -> Iterator[Measure]:
    title, better = "top-1 accuracy among the classes of the images", {"better": "higher", "headline": True}
    yield stats.share("accuracy", right, title=title, chance=chance, per_image="right", published=published, **better)
    yield stats.share("whole", whole, title="top-1 accuracy among all classes", better="higher")
    yield stats.difference("gained", right, whole, title="among these classes beyond all")


def _classes(
    answers: Sequence[Sequence[int]], right: NDArray[np.bool_], whole: NDArray[np.bool_], names: Sequence[str]
) -> Panel:
    rows: list[list[Any]] = []
    sets = [tuple(sorted(own)) for own in answers]
    for right_ones in sorted(set(sets)):
        own = np.array([one == right_ones for one in sets])
        rows.append(
            [
                " or ".join(names[k] for k in right_ones),
                int(own.sum()),
                round(float(right[own].mean()), 4),
                round(float(whole[own].mean()), 4),
            ]
        )
    rows.sort(key=lambda row: row[2])
    data = {"columns": ["class", "images", "right among these", "among all"], "rows": rows[:LISTED]}
    return Panel("classes", "table", "Class by class", "The hardest first.", data)
