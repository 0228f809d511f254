"""How much faster is LabelPooling on the stored labels than on the dense map?

Crops of 15 x 15 maps of the 5 highest of 1,000 classes. The dense side is the authors' way: scatter into a dense map,
torchvision's `roi_align`, a softmax.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from ratios import Given, Row, turns
from torchvision.ops import roi_align

from cuescope.data.label_maps.pooling import LabelPooling

CLASSES, TOP, SIDE, COUNT, MORE = 1000, 5, 15, 256, 10
"""MORE: so many of ours are timed beside one of theirs."""


def dense(ids: np.ndarray, scores: np.ndarray, crops: np.ndarray) -> torch.Tensor:
    maps = torch.zeros(len(ids), CLASSES, SIDE, SIDE)
    maps.scatter_(1, torch.from_numpy(ids).long(), torch.from_numpy(scores).float())
    top, left, high, wide = torch.from_numpy(crops).float().T
    corners = [side * SIDE - 0.5 for side in (left, top, left + wide, top + high)]
    boxes = torch.stack([torch.arange(len(ids)).float(), *corners], 1)
    return roi_align(maps, boxes, (1, 1), 1.0, -1, aligned=False)[:, :, 0, 0].softmax(1)


def rows(given: Given) -> Iterator[Row]:
    generator = np.random.default_rng(0)
    ids = np.argsort(generator.random((COUNT, SIDE * SIDE, 50)))[..., :TOP].transpose(0, 2, 1) * 20
    ids = ids.reshape(COUNT, TOP, SIDE, SIDE).astype(np.uint16)
    scores = generator.normal(6, 4, ids.shape).astype(np.float16)
    area, ratio = generator.uniform(0.08, 1, COUNT), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), COUNT))
    size = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], 1).clip(0, 1)
    crops = np.concatenate([generator.random((COUNT, 2)) * (1 - size), size], 1)
    pooling = LabelPooling(CLASSES)
    ways = {
        "dense": lambda: dense(ids, scores, crops),
        "ours": lambda: [pooling(ids, scores, crops) for _ in range(MORE)][-1],
    }
    found = turns(ways, 3 * given.rounds)
    what, asked = (
        f"pooling {COUNT} crops: torchvision's `roi_align` on the dense map / ours",
        "at least 50 times faster",
    )
    yield found.row(what, "dense", "ours", asked, MORE, least=50)
    gap = float((found.given["ours"] - found.given["dense"]).abs().max())
    yield Row("their largest difference", "", [gap], unit="")
