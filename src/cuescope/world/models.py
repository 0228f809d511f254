"""The world's models, whose strategies are known: one uses both cues, one shape alone, two texture alone."""

from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from cuescope.core.errors import unknown
from cuescope.models.bagnet import BagNet
from cuescope.models.bow import BagOfWords
from cuescope.models.seeding import seeded
from cuescope.models.small_resnet import SmallResNet
from cuescope.world.images import CLASSES

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
"""What the models' inputs are normalized with, for pixels in 0..1."""
_ABOUT = {
    "world-congruent": "a small ResNet trained where shape and texture agree, as in photographs",
    "world-shape": "the same net trained with every texture on every shape: only shape tells the class",
    "world-bagnet": "a small BagNet that sees 9 px at a time, less than any silhouette: it goes by texture",
    "world-bow": "1,000 visual words of 9 px, counted: the classical bag of features, which goes by texture too",
}


def names() -> tuple[str, ...]:
    """The models that come with the package, loaded as cuescope/world-congruent and so on."""
    return tuple(_ABOUT)


def build_world(name: str, seed: int = 0) -> nn.Module:
    """One of the world's models with fresh random weights. Raises CueError for an unknown name."""
    if name not in _ABOUT:
        raise unknown("model", name, [f"cuescope/{known}" for known in _ABOUT])
    kinds = {"world-bagnet": _bagnet, "world-bow": lambda: BagOfWords(9, 2, 32, 1000, len(CLASSES))}
    return seeded(seed, kinds.get(name, lambda: SmallResNet(len(CLASSES), widths=(24, 48, 96), blocks=(1, 1, 1))))


def weights_file(name: str) -> Path:
    """Where the weights shipped with the package lie."""
    return Path(str(resources.files("cuescope.world"))) / "weights" / f"{name}.safetensors"


def load_world(name: str) -> nn.Module:
    """One of the world's trained models, in evaluation mode. Raises CueError for an unknown name.

    >>> load_world("world-bagnet")(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 16])
    """
    module = build_world(name)
    module.load_state_dict(unpacked(safetensors.torch.load_file(weights_file(name))))
    return module.eval()


def packed(module: nn.Module) -> dict[str, Tensor]:
    """A model's weights as they are shipped: kernels in float16, the rest, which is small, as it is."""
    halved = {name for name, value in module.state_dict().items() if value.is_floating_point() and value.ndim > 1}
    return {n: (v.half() if n in halved else v).contiguous() for n, v in module.state_dict().items()}


def unpacked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in weights.items()}


def _bagnet() -> BagNet:
    net = BagNet((1, 1, 1), (16, 32, 64), (2, 2, 1), kernel3=(1, 1, 0), stem=16, classes=len(CLASSES))
    # The paper's .001 needs more steps than these few hundred to reach the true statistics.
    net.bn1.momentum = 0.1
    return net
