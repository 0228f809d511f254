"""How much faster than the reference procedure are images stylized by VGG-19 AdaIN, and is writing the bottleneck?

    python bench/stylize.py [IMAGES] [ROUNDS] [THREADS]

The reference is the procedure of the published code: one image at a time, its style encoded for it, in the layout that
PyTorch has by default. Random weights serve. All ways take turns in each round; ratios are of one round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from cuescope.data.ops.encode import encoded
from cuescope.models.adain import AdaIN, Stylizer, adain, moments

SIDE_PX, BATCH = 224, 8


def main() -> None:
    count, rounds, threads = (int(a) for a in (*sys.argv[1:], *("16", "3", "2")[len(sys.argv) - 1 :]))
    torch.set_num_threads(threads)
    chance = torch.Generator().manual_seed(0)
    contents, styles = (torch.rand(n, 3, SIDE_PX, SIDE_PX, generator=chance) for n in (count, 4))
    plain = spread(AdaIN()).eval().requires_grad_(False)
    ours = {precision: Stylizer("adain", plain, precision) for precision in ("float32", "bfloat16")}

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
            parts = range(0, count, BATCH)
            return torch.cat([stylizer.stylize(contents[k : k + BATCH], style.at(_styles(k, count))) for k in parts])

        return run

    ways = {"reference": reference, **{name: batched(stylizer) for name, stylizer in ours.items()}}
    outputs = {name: way() for name, way in ways.items()}
    for name in ours:
        gap = (outputs[name] - outputs["reference"]).abs()
        print(f"{name}: differences up to {gap.max():.1e}, on average {gap.mean():.1e}")
    print(f"pixels have a deviation of {outputs['reference'].std():.2f}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(timed(way))
    for name, found in times.items():
        ratios = [plain / own for plain, own in zip(times["reference"], found, strict=True)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}: {min(found) / count:.3f} s an image; {statistics.median(ratios):.2f} times ({each})")
    pixels = (outputs["float32"] * 255).byte()
    writing = timed(lambda: [encoded(image) for image in pixels]) / count
    with ThreadPoolExecutor(2) as pool:
        beside = timed(lambda: list(pool.map(encoded, pixels))) / count
    print(f"a PNG: {writing * 1000:.1f} ms of one thread, {beside * 1000:.1f} ms of two, beside the network")


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


def _styles(start: int, count: int) -> list[int]:
    return [i % 4 for i in range(start, min(start + BATCH, count))]


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
