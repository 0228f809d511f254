"""Display and exact heatmaps of BagNet-33 beside the authors' way: every patch cut out, 1000 at a time.

The authors' way (Brendel & Bethge 2019, generate_heatmap_pytorch) is written out in `plain`. It takes minutes, so two
of its 51 batches are timed. The heatmap is compared with it on the patches of those batches.

On 2 cores of an AMD EPYC (AVX-512 with bfloat16) bfloat16 took 4.5 s in one run and 14 s in two others, with float32
the same as ever: the machine's bfloat16 convolutions have two speeds. One shifted map at a time is fastest in float32
(9.4 s; in groups of 4: 14.8 s), 4 at a time in bfloat16 (8: 5.1 s, one: 4.8 s).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from ratios import Given, Row, turns
from torch import Tensor, nn
from torch.nn import functional as F

import cuescope
from cuescope.models.bagnet import bagnet33

FIELD, BATCH, TARGET = 33, 1000, 281


def patches(image: Tensor) -> Tensor:
    """(H * W, 3, FIELD, FIELD) of a normalized image with zeros around it, as the authors cut them."""
    before = (FIELD - 1) // 2
    padded = F.pad(image, (before, FIELD - 1 - before, before, FIELD - 1 - before))
    return padded.unfold(2, FIELD, 1).unfold(3, FIELD, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)


@torch.inference_mode()
def plain(network: nn.Module, every: Tensor, some: int) -> Tensor:
    """The target's logits of the first patches."""
    return torch.cat([network(part)[:, TARGET] for part in every[:some].split(BATCH)])


def rows(given: Given) -> Iterator[Row]:
    network, side = bagnet33().eval(), given.take(224, 64)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ours = {p: cuescope.load(network, precision=p, device="cpu") for p in ("float32", "bfloat16")}
    every, some = patches(ours["float32"].normalize(pixels).contiguous()), given.take(2 * BATCH, 50)
    ways = {"authors": partial(plain, network, every, some)}
    for precision, classifier in ours.items():
        ways[f"display {precision}"] = partial(classifier.display_logits, pixels, [TARGET])
    ways["exact"] = partial(ours["float32"].patch_logits, pixels)
    found, scale = turns(ways, given.rounds), len(every) / some
    what = f"a heatmap of BagNet-33, {side} px: every patch cut out / "
    for precision, least in (("float32", 30), ("bfloat16", 80)):
        asked = f"at least {least} times faster in {precision}"
        yield found.row(f"{what}ours in {precision}", "authors", f"display {precision}", asked, scale, least=least)
        heat, wanted = found.given[f"display {precision}"].flatten()[:some], found.given["authors"]
        gap, most = float((heat - wanted).abs().max() / wanted.abs().max()), 1e-3 if precision == "float32" else None
        asked = "largest difference 1e-3" if most else ""
        yield Row(f"their largest difference, of the largest logit, {precision}", asked, [gap], most=most, unit="")
    asked = "the map at the network's own stride at least 1,000 times faster"
    yield found.row(f"{what}the exact map", "authors", "exact", asked, scale, least=1000)
