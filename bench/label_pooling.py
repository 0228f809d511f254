"""How much faster is LabelPooling on the stored labels than on the dense map?

    python bench/label_pooling.py [CROPS] [ROUNDS]

Crops of 15 x 15 maps of the 5 highest of 1,000 classes. The dense side is the authors' way: scatter into a dense map,
torchvision's `roi_align`, a softmax. Both in turn in one process. Prints milliseconds and ratios; the bar is 50.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch
from torchvision.ops import roi_align

from cuescope.data.label_maps.pooling import LabelPooling

CLASSES, TOP, SIDE = 1000, 5, 15


def dense(ids: np.ndarray, scores: np.ndarray, crops: np.ndarray) -> torch.Tensor:
    maps = torch.zeros(len(ids), CLASSES, SIDE, SIDE)
    maps.scatter_(1, torch.from_numpy(ids).long(), torch.from_numpy(scores).float())
    top, left, high, wide = torch.from_numpy(crops).float().T
    corners = [side * SIDE - 0.5 for side in (left, top, left + wide, top + high)]
    boxes = torch.stack([torch.arange(len(ids)).float(), *corners], 1)
    return roi_align(maps, boxes, (1, 1), 1.0, -1, aligned=False)[:, :, 0, 0].softmax(1)


def main() -> None:
    count, rounds = (int(a) for a in (*sys.argv[1:], "256", "9")[:2]) if len(sys.argv) > 2 else (256, 9)
    generator = np.random.default_rng(0)
    ids = np.argsort(generator.random((count, SIDE * SIDE, 50)))[..., :TOP].transpose(0, 2, 1) * 20
    ids = ids.reshape(count, TOP, SIDE, SIDE).astype(np.uint16)
    scores = generator.normal(6, 4, ids.shape).astype(np.float16)
    area, ratio = generator.uniform(0.08, 1, count), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), count))
    size = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], 1).clip(0, 1)
    crops = np.concatenate([generator.random((count, 2)) * (1 - size), size], 1)
    pooling = LabelPooling(CLASSES)
    gap = (pooling(ids, scores, crops) - dense(ids, scores, crops)).abs().max()
    ratios = []
    for _ in range(rounds):
        started = time.perf_counter()
        dense(ids, scores, crops)
        slow = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(10):
            pooling(ids, scores, crops)
        fast = (time.perf_counter() - started) / 10
        ratios.append(slow / fast)
        print(f"dense {slow * 1e3:7.1f} ms   stored labels {fast * 1e3:6.2f} ms   ratio {ratios[-1]:5.1f}")
    print(f"median ratio {statistics.median(ratios):.1f} (bar 50), largest difference {gap:.1e}")


if __name__ == "__main__":
    main()
