"""First weights of ZFNet, its variants and the network of 2012."""

from typing import Literal

from torch import nn

from cuescope.models.seeding import seeded


def first_weights(network: nn.Module, initial: Literal["he", "paper"], seed: int) -> None:
    """New weights for each convolution and linear layer, in place: N(0, 2 / inputs) or the paper's N(0, .01).

    Biases become 0. He et al. 2015, equation 10: with N(0, .01) a signal shrinks from layer to layer, the narrower the
    more so.

    >>> layer = nn.Linear(800, 1000)
    >>> first_weights(layer, "he", 0)
    >>> round(float(layer.weight.detach().std()), 3), float(layer.bias.detach().abs().max())
    (0.05, 0.0)
    """

    def draw() -> None:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if initial == "he":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, 0.0, 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    seeded(seed, draw)
