"""Features of a few layers over the depth of a network, pooled and projected to few numbers, in the clean pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core.findings import About
from cuescope.core.matrix import Column, Matrix
from cuescope.data.images import Batch
from cuescope.network.executor import trial
from cuescope.network.first_convolutions import last_weights
from cuescope.network.hooks import KEEP_SHAPE
from cuescope.network.shuffled_weights import shuffled

LEAST_LAYERS = 4
"""The layers are those of the outermost level of nesting that has so many."""


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """What some layers of a classifier give, averaged over the cells of a grid and projected at random.

    >>> from torch import nn
    >>> net = Classifier(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    >>> features = LayerFeatures.of(net, names=("0", "4"), grid=2, dimensions=10)
    >>> features.facts[1], len(features.of_batch(unseen(torch.rand(1, 3, 224, 224)))[0])
    ({'name': '4', 'depth': 1.0, 'features': 12, 'kept': 10}, 20)
    """

    classifier: Classifier
    watch: tuple[Watch, ...]
    maps: tuple[Tensor | None, ...]
    """Of each layer what projects its features, (features, kept); None where all are kept as they are."""
    facts: list[dict[str, Any]]
    """Of each layer its name, its depth from 0 to 1, how many features it has, and how many numbers are kept."""

    @classmethod
    def of(
        cls, classifier: Classifier, names: Sequence[str], grid: int, dimensions: int, seed: int = 0
    ) -> LayerFeatures:
        """Raises CueError for an unknown layer, with the nearest names."""
        watch = tuple((classifier.layer(name).name, partial(_pooled, grid=grid)) for name in names)
        trial = torch.rand(1, 3, *classifier.preprocessing.size, generator=torch.Generator().manual_seed(0))
        wide = [kept.shape[1] for kept in classifier.watch(unseen(trial.to(classifier.device)), watch).values()]
        depth = {name: round((i + 1) / len(classifier.layers), 2) for i, name in enumerate(classifier.layers)}
        facts = [
            {"name": name, "depth": depth.get(name, 1.0), "features": n, "kept": min(n, dimensions)}
            for name, n in zip(names, wide, strict=True)
        ]
        random = torch.Generator().manual_seed(seed)
        return cls(classifier, watch, tuple(_projection(n, dimensions, random) for n in wide), facts)

    def shuffled(self, seed: int = 0) -> LayerFeatures:
        """The same layers and projections of the same network with its weights shuffled."""
        mine = self.classifier
        how = {"classes": mine.classes, "preprocessing": mine.preprocessing, "device": mine.device, "name": mine.name}
        network = shuffled(mine.torch_network("features"), seed)
        other = Classifier(network, owned=True, fold=False, precision=mine.precision, **how)
        return LayerFeatures(other, self.watch, self.maps, self.facts)

    def of_batch(self, batch: Batch) -> np.ndarray[Any, Any]:
        """(B, all kept) float32, layer after layer: from the clean pass, where the layers were watched in it."""
        kept = self.classifier.watch(batch, self.watch).values()
        # In float64, so that a product does not depend on the batch it is in.
        layers = [
            found if matrix is None else (found.double() @ matrix.double()).float()
            for found, matrix in zip(kept, self.maps, strict=True)
        ]
        return torch.cat(layers, 1).numpy()

    def columns(self, batch: Batch, control: LayerFeatures | None) -> dict[str, Any]:
        """The columns "features", and "shuffled" of the `control` where there is one."""
        own = {"features": self.of_batch(batch)}
        return own | ({"shuffled": control.of_pixels(batch)} if control else {})

    def of_pixels(self, batch: Batch) -> np.ndarray[Any, Any]:
        """The same in a pass of its own."""
        return self.of_batch(unseen(batch.pixels))


def usual_layers(classifier: Classifier, most: int) -> list[str]:
    """At most so many of the layers that compute something, as `spread` says."""
    network = classifier.network
    assert network is not None
    computing = [n for n in classifier.layers if not isinstance(network.get_submodule(n), KEEP_SHAPE)]
    return spread(computing, most)


def before_answer(classifier: Classifier, most: int) -> list[str]:
    """At most so many layers before the one that gives the answer, from the first to the last, as `spread` says.

    The last is what the answer is made of: a vector where one of the network's own comes in between, a class token say.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    >>> before_answer(Classifier(net), 4)
    ['0', '1']
    """
    network = classifier.torch_network("features")
    images = classifier.normalize(trial(classifier.preprocessing, 2))
    answer = last_weights(network, images) or ""
    names = [*classifier.layers, *classifier.vectors]
    # Where no layer has weights before the answer, all are looked at.
    names = (names[: names.index(answer)] if answer in names else names) or names
    maps = [name for name in names if name in classifier.layers and not answer.startswith(f"{name}.")]
    vectors = [name for name in names if name not in classifier.layers]
    found = spread([n for n in maps if not isinstance(network.get_submodule(n), KEEP_SHAPE)], most)
    if not vectors or not found:
        return found or vectors[-1:]
    tried = unseen(trial(classifier.preprocessing).to(classifier.device))
    last, vector = classifier.watch(tried, [(found[-1], pooled), (vectors[-1], pooled)]).values()
    same = last.shape == vector.shape and torch.allclose(last, vector, rtol=1e-3, atol=1e-4)
    return found if same else [*spread(found, most - 1), vectors[-1]]


def spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many layers of the outermost level of nesting that has a few, from the first to the last.

    >>> spread(["stem", "body", "body.0", "body.1", "body.2", "body.3", "body.4"], 3)
    ['body.0', 'body.2', 'body.4']
    """
    levels: dict[int, list[str]] = {}
    for name in names:
        levels.setdefault(name.count("."), []).append(name)
    few = max(levels.values(), key=len, default=[])
    level = next((levels[depth] for depth in sorted(levels) if len(levels[depth]) >= LEAST_LAYERS), few)
    places = np.linspace(0, len(level) - 1, min(most, len(level))).round().astype(int)
    return [level[place] for place in places]


def layers_of(rows: pl.DataFrame, about: About, name: str, images: NDArray[np.int64]) -> Iterator[Matrix]:
    """What `of_batch` gave of these images, in increasing order: a table for each layer, none where rows are null."""
    column = column_of(rows, about, name)
    ends = np.cumsum([0, *(layer["kept"] for layer in about.facts["layers"])]).tolist()
    if not next(column.parts(), np.empty((0, 0))).size:
        return
    for start, end in pairwise(ends):
        parts = (part[:, start:end] for part in chosen(column.parts(), images))
        yield Matrix.of(parts, len(images), end - start, folder=column.folder)


def column_of(rows: pl.DataFrame, about: About, name: str) -> Column:
    """A column of lists of numbers: one that is too large for the rows, or one of these."""
    return about.large.get(name) or Column(lambda: _lists(rows[name]))


def chosen(parts: Iterable[np.ndarray[Any, Any]], rows: NDArray[np.int64]) -> Iterator[np.ndarray[Any, Any]]:
    """Of parts of a table those of its rows that are in this increasing list."""
    at = 0
    for part in parts:
        low, high = np.searchsorted(rows, [at, at + len(part)])
        yield part[rows[low:high] - at]
        at += len(part)


def _lists(column: pl.Series, most: int = 4096) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(column), most):
        some = column[start : start + most].drop_nulls()
        yield some.explode().to_numpy().reshape(len(some), -1) if len(some) else np.empty((0, 0))


def pooled(maps: Tensor) -> Tensor:
    """(B, C, h, w) to their means (B, C)."""
    return _pooled(maps, 1)


def _pooled(maps: Tensor, grid: int) -> Tensor:
    """(B, C, h, w) to (B, C * grid * grid)."""
    return F.adaptive_avg_pool2d(maps.float(), grid).flatten(1)


def _projection(features: int, dimensions: int, random: torch.Generator) -> Tensor | None:
    """(features, dimensions), random; None where there are no more features."""
    if features <= dimensions:
        return None
    return torch.randn(features, dimensions, generator=random) / dimensions**0.5


def unseen(pixels: Tensor) -> Batch:
    """Pixels alone, of which nothing was watched."""
    nothing = torch.zeros(len(pixels), 0)
    return Batch((), pixels, nothing, nothing)
