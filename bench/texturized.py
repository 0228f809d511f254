"""How long does it take to texturize an image, and which classifiers still know it?

    python bench/texturized.py [IMAGES [STEPS ...]]    128 images of the world and 20, 40, 60, 100 steps unless given

Random filters, all threads that torch has. For each number of steps: seconds an image on the clock and on the
processors, the mean distance left, and the accuracy of the world's three models on the images and on what is made of
them. Brendel and Bethge 2019, section 3.3, found VGG-16 to fall from 90.1 to 79.4 % (top 5) on such images: what goes
by texture keeps its answer. Then, for one image of noise of 224 px, seconds for each of 20 steps.

On two cores of an AMD EPYC with other work beside (load 4 to 6; the processors' seconds hold, the clock's do not), 128
images of 64 px:

    steps   seconds on the processors   world-bagnet   world-shape   world-congruent
    0                                           .992         1.000              .992
    20      .13                                 .516          .102              .492
    40      .25                                 .852          .117              .789
    60      .36                                 .922          .125              .875
    100     .63                                 .930          .180              .875

and .08 seconds a step for 224 px.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources import load
from cuescope.makers.texturized import texturize
from cuescope.world.images import WorldImages

MODELS = ("world-bagnet", "world-shape", "world-congruent")


def main(count: int, steps: list[int]) -> None:
    pixels, labels = WorldImages("congruent", count=count).render(np.arange(count))
    pixels = pixels.float() / 255
    tell("the images", pixels, labels)
    texturize(pixels[:2], steps=1)
    for most in steps:
        clock, processors = time.perf_counter(), time.process_time()
        found = texturize(pixels, steps=most)
        clock, processors = time.perf_counter() - clock, time.process_time() - processors
        each = f"{most:3d} steps, {clock / count:.3f} s ({processors / count:.3f} s), left {found.end.mean():.4f}"
        tell(each, (found.pixels * 255).round() / 255, labels)
    large = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    clock = time.process_time()
    texturize(large, steps=20)
    print(f"224 px: {(time.process_time() - clock) / 20:.3f} s a step")


def tell(what: str, pixels: Tensor, labels: Tensor) -> None:
    right = [(load(f"cuescope/{name}").logits(pixels).argmax(1) == labels).float().mean() for name in MODELS]
    told = ", ".join(f"{name} {value:.3f}" for name, value in zip(MODELS, right, strict=True))
    print(f"{what}: {told}", flush=True)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(numbers[0] if numbers else 128, numbers[1:] or [20, 40, 60, 100])
