"""The 90-epoch protocol, for any network."""

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import NetworkSettings

RECIPES = (
    Recipe(
        "imagenet",
        """Any network on your own labeled images, as torchvision's were trained on ImageNet: the 90-epoch protocol.

        SGD with momentum .9 and weight decay 1e-4 of all weights, 256 images a step, learning rate .1 divided by 10
        each 30 epochs, random resized crops and mirroring, cross-entropy. AlexNet and VGG take the learning rate .01.
        Published: ResNet-50 76.1 % top-1 on ImageNet.
        """,
        NetworkSettings(),
        later("cuescope.training.fit:fit_network"),
        needs=LABELED,
        small=NetworkSettings(**SMALL),
        in_folder=True,
    ),
)
