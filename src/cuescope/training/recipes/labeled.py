"""What learns from the user's own labeled images: a bag of visual words, ZFNet and its variants."""

from cuescope.training.recipe import Recipe, later
from cuescope.training.settings import WordSettings, ZFNetSettings

RECIPES = (
    Recipe(
        "bow",
        """A bag of visual words on your own labeled images: the classical baseline, in minutes, without a GPU.

        It knows which small patches an image consists of and nothing else, so what it gets right needs no shape.
        """,
        WordSettings(),
        later("cuescope.training.bow:fit_words"),
        needs=frozenset({"label"}),
    ),
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
