"""The search for images that measure like others: from noise downhill, image by image."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from cuescope.makers.synthesis.gram import Features
from cuescope.makers.synthesis.lbfgs import minimize
from cuescope.network.executor import one_thread_each

TOGETHER = 65_536
"""Pixels of the images that one thread searches together, so that Python's own time is shared by several."""
SLOT = 8
"""Images in one pass on a GPU. Always so many, the last ones repeated if need be: the same sums in every batch."""


class Found(NamedTuple):
    """Images (B, 3, H, W) in [0, 1], their distances (B,) at the start and at the end, and the work done (B,)."""

    pixels: Tensor
    start: Tensor
    end: Tensor
    steps: Tensor
    evaluations: Tensor


def batch_of(device: torch.device, height: int, width: int, features: Features) -> int:
    """How many images of this size are best searched at once."""
    if device.type != "cpu":
        return SLOT
    return _group(height, width) * (torch.get_num_threads() if features.threads else 1)


def search(source: Tensor, features: Features, *, steps: int, noise: Tensor) -> Found:
    """Which images measure like these and start as this noise? `source` and `noise` are (B, 3, H, W).

    Values keep to the range of their source, over all colors. Each image is searched on its own: what stands beside
    it in the batch changes nothing, and on a CPU nor does the number of threads.
    """
    if source.device.type != "cpu":
        return _pack([_Group(source, features, noise, SLOT).find(steps)], source)
    size = _group(*source.shape[2:])
    groups = [_Group(source[at : at + size], features, noise[at : at + size], 1) for at in range(0, len(source), size)]
    if not features.threads:
        return _pack([group.find(steps) for group in groups], source)
    with one_thread_each() as threads, ThreadPoolExecutor(min(threads, len(groups))) as pool:
        waiting = [pool.submit(group.find, steps) for group in groups]
        try:
            return _pack([future.result() for future in waiting], source)
        except BaseException:
            for group in groups:
                group.stop.set()
            raise


class _StoppedError(Exception):
    """Another thread failed or was interrupted."""


class _Group:
    """Images that one thread searches together, measured `slot` at a time."""

    def __init__(self, source: Tensor, features: Features, noise: Tensor, slot: int) -> None:
        self.source, self.features, self.noise, self.slot = source, features, noise, slot
        self.stop = threading.Event()

    def find(self, steps: int) -> Sequence[Tensor]:
        count, shape = len(self.source), self.source.shape[1:]
        places = [list(range(at, min(at + self.slot, count))) for at in range(0, count, self.slot)]
        targets = [self.features.target(self._filled(self.source[at])) for at in places]
        latest = self.source.flatten(1).clone()

        def measure(x: Tensor, which: list[int]) -> tuple[Tensor, Tensor]:
            if self.stop.is_set():
                raise _StoppedError
            latest[which] = x
            value, gradient = x.new_zeros(count), torch.zeros_like(latest)
            for at, target in zip(places, targets, strict=True):
                if not set(at).isdisjoint(which):
                    pixels = self._filled(latest[at]).unflatten(1, shape).requires_grad_()
                    distance = target(pixels)
                    (pull,) = torch.autograd.grad(distance.sum(), pixels)
                    value[at], gradient[at] = distance.detach()[: len(at)], pull.flatten(1)[: len(at)]
            return value[which], gradient[which]

        low, high = (extreme[:, None] for extreme in (self.source.amin((1, 2, 3)), self.source.amax((1, 2, 3))))
        start = self.features.start(self.noise, self.source).flatten(1)
        return minimize(measure, start, low, high, steps=steps)

    def _filled(self, images: Tensor) -> Tensor:
        missing = self.slot - len(images)
        return torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images


def _pack(parts: Sequence[Sequence[Tensor]], source: Tensor) -> Found:
    x, *rest = (torch.cat(list(columns)) for columns in zip(*parts, strict=True))
    return Found(x.view(source.shape), *rest)


def _group(height: int, width: int) -> int:
    return min(8, max(1, TOGETHER // (height * width)))
