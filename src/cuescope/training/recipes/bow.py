"""The classical baseline: a bag of visual words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cuescope.training.recipe import Recipe, Trained
from cuescope.training.settings import Progress, WordSettings

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet


def fit(settings: WordSettings, images: ImageSet, progress: Progress) -> Trained:
    """The same images and settings give the same words."""
    from cuescope.training.bow import fit_words

    return fit_words(settings, images, progress)


ABOUT = """
A bag of visual words on your own labeled images: the classical baseline, in minutes, without a GPU.

It knows which small patches an image consists of and nothing else, so what it gets right needs no shape.
"""

RECIPES = (Recipe("bow", ABOUT, WordSettings(), fit, frozenset({"label"})),)
