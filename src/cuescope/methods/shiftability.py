"""How far pooled features change as the image moves, and at which layers to look (Azulay & Weiss 2019)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import unknown


def subsampling(classifier: Classifier, layer: str) -> int:
    """Pixels of the input for one position of a layer, along a side. Raises CueError for an unknown layer."""
    if layer not in classifier.layers:
        raise unknown("layer", layer, classifier.layers)
    stride = classifier.receptive_fields[layer].stride_px
    # Where strides cannot be followed, as those of tokens, the number of positions gives it.
    return stride or max(1, round(max(classifier.preprocessing.size) / max(classifier.layer(layer).size)))


def usual_layers(classifier: Classifier) -> list[str]:
    """The last layer of each subsampling factor, all nested as deep as the layers that know most factors.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> usual_layers(Classifier(net))
    ['1', '2']
    """
    by_depth: dict[int, dict[int, str]] = {}
    for name in classifier.layers:
        by_depth.setdefault(name.count("."), {})[subsampling(classifier, name)] = name
    chosen = max((by_depth[depth] for depth in sorted(by_depth)), key=len, default={})
    return [chosen[factor] for factor in sorted(chosen)]


def energies(
    views: NDArray[Any], shifts: Sequence[int], pairs: int, factor: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Per image: the squared change under one pixel, the part without subsampling, the squared distance to others.

    `views` are pooled features (n, V, C) at these shifts, of which the first are 0 to `pairs`.

    >>> moving = np.array([[[0.0], [1.0], [0.0]], [[2.0], [3.0], [2.0]]])
    >>> [part.tolist() for part in energies(moving, [0, 1, 2], pairs=2, factor=2)]
    [[1.0, 1.0], [0.0, 0.0], [4.0, 4.0]]
    """
    n = len(views)
    steps = (np.diff(views[:, : pairs + 1], axis=1) ** 2).sum(2).mean(1)
    whole = views[:, list(shifts).index(factor)] - views[:, 0]
    dense = (whole**2).sum(1) / factor**2 if factor > 1 else steps
    # The mean of these is that of the squared distances of all pairs of images.
    apart = 2 * n / max(n - 1, 1) * ((views[:, 0] - views[:, 0].mean(0)) ** 2).sum(1)
    return steps, dense, apart
