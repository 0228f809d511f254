"""Do its nonlinearities make detail that a blur has taken away?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed
from cuescope.methods.nonlinearities import Shares, nonlinearities, shares

MARGIN = 0.02
"""A share of the energy that surely lies below this is none to speak of, one that surely lies above is some."""


@dataclass(frozen=True)
class Nonlinearity(Instrument, version=1, order=135, needs={"features"}):
    """How much of a map's energy do activations and max pools put where a blur has left nothing?

    A blur before a layer subsamples takes away what subsampling would fold back. But a nonlinearity after the blur
    makes new high frequencies, which the next subsampling folds: one reason why blurs help only in part (Azulay & Weiss
    2019, on anti-aliasing). Of the map that goes into each nonlinearity all frequencies are removed that subsampling by
    `factor` could not keep, along either axis, exactly, the map taken for periodic. Then it is applied, at every
    position, and the share of the energy about the mean that lies beyond the limit is what it made: a linear function
    makes none, a ReLU of a wave of .2 periods a position .15. Beside it stand the shares of the map as it is.

    >>> Nonlinearity(factor=4).images
    32
    """

    images: int = 32
    """How many images are looked at, spread evenly over the set."""
    factor: int = 2
    """By what a map would be subsampled: frequencies above 1 / (2 factor) periods a position count as high."""

    question = "Do its nonlinearities make detail that a blur has taken away?"
    reference = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    columns = {**typed(pl.String, "id layer"), **typed(pl.Float64, "made before after")}
    sentences = {
        "nothing": Sentence(
            "cannot tell", "no map was seen to vary", "What nonlinearities make is not measured: {why}."
        ),
        "makes": Sentence(
            "yes",
            "the mean share over layers lies above MARGIN with its whole interval",
            "After an ideal blur its nonlinearities put {made:.1%} of the energy beyond the blur's limit (mean of "
            "{layers}; most at {most}, {largest:.1%}).",
        ),
        "none": Sentence(
            "no",
            "the mean share over layers lies below MARGIN with its whole interval",
            f"After an ideal blur its nonlinearities put less than {MARGIN:.0%} of the energy beyond the blur's limit: "
            "{made:.2%} (mean of {layers}).",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of the mean share holds MARGIN, or there is none",
            f"Whether its nonlinearities put more than {MARGIN:.0%} of the energy beyond the limit of an ideal blur "
            "cannot be said from {images}: it is {made:.1%} (mean of {layers}).",
        ),
        "as_it_is": Sentence(
            "yes",
            "a map varies as it is",
            "Without a blur it is {before:.1%} before them and {after:.1%} after.",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.factor < 2:
            raise ValueError("images must be at least 1 and factor at least 2")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: the layers, in their order."""
        names = nonlinearities(classifier)
        if not names:
            raise Misfit("no activation or max pool of it is a module of its own that runs on maps over the image")
        return Observer(partial(self._rows, classifier, names), facts={"layers": names})

    def _rows(self, classifier: Classifier, names: list[str], batch: Batch) -> Rows:
        """Per image and layer: the share beyond the limit of what the layer makes of a blurred map, and as it is."""
        rows = []
        for start in range(0, len(batch), classifier.batch_size):
            part = slice(start, start + classifier.batch_size)
            found = shares(classifier, batch.pixels[part], names, self.factor)
            rows += [
                (name, layer, *(None if np.isnan(value) else value for value in values))
                for i, name in enumerate(batch.ids[part])
                for layer, seen in found.items()
                for values in [[float(share[i]) for share in seen]]
            ]
        return pl.DataFrame(rows, dict(self.columns), orient="row")

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        layers = [name for name in about.facts["layers"] if rows.height]
        by_layer = {name: rows.filter(layer=name).drop_nulls("made") for name in layers}
        # Of an image the mean over layers; images are what is independent.
        means = rows.group_by("id").agg(pl.mean(*Shares._fields)).sort("id")
        found = {name: self._measure(name, means[name], headline=name == "made") for name in Shares._fields}
        each = {name: self._measure("made", part["made"], name) for name, part in by_layer.items()}
        caveats = (
            "Networks of other layers have other means: compare a network with its own variants.",
            "Activations that are called as functions are not seen, nor is a module's second call.",
        )
        panels = tuple(self._panels(by_layer, each)) if rows.height else ()
        measures = (*found.values(), *each.values())
        return Conclusion(measures, panels, self._verdict(found, each), caveats)

    def _measure(self, name: str, values: pl.Series, layer: str = "", *, headline: bool = False) -> Measure:
        key, where = (f"_{layer.replace('.', '_')}", layer) if layer else ("", "mean over layers")
        title = f"{TITLES[name]}: {where}"
        why = "no map varied" if len(values) else "no image was seen"
        return stats.mean_share(f"{name}{key}", values.drop_nulls(), why=why, title=title, headline=headline)

    def _verdict(self, found: Mapping[str, Measure], each: Mapping[str, Measure]) -> Verdict:
        made, before, after = found.values()
        if made.value is None:
            return self.say("nothing", why=made.why)
        known = {name: m.value for name, m in each.items() if m.value is not None}
        values: dict[str, Any] = {"made": made.value, "layers": counted(len(known), "layer")}
        if made.above(MARGIN):
            most = max(known, key=lambda name: known[name])
            said = self.say("makes", most=most, largest=known[most], **values)
        elif made.below(MARGIN):
            said = self.say("none", **values)
        else:
            said = self.say("cannot_tell", images=counted(made.n, "image"), **values)
        if before.value is None or after.value is None:
            return said
        return said + self.say("as_it_is", before=before.value, after=after.value)

    def _panels(self, by_layer: Mapping[str, Rows], each: Mapping[str, Measure]) -> Iterable[Panel]:
        data = {"unit": "share", "rows": [dot(name, m.value, m.interval, m.n) for name, m in each.items()]}
        caption = "Energy beyond the limit of the blur, as a share of the layer's."
        yield Panel("made", "dots", "What each nonlinearity makes after an ideal blur", caption, data)
        rows = [[name, *map(_rounded, part.select(pl.mean(*Shares._fields)).row(0))] for name, part in by_layer.items()]
        columns = ["layer", "made after a blur", "before, as it is", "after, as it is"]
        yield Panel("layers", "table", "The layers", "Shares of 1.", {"columns": columns, "rows": rows})


TITLES = {
    "made": "energy beyond the limit that nonlinearities make of blurred maps",
    "before": "energy beyond the limit in the maps before them",
    "after": "energy beyond the limit in the maps after them",
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
