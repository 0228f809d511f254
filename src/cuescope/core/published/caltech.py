"""Reference values on Caltech-101 and Caltech-256, by images of each class: as Zeiler & Fergus 2014 give them."""

from collections.abc import Mapping
from typing import Literal

from cuescope.core.findings import Published

Dataset = Literal["none", "caltech101", "caltech256"]

_SOURCE = "Zeiler and Fergus 2014, section 5: mean over classes, 5 folds, at most 50 of a class told"
_ACCURACY: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "caltech101": {
        "ImageNet features, layer 7": {15: 0.838, 30: 0.865},
        "the same network from scratch": {15: 0.228, 30: 0.465},
        "Bo et al. 2013": {30: 0.814},
        "Jianchao et al.": {15: 0.732, 30: 0.843},
    },
    "caltech256": {
        "ImageNet features, layer 7": {15: 0.657, 30: 0.706, 45: 0.727, 60: 0.742},
        "the same network from scratch": {15: 0.090, 30: 0.225, 45: 0.312, 60: 0.388},
        "Bo et al. 2013": {15: 0.405, 30: 0.480, 45: 0.519, 60: 0.552},
        "Sohn et al.": {15: 0.351, 30: 0.421, 45: 0.457, 60: 0.479},
    },
}

PROTOCOLS: Mapping[str, Mapping[str, object]] = {
    name: {"few_shot.counts": tuple(own["ImageNet features, layer 7"]), "few_shot.draws": 5, "few_shot.beside": name}
    for name, own in _ACCURACY.items()
}
"""The published folds and images a class, as settings of few_shot: its mean over classes and its limit are theirs."""


def curves(dataset: Dataset) -> Mapping[str, Mapping[int, float]]:
    """Accuracy by images of each class, of each one who gave it; none of another dataset.

    >>> curves("caltech256")["Bo et al. 2013"][60]
    0.552
    """
    return _ACCURACY.get(dataset, {})


def known_at(dataset: Dataset, count: int) -> tuple[Published, ...]:
    """What is published for so many images of each class.

    >>> [p.value for p in known_at("caltech101", 30)]
    [0.865, 0.465, 0.814, 0.843]
    """
    of = curves(dataset)
    return tuple(Published(who, own[count], _SOURCE) for who, own in of.items() if count in own)
