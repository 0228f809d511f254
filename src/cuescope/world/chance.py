"""Random numbers by position: the draw of an image depends on the seed and its number, never on what came before."""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
    return state ^ (state >> np.uint64(31))


def draws(seed: int, indices: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1): (len(indices), columns), each row a function of the seed and its index alone.

    >>> bool((draws(7, np.array([5, 2]), 3)[1] == draws(7, np.array([2]), 4)[0, :3]).all())
    True
    """
    key = _mixed(np.array([(seed * _GOLDEN + 1) & _MASK], dtype=np.uint64))
    rows = _mixed(key + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN))
    steps = np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return (_mixed(rows[:, None] + steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53
