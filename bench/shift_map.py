"""How much faster is a map of 32 x 32 offsets than 1,024 passes of one crop each?

    python bench/shift_map.py [ROUNDS [WEIGHTS [IMAGE]]]     2 rounds unless given

The plain side is the user's own loop: the network as torchvision builds it, in evaluation mode, one crop at a time.
Ours are whole passes in batches (`Classifier.logits`), and `crop_logits`, which computes the first layers once for many
crops, in float32 and bfloat16. All sides alternate in one process with the same threads. WEIGHTS is a folder with
NAME.safetensors for torchvision's networks; without it weights and image are random, and the last bias is set so that
the answers are undecided. Prints seconds, for ours the median ratio of the rounds, the largest difference of the
logits, and how many of the 1,024 labels differ. The bar: 3 times, in float32, with equal labels.

On 2 cores of an AMD EPYC (AVX-512 with bfloat16), quiet, real weights and a photograph with 10 answers for SqueezeNet:

    SqueezeNet 1.1   one by one 13.7 s, batches 2.53 times faster, shared 3.59, in bfloat16 5.80 (58 other labels)
    MobileNetV2      one by one 15.5 s, batches 2.14 times faster, shared 4.13, in bfloat16 5.86 (none)
    ResNet-18        one by one 27.2 s, batches 1.48 times faster, shared 1.91, in bfloat16 3.61 (6), random weights

With one thread, where the loop loses nothing to threads that wait for each other: shared 2.83 and 2.32 times, bfloat16
5.05 and 4.21. A ResNet does most of its work where the border of a crop reaches every position: nothing is shared.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.images import Sample
from cuescope.data.ops.shift import Window
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.incremental.crops import crop_logits

NETWORKS = ("squeezenet1_1", "mobilenet_v2")
SIDE, PLACES = 224, range(32)


def network(name: str, weights: Path | None, crops: Tensor) -> nn.Module:
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval().requires_grad_(False)
    if weights is not None:
        module.load_state_dict({k: v.float() for k, v in load_file(weights / f"{name}.safetensors").items()})
        return module
    last = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    assert last.bias is not None
    last.bias -= module(crops).mean(0)
    return module


def window(path: Path | None) -> Tensor:
    """(3, 256, 256) in [0, 1]."""
    if path is None:
        noise = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
        return (0.5 + 0.25 * nn.functional.interpolate(noise, 256, mode="bicubic")[0]).clamp(0, 1)
    pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)
    return Window().pixels([Sample("image", pixels)], Preprocessing())[0].float() / 255


def one_by_one(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat(
            [module(x[None, :, top : top + SIDE, left : left + SIDE]) for top in PLACES for left in PLACES]
        )


def batches(classifier: Classifier, image: Tensor) -> Tensor:
    rows = [torch.stack([image[:, y : y + SIDE, x : x + SIDE] for x in PLACES]) for y in PLACES]
    return torch.cat([classifier.logits(row) for row in rows])


def shared(classifier: Classifier, image: Tensor) -> Tensor:
    found = crop_logits(classifier, image, PLACES, PLACES, (SIDE, SIDE))
    assert not found.why_plain, found.why_plain
    return found.logits.flatten(0, 1)


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def main() -> None:
    rounds = int((sys.argv[1:] or ["2"])[0])
    weights, path = (Path(sys.argv[i]) if len(sys.argv) > i else None for i in (2, 3))
    image = window(path)
    for name in NETWORKS:
        plain = Classifier(network(name, weights, image[None, :, :SIDE, :SIDE]))
        module = plain.module
        assert module is not None
        low = Classifier(module, precision="bfloat16")
        x = plain.normalize(image[None])[0].contiguous()
        sides: dict[str, Callable[[], Tensor]] = {
            "one by one": lambda m=module, x=x: one_by_one(m, x),
            "batches": lambda c=plain: batches(c, image),
            "shared": lambda c=plain: shared(c, image),
            "shared, bfloat16": lambda c=low: shared(c, image),
        }
        took = {side: timed(sides[side])[0] for side in ("shared", "shared, bfloat16")}  # the first also finds the cut
        runs = [{side: timed(run) for side, run in sides.items()} for _ in range(rounds)]
        wanted = runs[0]["one by one"][1]
        labels = wanted.argmax(1)
        print(
            f"{name}: {len(labels.unique())} labels, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
        )
        for side in sides:
            seconds = statistics.median(run[side][0] for run in runs)
            ratio = statistics.median(run["one by one"][0] / run[side][0] for run in runs)
            found = runs[0][side][1]
            gap = float((found - wanted).abs().max() / wanted.abs().max())
            other = int((found.argmax(1) != labels).sum())
            tail = f"{ratio:5.2f} times   largest difference {gap:.0e}   other labels {other}"
            first = f"   first {took[side]:.1f} s" if side in took else ""
            print(
                f"  {side:17}{seconds:7.2f} s {seconds / len(labels) * 1e3:6.2f} ms a crop   {tail}{first}", flush=True
            )


if __name__ == "__main__":
    main()
