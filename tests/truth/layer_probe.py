"""Planted networks and features for layer_probe: layers that hold the class, or other numbers for every image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from cuescope.core.findings import About, Conclusion
from cuescope.instruments.layer_probe import MARGIN, LayerProbe
from cuescope.methods import probing
from cuescope.methods.probing import Told
from toys import toy
from truth.layer_cues import CLASSES, SIZE, Colors, Hash, Layers, samples
from truth.table import breaks, planted, sayable

PACE = {"ms": 1.0, "parameters": 1000, "device": "cpu"}


def conclude(*layers: nn.Module, each: int = 4, **how: Any) -> Conclusion:
    """The instrument's answer about a network with these layers, of images whose class is their color."""
    tool, classifier = LayerProbe(**{"control": False, **how}), toy(Layers(*layers), CLASSES, size=SIZE)
    shown = [replace(s, label=CLASSES.names.index(s.cues["texture"])) for s in samples(each)]
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(shown, [s.label or 0 for s in shown]))
    return tool.conclude(rows, About("toy", "toys", CLASSES.names, facts=observer.facts))


def of(first: float, last: float, shuffled: float | None = None, n: int = 200, **how: Any) -> Conclusion:
    """Of two layers of one number each, which are the class, 0 or 1, and so much noise; with control or without."""
    random, labels = np.random.default_rng(1), np.arange(n) % 2
    numbers = [
        labels + noise * random.normal(size=n) for noise in (first, last, *([] if shuffled is None else [shuffled] * 2))
    ]
    tool, layers = (
        LayerProbe(control=shuffled is not None, svm=False, **how),
        [{"name": name, "depth": depth, "features": 1, "kept": 1} for name, depth in (("one", 0.5), ("two", 1.0))],
    )
    found = {"id": [str(i) for i in range(n)], "label": labels, "features": np.stack(numbers[:2], 1)}
    rows = tool.table(found | ({} if shuffled is None else {"shuffled": np.stack(numbers[2:], 1)}))
    return tool.conclude(rows, About("toy", "toys", ("a", "b"), facts={"layers": layers, "pace": PACE}))


NOISE = 1e6


def leaking(features: Any, classes: Any, *_: Any) -> Told:
    """Read-outs that have seen the images that they tell."""
    return Told(classes, probing.parts_of(classes), np.ones(probing.FOLDS))


@planted(
    "layer_probe",
    "truth",
    "its first layer holds the class, its last other numbers for every image",
    "the class is told, from the first layer, and less from the last one",
    holds=lambda said: (
        said["accuracy"].value == said["per_class"].value == 1
        and said["svm"].value == 1
        and said.verdict.names == ("told", "shallower")
        and "From colors0" in said.sentence
    ),
    broken=breaks("cuescope.methods.layer_features._pooled", lambda maps, grid: maps[:, :1].flatten(1) * 0),
    shows=("accuracy", "svm", "deeper"),
)
def held_by_the_first_layer() -> Conclusion:
    return conclude(Colors(), Hash(), layers=("colors0", "hash1"))


@planted(
    "layer_probe",
    "absence",
    "no layer holds anything of the class: other numbers for every image",
    "nothing is told, and chance lies in the interval",
    holds=lambda said: (
        "told" not in said.verdict.names and said["accuracy"].interval[0] < 0.25 < said["accuracy"].interval[1]
    ),
    broken=breaks("cuescope.methods.probing.told_of", leaking),
    shows=("accuracy", "per_class"),
)
def nothing_to_tell() -> Conclusion:
    return conclude(Hash(), Hash(2e4))


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def told(condition: Any) -> Any:
    """Above chance, and something besides."""
    return lambda said: (
        all(span(said, m)[0] > (said["accuracy"].chance or 1) for m in intervals_of(said)) and condition(said)
    )


def intervals_of(said: Conclusion) -> list[str]:
    return [m.name for m in said.measures if m.name == "accuracy"]


def beyond(name: str, condition: Any) -> Any:
    return told(lambda said: condition(*span(said, name)))


CHANCE = 0.5

sayable("layer_probe", "nothing", lambda said: said["accuracy"].value is None, lambda: of(0, 0, n=3))
sayable("layer_probe", "told", told(lambda _: True), held_by_the_first_layer)
sayable(
    "layer_probe",
    "untold",
    lambda said: span(said, "accuracy")[0] <= CHANCE and span(said, "accuracy")[1] < CHANCE + MARGIN,
    lambda: of(NOISE, NOISE, n=8000),
)
sayable(
    "layer_probe",
    "unsure",
    lambda said: span(said, "accuracy")[0] <= (said["accuracy"].chance or 1) <= span(said, "accuracy")[1] - MARGIN,
    lambda: of(NOISE, NOISE, n=60),
)
sayable("layer_probe", "learned", beyond("learned", lambda low, _: low > 0), lambda: of(0, 0, NOISE))
sayable(
    "layer_probe",
    "not_learned",
    beyond("learned", lambda low, high: low <= 0 and high < MARGIN),
    lambda: of(0, 0, 0, 400),
)
sayable(
    "layer_probe",
    "learned_unsure",
    beyond("learned", lambda low, high: low <= 0 and high >= MARGIN),
    lambda: of(0.5, 0.5, 0.5),
)
sayable("layer_probe", "deeper", beyond("deeper", lambda low, _: low > 0), lambda: of(NOISE, 0))
sayable("layer_probe", "shallower", beyond("deeper", lambda _, high: high < 0), lambda: of(0, NOISE))
sayable(
    "layer_probe",
    "same_depth",
    beyond("deeper", lambda low, high: -MARGIN <= low <= high <= MARGIN),
    lambda: of(0, 0, n=400),
)
sayable(
    "layer_probe",
    "depth_unsure",
    beyond("deeper", lambda low, high: low <= 0 <= high and high - low > 2 * MARGIN),
    lambda: of(0.5, 0.5),
)
