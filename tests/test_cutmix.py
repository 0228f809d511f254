"""CutMix of soft targets: each target is mixed by the very area that each image shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cuescope.training.cutmix import CutMix


def numbered(count: int = 6, height: int = 20, width: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that are their own number everywhere, and targets that say it softly."""
    images = torch.arange(float(count))[:, None, None, None].expand(count, 3, height, width).clone()
    return images, torch.eye(count) * 0.7 + 0.3 / count


def test_targets_follow_the_area_of_each_image() -> None:
    images, targets = numbered()
    random, shares = np.random.default_rng(0), []
    for _ in range(50):
        mixed, soft = CutMix()(images, targets, random)
        for i, (image, target) in enumerate(zip(mixed, soft, strict=True)):
            # The plain twin: count pixels.
            counts = torch.tensor([float((image[0] == k).sum()) for k in range(6)]) / 600
            assert torch.allclose(target, counts @ targets, atol=1e-6)
            assert int((counts > 0).sum()) <= 2
            shares.append(1 - float(counts[i]))
    assert 0.2 < np.mean(shares) < 0.4, "a uniform share, less what lies outside and in its own place"


def test_the_cut_is_one_rectangle_in_all_channels() -> None:
    images, targets = numbered()
    random = np.random.default_rng(1)
    for _ in range(20):
        mixed, _ = CutMix()(images, targets, random)
        assert torch.equal(mixed[:, 0], mixed[:, 2])
        changed = (mixed != images).any(0)[0]
        rows, columns = changed.any(1), changed.any(0)
        assert torch.equal(changed, rows[:, None] & columns)
        assert int(rows.int().diff().abs().sum()) <= 2


def test_what_comes_in_is_left_and_a_seed_says_all() -> None:
    images, targets = numbered()
    before = images.clone(), targets.clone()
    first, second = (CutMix()(images, targets, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


def test_the_share_follows_beta() -> None:
    images, targets = numbered(2, 100, 100)
    shares = [CutMix(beta=1e6)(images, targets, np.random.default_rng(i))[1] for i in range(40)]
    largest = max(float((soft - targets).abs().max()) for soft in shares)
    assert largest == pytest.approx(0.7 * 0.7**2, abs=1e-3), "half of the image by sides of .7, all inside"


def test_when_nothing_is_mixed() -> None:
    images, targets = numbered()
    random = np.random.default_rng(0)
    assert CutMix(probability=0)(images, targets, random)[0] is images
    assert CutMix()(images[:1], targets[:1], random)[0].shape == (1, 3, 20, 30)
    mixed = [CutMix(probability=0.5)(images, targets, random)[0] is not images for _ in range(200)]
    assert 60 < sum(mixed) < 140
    assert not CutMix(off_epochs=1).is_on(9, 10)
    assert CutMix(off_epochs=0).is_on(9, 10)


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"beta": 0.0}, {"off_epochs": -1}])
def test_values_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CutMix(**wrong)
