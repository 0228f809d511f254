"""Spatial frequencies against plain sums, and the sheet of filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.data.ops.contact import contact_sheet
from cuescope.data.ops.spectrum import bands, clusters, energies, folded_shares, frequencies


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_energy(one: Tensor, u: int, v: int) -> float:
    """One term of the cosine transform, as it is written in books, summed over channels."""
    total = 0.0
    _, height, width = one.shape
    for channel in one:
        term = sum(
            float(channel[y, x])
            * math.cos(math.pi * u * (y + 0.5) / height)
            * math.cos(math.pi * v * (x + 0.5) / width)
            for y in range(height)
            for x in range(width)
        )
        total += (term * math.sqrt((1 if u == 0 else 2) / height) * math.sqrt((1 if v == 0 else 2) / width)) ** 2
    return total


def test_energies_are_those_of_the_plain_cosine_transform() -> None:
    filters = noise(2, 3, 4, 5)
    found = energies(filters)
    for n in range(2):
        for u in range(4):
            for v in range(5):
                assert float(found[n, u, v]) == pytest.approx(plain_energy(filters[n], u, v), rel=1e-5, abs=1e-6)
    assert torch.allclose(found.sum((1, 2)), filters.double().square().sum((1, 2, 3)))


def test_bands_of_filters_whose_frequency_is_known() -> None:
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    stripes = torch.tensor([1.0, -1, 1]).expand(3, 3)
    low, high, mean = bands(torch.stack([torch.ones(3, 3), sobel, stripes])[:, None])
    assert low.tolist() == pytest.approx([1, 0, 1 / 9])
    assert high.tolist() == pytest.approx([0, 1 / 9, 8 / 9]), "a Sobel filter is a slow edge along a blur"
    assert mean.tolist() == pytest.approx([0, 5 / 9, 8 / 9])
    empty = bands(torch.zeros(1, 1, 3, 3))
    assert all(bool(value.isnan()) for value in empty)


def test_the_quarters_of_a_larger_kernel() -> None:
    at = frequencies(7, 7)
    assert [int((at <= 0.25).sum()), int((at >= 0.75).sum())] == [4, 49 - 25]
    waves = torch.stack([torch.cos(math.pi * i * (torch.arange(7) + 0.5) / 7).expand(7, 7) for i in range(7)])[:, None]
    low, high, mean = bands(waves)
    assert low.round(decimals=4).tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert high.round(decimals=4).tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert mean.tolist() == pytest.approx([i / 6 for i in range(7)])
    assert frequencies(1, 3).tolist() == [[0.0, 0.5, 1.0]]


def plain_share(response: Tensor, steps: tuple[int, int]) -> float:
    """By a Fourier transform written as sums, with its own window."""
    values = response.double().numpy()
    height, width = values.shape
    window = np.outer(*(np.sin(np.pi * np.arange(1, side + 1) / (side + 1)) ** 2 for side in (height, width)))
    values = (values - (values * window).sum() / window.sum()) * window
    above = total = 0.0
    for u in range(height):
        for v in range(width):
            waves = np.exp(-2j * np.pi * (u * np.arange(height)[:, None] / height + v * np.arange(width) / width))
            power = abs((values * waves).sum()) ** 2
            down, across = (min(k, side - k) / side for k, side in ((u, height), (v, width)))
            total += power
            above += power * (down > 0.5 / steps[0] or across > 0.5 / steps[1])
    return float(above / total)


@pytest.mark.parametrize("steps", [(1, 1), (2, 2), (3, 1), (1, 4), (2, 3)])
@pytest.mark.parametrize("shape", [(12, 14), (15, 9)])
def test_folded_shares_are_those_of_the_plain_transform(shape: tuple[int, int], steps: tuple[int, int]) -> None:
    responses = noise(3, *shape) + 5
    found = folded_shares(responses, steps)
    assert found.tolist() == pytest.approx([plain_share(one, steps) for one in responses], abs=1e-5)


def test_a_side_with_a_large_prime_factor_changes_little() -> None:
    response = F.avg_pool2d(noise(1, 100, 100), 4, 1)[0]
    whole = folded_shares(response[None], (2, 2))
    assert response.shape == (97, 97)
    assert float(whole) == pytest.approx(float(folded_shares(response[None, :96, :96], (2, 2))), abs=0.005)


def test_what_folds_back_of_blurs_waves_and_noise() -> None:
    white = noise(1, 128, 128)
    blur = torch.outer(*(torch.exp(-(torch.arange(-6, 7) ** 2) / 8),) * 2)[None, None]
    checkerboard = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(64, 64)[None]
    shares = [
        float(folded_shares(r, (2, 2))) for r in (F.conv2d(white[None], blur)[0], white, checkerboard, white + 1000)
    ]
    assert shares[0] < 0.001
    assert shares[1] == pytest.approx(0.75, abs=0.02)
    assert shares[2] > 0.999
    assert shares[3] == pytest.approx(shares[1], abs=1e-3), "the mean does not count"
    assert float(folded_shares(white, (4, 4))) == pytest.approx(15 / 16, abs=0.01)


def test_a_response_that_does_not_vary_has_no_share() -> None:
    shares = folded_shares(torch.stack([torch.full((16, 16), 3.0), noise(16, 16)]), (2, 2))
    assert shares.isnan().tolist() == [True, False]
    assert folded_shares(torch.ones(1, 8, 8), (2, 2)).isnan().all()


def test_clusters() -> None:
    one, other = noise(2, 3, 3, 3)
    bank = torch.stack([one, other, -2 * one, one + 7, other + 0.02 * one, torch.ones(3, 3, 3)])
    assert clusters(bank, 0.95).tolist() == [0, 1, 0, 0, 1, 5]
    # A chain of neighbors is no likeness of its ends.
    angles = torch.arange(0, 90, 15).deg2rad()
    plane = torch.stack([angles.cos(), angles.sin(), -angles.cos(), -angles.sin()], 1)[:, None, None]
    assert clusters(plane, math.cos(math.radians(20))).tolist() == [0, 0, 2, 2, 4, 4]


def test_a_sheet_shows_each_filter_in_its_own_contrast() -> None:
    bank = torch.zeros(2, 3, 2, 2)
    bank[0, 0, 0, 0], bank[1, :, 1, 1] = 0.001, -50
    sheet = contact_sheet(bank)
    assert sheet.shape == (40, 84, 3)
    assert sheet[0, 0].tolist() == [255, 128, 128]
    assert sheet[39, 83].tolist() == [0, 0, 0]
    assert sheet[39, 39].tolist() == [128, 128, 128]
    assert sheet[0, 41].tolist() == [255, 255, 255], "white between them"
    gray = contact_sheet(torch.tensor([[[[1.0]], [[0.0]]]]))
    assert gray.shape == (40, 40, 3)
    assert gray[0, 0].tolist() == [255, 255, 255], "not three channels: their mean, in gray"


def test_groups_stand_apart_and_a_width_is_kept() -> None:
    two, one = noise(2, 1, 4, 4), noise(1, 1, 4, 4)
    sheet = contact_sheet(two, one, width_px=300)
    assert sheet.shape == (40, 300, 3)
    column = sheet.reshape(40, 300, 3).min((0, 2)) < 255
    assert [int(column[:84].sum()), int(column[84:110].sum()), int(column[110:].sum())] == [80, 0, 40]
    assert contact_sheet(noise(5, 1, 4, 4), width_px=84).shape == (128, 84, 3)
