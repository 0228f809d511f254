"""Where published weights are, what their bytes are known by, and what they are loaded as."""

from typing import NamedTuple


class Weights(NamedTuple):
    """A file of weights that its authors publish."""

    url: str
    sha256: str
    """All of it, or as much as its address says: torch.hub writes the first 8 digits into names."""
    model: str
    """The name of the network that they are of; "" for a part of the AdaIN stylizer."""
    source: str


_BAGNETS = (
    "https://bitbucket.org/wielandbrendel/bag-of-feature-pretrained-models/raw/249e8fa82c0913623a807d9d35eeab9da7dcc2a8"
)
_SIN = "https://bitbucket.org/robert_geirhos/texture-vs-shape-pretrained-models/raw"
_ADAIN = "https://github.com/naoto0804/pytorch-AdaIN/releases/download/v0.0.0"
_LATER = f"{_SIN}/60b770e128fffcbd8562a3ab3546c1a735432d03/resnet50"
_BB, _GEIRHOS = "Brendel and Bethge 2019", "Geirhos et al. 2019, Stylized-ImageNet"
_HUANG = "Huang and Belongie 2017, converted by naoto0804/pytorch-AdaIN"

WEIGHTS = {
    "bagnet9": Weights(f"{_BAGNETS}/bagnet8-34f4ccd2.pth.tar", "34f4ccd2", "cuescope/bagnet9", _BB),
    "bagnet17": Weights(f"{_BAGNETS}/bagnet16-105524de.pth.tar", "105524de", "cuescope/bagnet17", _BB),
    "bagnet33": Weights(f"{_BAGNETS}/bagnet32-2ddd53ed.pth.tar", "2ddd53ed", "cuescope/bagnet33", _BB),
    "resnet50-sin": Weights(
        f"{_SIN}/6f41d2e86fc60566f78de64ecff35cc61eb6436f/resnet50_train_60_epochs-c8e5653e.pth.tar",
        "c8e5653e",
        "torchvision/resnet50",
        _GEIRHOS,
    ),
    "resnet50-sin-in": Weights(
        f"{_LATER}_train_45_epochs_combined_IN_SF-2a0d100e.pth.tar",
        "2a0d100e",
        "torchvision/resnet50",
        f"{_GEIRHOS} and ImageNet",
    ),
    "resnet50-sin-in-finetuned-in": Weights(
        f"{_LATER}_finetune_60_epochs_lr_decay_after_30_start_resnet50_train_45_epochs_combined_IN_SF-ca06340c.pth.tar",
        "ca06340c",
        "torchvision/resnet50",
        f"{_GEIRHOS} and ImageNet, then ImageNet",
    ),
    "vgg_normalised": Weights(
        f"{_ADAIN}/vgg_normalised.pth",
        "804ca2835ecf7539f0cd2a7ac3c18ce81e6f8468969ae7117ac0c148d286bb4a",
        "",
        _HUANG,
    ),
    "decoder": Weights(
        f"{_ADAIN}/decoder.pth", "379ca41d59f3a37eed3599bbbc2560c19da5c458870a5ffd3a9dd41aa88f9472", "", _HUANG
    ),
}
"""By the name that `cuescope get weights` knows: networks, and the encoder and decoder of the AdaIN stylizer."""
