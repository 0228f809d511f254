"""Which images does a step learn from, and what is drawn for each? Functions of the seed, the epoch and the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def seed_of(*parts: int) -> int:
    """A seed below 2**63 for these numbers, such as (seed, epoch, image).

    >>> seed_of(0, 1, 2) == seed_of(0, 1, 2), seed_of(0, 1, 2) == seed_of(0, 2, 1)
    (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def random_of(*parts: int) -> np.random.Generator:
    """A generator for these numbers, which no other draws change."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(parts)))


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The numbers below `count` in the order of this epoch."""
    return random_of(seed, epoch, count).permutation(count)


class Order:
    """Which images, by their place among `count`, are in a batch? Whole batches; those left over wait for the next
    epoch's order.

    The same for any number of processes, and whatever was done before: a step can be begun with.

    >>> order = Order(5, batch=2, seed=0)
    >>> order.steps, sorted(order.places(0)) != sorted(order.places(1)), order.epoch(3)
    (2, True, 1)
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.steps = max(1, count // batch)
        """Of an epoch."""
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def epoch(self, step: int) -> int:
        return step // self.steps

    def places(self, step: int) -> Sequence[int]:
        """The images of a step, counted from 0."""
        epoch, k = divmod(step, self.steps)
        return self.of(epoch)[k * self.batch : (k + 1) * self.batch].tolist()

    def of(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._order, self._epoch = permutation(self.seed, epoch, self.count), epoch
        return self._order
