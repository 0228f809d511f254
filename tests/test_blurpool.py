"""Blur and subsample, against numpy; pools with a stride against torch's own."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from cuescope.models.blurpool import AvgBlurPool2d, BlurPool2d, MaxBlurPool2d, SamePad2d, binomial, surround

ROWS = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1], 6: [1, 5, 10, 10, 5, 1]}
ROWS[7] = [1, 6, 15, 20, 15, 6, 1]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def blurred(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """The plain way: reflect, more cells to the right and bottom for an even filter, and sum cell by cell."""
    row = np.array(ROWS[size]) / sum(ROWS[size])
    before, after = (size - 1) // 2, -(-(size - 1) // 2)
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), "reflect")
    height, width = (-(-n // stride) for n in x.shape[2:])
    out = np.zeros((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, :, i, j] = (window * np.outer(row, row)).sum((2, 3))
    return out


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_a_convolution_in_numpy(size: int, stride: int) -> None:
    x = noise(2, 3, 11, 8)
    found = BlurPool2d(size, stride)(x)
    np.testing.assert_allclose(found.numpy(), blurred(x.double().numpy(), size, stride), atol=1e-6)
    last = BlurPool2d(size, stride)(x.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(last.numpy(), found.numpy(), atol=1e-6)


def test_a_constant_map_stays_and_nothing_is_learned() -> None:
    pool = BlurPool2d(5)
    assert torch.allclose(pool(torch.full((1, 4, 9, 9), 3.0)), torch.full((1, 4, 5, 5), 3.0))
    assert not list(pool.parameters())
    assert not pool.state_dict()
    assert pool.double()(noise(1, 1, 8, 8).double()).dtype == torch.float64


def test_a_map_too_small_to_reflect_is_continued() -> None:
    assert BlurPool2d(7)(torch.full((1, 2, 1, 1), 2.0)).flatten().tolist() == pytest.approx([2.0, 2.0])
    assert BlurPool2d(4)(noise(1, 2, 2, 2)).shape == (1, 2, 1, 1)


def test_no_other_sizes() -> None:
    for size in (0, 8):
        with pytest.raises(ValueError, match=f"size {size}"):
            binomial(size)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 3, 1), (5, 3, 2)])
def test_a_max_pool_blurred_by_one_cell_is_itself(kernel: int, stride: int, pad: int, ceil: bool) -> None:
    pool = nn.MaxPool2d(kernel, stride, pad, ceil_mode=ceil)
    for height in range(kernel + 1, 14):
        x = noise(1, 2, height, 13)
        assert torch.equal(MaxBlurPool2d(pool, 1)(x), pool(x))
        assert MaxBlurPool2d(pool, 4)(x).shape == pool(x).shape


def test_a_max_pool_is_dense_and_then_blurred() -> None:
    x = noise(1, 2, 12, 12)
    dense = nn.functional.max_pool2d(x, 3, 1, 1)
    assert torch.allclose(MaxBlurPool2d(nn.MaxPool2d(3, 2, 1), 4)(x), BlurPool2d(4)(dense))


def test_timms_same_padding() -> None:
    from timm.layers import Conv2dSame
    from timm.layers.pool2d_same import MaxPool2dSame

    for size in (7, 8, 12):
        x = noise(1, 3, size, size)
        pool, conv = MaxPool2dSame(3, 2), Conv2dSame(3, 4, 5, 2)
        assert torch.equal(MaxBlurPool2d(pool, 1)(x), pool(x))
        padded = SamePad2d((5, 5), (2, 2))(x)
        assert torch.allclose(nn.functional.conv2d(padded, conv.weight, conv.bias, 2), conv(x), atol=1e-6)


def test_a_blur_of_two_is_the_average_of_two() -> None:
    x = noise(1, 3, 8, 9)
    assert torch.allclose(AvgBlurPool2d(nn.AvgPool2d(2), 2)(x), nn.AvgPool2d(2)(x), atol=1e-6)
    assert AvgBlurPool2d(nn.AvgPool2d(2, ceil_mode=True), 4)(x).shape == (1, 3, 4, 5)


def test_a_surrounded_layer_keeps_its_names_and_can_be_copied() -> None:
    x, conv = noise(1, 3, 8, 8), nn.Conv2d(3, 4, 3)
    plain = copy.deepcopy(conv)
    surround(conv, before=BlurPool2d(2, 1), after=BlurPool2d(3))
    surround(conv, before=nn.ReLU(), after=nn.Sigmoid())
    expected = BlurPool2d(3)(plain(BlurPool2d(2, 1)(x.relu()))).sigmoid()
    for same in (conv, copy.copy(conv), copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(same(x), expected)
        assert isinstance(same, nn.Conv2d)
        assert list(same.state_dict()) == ["weight", "bias"]
    assert type(plain) is nn.Conv2d
