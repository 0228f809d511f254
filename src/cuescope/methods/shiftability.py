"""How far pooled features change as the image moves, and at which layers to look (Azulay & Weiss 2019)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.models.circular import circular

ALIKE = 1e-3
"""Of the largest pooled feature: a layer that is changed by less is not changed."""


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


def without_border(classifier: Classifier) -> Classifier | str:
    """The classifier with the same weights and no borders (`models.circular`), or why there is none."""
    network = classifier.torch_network("layers")
    try:
        control = circular(network)
        how = {"device": classifier.device, "batch_size": classifier.batch_size, "precision": classifier.precision}
        return Classifier(
            control,
            classes=classifier.classes,
            preprocessing=classifier.preprocessing,
            name=f"{classifier.name} without borders",
            fold=False,
            owned=True,
            **how,
        )
    except (CueError, RuntimeError) as error:  # the network's own code, which may not take maps of other sizes
        return f"its padding cannot be made circular: {str(error).splitlines()[0]}"


def unfit(classifier: Classifier, control: Classifier | str, layers: Mapping[str, int]) -> dict[str, str]:
    """Of each layer why the control says nothing of it, or "": a cyclic shift by its stride must change nothing.

    `layers` are their names with their pixels a position.
    """
    if isinstance(control, str):
        return dict.fromkeys(layers, control)
    size = classifier.preprocessing.size
    noise, found = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)), {}
    for name, factor in layers.items():
        if name not in control.layers or any(side % factor for side in size):
            found[name] = f"the input is not divisible by its {factor} px a position"
            continue
        views = torch.cat([noise, noise.roll((factor, factor), (2, 3))]).to(classifier.device)
        one, other = control.features(views, [name])[name].mean((2, 3)).double()
        gap = (one - other).abs().max() / one.abs().max().clamp_min(1e-12)
        found[name] = "" if gap < ALIKE else "it tells the places of its map apart"
    return found


def seamless(images: Tensor) -> Tensor:
    """Images (B, C, H, W) whose outer eighths fade to their mean color, so that opposite sides meet without an edge.

    >>> seamless(torch.arange(16.0).reshape(1, 1, 1, 16))[0, 0, 0, [0, 1, 8]].tolist()
    [7.5, 4.25, 8.0]
    """
    mean = images.mean((2, 3), keepdim=True)
    height, width = (_fade(side).to(images.device) for side in images.shape[2:])
    return mean + (images - mean) * height[:, None] * width


def _fade(side: int) -> Tensor:
    """(side,) from 0 at the borders to 1, along a raised cosine; 1 everywhere where there is no room for it."""
    place = torch.arange(side)
    near = torch.minimum(place, side - 1 - place) / max(1, side // 8)
    return 0.5 - 0.5 * torch.cos(torch.pi * near.clamp(max=1)) if side >= 8 else torch.ones(side)


def energies(views: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Per image: the mean squared change from view to view, and the squared distance to others.

    `views` are pooled features (n, V, C) of V views that lie one pixel apart each.

    >>> moving = np.array([[[0.0], [1.0], [0.0]], [[2.0], [3.0], [2.0]]])
    >>> [part.tolist() for part in energies(moving)]
    [[1.0, 1.0], [4.0, 4.0]]
    """
    n = len(views)
    steps = (np.diff(views, axis=1) ** 2).sum(2).mean(1)
    # The mean of these is that of the squared distances of all pairs of images.
    apart = 2 * n / max(n - 1, 1) * ((views[:, 0] - views[:, 0].mean(0)) ** 2).sum(1)
    return steps, apart
