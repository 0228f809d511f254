"""Trainings on label maps (Yun et al. 2021)."""

from typing import Any

from cuescope.training.recipe import LABELED, SMALL, Recipe, later
from cuescope.training.settings import RelabeledNetwork

PUBLISHED: dict[str, Any] = {
    **{"epochs": 300, "batch": 1024, "warmup_epochs": 5.0, "schedule": "cosine", "nesterov": True},
    **{"jitter": 0.4, "lighting": 0.1},
}
FIT = later("cuescope.training.fit:fit_network")

RECIPES = (
    Recipe(
        "relabel",
        """A network on random crops and what a label map says of each: several labels, and those of the crop (ReLabel).

        300 epochs, 1,024 images a step, SGD with Nesterov momentum .9, learning rate .1 that rises over 5 epochs and
        falls to 0 along a half cosine each step, weight decay 1e-4 of all weights; color jitter .4 and lighting .1; no
        average of weights. `--label-maps FOLDER` holds what `cuescope make label-maps` made of the images. Variants:
        `--set targets=local-single`, `global-multi`, `global-single` (label cleaning) and `label`, this one with
        `--set label_smoothing=.1` too.
        Published for ResNet-50 on ImageNet, top-1: label 77.5 %, label smoothing 78.0, label cleaning 78.1, ReLabel
        78.9; ResNet-18 72.5 (label 71.7), ResNet-101 80.7 (78.1).
        """,
        RelabeledNetwork(**PUBLISHED),
        FIT,
        needs=LABELED,
        small=RelabeledNetwork(**{**SMALL, "least": 0.08}),
        in_folder=True,
    ),
    Recipe(
        "relabel-cutmix",
        """ReLabel with CutMix: a rectangle of another image in each, and as much of what that teaches.

        As relabel, but with AdamP (betas .9 and .999, Nesterov), learning rate 2e-3, weight decay .01; all batches but
        those of the last 5 epochs are mixed, by Beta(1, 1).
        Published for ResNet-50 on ImageNet: 80.2 % top-1; ResNet-18 73.2, ResNet-101 81.6.
        """,
        RelabeledNetwork(**PUBLISHED, optimizer="adamp", learning_rate=2e-3, weight_decay=0.01, cutmix=1.0),
        FIT,
        needs=LABELED,
        small=RelabeledNetwork(
            **{**SMALL, "least": 0.08, "optimizer": "adamp"}, nesterov=True, cutmix=1.0, cutmix_off=1
        ),
        in_folder=True,
    ),
)
