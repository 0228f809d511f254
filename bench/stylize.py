"""How much faster than the reference procedure are images stylized by VGG-19 AdaIN, and is writing the bottleneck?

The reference is the procedure of the published code: one image at a time, its style encoded for it, in the layout that
PyTorch has by default. Random weights serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from ratios import Given, Row, turns
from torch import Tensor

from cuescope.data.ops.encode import encoded
from cuescope.models.adain import AdaIN, Stylizer, adain, moments

SIDE_PX, BATCH = 224, 8


@torch.no_grad()
def rows(given: Given) -> Iterator[Row]:
    count, chance = given.take(16, 2), torch.Generator().manual_seed(0)
    contents, styles = (torch.rand(n, 3, SIDE_PX, SIDE_PX, generator=chance) for n in (count, 4))
    plain = spread(AdaIN()).eval().requires_grad_(False)

    def reference() -> Tensor:
        found = []
        for i in range(count):
            style, content = styles[i % 4 : i % 4 + 1], contents[i : i + 1]
            target = adain(plain.encode(content), *moments(plain.encode(style)))
            found.append(plain.decode(target).clamp(0, 1))
        return torch.cat(found)

    def batched(stylizer: Stylizer) -> Callable[[], Tensor]:
        style = stylizer.statistics(styles)  # once, as for a whole image set

        def run() -> Tensor:
            parts = [range(k, min(k + BATCH, count)) for k in range(0, count, BATCH)]
            return torch.cat(
                [stylizer.stylize(contents[p.start : p.stop], style.at([i % 4 for i in p])) for p in parts]
            )

        return run

    ours = {precision: batched(Stylizer("adain", plain, precision)) for precision in ("float32", "bfloat16")}
    found = turns({"reference": reference, **ours}, given.rounds)
    for name, least in (("float32", 2), ("bfloat16", 4)):
        asked = f"at least {least} times the throughput of the reference procedure in {name}"
        what = f"stylizing {count} images of {SIDE_PX} px by VGG-19 AdaIN: one at a time / ours in {name}"
        yield found.row(what, "reference", name, asked, least=least)
    gap = float((found.given["float32"] - found.given["reference"]).abs().max())
    yield Row("largest difference of the images, float32", "1e-3", [gap], most=1e-3, unit="")
    pixels = (found.given["float32"] * 255).byte()
    writing = turns({"writing": lambda: [encoded(image) for image in pixels]}, given.rounds).taken["writing"]
    shares = [one.over(other) for one, other in zip(writing, found.taken["bfloat16"], strict=True)]
    walls, processors = zip(*shares, strict=True)
    asked = "file writing never the bottleneck"
    yield Row("encoding them as PNG on one thread / ours in bfloat16", asked, walls, processors, most=1)


def spread(network: AdaIN) -> AdaIN:
    """Weights with which activations neither die out nor grow, so that a difference would be seen."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    last = network.decoder[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight /= 4
        last.bias += 0.5
    return network
