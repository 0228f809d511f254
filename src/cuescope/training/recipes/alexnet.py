"""The network of Krizhevsky et al. 2012."""

from cuescope.training.recipe import LABELED, Recipe, later
from cuescope.training.recipes.zfnet import SMALL
from cuescope.training.settings import ZFNetSettings

RECIPES = (
    Recipe(
        "alexnet",
        """AlexNet on your own labeled images, as Krizhevsky, Sutskever and Hinton trained it in 2012.

        The square of the middle of 256 px, any crop of 224 px of it, mirrored or not, noise along the principal
        components of the colors (.1); SGD with 128 images a step, momentum .9, weight decay 5e-4, dropout .5, 90
        epochs. The learning rate .01 is divided by 10 three times; the paper does so by hand where the error stays,
        here each 23 epochs. First weights are He's unless `--set initial=paper`, which has biases of 0 where the
        paper's are 1 in some layers. Published error on ImageNet, ten crops: top-1 40.7 %, top-5 18.2 %.
        """,
        ZFNetSettings(
            variant="alexnet-2012",
            epochs=90,
            schedule="step",
            drop_every=23,
            crops="any",
            filter_rms=float("inf"),
            lighting=0.1,
        ),
        later("cuescope.training.fit:fit_network"),
        needs=LABELED,
        small=ZFNetSettings(**SMALL, variant="alexnet-small", crops="any", filter_rms=float("inf")),
        in_folder=True,
    ),
)
