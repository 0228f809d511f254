"""What does the eight-offset crop protocol cost beside its bare forward passes?

    python bench/shift.py [ROUNDS [WEIGHTS]]     5 rounds unless given

The protocol is `ShiftStability` as in the authors' code (Azulay & Weiss 2019): a crop enlarged to 234 px, nine windows
of 224 px, eight pairs a pixel apart. The bare passes are the same views, made before, through `Classifier.logits`; the
authors run both views of each pair, 16 passes of one image, which is the third side, with the network as torchvision
builds it. All sides alternate in one process. WEIGHTS is a folder with NAME.safetensors; without it weights are random.
The bar: at most 1.1 times the bare passes.

On 2 cores of an AMD EPYC (AVX-512), quiet, real weights: SqueezeNet 1.1 51.5 ms an image, 1.05 times its bare passes
(the authors' way 4.08 times); MobileNetV2 65.4 ms, 1.04 times (3.37).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.images import Sample
from cuescope.instruments.shift_stability import ShiftStability

NETWORKS = ("squeezenet1_1", "mobilenet_v2")
IMAGES, PAIRS = 16, 8


def network(name: str, weights: Path | None) -> nn.Module:
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval().requires_grad_(False)
    if weights is not None:
        module.load_state_dict({k: v.float() for k, v in load_file(weights / f"{name}.safetensors").items()})
    return module


def photographs() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [
        Sample(f"{i}", torch.randint(0, 256, (3, 375, 500), generator=generator, dtype=torch.uint8))
        for i in range(IMAGES)
    ]


def authors(module: nn.Module, x: Tensor) -> None:
    """Both views of every pair, one image at a time."""
    with torch.no_grad():
        for views in x.unflatten(0, (IMAGES, PAIRS + 1)):
            for c in range(PAIRS):
                module(views[c : c + 1]).softmax(1)
                module(views[c + 1 : c + 2]).softmax(1)


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    rounds = int((sys.argv[1:] or ["5"])[0])
    weights = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    samples, tool = photographs(), ShiftStability(protocols=("crop",), pairs=PAIRS, margin_px=10)
    for name in NETWORKS:
        classifier = Classifier(network(name, weights))
        module = classifier.module
        assert module is not None
        batch = classifier.see(samples)
        views = tool.maker("crop").views(samples, classifier.preprocessing, PAIRS)
        x = classifier.normalize(views).contiguous()
        sides: dict[str, Callable[[], object]] = {
            "bare passes": lambda c=classifier, v=views: c.logits(v),
            "the protocol": lambda c=classifier, b=batch: tool.observe(c, b),
            "the authors' way": lambda m=module, x=x: authors(m, x),
        }
        for run in sides.values():
            run()
        runs = [{side: timed(run) for side, run in sides.items()} for _ in range(rounds)]
        print(f"{name}: {IMAGES} images, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
        for side in sides:
            seconds = statistics.median(run[side] for run in runs)
            ratio = statistics.median(run[side] / run["bare passes"] for run in runs)
            print(
                f"  {side:17}{seconds / IMAGES * 1e3:8.1f} ms an image {ratio:6.2f} times the bare passes", flush=True
            )


if __name__ == "__main__":
    main()
