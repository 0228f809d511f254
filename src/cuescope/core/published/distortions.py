"""What people and two networks make of distorted images: accuracies of others, by distortion and level.

Counted from the trial-by-trial answers that Geirhos et al. publish: those of people are of 2018, those of ResNet-50
trained on ImageNet and on Stylized-ImageNet of 2019. All are shares of right answers in a choice
among the 16 categories, on the authors' own gray images of 224 px, equally many of each category.
"""

from __future__ import annotations

from collections.abc import Mapping

PEOPLE, RESNET, STYLIZED = "people", "ResNet-50", "ResNet-50 trained on Stylized-ImageNet"
SOURCE = "trial data of Geirhos et al. 2018 (people) and 2019 (networks), 16 categories"
CHANCE = 1 / 16

_INF = float("inf")
_LEVELS: dict[str, tuple[float, ...]] = {
    "uniform-noise": (0, 0.03, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9),
    "contrast": (100, 50, 30, 15, 10, 5, 3, 1),
    "low-pass": (0, 1, 3, 5, 7, 10, 15, 40),
    "high-pass": (_INF, 3, 1.5, 1, 0.7, 0.55, 0.45, 0.4),
    "phase-noise": (0, 30, 60, 90, 120, 150, 180),
    "rotation": (0, 90, 180, 270),
    "eidolon-1": (1, 2, 4, 8, 16, 32, 64, 128),
    "eidolon-0.3": (1, 2, 4, 8, 16, 32, 64, 128),
    "eidolon-0": (1, 2, 4, 8, 16, 32, 64, 128),
}
_SHARES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "uniform-noise": (
        (0.805, 0.796, 0.781, 0.751, 0.609, 0.456, 0.168, 0.060),
        (0.887, 0.804, 0.710, 0.384, 0.110, 0.065, 0.062, 0.062),
        (0.852, 0.827, 0.769, 0.659, 0.457, 0.236, 0.081, 0.063),
    ),
    "contrast": (
        (0.917, 0.881, 0.875, 0.819, 0.760, 0.546, 0.310, 0.083),
        (0.958, 0.948, 0.930, 0.836, 0.755, 0.528, 0.313, 0.069),
        (0.911, 0.874, 0.861, 0.825, 0.803, 0.769, 0.662, 0.369),
    ),
    "low-pass": (
        (0.859, 0.808, 0.718, 0.583, 0.485, 0.312, 0.185, 0.077),
        (0.966, 0.917, 0.613, 0.320, 0.183, 0.135, 0.079, 0.061),
        (0.891, 0.829, 0.276, 0.191, 0.138, 0.116, 0.098, 0.057),
    ),
    "high-pass": (
        (0.847, 0.819, 0.731, 0.662, 0.498, 0.319, 0.097, 0.069),
        (0.950, 0.756, 0.351, 0.149, 0.105, 0.089, 0.075, 0.074),
        (0.898, 0.745, 0.705, 0.641, 0.609, 0.593, 0.502, 0.398),
    ),
    "phase-noise": (
        (0.836, 0.815, 0.738, 0.574, 0.308, 0.092, 0.070),
        (0.961, 0.926, 0.795, 0.523, 0.175, 0.090, 0.076),
        (0.893, 0.867, 0.816, 0.628, 0.281, 0.086, 0.084),
    ),
    "rotation": (
        (0.848, 0.785, 0.764, 0.791),
        (0.955, 0.634, 0.718, 0.620),
        (0.897, 0.470, 0.519, 0.471),
    ),
    "eidolon-1": (
        (0.860, 0.861, 0.831, 0.752, 0.502, 0.291, 0.120, 0.074),
        (0.928, 0.891, 0.753, 0.369, 0.156, 0.113, 0.103, 0.062),
        (0.884, 0.878, 0.841, 0.656, 0.325, 0.150, 0.091, 0.075),
    ),
    "eidolon-0.3": (
        (0.875, 0.844, 0.790, 0.598, 0.225, 0.120, 0.083, 0.072),
        (0.928, 0.891, 0.681, 0.259, 0.094, 0.081, 0.072, 0.062),
        (0.881, 0.863, 0.800, 0.625, 0.200, 0.103, 0.056, 0.062),
    ),
    "eidolon-0": (
        (0.834, 0.812, 0.685, 0.406, 0.140, 0.077, 0.065, 0.058),
        (0.919, 0.878, 0.463, 0.147, 0.072, 0.062, 0.066, 0.062),
        (0.856, 0.838, 0.756, 0.419, 0.175, 0.075, 0.069, 0.041),
    ),
}


def published(distortion: str) -> Mapping[str, Mapping[float, float]]:
    """Who was right how often, by level; nothing for a distortion of which nothing is known.

    >>> published("contrast")[PEOPLE][5]
    0.546
    """
    shares = _SHARES.get(distortion, ())
    return {
        who: dict(zip(_LEVELS[distortion], values, strict=True))
        for who, values in zip((PEOPLE, RESNET, STYLIZED), shares, strict=False)
    }
