"""BagNets (Brendel and Bethge 2019)."""

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import NetworkSettings

RECIPES = (
    Recipe(
        "bagnet",
        """A BagNet on your own labeled images: it sees patches of 33 px, 17 or 9 at a time and averages what they say.

        The 90-epoch protocol with the learning rate .01 in place of .1, divided by 10 each 30 epochs, 256 images a step
        (Brendel and Bethge 2019, appendix). `--model cuescope/bagnet9@random` and `bagnet17@random` see less.
        Published on ImageNet, top-5: BagNet-33 87.6 %, BagNet-17 80.5 %, BagNet-9 70.0 %; top-1 of the released weights
        66.7, 58.8 and 46.4 %.
        """,
        NetworkSettings(model="cuescope/bagnet33@random", learning_rate=0.01),
        later("cuescope.training.fit:fit_network"),
        needs=LABELED,
        small=NetworkSettings(**{**SMALL, "model": "cuescope/world-bagnet@random"}),
        in_folder=True,
    ),
)
