"""Do two crops of the same image get the same answer?"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Figure, Look, Measure, Panel, dot
from cuescope.core.published.shifts import CONSISTENCY
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import Window, draw
from cuescope.instruments.base import Instrument, Observer, Rows, answered, frames, said, typed, where_labeled

MARGIN = 0.05
"""Crops that surely differ less often than this are consistent, crops that surely differ more often are not."""
VIEWS = 64
"""Crops that are taken before the network sees them: enough for its batches, few enough for memory."""


@dataclass(frozen=True)
class ShiftConsistency(Instrument, version=3, order=100, needs={"logits"}):
    """The share of pairs of random crops of one image that get the same answer (Zhang 2019, section 4.1).

    The image is resized as the network's evaluation does it; the crops lie at random offsets of 0 to 31 px on each axis
    from the corner of its middle 256 px, for an input of 224 px (for others in proportion). Each image has its own
    offsets, drawn from its name; in the author's code the images of a batch share theirs. A classifier that is right
    more often is also more consistent, so the share is given for the images that it gets right besides (in the crop of
    its own evaluation), with the share of pairs whose crops are both right.

    >>> ShiftConsistency(pairs=5).range_px
    32
    """

    pairs: int = 1
    """Pairs of crops of each image; the author's numbers are of five."""
    range_px: int = 32
    """At how many offsets along each axis a crop may lie, for an input of 224 px."""
    seed: int = 0
    """Of the offsets."""

    question = "Do two crops of an image get the same answer?"
    reference = "Zhang 2019, Making convolutional networks shift-invariant again, section 4.1"
    animates = True
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label predicted"),
        **typed(pl.Boolean, "right small"),
        **typed(pl.List(pl.Int32), "offsets answers"),
        "p": pl.List(pl.Float64),
        "same": pl.List(pl.Boolean),
        **typed(pl.Float64, "agree agree_right both_right"),
    }

    sentences = {
        "nothing": Sentence("cannot tell", "the consistency has no value", "Consistency is not measured: {why}."),
        "consistent": Sentence(
            "yes",
            "the consistency lies above 1 - MARGIN with its whole interval, and the accuracy above chance",
            f"{{crops}} get the same answer in over {1 - MARGIN:.0%} of cases: {{same:.1%}} ({{images}}){{right}}.",
        ),
        "not": Sentence(
            "no",
            "the consistency lies below 1 - MARGIN with its whole interval",
            "{crops} get the same answer in {same:.1%} of cases ({images}){right}.",
            remedy="Blur before it subsamples, and train it on with stronger crops.",
            command="cuescope cure {model} --images {images} --for shift",
        ),
        "blind": Sentence(
            "cannot tell",
            "the consistency lies above 1 - MARGIN, but the accuracy does not lie above chance",
            "{crops} get the same answer in {same:.1%} of cases ({images}), but a classifier that is not seen to be "
            "right more often than by chance may see nothing.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of the consistency holds 1 - MARGIN, or there is none",
            f"{{crops}} get the same answer in {{same:.1%}} of cases{{right}}; whether in more than {1 - MARGIN:.0%} "
            "cannot be said from {images}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.range_px < 2:
            raise ValueError("pairs must be at least 1 and range_px at least 2")

    def start(self, classifier: Classifier) -> Observer:
        """Facts: at how many offsets along each axis a crop may lie."""
        places = Window(self.range_px).offsets(classifier.preprocessing)
        return Observer(partial(self._observe, classifier, places), facts={"places": places})

    def _observe(self, classifier: Classifier, places: int, batch: Batch) -> Rows:
        """Per image: the offsets and answers of its crops, how many pairs agree, and how many are right twice."""
        if not len(batch):
            return self.empty
        window, offsets = Window(self.range_px), [self.offsets(name, places) for name in batch.ids]
        at_once, parts = max(1, VIEWS // (2 * self.pairs)), []
        for start in range(0, len(batch), at_once):
            group = slice(start, start + at_once)
            crops = self.crops(classifier, batch.samples[group], offsets[group])
            parts.append(classifier.logits(crops.to(classifier.device)))
        probabilities = torch.cat(parts).double().softmax(1)
        p, answers = (part.view(len(batch), self.pairs, 2) for part in probabilities.max(1))
        same = answers[..., 0] == answers[..., 1]
        agree, right = same.double().mean(1).tolist(), (batch.logits.argmax(1) == batch.labels).tolist()
        both = (answers == batch.labels[:, None, None]).all(2).double().mean(1)
        return self.table(
            {
                **answered(batch),
                "right": where_labeled(batch, right),
                "offsets": offsets,
                "answers": answers.flatten(1).tolist(),
                "p": p.flatten(1).tolist(),
                "same": same.tolist(),
                "agree": agree,
                # The label of an image that is answered rightly is known.
                "agree_right": [share if hit else None for share, hit in zip(agree, right, strict=True)],
                "both_right": where_labeled(batch, both),
                "small": [window.is_small(sample, classifier.preprocessing) for sample in batch.samples],
            }
        )

    def offsets(self, name: str, count: int) -> list[int]:
        """Top and left of each crop of an image, pair by pair: 4 numbers a pair, each 0 to `count` - 1."""
        chance = draw(self.seed, name, "consistency")
        return [chance.randrange(count) for _ in range(4 * self.pairs)]

    def crops(self, classifier: Classifier, samples: Any, offsets: list[list[int]]) -> Tensor:
        """(B * pairs * 2, 3, H, W) float32 in [0, 1]."""
        height, width = classifier.preprocessing.size
        windows = Window(self.range_px).pixels(samples, classifier.preprocessing)
        parts = [
            pixels[:, top : top + height, left : left + width]
            for pixels, places in zip(windows, offsets, strict=True)
            for top, left in zip(places[::2], places[1::2], strict=True)
        ]
        return torch.stack(parts).to(torch.float32).div_(255)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        published = about.space == IMAGENET and self.range_px == 32
        measures = tuple(self._measures(rows, published))
        caveats = ["A classifier that is right more often is also more consistent: read it beside its accuracy."]
        if published:
            caveats.append("The published values are of validation images: images from the training differ.")
        if small := int(rows["small"].sum() or 0):
            caveats.append(f"{small} of {rows.height} images were smaller than the window of the crops and enlarged.")
        return Conclusion(measures, tuple(self._panels(rows)), self._verdict(measures, about), tuple(caveats))

    def _verdict(self, measures: Sequence[Measure], about: About) -> Verdict:
        consistency, right, _, accuracy = measures
        if consistency.value is None:
            return self.say("nothing", why=consistency.why)
        among = f", in {right.value:.1%} where it is right about the image" if right.value is not None else ""
        values: dict[str, Any] = {
            "same": consistency.value,
            "images": counted(consistency.n, "image"),
        }
        values["crops"] = f"Two crops of the same image, up to {about.facts['places'] - 1} px apart,"
        if consistency.above(1 - MARGIN) and not accuracy.above(accuracy.chance):
            return self.say("blind", **values)
        same = "consistent" if consistency.above(1 - MARGIN) else "cannot_tell"
        return self.say("not" if consistency.below(1 - MARGIN) else same, right=among, **values)

    def _measures(self, rows: Rows, published: bool) -> Iterable[Measure]:
        unseen = "no image was seen"
        no_label = "no image has a label" if rows.height else unseen
        none_right = "it gets no image right" if len(rows["right"].drop_nulls()) else no_label
        known = rows.select("label", "predicted").drop_nulls()
        chance = agreement_by_chance(known["label"], known["predicted"])
        for name, column, why, title, headline in (
            ("consistency", "agree", unseen, "two crops get the same answer", True),
            ("consistency_right", "agree_right", none_right, "the same, of images that it gets right", True),
            ("both_right", "both_right", no_label, "two crops are both right", False),
            ("accuracy", "right", no_label, "accuracy on the crop of its own evaluation", False),
        ):
            sources = CONSISTENCY.get(name, ()) if published else ()
            more: dict[str, Any] = {"why": why, "title": title, "headline": headline, "published": sources}
            more |= {"per_image": column, "chance": chance if name == "accuracy" else None}
            mean = stats.share if column == "right" else self._mean
            yield mean(name, rows[column].drop_nulls(), better="higher", **more)

    @property
    def _mean(self) -> Callable[..., Measure]:
        """Of one pair an image agrees or not; of several it has a share."""
        return stats.share if self.pairs == 1 else stats.mean_share

    def _panels(self, rows: Rows) -> Iterable[Panel]:
        if rows.height < 2:
            return
        curve = self._by_distance(rows)
        if len(curve["x"]) > 1:
            caption = "A curve that starts low and stays flat: a few pixels do as much as thirty."
            axes = {"x": "distance of the two crops (px, the longer axis)", "y": "share with the same answer"}
            yield Panel("distance", "lines", "Crops farther apart", caption, {**axes, "series": [curve]})
        if not len(rows["right"].drop_nulls()):
            return
        right, wrong = (rows.filter(right=truth)["agree"] for truth in (True, False))
        groups = {"all images": rows["agree"], "where it is right": right, "where it is wrong": wrong}
        found = ((label, self._mean("", values)) for label, values in groups.items())
        data = {"unit": "share", "rows": [dot(label, m.value, m.interval, m.n) for label, m in found]}
        caption = "Pairs of crops with the same answer."
        yield Panel("groups", "dots", "Consistency where it is right and where it is wrong", caption, data)

    def _by_distance(self, rows: Rows) -> dict[str, Any]:
        """The share of pairs that agree, by how far apart the crops are."""
        places = np.array(rows["offsets"].to_list()).reshape(-1, 2, 2)
        distance = np.abs(places[:, 0] - places[:, 1]).max(1)
        same, image = np.array(rows["same"].to_list(), float).ravel(), np.repeat(np.arange(rows.height), self.pairs)
        curve: dict[str, Any] = {"name": "", "x": [], "y": [], "low": [], "high": []}
        for part in np.array_split(np.argsort(distance, kind="stable"), 8):
            agree, count = np.bincount(image[part], same[part]), np.bincount(image[part])
            if interval := stats.ratio("", agree[count > 0], count[count > 0]).interval:
                point = float(distance[part].mean()), float(same[part].mean()), *interval
                for key, value in zip(("x", "y", "low", "high"), point, strict=True):
                    curve[key].append(value)
        return curve

    def examples(self, rows: Rows) -> list[str]:
        """The images whose crops differ although the answer to one of them was surest."""
        return _torn(rows)["id"].head(4).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, figures = classifier.classes.names, []
        for row in _torn(rows).iter_rows(named=True):
            sample, k = batch.samples[batch.ids.index(row["id"])], row["same"].index(False)
            crops = self.crops(classifier, [sample], [row["offsets"]])
            for i in (2 * k, 2 * k + 1):
                top, left = row["offsets"][2 * i : 2 * i + 2]
                caption = f"{names[row['answers'][i]]}, {row['p'][i]:.0%} (crop {top} px down, {left} px right)"
                figures.append(Figure(caption, to_image(crops[i])))
        caption = "Two crops of an image and what it says to each."
        yield Panel("torn", "images", "Crops with different answers", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row = rows.row(0, named=True)
        k = row["same"].index(False) if False in row["same"] else 0
        top, left, bottom, right = places = row["offsets"][4 * k : 4 * k + 4]
        crops = self.crops(classifier, batch.samples, [row["offsets"]])[2 * k : 2 * k + 2]
        names = (f"crop {down} px down, {over} px right" for down, over in (places[:2], places[2:]))
        one, other = seen = frames(classifier, crops, names)
        apart = max(abs(top - bottom), abs(left - right))
        if one.answer == other.answer:
            text = f"It says {one.answer} to both crops ({one.probability:.0%} and {other.probability:.0%})"
        else:
            text = f"It says {said(one)} to one crop and {said(other)} to another"
        return Look(f"{text}, {apart} px apart.", frames=seen)


def _torn(rows: Rows) -> pl.DataFrame:
    """Images with a pair of crops that differ, the surest answer first."""
    torn = rows.filter(~pl.col("same").list.all())
    return torn.with_columns(surest=pl.col("p").list.max()).sort("surest", "id", descending=[True, False])
