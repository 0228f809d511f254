"""Trainings on stylized images (Geirhos et al. 2019): A, B and C of the authors' README."""

from typing import Any

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import NetworkSettings, StylizedNetwork

PRETRAINED = "torchvision/resnet50.IMAGENET1K_V1"
TRAINED_ON: dict[str, Any] = {**SMALL, "model": "cuescope/world-congruent", "learning_rate": 1e-3}
FIT = later("cuescope.training.fit:fit_network")

RECIPES = (
    Recipe(
        "stylized-a",
        """A trained network on stylized images alone, in which only the shape tells the class (SIN).

        60 epochs from ImageNet's weights, learning rate .1 divided by 10 each 20, 256 images a step, weight decay 1e-4.
        `--stylized FOLDER` holds what `cuescope make stylized` made of the images; what is held back is tried
        unstylized. For BagNets give `--model`. AlexNet takes the learning rate .001, VGG-16 .01.
        Published for ResNet-50: 60.2 % top-1 and 82.6 % top-5 on ImageNet, 79.0 % top-5 on SIN; shape bias 22 to 81 %.
        BagNet-33, -17 and -9: 48.9, 29.3 and 10.0 % top-5 on SIN.
        """,
        StylizedNetwork(model=PRETRAINED, epochs=60, drop_every=20),
        FIT,
        needs=LABELED,
        small=StylizedNetwork(**TRAINED_ON),
        in_folder=True,
    ),
    Recipe(
        "stylized-b",
        """A trained network on images and their stylized versions together (SIN + IN).

        45 epochs of both sets, one after the other as one, from ImageNet's weights; learning rate .1 divided by 10 each
        15, 256 images a step, weight decay 1e-4. `--stylized FOLDER` as for stylized-a.
        Published for ResNet-50: 74.6 % top-1 and 92.1 % top-5 on ImageNet; mCE 69.3.
        """,
        StylizedNetwork(model=PRETRAINED, epochs=45, drop_every=15, originals=True),
        FIT,
        needs=LABELED,
        small=StylizedNetwork(**{**TRAINED_ON, "epochs": 6}, originals=True),
        in_folder=True,
    ),
    Recipe(
        "stylized-c",
        """The network of stylized-b, trained on with images alone (SIN + IN, then IN: Shape-ResNet).

        60 epochs from the best weights of stylized-b (`--model RUN/best`), learning rate .01 divided by 10 after 30,
        256 images a step, weight decay 1e-4.
        Published for ResNet-50: 76.7 % top-1 and 93.3 % top-5 on ImageNet, above the 76.1 and 92.9 % of training on
        ImageNet alone; mCE 73.8.
        """,
        NetworkSettings(model="runs/stylized-b/best", epochs=60, learning_rate=0.01),
        FIT,
        needs=LABELED,
        small=NetworkSettings(**{**TRAINED_ON, "model": "runs/stylized-b/best", "learning_rate": 3e-4, "epochs": 4}),
        in_folder=True,
    ),
)
