"""Spatial frequencies: of filters, of responses, and what of these folds back when positions are left out."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXTREME = 0.25
"""The lowest and the highest frequencies are those in the outer quarters of all that a kernel can hold."""
_QUIET = 1e-10
"""Of the strongest response's energy: below it there is nothing but rounding."""
_AT_ONCE = 64


def energies(filters: Tensor) -> Tensor:
    """The energy of filters (N, C, h, w) at each frequency that their kernel can hold, (N, h, w), summed over channels.

    Frequencies are those of the cosine transform (DCT-II), which does not take the kernel for periodic: index i is i
    half periods across the kernel. The sum over frequencies is the filter's sum of squares.

    >>> energies(torch.ones(1, 3, 2, 2))[0].round().tolist()
    [[12.0, 0.0], [0.0, 0.0]]
    """
    rows, columns = (_cosines(side) for side in filters.shape[2:])
    return (rows @ filters.double() @ columns.T).square().sum(1)


def frequencies(height: int, width: int) -> Tensor:
    """Each index of `energies` on a scale from 0, the constant, to 1, the highest: the larger along either axis.

    >>> frequencies(3, 3).tolist()
    [[0.0, 0.5, 1.0], [0.5, 0.5, 1.0], [1.0, 1.0, 1.0]]
    """
    down, across = (torch.arange(side) / max(1, side - 1) for side in (height, width))
    return torch.maximum(down[:, None], across[None])


