"""Images moved, enlarged and turned, pixel by pixel beside the fast way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cuescope.data.ops.transform import TRANSFORMS, scaled, shifted, shifts, steps_up, turned

COLOR = (0.2, 0.5, 0.9)


def image(height: int = 7, width: int = 10) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


def plain(pixels: Tensor, factor: float, degrees: float) -> Tensor:
    """Each pixel asks where it comes from and mixes the four around, those outside being the color."""
    _, height, width = pixels.shape
    out = torch.zeros_like(pixels)
    angle = math.radians(degrees)
    for row in range(height):
        for column in range(width):
            right, up = column - (width - 1) / 2, (height - 1) / 2 - row
            # Turning back by the angle, and down by the factor.
            x = (right * math.cos(angle) + up * math.sin(angle)) / factor + (width - 1) / 2
            y = (height - 1) / 2 - (up * math.cos(angle) - right * math.sin(angle)) / factor
            for channel in range(3):
                value = 0.0
                for i in (math.floor(y), math.floor(y) + 1):
                    for j in (math.floor(x), math.floor(x) + 1):
                        inside = 0 <= i < height and 0 <= j < width
                        here = float(pixels[channel, i, j]) if inside else COLOR[channel]
                        value += here * (1 - abs(y - i)) * (1 - abs(x - j))
                out[channel, row, column] = value
    return out


@pytest.mark.parametrize("degrees", [10.0, 45.0, 90.0, 137.0, 180.0, 350.0, -30.0])
def test_turned_is_what_each_pixel_finds(degrees: float) -> None:
    assert torch.allclose(turned(image(), degrees, COLOR), plain(image(), 1.0, degrees), atol=1e-5)


@pytest.mark.parametrize("factor", [1.1, 1.8, 3.0, 0.6])
def test_scaled_is_what_each_pixel_finds(factor: float) -> None:
    assert torch.allclose(scaled(image(), factor, COLOR), plain(image(), factor, 0.0), atol=1e-5)


def test_a_full_turn_and_no_change_are_the_image_itself() -> None:
    pixels = image()
    for same in (turned(pixels, 360, COLOR), turned(pixels, 0, COLOR), scaled(pixels, 1, COLOR)):
        assert torch.equal(same, pixels)
        assert same.data_ptr() != pixels.data_ptr()
    assert torch.equal(shifted(pixels, 0, 0, COLOR), pixels)


def test_quarter_turns_lose_nothing_of_a_square() -> None:
    pixels = image(9, 9)
    for quarters in (1, 2, 3):
        wanted = torch.rot90(pixels, quarters, (1, 2))
        assert torch.allclose(turned(pixels, 90 * quarters, COLOR), wanted, atol=1e-5)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (-3, 0), (0, 4), (0, -1), (2, -3), (7, 0), (-9, 2), (0, 10)])
def test_shifted_moves_each_pixel(down: int, right: int) -> None:
    pixels = image()
    found = shifted(pixels, down, right, COLOR)
    for row in range(7):
        for column in range(10):
            i, j = row - down, column - right
            inside = 0 <= i < 7 and 0 <= j < 10
            wanted = pixels[:, i, j].tolist() if inside else pytest.approx(COLOR)
            assert found[:, row, column].tolist() == wanted


def test_what_is_outside_has_the_color() -> None:
    corner = turned(image(20, 20), 45, COLOR)[:, 0, 0]
    assert corner.tolist() == pytest.approx(COLOR)
    assert scaled(image(20, 20), 0.5, COLOR)[:, 0, 3].tolist() == pytest.approx(COLOR)
    assert (turned(image(20, 20), 33, COLOR) <= 1).all()


def test_a_factor_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 times"):
        scaled(image(), 0, COLOR)


def test_steps() -> None:
    assert shifts(60, 10, 224) == [float(px) for px in range(-60, 61, 10)]
    assert shifts(60, 10, 64) == [px * 3.5 for px in (-17, -14, -11, -9, -6, -3, 0, 3, 6, 9, 11, 14, 17)]
    assert shifts(20, 10, 12) == [-224 / 12, 0, 224 / 12], "whole pixels, each once"
    assert steps_up(0, 350, 10)[-1] == 350
    assert steps_up(1, 1.75, 0.1) == [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]


def test_steps_are_of_an_input_of_224_px() -> None:
    pixels = image(16, 32)
    assert torch.equal(TRANSFORMS["vertical"].apply(pixels, 28.0, COLOR), shifted(pixels, 2, 0, COLOR))
    assert torch.equal(TRANSFORMS["horizontal"].apply(pixels, -28.0, COLOR), shifted(pixels, 0, -4, COLOR))
    assert torch.equal(TRANSFORMS["scale"].apply(pixels, 1.5, COLOR), scaled(pixels, 1.5, COLOR))
    assert torch.equal(TRANSFORMS["rotation"].apply(pixels, 30.0, COLOR), turned(pixels, 30.0, COLOR))
    assert TRANSFORMS["vertical"].near([0.0]) == []
