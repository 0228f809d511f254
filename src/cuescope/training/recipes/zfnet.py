"""ZFNet, a variant of it or the network of 2012 on your own labeled images, as Zeiler and Fergus trained it.

`--set variant=zfnet-without-3-4` trains the network of table 3 without layers 3 and 4, and so on: what layers are worth
when the others may make up for them. 58 million weights want a GPU and many images; docs/ablation.md has the table of
an eighth as wide networks on the built-in world.
"""

from __future__ import annotations

from cuescope.data.images import ImageSet
from cuescope.training.loop import Told
from cuescope.training.zfnet import Settings, Trained, fit

IMAGES = True
NAME = "zfnet"
SETTINGS = Settings()


def run(images: ImageSet, show: Told | None = None, settings: Settings | None = None) -> Trained:
    """Train it on the images; the same images and settings give the same weights on the same machine."""
    return fit(images, settings or SETTINGS, show)
