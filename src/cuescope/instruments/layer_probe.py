"""At which depth do its features tell the classes of these images?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.instruments.base import Rows
from cuescope.instruments.featured import Controlled
from cuescope.methods.layer_features import before_answer
from cuescope.methods.linear_probe import Loss
from cuescope.methods.pace import against, costs
from cuescope.methods.probing import FOLDS, Labeled, Probed, widened

MARGIN = 0.02
"""Accuracies that surely differ by less than this are the same."""
LISTED = 60
"""Classes that the table lists, the hardest first."""


@dataclass(frozen=True)
class LayerProbe(Controlled, version=2, order=46, needs={"features", "label"}):
    """What are the features of each layer worth for the classes of these images, which need not be its own?

    A linear read-out of the features of a layer, averaged over the map, is learned from four fifths of the images and
    tells the others: multinomial logistic regression, and a linear machine of squared hinges, each with a penalty that
    is chosen by validation inside of its four fifths, as is the layer whose accuracy is said. The protocol is that of
    Zeiler and Fergus's table 7; the same network with its weights shuffled stands beside it.

    >>> LayerProbe(layers=("features.5", "features.12")).control
    True
    """

    layers: tuple[str, ...] = ()
    """Which layers; by default some of one level of nesting, from the first to the last before the answer."""
    most: int = 8
    """How many layers are looked at where none are named."""
    svm: bool = True
    """Whether linear machines are learned besides."""

    question = "What do its features tell of the classes of these images, and at which depth?"
    reference = "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 5"
    concluded = {"right": pl.Boolean, "told_by": pl.Int32}
    sentences = {
        "nothing": Sentence("cannot tell", "no two classes can be learned", "Nothing can be told: {why}."),
        "told": Sentence(
            "yes",
            "the whole interval of the accuracy lies above chance",
            "From {layer} a linear read-out tells {value:.1%} of {n:,} images that it has not learned from "
            "({chance:.1%} by chance).",
            clause="tells {value:.0%} of these images",
        ),
        "untold": Sentence(
            "no",
            "that interval lies less than MARGIN above chance",
            "No layer tells these classes: {value:.1%} of {n:,} images are told right, {chance:.1%} by chance.",
        ),
        "unsure": Sentence(
            "cannot tell",
            "that interval is neither",
            "Whether its features tell these classes cannot be said: {value:.1%} of {n:,} images are told right, "
            "{chance:.1%} by chance.",
        ),
        "learned": Sentence(
            "yes",
            "told, and surely more often than with shuffled weights",
            "With shuffled weights it is {control:.1%}.",
        ),
        "not_learned": Sentence(
            "no",
            "told, and surely less than MARGIN more often than with shuffled weights",
            "With shuffled weights it is as much ({control:.1%}): the architecture tells it, not what was learned.",
        ),
        "learned_unsure": Sentence(
            "cannot tell",
            "told, and the interval of that difference is neither",
            "With shuffled weights it is {control:.1%}, perhaps as much.",
        ),
        "deeper": Sentence(
            "yes",
            "told, and the whole interval of the last layer's accuracy less the first one's lies above 0",
            "The last layer tells more than the first, by {more:.1f} points.",
        ),
        "shallower": Sentence(
            "no",
            "told, and that interval lies below 0",
            "The last layer tells less than the first, by {less:.1f} points.",
        ),
        "same_depth": Sentence(
            "no", "told, and that interval lies within MARGIN of 0", "The last layer tells as much as the first."
        ),
        "depth_unsure": Sentence(
            "cannot tell",
            "told, and that interval is none of these",
            "Whether the last layer tells more than the first cannot be said.",
        ),
    }

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError("most must be at least 1")
        super().__post_init__()

    def looked_at(self, classifier: Classifier) -> list[str]:
        return list(dict.fromkeys(self.layers)) or before_answer(classifier, self.most)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        labeled = Labeled.of(rows["label"].to_list())
        if labeled.why:
            empty = (Measure("accuracy", None, "share", why=labeled.why, title=_ACCURACY, headline=True),)
            return Conclusion(empty, verdict=self.say("nothing", why=labeled.why))
        layers = about.facts["layers"]
        features, shuffled = (self.standard(rows, about, labeled.images, name) for name in self.large)
        kinds: tuple[Loss, ...] = ("softmax", "svm") if self.svm else ("softmax",)
        read: dict[str, Probed] = {**Probed.of(features, labeled, kinds, self.seed)}
        if self.control:
            read["shuffled"] = Probed.of(shuffled, labeled, ("softmax",), self.seed)["softmax"]
        measures = {m.name: m for m in (*_measures(read, labeled), *costs(about.facts["pace"], len(labeled.images)))}
        main = read["softmax"]
        each = {"id": rows["id"].gather(labeled.images), "right": main.right, "told_by": main.groups}
        return Conclusion(
            tuple(measures.values()),
            (*_panels(read, labeled, layers, about.classes), against(about.facts["pace"], [measures["accuracy"]])),
            self._verdict(measures, layers[main.chosen]["name"]),
            (*self._caveats(layers), *labeled.left_out(rows["label"].to_list(), about.classes)),
            each,
        )

    def _verdict(self, found: Mapping[str, Measure], layer: str) -> Verdict:
        accuracy = found["accuracy"]
        chance = accuracy.chance or 0.0
        if not accuracy.above(chance):
            name = "untold" if accuracy.below(chance + MARGIN) else "unsure"
            return self.say(name, value=accuracy.value, n=accuracy.n, chance=chance)
        said = [self.say("told", layer=layer, value=accuracy.value, n=accuracy.n, chance=chance)]
        if learned := found.get("learned"):
            small = "not_learned" if learned.below(MARGIN) else "learned_unsure"
            said.append(self.say("learned" if learned.above(0) else small, control=found["shuffled"].value))
        if deeper := found.get("deeper"):
            value = 100 * (deeper.value or 0.0)
            if deeper.above(0):
                said.append(self.say("deeper", more=value))
            elif deeper.below(0):
                said.append(self.say("shallower", less=-value))
            else:
                said.append(self.say("same_depth" if deeper.within(-MARGIN, MARGIN) else "depth_unsure"))
        return sum(said, UNSAID)

    def _caveats(self, layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        yield (
            f"Images are told by read-outs of other images ({FOLDS} parts, as many of each class in each). Where "
            "images of one scene or object stand in several parts, it is too high; near_duplicates finds copies."
        )
        yield "Features are averaged over the map and standardized over all images, without labels."
        if wide := [layer["name"] for layer in layers if layer["kept"] < layer["features"]]:
            yield f"Of {', '.join(wide)} {self.dimensions:,} random projections are kept."


_ACCURACY = "images told right from its features"


def _measures(read: Mapping[str, Probed], labeled: Labeled) -> Iterator[Measure]:
    main, better = read["softmax"], {"better": "higher"}
    right, groups = main.right, main.groups
    more: dict[str, Any] = {"headline": True, "chance": labeled.chance, **better}
    accuracy = stats.share("accuracy", right, title=_ACCURACY, per_image="right", **more)
    yield replace(widened(accuracy, right, groups), clusters=("told_by",))
    weight = 1 / np.bincount(labeled.classes)[labeled.classes] / len(labeled.labels)
    chance, title = 1 / len(labeled.labels), "mean over classes"
    mean = stats.ratio("per_class", right * weight, weight, title=title, headline=True, chance=chance)
    yield widened(mean, (right - (mean.value or 0.0)) * weight, groups)
    titles = {"svm": "told right by linear machines", "shuffled": "told right with shuffled weights"}
    for name in (name for name in titles if name in read):
        share = stats.share(name, read[name].right, title=titles[name], chance=labeled.chance)
        yield widened(share, read[name].right, groups)
    if "shuffled" in read:
        control = read["shuffled"].right
        found = stats.difference("learned", right, control, title="told right beyond shuffled weights", **better)
        yield widened(found, right.astype(float) - control, groups)
    first, last = (main.layers[at] for at in (0, -1))
    if len(main.layers) > 1:
        found = stats.difference("deeper", last, first, title="told right from the last layer beyond the first")
        yield widened(found, last.astype(float) - first, groups)


def _panels(
    read: Mapping[str, Probed], labeled: Labeled, layers: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Iterable[Panel]:
    told = {"softmax": "softmax", "svm": "linear machines", "shuffled": "shuffled weights"}
    depths, table = [layer["depth"] for layer in layers], {"layer": [one["name"] for one in layers]}
    table |= {"depth": depths, "features": [layer["features"] for layer in layers]}
    series = []
    for kind, one in read.items():
        at = [widened(stats.share(kind, right), right, one.groups) for right in one.layers]
        low, high = zip(*(m.interval or (m.value, m.value) for m in at), strict=True)
        y = [m.value for m in at]
        series.append({"name": told[kind], "x": depths, "y": y, "low": list(low), "high": list(high)})
        table[told[kind]] = [f"{m.value:.1%} ({a:.1%} to {b:.1%})" for m, a, b in zip(at, low, high, strict=True)]
    data = {"x": "depth in the network", "y": "told right", "series": series, "y_ends": [0, 1]}
    caption = "How often a linear read-out of a layer tells the class of images that it has not learned from."
    yield Panel("by_depth", "lines", "What each layer tells", caption, data | {"chance": labeled.chance})
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    yield Panel("layers", "table", "Layer by layer", caption, {"columns": list(table), "rows": rows})
    right = read["softmax"].right
    classes = [
        [names[label], int(own.sum()), round(float(right[own].mean()), 4)]
        for k, label in enumerate(labeled.labels.tolist())
        if (own := labeled.classes == k).any()
    ]
    hardest = {"columns": ["class", "images", "told right"], "rows": sorted(classes, key=lambda c: c[2])[:LISTED]}
    yield Panel("classes", "table", "Class by class", "The hardest first.", hardest)
