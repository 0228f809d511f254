"""ZFNet (Zeiler and Fergus 2014) and its variants."""

from typing import Any

from cuescope.training.recipe import LABELED, Recipe, later
from cuescope.training.settings import ZFNetSettings

SMALL: dict[str, Any] = {
    **{"size_px": 64, "epochs": 16, "batch": 32, "optimizer": "adamw", "learning_rate": 1e-3, "warmup_epochs": 1.0},
    "weight_decay": 0.01,
}
"""Not the paper's own training, by which so small a network does not leave chance in minutes."""

RECIPES = (
    Recipe(
        "zfnet",
        """ZFNet, a variant of it or the network of 2012 on your own labeled images, as Zeiler and Fergus trained it.

        The square of the middle of 256 px, one of its ten crops of 224 px; SGD with 128 images a step, momentum .9,
        learning rate .01, dropout .5, 70 epochs; a convolution's filter whose root mean square exceeds .1 is scaled
        back to that (section 3). The paper lowers the learning rate by hand where the error stays; here it falls along
        a half cosine. It gives no weight decay; 5e-4 is that of Krizhevsky et al. 2012.
        `--set variant=zfnet-without-3-4` trains the network of table 3 without layers 3 and 4, and so on: what layers
        are worth when the others may make up for them. 58 million weights want a GPU and many images; docs/ablation.md
        has the table of an eighth as wide networks on the built-in world. Published error on ImageNet, ten crops
        (table 2): one network 38.4 % top-1 and 16.5 % top-5, five 36.7 and 15.3 %, six 36.0 and 14.7 %.
        """,
        ZFNetSettings(),
        later("cuescope.training.fit:fit_network"),
        needs=LABELED,
        small=ZFNetSettings(**SMALL, variant="zfnet-small"),
        in_folder=True,
    ),
)
