"""What instruments have in common that ask what frozen features tell of the classes of the images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About
from cuescope.data.images import Batch
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed, where_labeled
from cuescope.methods.layer_features import LayerFeatures, before_answer, layers_of
from cuescope.methods.linear_probe import Features
from cuescope.methods.pace import pace
from cuescope.methods.probing import standard


@dataclass(frozen=True)
class Featured(Instrument):
    """An instrument that keeps features of some layers of each image, and its label among the images' own classes."""

    dimensions: int = 2048
    """Numbers kept of a layer: where it has more features, a random projection of them."""
    seed: int = 0
    """Of what is drawn: the images to learn from, the projection, the shuffled weights."""

    own_classes = True
    columns = {"id": pl.String, "label": pl.Int32, "features": pl.List(pl.Float32)}
    large = ("features",)

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ValueError("dimensions must be at least 1")

    def looked_at(self, classifier: Classifier) -> list[str]:
        """The layers; by default the last before the answer."""
        named = getattr(self, "layer", "")
        return [named] if named else before_answer(classifier, 8)[-1:]

    def start(self, classifier: Classifier) -> Observer:
        """The facts: of each layer its name, its depth from 0 to 1, and how many of its features are kept; the pace."""
        names = self.looked_at(classifier)
        if not names:
            raise Misfit("it has no layers before its answer")
        features = LayerFeatures.of(classifier, names, 1, self.dimensions, self.seed)
        other = features.shuffled(self.seed) if getattr(self, "control", False) else None
        facts = {"layers": features.facts, "pace": pace(classifier)}
        return Observer(partial(self._rows, features, other), features.watch, facts)

    def _rows(self, features: LayerFeatures, other: LayerFeatures | None, batch: Batch) -> Rows:
        """Per image: its label among the images' classes, and its features, layer after layer."""
        known = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        return self.table(known | features.columns(batch, other))

    def standard(
        self, rows: Rows, about: About, images: NDArray[np.int64], name: str = "features"
    ) -> Iterator[Features]:
        """The standardized features of these images, layer after layer; none where nothing was kept under this name."""
        return map(standard, layers_of(rows, about, name, images))


@dataclass(frozen=True)
class Controlled(Featured):
    """One that looks at the same network with its weights shuffled, too."""

    control: bool = True
    """Whether the network with shuffled weights is looked at too, which takes a second forward pass."""

    columns = {**Featured.columns, **typed(pl.List(pl.Float32), "shuffled")}
    large = ("features", "shuffled")
