"""Stronger augmentation by crops (Azulay and Weiss 2019)."""

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import NetworkSettings

RECIPES = (
    Recipe(
        "crops",
        """A trained network on crops of .3 to .8 of the image, trained on: steadier under shifts, in part.

        What the authors' code takes for random resized crops, where usual is .08 to 1. They call it only a partial
        solution and publish no numbers of it; learning rate .01 and 60 epochs, divided by 10 each 30, are those of
        blurpool-fine-tuned. Compare with `--set least=.08 --set most=1`.
        """,
        NetworkSettings(model="torchvision/resnet50.IMAGENET1K_V1", epochs=60, learning_rate=0.01, least=0.3, most=0.8),
        later("cuescope.training.fit:fit_network"),
        needs=LABELED,
        small=NetworkSettings(
            **{**SMALL, "model": "cuescope/world-congruent", "epochs": 4, "learning_rate": 1e-3, "least": 0.3},
            most=0.8,
        ),
        in_folder=True,
    ),
)