def bands(filters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of filters (N, C, h, w), the share of energy in the lowest and in the highest quarter of the frequencies, and
    the mean frequency, from 0 to 1; (N,) each, NaN for a filter of nothing.

    >>> _, high, _ = bands(torch.tensor([[[[1.0, -1.0]]]]))
    >>> high.round(decimals=3)
    tensor([1.], dtype=torch.float64)
    """
    energy, at = energies(filters), frequencies(*filters.shape[2:]).double()
    shares = energy / energy.sum((1, 2), keepdim=True)
    low, high, mean = (shares * weight for weight in (at <= EXTREME, at >= 1 - EXTREME, at))
    return low.sum((1, 2)), high.sum((1, 2)), mean.sum((1, 2))


def of_random_weights(shape: Sequence[int], similarity: float, extreme: float, banks: int = 8) -> dict[str, float]:
    """What do as many filters (N, C, h, w) of random weights look like? Shares, 0..1, over a few seeded banks.

    "low", "high" and "saturated": filters with at least the share `extreme` of their energy in the lowest, the highest,
    or either quarter of the frequencies; "repeated": filters that repeat another; "middle": energy in between.

    >>> round(of_random_weights((100, 3, 1, 2), 0.95, 0.75)["middle"], 3)
    0.0
    """
    found: dict[str, float] = dict.fromkeys(["low", "high", "saturated", "repeated", "middle"], 0.0)
    random = torch.Generator()
    for seed in range(banks):
        bank = torch.randn(*shape, generator=random.manual_seed(seed))
        low, high, _ = bands(bank)
        slow, fast = low >= extreme, high >= extreme
        repeated = torch.from_numpy(clusters(bank, similarity) != np.arange(len(bank)))
        for name, share in zip(found, (slow, fast, slow | fast, repeated, 1 - low - high), strict=True):
            found[name] += float(share.double().mean().clamp(min=0)) / banks
    return found


@functools.cache
def _cosines(side: int) -> Tensor:
    """The orthonormal cosine transform along one axis, (side, side)."""
    place, index = torch.arange(side).double(), torch.arange(side).double()[:, None]
    table = torch.cos(math.pi * index * (place + 0.5) / side) * math.sqrt(2 / side)
    table[0] /= math.sqrt(2)
    return table


def folded_shares(responses: Tensor, steps: tuple[int, int]) -> Tensor:
    """The share of the energy of responses (C, H, W) that folds back when only every steps-th position is kept, (C,).

    That is the energy of frequencies above half the new sampling rate along either axis (the Nyquist frequency),
    about the mean, under a Hann window, since a map is not periodic. 0 where all positions are kept, 1 - 1 / (steps
    down * steps across) for white noise; NaN where a response does not vary.

    >>> folded_shares(torch.cos(torch.pi * torch.arange(64)).expand(1, 64, 64), (2, 2)).round(decimals=3)
    tensor([1.])
    """
    height, width = responses.shape[1:]
    window = torch.outer(*(torch.hann_window(side + 2, periodic=False)[1:-1] for side in (height, width)))
    window = window.to(responses.device)
    # Zeros beyond a windowed map change no energy, and sides with large prime factors take 7 times as long.
    size = _fast(height), _fast(width)
    beyond, weight = _beyond(size, steps, responses.device), column_weights(size[1], responses.device)
    above, total = [], []
    for part in responses.float().split(_AT_ONCE):
        mean = (part * window).sum((1, 2), keepdim=True) / window.sum()
        power = torch.fft.rfft2((part - mean) * window, size).abs().square() * weight
        total.append(power.sum((1, 2)))
        above.append((power * beyond).sum((1, 2)))
    whole = torch.cat(total)
    return (torch.cat(above) / whole).where(whole > _QUIET * whole.max(), torch.nan).cpu()


def _fast(side: int) -> int:
    """The next length without a prime factor above 7."""
    rest = side
    for factor in (2, 3, 5, 7):
        while rest % factor == 0:
            rest //= factor
    return side if rest == 1 else _fast(side + 1)


def low_passed(maps: Tensor, factor: int) -> Tensor:
    """Maps (B, C, H, W) without the frequencies that subsampling by `factor` could not keep, taken for periodic.

    >>> low_passed(torch.tensor([[[[1.0, 3.0, 1.0, 3.0]]]]), 2).tolist()
    [[[[2.0, 2.0, 2.0, 2.0]]]]
    """
    size = (maps.shape[2], maps.shape[3])
    return torch.fft.irfft2(torch.fft.rfft2(maps.float()) * ~_beyond(size, (factor, factor), maps.device), size)


def share_beyond(maps: Tensor, factor: int) -> Tensor:
    """The share of the energy of maps (B, C, H, W) in those frequencies, (B,), over all channels about their means.

    NaN for maps that do not vary.

    >>> low, high = (torch.cos(torch.pi * k * torch.arange(8) / 4) for k in (1, 3))
    >>> share_beyond((low + high).expand(1, 1, 8, 8), 2)
    tensor([0.5000])
    """
    maps, size = maps.float(), (maps.shape[2], maps.shape[3])
    spectrum = torch.fft.rfft2(maps).abs().square()
    spectrum[..., 0, 0] = 0
    spectrum = spectrum.sum(1, dtype=torch.float64) * column_weights(size[1], maps.device)
    whole, beyond = spectrum.sum((1, 2)), (spectrum * _beyond(size, (factor, factor), maps.device)).sum((1, 2))
    # Rounding alone leaves as much of the maps' own energy.
    varies = whole > _QUIET * maps.square().sum((1, 2, 3), dtype=torch.float64) * size[0] * size[1]
    return (beyond / whole).where(varies, torch.nan).float()


def _beyond(size: tuple[int, int], steps: tuple[int, int], device: torch.device) -> Tensor:
    """Which frequencies of a real map lie above what subsampling keeps, along either axis: (H, W // 2 + 1)."""
    down = torch.fft.fftfreq(size[0], device=device).abs() > 0.5 / steps[0]
    return down[:, None] | (torch.fft.rfftfreq(size[1], device=device) > 0.5 / steps[1])


def column_weights(side: int, device: torch.device) -> Tensor:
    """How many frequencies each column stands for: the spectrum is symmetric, and torch gives one half of it."""
    weight = torch.full((side // 2 + 1,), 2.0, device=device)
    weight[[0, -1] if side % 2 == 0 else [0]] = 1
    return weight


def clusters(filters: Tensor, threshold: float) -> NDArray[np.int64]:
    """Which filters (N, C, h, w) repeat another? (N,): the first that it repeats, itself where it repeats none.

    One repeats another where the absolute cosine of the angle between them, each without its mean, reaches the
    threshold; only a filter that repeats none can be repeated. A constant filter repeats none.

    >>> waves = torch.tensor([[1.0, -1.0], [2.0, 1.0], [-3.0, 3.0], [1.0, 1.0]])
    >>> clusters(waves[:, None, None], 0.99).tolist()
    [0, 0, 0, 3]
    """
    flat = filters.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    unit = torch.where(length > 1e-6 * length.max(), flat / length, 0.0)
    alike = ((unit @ unit.T).abs() >= threshold).numpy()
    found = np.arange(len(alike))
    for i in range(len(alike)):
        repeated = np.flatnonzero(alike[i, :i] & (found[:i] == np.arange(i)))
        found[i] = repeated[0] if len(repeated) else i
    return found
