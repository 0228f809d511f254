"""At which depth can shape and texture be read?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.naming import counted
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed
from cuescope.methods.crossed_readout import FOLDS, PAIR_FOLDS, RIDGE, Crossed, answers, crossed, permuted
from cuescope.methods.layer_features import LayerFeatures, split, spread

CUES = ("shape", "texture")
MARGIN = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""
DEPTH_MARGIN = 0.1
"""Two depths, each from 0 to 1, that surely differ by less than this are the same."""
PERMUTATIONS = 50


@dataclass(frozen=True)
class LayerCues(Instrument, version=1, order=45, needs={"features", "shape", "texture"}):
    """At which depth can shape and texture be read?

    From the features of a few layers, averaged over the map, the category of the shape and that of the texture of
    cue-conflict images are each told by a linear read-out that has seen neither the object nor the texture image of
    what it answers (ridge regression, three by three folds; where file names tell neither, no pair of categories). The
    same network with its weights shuffled stands beside it: random features tell textures too. That "texture lives in
    shallow layers" is a reading of Geirhos et al. 2019, who did not measure it; the protocol is ours.

    >>> LayerCues(layers=("features.0", "features.12")).dimensions
    128
    """

    layers: tuple[str, ...] = ()
    """Which layers; by default some of one level of nesting, from the first to the last."""
    most: int = 6
    """How many layers are looked at where none are named."""
    grid: int = 1
    """Cells a side of the grid in which features are averaged: 1 is the whole map, more keep some of the layout."""
    dimensions: int = 128
    """Numbers kept of each layer: where it has more features, a random projection of them."""
    control: bool = True
    """Whether the network with shuffled weights is looked at too, which takes a second forward pass."""
    seed: int = 0
    """Of the projection, the shuffled weights and the permuted labels."""

    question = "At which depth can shape and texture be read?"
    reference = "ours, on the stimuli of Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture"
    columns = {
        **typed(pl.String, "id shape texture object texture_image"),
        **typed(pl.List(pl.Float32), "features shuffled"),
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no two categories can be learned", "No cue can be read: {why}."),
        "read": Sentence(
            "yes",
            "where the cue is read best, the whole interval lies above chance, and the accuracy above 95 % of the best "
            "ones with permuted labels",
            "{cue} is read best from {layer}, on {value:.0%} of {images} ({chance:.0%} by chance); the first layer "
            "that surely tells it is {first}.",
        ),
        "unread": Sentence(
            "no",
            "at every layer the whole interval lies less than MARGIN above chance",
            "{cue} is read at no depth: on {value:.0%} of {images} at most ({chance:.0%} by chance).",
        ),
        "unsure": Sentence(
            "cannot tell",
            "the cue is neither read nor unread",
            "Whether {cue} is read at any depth cannot be told: on {value:.0%} of {images} at most "
            "({chance:.0%} by chance).",
        ),
        "texture_first": Sentence(
            "yes",
            "both are read, and the whole interval of the depth of shape less that of texture lies above 0",
            "Texture is read best at a shallower depth than shape.",
        ),
        "shape_first": Sentence(
            "no",
            "both are read, and that interval lies below 0",
            "Shape is read best at a shallower depth than texture.",
        ),
        "same_depth": Sentence(
            "no",
            "both are read, and that interval lies within DEPTH_MARGIN of 0",
            "Both are read best at the same depth, to within a tenth.",
        ),
        "depth_unsure": Sentence(
            "cannot tell",
            "both are read, and that interval is none of these",
            "Which of the two is read best at a shallower depth cannot be told from {images}.",
        ),
        "learned": Sentence(
            "yes",
            "the cue is read, and surely more often than from the same layer with shuffled weights",
            "With shuffled weights it is read there less often ({control:.0%}).",
        ),
        "not_learned": Sentence(
            "no",
            "the cue is read, and surely less than MARGIN more often than with shuffled weights",
            "With shuffled weights it is read there as well ({control:.0%}).",
        ),
        "learned_unsure": Sentence(
            "cannot tell",
            "the cue is read, and the interval of that difference is neither",
            "With shuffled weights it is read there on {control:.0%}, perhaps as often.",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.most, self.grid, self.dimensions) < 1:
            raise ValueError("most, grid and dimensions must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: of each layer its name, its depth from 0 to 1, and how many of its features are kept."""
        names = list(dict.fromkeys(self.layers)) or spread(classifier.layers, self.most)
        if len(names) < 2:
            raise Misfit("it has fewer than two layers that are maps over the image")
        features = LayerFeatures.of(classifier, names, self.grid, self.dimensions, self.seed)
        other = features.shuffled(self.seed) if self.control else None
        facts = {"layers": features.facts, "all": len(classifier.layers)}
        return Observer(partial(self._rows, features, other), features.watch, facts)

    def _rows(self, features: LayerFeatures, other: LayerFeatures | None, batch: Batch) -> Rows:
        """Per image: its cues, what it is made of, and its features, layer after layer."""
        keys = (*CUES, "object", "texture_image")
        found = {"id": batch.ids, **{key: [sample.cues.get(key) for sample in batch.samples] for key in keys}}
        found |= {"features": features.of_batch(batch)} | ({"shuffled": other.of_pixels(batch)} if other else {})
        return self.table(found)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        design = crossed(*(rows[key].to_list() for key in (*CUES, "object", "texture_image")))
        if design.why:
            empty = tuple(Measure(cue, None, "share", why=design.why, headline=True) for cue in CUES)
            return Conclusion(empty, verdict=self.say("nothing", why=design.why))
        layers = about.facts["layers"]
        read = {cue: self._read(cue, rows, design, layers) for cue in CUES}
        depths = _depths(read, layers, design)
        verdict = self._verdict(read, layers, depths[-1])
        measures = (*(m for one in read.values() for m in one.headlines), *depths)
        measures += tuple(m for one in read.values() for m in one.at)
        return Conclusion(measures, (_curves(read, layers),), verdict, tuple(self._caveats(design, about)))

    def _read(self, cue: str, rows: Rows, design: Crossed, layers: Sequence[Mapping[str, Any]]) -> "_Read":
        true, source = design.of(cue)
        labels = np.concatenate([true[:, None], permuted(true, source, PERMUTATIONS, self.seed)], 1)

        def right(column: str, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
            """(layers, n, labelings); no layers without features."""
            known = [] if rows[column].null_count() else split(rows[column].to_list(), layers)
            told = [answers(one[design.images], design, labels) == labels for one in known]
            return np.array(told, bool).reshape(len(told), *labels.shape)

        told, control = right("features", labels), right("shuffled", labels[:, :1])
        hits, by_chance = told[:, :, 0].T, told[:, :, 1:].mean(1)
        # Images that show one category twice are left out, so to know the other cue is to know what this one is not.
        chance = max(float(by_chance.mean()), 1 / (len(np.unique(true)) - 1))
        at, more = [], {"chance": chance, "clusters": design.clusters}
        for layer, mine in zip(layers, hits.T, strict=True):
            name, title = f"{cue}_{layer['name'].replace('.', '_')}", f"{cue} read from {layer['name']}"
            at.append(stats.share(name, mine, title=title, **more))
        best = int(hits.mean(0).argmax())
        learned = None
        if len(control):
            title = f"{cue} read there more often than with shuffled weights"
            pair = hits[:, best], control[best, :, 0]
            learned = stats.difference(f"{cue}_learned", *pair, title=title, clusters=design.clusters)
        highest = float(np.quantile(by_chance.max(0), 0.95))
        return _Read(cue, tuple(at), hits, control.mean((1, 2)).tolist(), best, highest, chance, learned)

    def _verdict(self, read: Mapping[str, "_Read"], layers: Sequence[Mapping[str, Any]], deeper: Measure) -> Verdict:
        said = []
        for cue, one in read.items():
            best = one.at[one.best]
            values = {"cue": cue.title(), "value": best.value, "images": counted(best.n, "image"), "chance": one.chance}
            if not one.readable:
                name = "unread" if one.unreadable else "unsure"
                said.append(self.say(name, **{**values, "cue": cue if name == "unsure" else cue.title()}))
                continue
            names = [layer["name"] for layer in layers]
            said.append(self.say("read", layer=names[one.best], first=names[one.told.index(True)], **values))
            if (learned := one.learned) is not None:
                small = "not_learned" if learned.below(MARGIN) else "learned_unsure"
                said.append(self.say("learned" if learned.above(0) else small, control=one.control[one.best]))
        if all(one.readable for one in read.values()):
            if deeper.within(-DEPTH_MARGIN, DEPTH_MARGIN):
                said.append(self.say("same_depth"))
            elif deeper.above(0) or deeper.below(0):
                said.append(self.say("texture_first" if deeper.above(0) else "shape_first"))
            else:
                said.append(self.say("depth_unsure", images=counted(deeper.n, "image")))
        return sum(said[1:], said[0])

    def _caveats(self, design: Crossed, about: About) -> Iterable[str]:
        where = "over the whole map" if self.grid == 1 else f"in {self.grid} x {self.grid} cells"
        yield (
            f"Features are averaged {where}, and projected at random where there are more than {self.dimensions}. A "
            f"ridge regression (penalty {RIDGE:g} for each training image) reads less than a layer holds, and the "
            "network may not use what it reads."
        )
        yield "The layer from which a cue is read best is picked on the images that its accuracy is measured on."
        yield f"Depth is the place among the {about.facts['all']} layers of this network, from 0 to 1."
        if design.named:
            yield f"No object and no texture image is both learned from and answered ({FOLDS} x {FOLDS} folds)."
        else:
            yield (
                "The names tell no objects and texture images: if images share them, read-outs may know single ones "
                f"again, and intervals are too narrow. No pair of categories is in both ({PAIR_FOLDS} folds)."
            )


class _Read(NamedTuple):
    """How well a cue is read at each layer."""

    cue: str
    at: tuple[Measure, ...]
    hits: NDArray[np.bool_]
    """(n, layers): whether the read-out is right."""
    control: list[float]
    """The accuracy at each layer with shuffled weights; empty without."""
    best: int
    highest: float
    """What the best layer reaches with permuted labels in 95 % of all cases, at most."""
    chance: float
    learned: Measure | None

    @property
    def told(self) -> list[bool]:
        """Whether a layer surely tells it."""
        return [m.above(self.chance) and (m.value or 0.0) > self.highest for m in self.at]

    @property
    def readable(self) -> bool:
        return self.told[self.best]

    @property
    def unreadable(self) -> bool:
        return all(measure.below(self.chance + MARGIN) for measure in self.at)

    @property
    def headlines(self) -> Iterable[Measure]:
        yield replace(self.at[self.best], name=self.cue, title=f"{self.cue} read from its best layer", headline=True)
        if self.learned is not None:
            yield self.learned


def _depths(read: Mapping[str, _Read], layers: Sequence[Mapping[str, Any]], design: Crossed) -> list[Measure]:
    """At which depth each cue is read best, and how much deeper shape is; each resample has its own best layers."""
    hits = np.concatenate([one.hits for one in read.values()], 1).astype(float)
    places = np.array([layer["depth"] for layer in layers])

    def depth(means: NDArray[Any]) -> NDArray[Any]:
        """(..., 2): of shape, and of texture."""
        return places[means.reshape(*means.shape[:-1], 2, len(places)).argmax(-1)]

    ways = {"shape_depth": lambda m: depth(m)[..., 0], "texture_depth": lambda m: depth(m)[..., 1]}
    ways["deeper"] = lambda m: depth(m)[..., 0] - depth(m)[..., 1]
    titles = [f"depth at which {cue} is read best" for cue in CUES] + ["depth of shape less that of texture"]
    found = []
    for (name, of), title in zip(ways.items(), titles, strict=True):
        unread = [cue for cue, one in read.items() if not one.readable and name in (f"{cue}_depth", "deeper")]
        why, value, interval = f"no layer surely tells {' and '.join(unread)}", None, None
        if not unread:
            value, interval = float(of(hits.mean(0))), stats.bootstrap_of_means(hits, of, clusters=design.clusters)
            why = "" if interval else "too few images, objects or texture images for an interval"
        found.append(
            Measure(name, value, "", len(hits) * (not unread), interval, why, title, headline=name == "deeper")
        )
    return found


def _curves(read: Mapping[str, _Read], layers: Sequence[Mapping[str, Any]]) -> Panel:
    x, series, marks = list(range(1, len(layers) + 1)), [], []
    for cue, one in read.items():
        low, high = zip(*(m.interval or (m.value, m.value) for m in one.at), strict=True)
        series.append({"name": cue, "x": x, "y": [m.value for m in one.at], "low": list(low), "high": list(high)})
        if one.control:
            marks.append({"who": f"{cue}, shuffled weights", "x": x, "y": one.control})
    chance = max(one.chance for one in read.values())
    data = {"x": "layer", "y": "read correctly", "series": series, "marks": marks, "chance": chance, "y_ends": [0, 1]}
    ticks = {"ticks": [[i, layer["name"]] for i, layer in zip(x, layers, strict=True)]}
    caption = "From the first layer to the last: how often a linear read-out tells the category of either cue."
    return Panel("by_depth", "lines", "What can be read at which depth", caption, {**data, **ticks})
