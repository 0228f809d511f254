"""A bag of visual words on your own labeled images: the classical baseline, in minutes, without a GPU.

It knows which small patches an image consists of and nothing else, so what it gets right needs no shape.
"""

from __future__ import annotations

from cuescope.data.images import ImageSet
from cuescope.training.bow import Fitted, Settings, fit
from cuescope.training.loop import Told

IMAGES = True
NAME = "bow"
SETTINGS = Settings()


def run(images: ImageSet, show: Told | None = None, settings: Settings | None = None) -> Fitted:
    """Fit it to the images; the same images and settings give the same words."""
    return fit(images, settings or SETTINGS, show)
