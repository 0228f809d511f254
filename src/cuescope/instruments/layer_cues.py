"""At which depth can shape and texture be read?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed
from cuescope.methods.crossed_readout import FOLDS, PAIR_FOLDS, RIDGE, Crossed, crossed
from cuescope.methods.cue_readout import CUES, CueReadout, depths_of
from cuescope.methods.layer_features import LayerFeatures, layers_of, usual_layers

MARGIN = 0.05
"""An accuracy that is surely less than this above chance is no better than chance."""
DEPTH_MARGIN = 0.1
"""Two depths, each from 0 to 1, that surely differ by less than this are the same."""


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
        "unnamed": Sentence(
            "cannot tell",
            "a cue is read, and the names of the images tell neither objects nor texture images",
            "If images share objects or texture images, which their names do not tell, single ones may be known again.",
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
        names = list(dict.fromkeys(self.layers)) or usual_layers(classifier, self.most)
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
        return self.table(found | features.columns(batch, other))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        design = crossed(*(rows[key].to_list() for key in (*CUES, "object", "texture_image")))
        if design.why:
            empty = tuple(Measure(cue, None, "share", why=design.why, headline=True) for cue in CUES)
            return Conclusion(empty, verdict=self.say("nothing", why=design.why))
        layers = about.facts["layers"]
        told, control = (
            [one.part(0, len(one)).astype(float) for one in layers_of(rows, about, key, design.images)]
            for key in ("features", "shuffled")
        )
        read = {cue: CueReadout.of(cue, told, control, design, self.seed) for cue in CUES}
        depths = depths_of(read["shape"], read["texture"], layers)
        verdict = self._verdict(read, layers, depths[-1])
        measures = (*(m for one in read.values() for m in one.headlines), *depths)
        return Conclusion(measures, tuple(_panels(read, layers)), verdict, tuple(self._caveats(design, about)))

    def _verdict(self, read: Mapping[str, CueReadout], layers: Sequence[Mapping[str, Any]], deeper: Measure) -> Verdict:
        said = []
        for cue, one in read.items():
            best = one.at[one.best]
            values = {"cue": cue.title(), "value": best.value, "images": counted(best.n, "image"), "chance": one.chance}
            if not one.readable:
                name = "unread" if one.absent(MARGIN) else "unsure"
                said.append(self.say(name, **{**values, "cue": cue if name == "unsure" else cue.title()}))
                continue
            names = [layer["name"] for layer in layers]
            said.append(self.say("read", layer=names[one.best], first=names[one.told.index(True)], **values))
            if (learned := one.learned) is not None:
                small = "not_learned" if learned.below(MARGIN) else "learned_unsure"
                said.append(self.say("learned" if learned.above(0) else small, control=one.control[:, one.best].mean()))
        if all(one.readable for one in read.values()):
            if deeper.within(-DEPTH_MARGIN, DEPTH_MARGIN):
                said.append(self.say("same_depth"))
            elif deeper.above(0) or deeper.below(0):
                said.append(self.say("texture_first" if deeper.above(0) else "shape_first"))
            else:
                said.append(self.say("depth_unsure", images=counted(deeper.n, "image")))
        named = next(iter(read.values())).design.named
        if not named and any(one.readable for one in read.values()):
            said.append(self.say("unnamed"))
        return sum(said, UNSAID)

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
                "The names tell no objects and texture images: if images share them, intervals are too narrow. No pair "
                f"of categories is both learned from and answered ({PAIR_FOLDS} folds)."
            )


def _panels(read: Mapping[str, CueReadout], layers: Sequence[Mapping[str, Any]]) -> Iterable[Panel]:
    depths, columns, table = [layer["depth"] for layer in layers], ["layer", "depth"], [[], []]
    for name, title, caption in (
        (
            "by_depth",
            "What can be read at which depth",
            "How often a linear read-out tells the category of a cue.",
        ),
        ("by_depth_shuffled", "The same with shuffled weights", "What the architecture does without what it learned."),
    ):
        series, shuffled = [], name != "by_depth"
        for cue, one in read.items():
            if at := one.at_control if shuffled else one.at:
                low, high = zip(*(m.interval or (m.value, m.value) for m in at), strict=True)
                y = [m.value for m in at]
                series.append({"name": cue, "x": depths, "y": y, "low": list(low), "high": list(high)})
                columns.append(f"{cue}, shuffled weights" if shuffled else cue)
                table.append([f"{m.value:.1%}" for m in at])
        data = {"x": "depth in the network", "y": "read correctly", "series": series, "y_ends": [0, 1]}
        if series:
            yield Panel(name, "lines", title, caption, data | {"chance": max(one.chance for one in read.values())})
    table[:2] = [layer["name"] for layer in layers], depths
    rows = [list(row) for row in zip(*table, strict=True)]
    caption = "How often the category is told, from the first layer to the last."
    yield Panel("layers", "table", "Layer by layer", caption, {"columns": columns, "rows": rows})
