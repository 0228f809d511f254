"""The network of Zeiler and Fergus 2014, its variants, and that of Krizhevsky et al. 2012."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cuescope.training.recipe import Recipe, Trained
from cuescope.training.settings import Progress, ZFNetSettings

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet


def fit(settings: ZFNetSettings, images: ImageSet, progress: Progress) -> Trained:
    """The same images and settings give the same weights on the same machine."""
    from cuescope.training.zfnet import fit_zfnet

    return fit_zfnet(settings, images, progress)


ABOUT = """
ZFNet, a variant of it or the network of 2012 on your own labeled images, as Zeiler and Fergus trained it.

`--set variant=zfnet-without-3-4` trains the network of table 3 without layers 3 and 4, and so on: what layers are worth
when the others may make up for them. 58 million weights want a GPU and many images; docs/ablation.md has the table of
an eighth as wide networks on the built-in world.
"""

RECIPES = (Recipe("zfnet", ABOUT, ZFNetSettings(), fit, frozenset({"label"})),)
