"""Is a network that we antialias as fast as the one that its authors' package builds?

ResNet-50 with random weights and BlurPools of size 4, in evaluation mode, as both modules are.
"""

from __future__ import annotations

from collections.abc import Iterator

import antialiased_cnns  # pyright: ignore[reportMissingImports]
import torch
from ratios import Given, Row, turns
from torchvision.models import resnet50

from cuescope.models.antialias import antialias


@torch.no_grad()
def rows(given: Given) -> Iterator[Row]:
    theirs = antialiased_cnns.resnet50(pretrained=False, filter_size=4).eval()
    ours, x = antialias(resnet50(weights=None).eval()), torch.rand(given.take(16, 2), 3, 224, 224)
    found = turns({"theirs": lambda: theirs(x), "ours": lambda: ours(x)}, given.rounds)
    yield found.row(f"a pass of {len(x)} images, BlurPool ResNet-50: antialiased-cnns / ours", "theirs", "ours", "")
