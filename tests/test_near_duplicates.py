"""Images that stand in a training set nearly the same: which pairs are, which are not, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cuescope
from cuescope.core.errors import CueError
from cuescope.core.matrix import Matrix
from cuescope.data.readers import read_folder
from cuescope.data.readers.beside import Beside
from cuescope.methods.near_duplicates import Seen, best_fit, picture, twins
from cuescope.world.images import WorldImages
from planting import KINDS, copied


def seen(pictures: np.ndarray, features: np.ndarray) -> Seen:
    return Seen(Matrix.whole(pictures.reshape(len(pictures), 64 * 64)), Matrix.whole(features))


def world(index: int) -> torch.Tensor:
    return WorldImages("congruent", count=99).read(index).pixels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [0, 7, 31])
def test_a_copy_fits(kind: str, index: int) -> None:
    correlation, similarity, mirrored = best_fit(picture(copied(world(index), kind)), picture(world(index)))
    assert correlation > 0.95
    assert similarity > 0.85
    assert mirrored == ("mirrored" in kind)


def test_a_picture_fits_itself_exactly_and_the_order_does_not_matter() -> None:
    one, other = picture(world(3)), picture(world(4))
    assert best_fit(one, one) == pytest.approx((1, 1, False), abs=1e-3)
    assert best_fit(one, other) == pytest.approx(best_fit(other, one), abs=1e-4)


def test_a_plain_gray_image_is_like_nothing() -> None:
    gray = np.full((2, 64, 64), 90, np.uint8)
    assert twins(seen(gray, np.ones((2, 3))), seen(gray, np.ones((2, 3)))) == [None, None]
    assert twins(seen(gray[:0], np.ones((0, 3))), seen(gray, np.ones((2, 3)))) == []
    assert twins(seen(gray, np.ones((2, 3))), seen(gray[:0], np.ones((0, 3)))) == [None, None]


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.stack([picture(world(i)).numpy() for i in range(12)])
    features = np.random.default_rng(0).normal(size=(12, 4))
    few, every = seen(pictures[:4], features[:4]), seen(pictures, features)
    whole = twins(few, every)
    monkeypatch.setattr("cuescope.methods.near_duplicates.BLOCK", 5)
    assert [t.other for t in twins(few, every) if t] == [0, 1, 2, 3]
    assert [t.other for t in whole if t] == [0, 1, 2, 3]


def test_two_sets_stand_behind_each_other() -> None:
    both = Beside(WorldImages("congruent", count=2), WorldImages("conflict", count=3))
    assert len(both) == 5
    assert len({both.id(i) for i in range(5)}) == 5
    assert [both.read(i).cues["origin"] for i in (1, 2)] == ["images", "training"]
    assert both.read(2).label is None
    assert both.digest != Beside(WorldImages("congruent", count=2), WorldImages("conflict", count=4)).digest


def test_the_option_finds_the_images_of_a_folder(tmp_path: Path) -> None:
    for name, kind in (("mine", "mirrored cropped"), ("theirs", "")):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = copied(world(i + 3 * (name == "mine")), kind)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i}.png")
    how = {"images": tmp_path / "mine", "only": ["near_duplicates"], "out": tmp_path / "run", "workers": 1}
    with pytest.raises(CueError, match="training-images"):
        cuescope.audit("cuescope/world-congruent", **how)
    run = cuescope.audit("cuescope/world-congruent", **how, training_images=tmp_path / "theirs")
    found = run.finding("near_duplicates")
    assert found["found"].count == 3
    table = next(panel for panel in found.panels if panel.name == "pairs")
    assert sorted((row[0], row[1]) for row in table.data["rows"]) == [
        (f"{i}.png", f"theirs/{i + 3}.png") for i in range(3)
    ]
    (shown,) = (panel for panel in found.panels if panel.kind == "images")
    assert len(shown.figures) == 3
    assert all(len(figure.insets) == 1 for figure in shown.figures)


@pytest.mark.real
def test_no_two_photographs_are_the_same_and_copies_are(data: Path) -> None:
    images = read_folder(data / "imagenet-sample", limit=300)
    pixels = [images.read(i).pixels for i in range(len(images))]
    pictures, nothing = np.stack([picture(p).numpy() for p in pixels]), np.zeros((300, 1))
    assert not any(twins(seen(pictures[:150], nothing[:150]), seen(pictures[150:], nothing[150:])))
    copies = np.stack([picture(copied(pixels[i], KINDS[i % 2])).numpy() for i in range(40)])
    found = twins(seen(copies, nothing[:40]), seen(pictures, nothing))
    assert [t.other for t in found if t] == list(range(40))
