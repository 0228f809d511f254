"""How much faster is exact incremental occlusion than captum's Occlusion with its defaults?

ResNet-50 with random weights, its batch norm statistics from noise, one image of 224 px, a gray square of 32 px at 169
places, 16 px apart. Captum runs the network as torchvision builds it, one place at a time. A map is what captum gives:
for each pixel the mean fall of the class's logit over the squares that cover it.

Where the time goes, on an AMD EPYC (AVX-512 with bfloat16, no AMX) with other work beside: a whole pass is 4.09 GMAC,
which captum does at 39 GMAC/s on one core. What a square reaches is 1.70 GMAC a place at least (the third and the
fourth stage 0.75 each, and little before); windows of one size for a group need more. Of 40 ms a place on one
core in float32, convolutions take 35 (50 GMAC/s; 105 in bfloat16), sums and ReLUs 2, cutting windows out of the clean
maps 1.5.

Tried and left out, as it gave nothing beyond noise: prepacked weights (mkldnn's own operations; a 1x1 convolution
packed for another map size is ten times slower), 1x1 convolutions as matrix products, whole maps from 80 or 90 % of a
map on. Groups of 4 to 9 save more work and lose it again to the weights, read for fewer places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import Occlusion
from ratios import Given, Row, turns
from scipy.stats import rankdata
from torch import Tensor, nn
from torchvision.models import resnet50

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Occlude
from cuescope.methods.incremental import painted_logits

SIDE, SQUARE = 224, 32
GRAY = (0.485, 0.456, 0.406)


def network() -> nn.Module:
    """Random weights under which noise has the statistics that the batch norms expect.

    The residual branches are scaled by a tenth, as if training had just begun: the blocks of an untrained ResNet
    otherwise drown the occluder, whose effect on the logits is then that of bfloat16's rounding.
    """
    torch.manual_seed(0)
    module = resnet50(weights=None)
    for name, part in module.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            part.weight.data.uniform_(0.5, 1.5).mul_(0.1 if name.endswith("bn3") else 1)
            part.bias.data.normal_(0, 0.3)
    module.train()
    with torch.no_grad():
        module(torch.cat([(image() - 0.45) / 0.225 for _ in range(6)]))
    return module.eval().requires_grad_(False)


def image() -> Tensor:
    """Blobs of full contrast with noise, (1, 3, 224, 224) in [0, 1], from the global seed."""
    blobs = sum(F.interpolate(torch.randn(1, 3, n, n), SIDE, mode="bicubic") for n in (4, 9, 20))
    assert isinstance(blobs, Tensor)
    return (0.45 + 0.3 * blobs.sign() * blobs.abs().sqrt() + 0.03 * torch.randn(1, 3, SIDE, SIDE)).clamp(0, 1)


def ours(classifier: Classifier, pixels: Tensor, occlude: Occlude, label: int) -> Tensor:
    """The map of mean falls, as captum defines it."""
    places = occlude.grid(SIDE, SIDE).rectangles
    painted = painted_logits(classifier, pixels[0], places, occlude.color)
    assert not painted.why_plain, painted.why_plain
    falls, covered = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE)
    for (top, left, bottom, right), logit in zip(places, painted.logits[:, label].tolist(), strict=True):
        falls[top:bottom, left:right] += float(painted.clean[label]) - logit
        covered[top:bottom, left:right] += 1
    return falls / covered


@torch.no_grad()
def captums(module: nn.Module, x: Tensor, stride: int, label: int) -> Tensor:
    shape, strides = (3, SQUARE, SQUARE), (3, stride, stride)
    return Occlusion(module).attribute(x, shape, strides=strides, baselines=0, target=label)[0, 0]


def rows(given: Given) -> Iterator[Row]:
    module, pixels, stride = network(), image(), given.take(16, 32)
    quick = {name: Classifier(module, precision=name) for name in ("float32", "bfloat16")}
    x = quick["float32"].normalize(pixels).contiguous()
    label, occlude = int(module(x)[0].argmax()), Occlude(SQUARE, stride, GRAY)
    ways = {"captum": partial(captums, module, x, stride, label)}
    for name, classifier in quick.items():
        ours(classifier, pixels, Occlude(SQUARE, SIDE - SQUARE, GRAY), label)  # The first decides how, and checks it.
        ways[name] = partial(ours, classifier, pixels, occlude, label)
    found, what = turns(ways, given.rounds, warm=False), f"{len(occlude.grid(SIDE, SIDE).rectangles)} places, ResNet-50"
    wanted = found.given["captum"]
    for name, least in (("float32", 2.5), ("bfloat16", 5)):
        asked = f"at least {least} times faster than captum's `Occlusion` with its defaults in {name}"
        yield found.row(f"occlusion at {what}: captum / ours in {name}", "captum", name, asked, least=least)
    gap = float((found.given["float32"] - wanted).abs().max())
    yield Row("largest difference of the maps, float32", "1e-4", [gap], most=1e-4, unit="")
    rank = float(np.corrcoef([rankdata(one.flatten()) for one in (found.given["bfloat16"], wanted)])[0, 1])
    yield Row("rank correlation of the maps, bfloat16", "above .99", [rank], least=0.99, unit="")
