"""ZFNet (Zeiler and Fergus 2014), its variants, and the network of Krizhevsky et al. 2012 that it derives from."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cuescope.models.seeding import seeded

NEIGHBORS, ALPHA, BETA, BIAS = 5, 1e-4, 0.75, 2.0
"""Of the normalization across maps: n, alpha, beta and k of Krizhevsky et al. 2012, section 3.3."""


def normalization() -> nn.LocalResponseNorm:
    """Each map over (k + alpha * sum of x^2 over n neighboring maps) ** beta; torch takes a mean, hence alpha * n."""
    return nn.LocalResponseNorm(NEIGHBORS, ALPHA * NEIGHBORS, BETA, BIAS)


class First(NamedTuple):
    """What sets the two networks apart, besides groups: their first two convolutions."""

    kernel: int
    stride: int
    padding: int
    second_stride: int
    second_padding: int
    ceil: bool
    pool_first: bool
    """Whether pooling comes before the normalization, as in ZFNet, or after it."""


ZF = First(7, 2, 1, 2, 0, ceil=True, pool_first=True)
"""The printed sizes 110, 55, 26, 13 need one pixel of padding in layer 1 and pools that round up."""
KRIZHEVSKY = First(11, 4, 2, 1, 2, ceil=False, pool_first=False)
SMALL = First(7, 2, 1, 1, 1, ceil=True, pool_first=True)
"""ZFNet's own for images of 64 px: without the stride of layer 2, layers 3 to 5 still see maps of 6 x 6."""

WIDTHS = (96, 256, 384, 384, 256)
HIDDEN = 4096


class ZFNet(nn.Module):
    """Five convolutions and three fully connected layers, of square images (Zeiler and Fergus 2014, figure 3).

    `widths` are the maps of layers 1 to 5, `hidden` the units of layers 6 and 7, `without` the layers of 3, 4, 6 and
    7 that are left out (table 3). `groups` splits layers 2, 4 and 5, as on Krizhevsky's two GPUs. Weights start as
    N(0, .01), biases as 0. Raises ValueError for a layer that can't be left out and for images that are too small.

    >>> net = ZFNet(classes=10, widths=(4, 6, 8, 8, 6), hidden=16)
    >>> tuple(net(torch.zeros(1, 3, 224, 224)).shape), tuple(net.features(torch.zeros(1, 3, 224, 224)).shape)
    ((1, 10), (1, 6, 6, 6))
    """

    def __init__(
        self,
        classes: int = 1000,
        *,
        widths: Sequence[int] = WIDTHS,
        hidden: int = HIDDEN,
        without: Collection[int] = (),
        first: First = ZF,
        groups: int = 1,
        size_px: int = 224,
    ) -> None:
        super().__init__()
        if not set(without) <= {3, 4, 6, 7}:
            raise ValueError(f"layers {sorted(without)} cannot be left out: only 3, 4, 6 and 7 can")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = nn.Conv2d(3, widths[0], first.kernel, first.stride, first.padding)
        layers["relu1"] = nn.ReLU()
        layers |= _reduced(1, first)
        layers["conv2"] = nn.Conv2d(widths[0], widths[1], 5, first.second_stride, first.second_padding, groups=groups)
        layers["relu2"] = nn.ReLU()
        layers |= _reduced(2, first)
        maps = widths[1]
        for number in (n for n in (3, 4, 5) if n not in without):
            split = 1 if number == 3 else groups
            layers[f"conv{number}"] = nn.Conv2d(maps, widths[number - 1], 3, padding=1, groups=split)
            layers[f"relu{number}"] = nn.ReLU()
            maps = widths[number - 1]
        layers["pool5"] = nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(layers)
        head: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = maps * last_side(size_px, first) ** 2
        for number in (n for n in (6, 7) if n not in without):
            head |= {f"fc{number}": nn.Linear(inputs, hidden), f"relu{number}": nn.ReLU()}
            head[f"dropout{number}"] = nn.Dropout(0.5)
            inputs = hidden
        head["fc8"] = nn.Linear(inputs, classes)
        self.classifier = nn.Sequential(head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of normalized images (B, 3, size_px, size_px)."""
        return self.classifier(torch.flatten(self.features(x), 1))


def last_side(size_px: int, first: First = ZF) -> int:
    """Side of the maps that layer 6 reads, after three poolings. Raises ValueError where nothing is left.

    >>> last_side(224), last_side(224, KRIZHEVSKY), last_side(64, SMALL)
    (6, 6, 2)
    """
    side, second = size_px, (5, first.second_stride, first.second_padding)
    for kernel, stride, padding in (first[:3], second):
        side = (side + 2 * padding - kernel) // stride + 1
        side = (-(-(side - 3) // 2) if first.ceil else (side - 3) // 2) + 1
    if side < 3:
        raise ValueError(f"images of {size_px} px leave maps of {side} x {side}: too small to be pooled again")
    return (side - 3) // 2 + 1


def _reduced(number: int, first: First) -> OrderedDict[str, nn.Module]:
    """Pooling and normalization of layer 1 or 2, in the network's order."""
    pool = nn.MaxPool2d(3, 2, ceil_mode=first.ceil)
    steps: list[tuple[str, nn.Module]] = [(f"pool{number}", pool), (f"norm{number}", normalization())]
    return OrderedDict(steps if first.pool_first else steps[::-1])


NARROW: dict[str, Any] = {"widths": tuple(width // 8 for width in WIDTHS), "hidden": HIDDEN // 8, "size_px": 64}
VARIANTS: dict[str, dict[str, Any]] = {
    "zfnet": {},
    "zfnet-512-1024-512": {"widths": (96, 256, 512, 1024, 512)},
    "zfnet-512-1024-512-fc8192": {"widths": (96, 256, 512, 1024, 512), "hidden": 8192},
    "zfnet-fc2048": {"hidden": 2048},
    "zfnet-fc8192": {"hidden": 8192},
    "zfnet-without-3-4": {"without": (3, 4)},
    "zfnet-without-7": {"without": (7,)},
    "zfnet-without-6-7": {"without": (6, 7)},
    "zfnet-without-3-4-6-7": {"without": (3, 4, 6, 7)},
    "alexnet-2012": {"first": KRIZHEVSKY, "groups": 2},
    "alexnet-2012-dense": {"first": KRIZHEVSKY},
    "zfnet-small": {"first": SMALL, **NARROW},
    "alexnet-small": {"first": KRIZHEVSKY, "groups": 2, **NARROW},
}
"""The networks of the paper's table 3, Krizhevsky's with and without its groups, and both an eighth as wide for images
of 64 px."""


def variant(name: str, classes: int = 1000, seed: int = 0) -> ZFNet:
    """One of VARIANTS by name, with fresh random weights.

    >>> variant("zfnet-without-6-7", classes=2).classifier
    Sequential(
      (fc8): Linear(in_features=9216, out_features=2, bias=True)
    )
    """
    return seeded(seed, lambda: ZFNet(classes, **VARIANTS[name]))
