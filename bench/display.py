"""Display and exact heatmaps of BagNet-33 beside the authors' way: every patch cut out, 1000 at a time.

    python bench/display.py [BATCHES]

The authors' way (Brendel & Bethge 2019, generate_heatmap_pytorch) is written out in `plain`. It takes minutes, so
BATCHES of its 51 batches are timed (3 by default; 51 times all of it) and its time is their mean times 50.176. The
heatmap is compared with it on the patches of those batches.

On 2 cores of an AMD EPYC (AVX-512 with bfloat16), quiet, 2 batches: the authors' way 472 s; the display heatmap 9.37 s
in float32 (50 times faster, largest difference 5.5e-6 of the largest logit) and 4.47 s in bfloat16 (106 times, 4.4e-2);
the exact heatmap .184 s (2,564 times). In two other runs bfloat16 took 14 s and float32 the same as ever: the machine's
bfloat16 convolutions have two speeds. One shifted map at a time is fastest in float32 (in groups of 4: 14.8 s), 4 at a
time in bfloat16 (8: 5.1 s, one: 4.8 s).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cuescope
from cuescope.models.bagnet import bagnet33

SIDE, FIELD, BATCH, TARGET = 224, 33, 1000, 281


def patches(image: Tensor) -> Tensor:
    """(SIDE * SIDE, 3, FIELD, FIELD) of a normalized image with zeros around it, as the authors cut them."""
    before = (FIELD - 1) // 2
    padded = F.pad(image, (before, FIELD - 1 - before, before, FIELD - 1 - before))
    return padded.unfold(2, FIELD, 1).unfold(3, FIELD, 1)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)


@torch.inference_mode()
def plain(network: nn.Module, image: Tensor, batches: int) -> tuple[Tensor, float]:
    """The target's logits of the first patches, and the seconds that all of them would take."""
    every = patches(image)
    start = time.perf_counter()
    found = [network(every[i * BATCH : (i + 1) * BATCH])[:, TARGET] for i in range(batches)]
    seconds = time.perf_counter() - start
    return torch.cat(found), seconds * len(every) / sum(map(len, found))


def best(run: Callable[[], Tensor], times: int = 3) -> tuple[Tensor, float]:
    run()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        out = run()
        took.append(time.perf_counter() - start)
    return out, sorted(took)[len(took) // 2]


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    network = bagnet33().eval()
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    classifiers = {p: cuescope.load(network, precision=p) for p in ("float32", "bfloat16")}
    found, seconds = plain(network, classifiers["float32"].normalize(pixels).contiguous(), batches)
    print(f"authors' way, float32: {seconds:.0f} s (from {len(found)} of {SIDE * SIDE} patches)")
    for precision, classifier in classifiers.items():
        heat, took = best(lambda c=classifier: c.display_logits(pixels, [TARGET]))
        gap = float((heat.flatten()[: len(found)] - found).abs().max() / found.abs().max())
        print(f"display heatmap, {precision}: {took:.2f} s, {seconds / took:.0f} times faster, difference {gap:.1e}")
        _, took = best(lambda c=classifier: c.patch_logits(pixels))
        print(f"exact heatmap, {precision}: {took:.3f} s, {seconds / took:.0f} times faster")


if __name__ == "__main__":
    main()
