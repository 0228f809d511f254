"""Networks that blur before they subsample (Zhang 2019)."""

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import NetworkSettings

FIT = later("cuescope.training.fit:fit_network")

RECIPES = (
    Recipe(
        "blurpool",
        """A network that blurs before it subsamples, from new weights: steadier under shifts.

        The 90-epoch protocol for `NAME+blur4@random`; `+blur2`, `+blur3` and `+blur5` are the other published filters.
        AlexNet and VGG-16 take the learning rate .01, VGG-16 with batch norms .05; MobileNetV2 .05 along a half cosine
        over 150 epochs, weight decay 4e-5; large networks `--set grain=128`.
        Published top-1 / consistency under shifts on ImageNet: ResNet-50 76.2 / 89.2 %, with blurs of size 3 76.8 /
        90.9, 4 77.2 / 91.3; ResNet-18 69.7 / 85.1, 4: 71.5 / 88.1; AlexNet 56.6 / 78.2, 4: 56.7 / 82.5.
        """,
        NetworkSettings(model="torchvision/resnet50+blur4@random"),
        FIT,
        needs=LABELED,
        small=NetworkSettings(**{**SMALL, "model": "cuescope/world-congruent+blur4@random"}),
        in_folder=True,
    ),
    Recipe(
        "blurpool-fine-tuned",
        """A trained network made to blur before it subsamples, its weights carried over, and trained on.

        60 epochs, learning rate .01 divided by 10 each 30, else as the 90-epoch protocol.
        Published top-1 / consistency, before and after with filters of size 4: ResNet-50 76.2 / 89.2 to 77.4 / 91.3 %,
        ResNet-18 69.7 / 85.1 to 71.7 / 88.4, VGG-16 71.6 / 88.5 to 73.0 / 90.9, AlexNet 56.6 / 78.2 to 56.9 / 83.3.
        """,
        NetworkSettings(model="torchvision/resnet50.IMAGENET1K_V1+blur4", epochs=60, learning_rate=0.01),
        FIT,
        needs=LABELED,
        small=NetworkSettings(
            **{**SMALL, "model": "cuescope/world-congruent+blur4", "epochs": 4, "learning_rate": 1e-3}
        ),
        in_folder=True,
    ),
)
