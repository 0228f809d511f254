"""Where do labels stand among all classes? Ties are not decided: what is given is the mean over all their orders."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ranks:
    """Of each image (n) and label (c), which may have several classes: the best of them counts. Ranks begin at 1."""

    greater: NDArray[np.int64]
    """(n, c) classes with larger logits than the label's best."""
    equal: NDArray[np.int64]
    """(n, c) classes with the logit of the label's best, itself among them."""
    own: NDArray[np.int64]
    """(n, c) those of them that are the label's."""

    @classmethod
    def of(cls, logits: Tensor, labels: Mapping[str, Sequence[int]]) -> "Ranks":
        """`logits` are (n, K), `labels` the classes of each label.

        >>> ranks = Ranks.of(torch.tensor([[3.0, 1.0, 2.0, 1.0]]), {"a": (1,), "b": (2, 3)})
        >>> ranks.expected.tolist(), ranks.among_first(3).tolist()
        ([[3.5, 2.0]], [[0.5, 1.0]])
        """
        best = torch.stack([logits[:, list(index)].amax(1) for index in labels.values()], 1)
        own = [(logits[:, list(i)] == best[:, c, None]).sum(1) for c, i in enumerate(labels.values())]
        ordered = logits.sort(1).values
        upper, lower = (torch.searchsorted(ordered, best, right=right) for right in (True, False))
        return cls((logits.shape[1] - upper).numpy(), (upper - lower).numpy(), torch.stack(own, 1).numpy())

    @property
    def expected(self) -> NDArray[np.float64]:
        """(n, c) the mean rank of the label's best class."""
        return self.greater + (self.equal + 1) / (self.own + 1)

    @property
    def reciprocal(self) -> NDArray[np.float64]:
        """(n, c) the mean of 1 / rank: 1 at the top, and for equal logits what a random order gives.

        >>> Ranks.of(torch.zeros(1, 3), {"a": (0,)}).reciprocal.round(3).tolist()     # (1 + 1/2 + 1/3) / 3
        [[0.611]]
        """
        plain = 1.0 / (self.greater + 1)
        for place in zip(*np.nonzero(self.equal > self.own), strict=True):
            plain[place] = _reciprocal(int(self.greater[place]), int(self.equal[place]), int(self.own[place]))
        return plain

    def among_first(self, k: int) -> NDArray[np.float64]:
        """(n, c) how likely the label is among the first k: 0 or 1, but for ties. For labels of one class each."""
        return np.clip((k - self.greater) / self.equal, 0, 1)


@functools.lru_cache(maxsize=4096)
def _reciprocal(greater: int, equal: int, own: int) -> float:
    """The mean of 1 / rank of the first of `own` among `equal` in random order behind `greater` others.

    Of one among all K it is H(K) / K, the mean reciprocal rank of a random order.

    >>> round(_reciprocal(0, 1000, 1), 7)
    0.0074855
    >>> round(_reciprocal(0, 4, 2), 4)     # first in 3 of 6 orders, second in 2, third in 1
    0.7222
    """
    likely, total = own / equal, 0.0
    for place in range(1, equal - own + 2):
        total += likely / (greater + place)
        likely *= (equal - place - own + 1) / max(1, equal - place)
    return total
