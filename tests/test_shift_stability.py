"""The one-pixel shift: known answers, and a plain twin of the crop protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cuescope.images import Sample
from cuescope.instrument import About
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.ops.shift import ShiftedCrop
from toys import COLORS, Constant, Images, MeanColor, OnePixel, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def test_pairs_equal_a_plain_crop_resize_and_cut() -> None:
    samples = colored(5, size=37)
    crop = ShiftedCrop(seed=4)
    pairs = crop.pairs(samples, plain(16))
    for i, sample in enumerate(samples):
        top, left, side = crop.square(sample.id, 37, 37)
        image = Image.fromarray(sample.pixels.permute(1, 2, 0).numpy())
        square = image.crop((left, top, left + side, top + side))
        enlarged = np.asarray(square.resize((17, 17), Image.Resampling.BILINEAR))
        for k in (0, 1):
            expected = torch.from_numpy(enlarged[k : k + 16, k : k + 16].copy()).permute(2, 0, 1) / 255
            assert torch.equal(pairs[2 * i + k], expected)


def test_squares_fit_and_follow_the_seed() -> None:
    crop = ShiftedCrop()
    for i in range(200):
        top, left, side = crop.square(str(i), 30, 50)
        assert 1 <= side <= 30
        assert 0 <= top <= 30 - side
        assert 0 <= left <= 50 - side
    areas = [crop.square(str(i), 100, 100).side ** 2 / 1e4 for i in range(3000)]
    assert np.mean(areas) == pytest.approx(0.54, abs=0.02)
    assert crop.square("a", 90, 90) != ShiftedCrop(seed=1).square("a", 90, 90)


def test_a_constant_classifier_never_changes_its_mind() -> None:
    classifier = toy(Constant())
    rows = ShiftStability().observe(classifier, classifier.see(colored(20)))
    finding = ShiftStability().conclude(rows, ABOUT)
    assert finding["top1_change"].value == 0
    assert finding["top1_change"].interval is not None
    assert finding["top1_change"].interval[1] > 0, "none of 20 is not never"
    assert finding["mac"].value == 0


def test_a_classifier_of_one_pixel_changes_its_mind() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)[None]) // 4 % 2 * 255
    samples = [Sample(f"{i}", board.byte().expand(3, 64, 64).contiguous()) for i in range(40)]
    shaky, calm = toy(OnePixel()), toy(MeanColor())
    change = [
        ShiftStability().conclude(ShiftStability().observe(c, c.see(samples)), ABOUT)["top1_change"].value
        for c in (shaky, calm)
    ]
    assert change[0] is not None
    assert change[0] > 0.1
    assert change[1] == 0


def test_mac_is_of_the_first_answer() -> None:
    classifier = toy(MeanColor())
    samples = colored(8, size=30)
    rows = ShiftStability().observe(classifier, classifier.see(samples))
    pairs = ShiftedCrop().pairs(samples, plain(16))
    p = classifier.logits(pairs).double().softmax(1)
    for i in range(8):
        k = int(p[2 * i].argmax())
        assert rows["mac"][i] == pytest.approx(abs(float(p[2 * i, k] - p[2 * i + 1, k])))


def test_images_of_one_pixel_do_not_stop_it() -> None:
    classifier = toy(MeanColor())
    tiny = [Sample(str(i), torch.full((3, 1, 1 + i), 90, dtype=torch.uint8)) for i in range(3)]
    assert ShiftStability().observe(classifier, classifier.see(tiny)).height == 3


def test_the_same_images_for_every_classifier() -> None:
    images = Images(colored(6))
    rows = [ShiftStability().observe(c, c.see(images.samples)) for c in (toy(MeanColor()), toy(Constant()))]
    assert rows[0].select("top", "left", "side").equals(rows[1].select("top", "left", "side"))
