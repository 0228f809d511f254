"""How much faster is a map of 32 x 32 offsets than 1,024 passes of one crop each?

The plain side is the user's own loop: the network as torchvision builds it, in evaluation mode, one crop at a time.
Ours are whole passes in batches (`Classifier.logits`), and `crop_logits`, which computes the first layers once for many
crops, in float32 and bfloat16. With random weights the last bias is set so that the answers are undecided.

With one thread the loop loses nothing to threads that wait for each other, and ours gain less: 2.8 and 2.3 times where
two threads gave 3.6 and 4.1. A ResNet does most of its work where the border of a crop reaches every position: nothing
is shared (ResNet-18: 1.9 times).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ratios import Given, Row, turns
from shift import NETWORKS
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.data.ops.shift import Window
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import read_folder
from cuescope.methods.incremental.crops import crop_logits

SIDE = 224


def undecided(module: nn.Module, crops: Tensor) -> None:
    last = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    assert last.bias is not None
    last.bias -= module(crops).mean(0)


@torch.no_grad()
def one_by_one(module: nn.Module, x: Tensor, places: range) -> Tensor:
    return torch.cat([module(x[None, :, y : y + SIDE, x_ : x_ + SIDE]) for y in places for x_ in places])


def batches(classifier: Classifier, image: Tensor, places: range) -> Tensor:
    rows = [torch.stack([image[:, y : y + SIDE, x : x + SIDE] for x in places]) for y in places]
    return torch.cat([classifier.logits(row) for row in rows])


def shared(classifier: Classifier, image: Tensor, places: range) -> Tensor:
    found = crop_logits(classifier, image, places, places, (SIDE, SIDE))
    assert not found.why_plain, found.why_plain
    return found.logits.flatten(0, 1)


@torch.no_grad()
def rows(given: Given) -> Iterator[Row]:
    places = range(given.take(32, 8))
    image = Window().pixels([read_folder(given.photographs()).read(0)], Preprocessing())[0].float() / 255
    for name, called in NETWORKS.items():
        module = load(given.model(name), device="cpu").module
        assert module is not None
        if not given.weights:
            undecided(module, Classifier(module).normalize(image[None, :, :SIDE, :SIDE]))
        plain, low = Classifier(module), Classifier(module, precision="bfloat16")
        x = plain.normalize(image[None])[0].contiguous()
        ways = {
            "one by one": lambda m=module, x=x: one_by_one(m, x, places),
            "batches": lambda c=plain: batches(c, image, places),
            "float32": lambda c=plain: shared(c, image, places),
            "bfloat16": lambda c=low: shared(c, image, places),
        }
        for way in ("float32", "bfloat16"):  # The first also finds the cut.
            ways[way]()
        found, what = turns(ways, given.rounds, warm=False), f"{len(places) ** 2:,} offsets, {called}: one by one /"
        asked = {"float32": "at least 3 times faster than 1,024 separate passes"}
        for way, how in (("float32", "ours in float32"), ("batches", "whole passes"), ("bfloat16", "ours in bfloat16")):
            bar = {"least": 3} if way in asked else {}
            yield found.row(f"{what} {how}", "one by one", way, asked.get(way, ""), **bar)
        labels = found.given["one by one"].argmax(1)
        differ = int((found.given["float32"].argmax(1) != labels).sum())
        yield Row(f"labels that differ, of {len(labels.unique())} kinds", "equal labels", [differ], most=0, unit="")
