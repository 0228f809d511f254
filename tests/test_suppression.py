"""Cues taken away from pixels: tiles, filters and grays beside plain twins, the published rules and their traps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cuescope.data.ops.suppression import (
    PUBLISHED,
    Change,
    bilateral,
    fine_structure,
    gaussian,
    greyscale,
    luma,
    noisy,
    suppress,
)
from cuescope.data.ops.tilings import NUDGE, nudged, resized, rotated, shuffled


def image(height: int = 24, width: int = 24, count: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def numbered(side: int, grid: int) -> Tensor:
    """Each tile of the published rule holds its own number."""
    edges = np.linspace(0, side, grid + 1).astype(int)
    tile = torch.from_numpy(np.searchsorted(edges, np.arange(side), side="right") - 1)
    return (tile[:, None] * grid + tile[None]).byte().expand(1, 3, side, side)


def stays(side: int, grid: int, rule: str, draws: int = 200) -> float:
    """How many tiles stay in place on average."""
    before, count = numbered(side, grid), 0
    middle = (np.linspace(0, side, grid + 1).astype(int)[:-1] + side // grid // 2).tolist()
    for seed in range(draws):
        after = shuffled(before, grid, [np.random.default_rng(seed)], rule)  # type: ignore[arg-type]
        count += int((after == before)[0, 0][middle][:, middle].sum())
    return count / draws


@pytest.mark.parametrize(("grid", "rule", "expected"), [(3, "published", 4), (6, "published", 4), (4, "published", 1)])
def test_of_tiles_of_equal_size_so_many_stay(grid: int, rule: str, expected: float) -> None:
    assert stays(224, grid, rule) == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize("grid", [3, 6])
def test_by_the_full_rule_one_tile_stays(grid: int) -> None:
    assert stays(224, grid, "full") == pytest.approx(1, abs=0.3)


def test_three_tiles_of_224_px_have_96_permutations_and_the_first_never_moves() -> None:
    before, found = numbered(224, 3), set()
    for seed in range(1000):
        after = shuffled(before, 3, [np.random.default_rng(seed)])[0, 0]
        assert (after[:74, :74] == 0).all()
        found.add(tuple(after[[10, 100, 200]][:, [10, 100, 200]].flatten().tolist()))
    assert len(found) == 96


@pytest.mark.parametrize("rule", ["published", "full"])
def test_tiles_trade_places_and_no_pixel_is_lost(rule: str) -> None:
    pixels = image(50, 37)
    after = shuffled(pixels, 6, [np.random.default_rng(1)], rule)  # type: ignore[arg-type]
    assert after.shape == pixels.shape
    assert not torch.equal(after, pixels)
    colors = [Counter(map(tuple, p[0].flatten(1).T.tolist())) for p in (pixels, after)]
    assert colors[0] == colors[1]


def test_rotated_tiles_are_quarter_turns_of_the_tiles() -> None:
    pixels = image(24, 24)
    after = rotated(pixels, 3, [np.random.default_rng(0)])
    turns = set()
    for i in range(3):
        for j in range(3):
            tile, now = (p[0, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] for p in (pixels, after))
            turns |= {k for k in range(4) if torch.equal(now, tile.rot90(k, (1, 2)))}
            assert any(torch.equal(now, tile.rot90(k, (1, 2))) for k in range(4))
    assert len(turns) > 2
    # Where the grid does not divide the side, the image is resized and back: 224 to 228 px.
    assert rotated(image(224, 224), 6, [np.random.default_rng(0)]).shape == (1, 3, 224, 224)


def test_nudged_tiles_show_what_lies_a_little_aside() -> None:
    side, grid = 48, 6
    place = torch.arange(side * side, dtype=torch.int32).view(1, 1, side, side).expand(1, 3, side, side)
    after = nudged(place, grid, [np.random.default_rng(3)])[0, 0]
    moved = torch.stack([after // side - torch.arange(side)[:, None], after % side - torch.arange(side)])
    assert moved.abs().max() == round(NUDGE * side)
    tiles = moved.view(2, 6, 8, 6, 8)
    assert (tiles == tiles[:, :, :1, :, :1]).all(), "a tile moves as one"
    assert (moved[0, :8] >= 0).all(), "at the border it looks inward"


def plain_bilateral(pixels: Tensor, reach: int, sigma_color: float, sigma_space: float) -> Tensor:
    """One pixel after the other, as the definition says."""
    values = np.pad(pixels[0].numpy().astype(float), ((0, 0), (reach,) * 2, (reach,) * 2), mode="reflect")
    out = np.zeros(pixels.shape[1:])
    for i in range(pixels.shape[2]):
        for j in range(pixels.shape[3]):
            own, total, weights = values[:, i + reach, j + reach], np.zeros(3), 0.0
            for y in range(-reach, reach + 1):
                for x in range(-reach, reach + 1):
                    if y * y + x * x > reach * reach:
                        continue
                    there = values[:, i + reach + y, j + reach + x]
                    color = np.abs(there - own).sum()
                    w = np.exp(-(color**2) / (2 * sigma_color**2) - (y * y + x * x) / (2 * sigma_space**2))
                    total, weights = total + w * there, weights + w
            out[:, i, j] = total / weights
    return torch.from_numpy(out.round()).byte()


def test_the_bilateral_filter_is_its_definition_at_its_share_of_the_side() -> None:
    pixels = image(64, 64) // 3
    # Of 64 px the published reach of 6 px of 224 is 2 px, and 75 px are 21.4.
    found, wanted = bilateral(pixels, 12, 170.0), plain_bilateral(pixels, 2, 170.0, 75 * 64 / 224)
    assert (found[0].int() - wanted.int()).abs().max() <= 1
    assert (found[0] != wanted).float().mean() < 1e-3


@pytest.mark.parametrize("change", PUBLISHED["bilateral"])
def test_the_window_is_round_and_two_halves_of_d_and_one_wide(change: Change) -> None:
    reach = int(change.level) // 2
    # With weights that are all alike, one bright pixel is spread over the window.
    bright = torch.full((1, 3, 224, 224), 0, dtype=torch.uint8)
    bright[..., 112, 112] = 255
    seen = bilateral(bright, int(change.level), 1e6, 1e6)[0, 0] > 0
    rows, columns = seen.nonzero().T
    away = (rows - 112) ** 2 + (columns - 112) ** 2
    assert away.max() == reach**2
    assert len(away) == sum(y * y + x * x <= reach**2 for y in range(-7, 8) for x in range(-7, 8))


def test_edges_stay_and_weak_texture_goes() -> None:
    pixels = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
    pixels[..., 112:] = 200
    pixels[..., ::2, :] += 10
    left = bilateral(pixels, 12, 170.0)[0, 0].int()
    assert (left[:, 100] - 5).abs().max() <= 2
    assert int(left[50, 112] - left[50, 111]) > 150


def test_a_gaussian_is_its_definition() -> None:
    pixels, k, sigma = image(224, 224), 5, 0.66
    kernel = np.exp(-((np.arange(k) - k // 2) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(pixels[0].numpy().astype(float), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    wanted = sum(kernel[i] * kernel[j] * padded[:, i : i + 224, j : j + 224] for i in range(k) for j in range(k))
    assert np.abs(gaussian(pixels, k, sigma)[0].numpy() - np.asarray(wanted)).max() <= 0.51


def test_gray_is_rounded_and_a_mixture_cut() -> None:
    pixels = image(20, 20)
    red, green, blue = pixels[0].double()
    exact = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (luma(pixels)[0, 0].double() - exact).abs().max() <= 0.501
    assert torch.equal(greyscale(pixels, 1.0), luma(pixels).expand(-1, 3, -1, -1))
    mixed = greyscale(torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1), 0.2)
    # .8 of 255 and .2 of 76 are 219.2; .2 of 76 is 15.2: cut, not rounded.
    assert mixed.flatten().tolist() == [219, 15, 15]


def test_channels_trade_places_and_sometimes_stay() -> None:
    pixels = torch.tensor([1, 2, 3], dtype=torch.uint8).view(1, 3, 1, 1).expand(300, -1, 2, 2)
    found = suppress(pixels, Change("channels"), [f"{i}.png" for i in range(300)])
    counts = Counter(tuple(p[:, 0, 0].tolist()) for p in found)
    assert len(counts) == 6
    assert 25 < counts[1, 2, 3] < 80


def test_noise_stays_within_its_levels() -> None:
    pixels = torch.full((1, 3, 40, 40), 128, dtype=torch.uint8)
    moved = noisy(pixels, 4, [np.random.default_rng(0)]).int() - 128
    assert (moved.min(), moved.max()) == (-4, 4)


CHANGES = [Change("shuffle", 3), Change("rotation", 6), Change("cuts", 6), Change("channels"), Change("noise", 4)]


@pytest.mark.parametrize("change", CHANGES)
def test_chance_is_of_the_seed_and_the_name_alone(change: Change) -> None:
    pixels = image(24, 24, 3)
    names = ["a.png", "b.png", "c.png"]
    together = suppress(pixels, change, names)
    assert torch.equal(suppress(pixels[[2, 0]], change, ["c.png", "a.png"]), together[[2, 0]])
    assert not torch.equal(suppress(pixels, change, names, seed=1), together)


@pytest.mark.parametrize("change", [PUBLISHED["bilateral"][4], PUBLISHED["gaussian"][4], Change("greyscale", 0.6)])
def test_filters_need_no_chance_and_leave_their_input(change: Change) -> None:
    pixels = image(32, 32, 2)
    before = pixels.clone()
    one = suppress(pixels, change, ["a", "b"])
    assert torch.equal(one, suppress(pixels, change, ["c", "d"], seed=5))
    assert torch.equal(pixels, before)
    assert one.dtype == torch.uint8


def test_resizing_is_linear_without_antialiasing() -> None:
    ramp = (torch.arange(8) * 10).byte().expand(1, 3, 4, 8)
    # Pixel i of 4 lies between pixels 2 i and 2 i + 1 of 8.
    assert resized(ramp, (4, 4))[0, 0, 0].tolist() == [5, 25, 45, 65]
    stripes = (torch.arange(8) % 4 == 0).byte().mul(200).expand(1, 3, 4, 8)
    assert resized(stripes, (4, 2))[0, 0, 0].tolist() == [0, 0], "what lies between is not averaged"


def by_hand(pixels: Tensor) -> tuple[float, float]:
    gray = np.tensordot([0.2125, 0.7154, 0.0721], pixels[0].numpy() / 255, 1)
    side, window = 56, round(11 * 56 / 224)
    windows = np.lib.stride_tricks.sliding_window_view(gray, (window, window))
    energy = np.abs(np.fft.fft2(gray)) ** 2
    f = np.fft.fftfreq(side) * side
    return float(windows.var((2, 3)).mean()), float(energy[np.hypot(f[:, None], f) >= 11].sum() / energy.sum())


@pytest.mark.parametrize("make", [lambda: image(56, 56), lambda: image(56, 56) // 8 + 100])
def test_fine_structure_is_local_variance_and_fine_energy(make: Callable[[], Tensor]) -> None:
    pixels = make()
    assert fine_structure(pixels)[0].tolist() == pytest.approx(by_hand(pixels), rel=1e-9)
    flat = torch.full((1, 3, 56, 56), 77, dtype=torch.uint8)
    assert fine_structure(flat)[0].tolist() == pytest.approx([0, 0], abs=1e-12)
