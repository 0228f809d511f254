"""Networks of torchvision by name."""

import re
from typing import Any

from torch import nn

from cuescope.classifier.sources import hub
from cuescope.classifier.sources.found import RANDOM, Asked, Found
from cuescope.classifier.sources.weights import State, fit, read
from cuescope.core.errors import unknown
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.seeding import seeded

AUXILIARY = ("aux", "AuxLogits")
"""Heads of GoogLeNet and Inception that only training uses; many files leave them out."""


def names() -> tuple[str, ...]:
    """All of torchvision's classifiers."""
    return tuple(f"torchvision/{name}" for name in _names())


def find(name: str, asked: Asked) -> Found:
    """A network of torchvision, trained, with weights from a file, or random. Raises CueError.

    A name may say which of several published weights is meant, as in "resnet50.IMAGENET1K_V1". Without that it
    is the best one for weights from the hub, and the first one, for its preprocessing, where a file is given.
    """
    weights = asked.weights
    architecture, _, tag = name.partition(".")
    if architecture not in _names():
        raise unknown("model", f"torchvision/{name}", names())
    entry = _entry(architecture, tag, fetch=not weights)
    how = _preprocessing(entry)

    def build(classes: int | None) -> nn.Module:
        return seeded(asked.seed, lambda: _network(architecture, how, classes, trained=weights != RANDOM))

    if weights == RANDOM:
        return Found(build(None), preprocessing=how, notes=("untrained: random weights",))
    if weights:
        network, notes = fit(build, read(weights), weights, AUXILIARY)
        return Found(network, preprocessing=how, notes=notes)
    with hub.fetching(f"torchvision/{name}"):
        file = hub.checkpoint(entry.url)
    return Found(fit(build, _densenet(read(file)), entry.url, AUXILIARY)[0], preprocessing=how)


def preprocessing_named(name: str) -> Preprocessing:
    """What torchvision's own evaluation does for a network of this name; no weights are fetched. Raises CueError."""
    architecture, _, tag = name.partition(".")
    if architecture not in _names():
        raise unknown("model", f"torchvision/{name}", names())
    return _preprocessing(_entry(architecture, tag, fetch=False))


def _names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _entry(architecture: str, tag: str, fetch: bool) -> Any:
    import torchvision

    entries = torchvision.models.get_model_weights(architecture)
    if tag:
        if tag not in entries.__members__:
            raise unknown("weights", f"torchvision/{architecture}.{tag}", [f"{e.name}" for e in entries])
        return entries[tag]
    return entries["DEFAULT"] if fetch else next(iter(entries))


def _preprocessing(entry: Any) -> Preprocessing:
    how = entry.transforms()
    (side,), (resize,), mean, std = how.crop_size, how.resize_size, tuple(how.mean), tuple(how.std)
    return Preprocessing((side, side), resize, how.interpolation.value, mean, std, f"torchvision's {entry}")


def _network(architecture: str, how: Preprocessing, classes: int | None, trained: bool) -> nn.Module:
    import torchvision

    builder = torchvision.models.get_model_builder(architecture)
    settings: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if architecture.startswith("vit_"):
        settings["image_size"] = how.size[0]
    if architecture in ("googlenet", "inception_v3"):
        # Their published weights take inputs scaled as in their first framework, not torchvision's.
        settings |= {"init_weights": not trained, "transform_input": trained}
    return builder(weights=None, **settings)


def _densenet(state: State) -> State:
    """The published DenseNets carry names of before 2017: denselayer1.norm.1.weight is norm1.weight now."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return State({pattern.sub(r"\1\2", key): value for key, value in state.items()}, state.notes)
