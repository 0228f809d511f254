"""What does the eight-offset crop protocol cost beside its bare forward passes?

The protocol is `ShiftStability` as in the authors' code (Azulay & Weiss 2019): a crop enlarged to 234 px, nine windows
of 224 px, eight pairs a pixel apart. The bare passes are the same views, made before, through `Classifier.logits`; the
authors run both views of each pair, 16 passes of one image, with the network as torchvision builds it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ratios import Given, Row, turns
from torch import Tensor, nn

from cuescope.classifier.sources import load
from cuescope.data.images import Sample
from cuescope.instruments.shift_stability import ShiftStability

NETWORKS = {"squeezenet1_1": "SqueezeNet 1.1", "mobilenet_v2": "MobileNetV2"}
PAIRS = 8


def noise(count: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [
        Sample(f"{i}", torch.randint(0, 256, (3, 375, 500), generator=generator, dtype=torch.uint8))
        for i in range(count)
    ]


@torch.no_grad()
def authors(module: nn.Module, x: Tensor) -> None:
    """Both views of every pair, one image at a time."""
    for views in x.unflatten(0, (-1, PAIRS + 1)):
        for c in range(PAIRS):
            module(views[c : c + 1]).softmax(1)
            module(views[c + 1 : c + 2]).softmax(1)


def rows(given: Given) -> Iterator[Row]:
    samples, tool = noise(given.take(16, 4)), ShiftStability(protocols=("crop",), pairs=PAIRS, margin_px=10)
    for name, called in NETWORKS.items():
        classifier = load(given.model(name), device="cpu")
        module = classifier.module
        assert module is not None
        batch = classifier.see(samples)
        views = tool.maker("crop").views(samples, classifier.preprocessing, PAIRS)
        x = classifier.normalize(views).contiguous()
        ways = {
            "bare": lambda c=classifier, v=views: c.logits(v),
            "protocol": lambda c=classifier, b=batch: tool.observe(c, b),
            "authors": lambda m=module, x=x: authors(m, x),
        }
        found, what = turns(ways, given.rounds), f"shifts by the crop protocol, {called}, {len(samples)} images:"
        asked = "at most 1.1 times its bare forward passes"
        yield found.row(f"{what} the protocol / its bare passes", "protocol", "bare", asked, most=1.1)
        yield found.row(f"{what} the authors' way / the protocol", "authors", "protocol", "")
