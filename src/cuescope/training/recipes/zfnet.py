"""The network of Zeiler and Fergus 2014, its variants, and that of Krizhevsky et al. 2012."""

from __future__ import annotations

from cuescope.training.recipe import Recipe, later
from cuescope.training.settings import ZFNetSettings

RECIPES = (
    Recipe(
        "zfnet",
        """ZFNet, a variant of it or the network of 2012 on your own labeled images, as Zeiler and Fergus trained it.

        `--set variant=zfnet-without-3-4` trains the network of table 3 without layers 3 and 4, and so on: what layers
        are worth when the others may make up for them. 58 million weights want a GPU and many images; docs/ablation.md
        has the table of an eighth as wide networks on the built-in world.
        """,
        ZFNetSettings(),
        later("cuescope.training.zfnet:fit_zfnet"),
        needs=frozenset({"label"}),
    ),
)
