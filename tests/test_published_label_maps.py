"""The published layout of label maps: both orders of its axes, and what is no such file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.label_maps import Axes, PublishedLabelMaps, published_bytes, published_file, read_published
from cuescope.data.label_maps.pooling import LabelPooling

SLOPE = (15 * np.arange(15)[:, None] + np.arange(15))[None] / 100.0
"""A score of (15 y + x) / 100, which no symmetry hides."""
CROP = (0.4, 0.2, 0.5, 0.4)
"""Top, left, height, width of the box x .2 to .6, y .4 to .9: its mean of 15 y + x is 144.25, swapped 91.75."""


def pooled(scores: np.ndarray, ids: np.ndarray) -> float:
    target = LabelPooling(2)(ids[None], scores[None], [CROP])[0]
    return 100 * float(torch.log(target[0] / target[1]))


def stored(path: Path, axes: Axes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(published_bytes(SLOPE, np.zeros_like(SLOPE), axes=axes))
    return path


@pytest.mark.parametrize("axes", ["yx", "xy"])
def test_the_axes_are_as_they_are_said_to_be(tmp_path: Path, axes: Axes) -> None:
    path = stored(tmp_path / "map.pt", axes)
    assert pooled(*read_published(path, axes=axes, classes=2)) == pytest.approx(144.25, abs=1e-2)
    other: Axes = "xy" if axes == "yx" else "yx"
    assert pooled(*read_published(path, axes=other, classes=2)) == pytest.approx(91.75, abs=1e-2)


def test_the_authors_own_pooling_is_right_of_columns_first(tmp_path: Path) -> None:
    """Their box is (top, left, bottom, right), where roi_align takes (left, top, right, bottom)."""
    top, left, high, wide = CROP
    box = torch.tensor([[0.0, top, left, top + high, left + wide]])
    box[:, 1:] = box[:, 1:] * 15 - 0.5
    means: dict[Axes, float] = {"xy": 144.25, "yx": 91.75}
    for axes, mean in means.items():
        scores = torch.load(stored(tmp_path / "map.pt", axes), weights_only=True)[:1]
        assert scores.shape == (1, 1, 15, 15)
        found = roi_align(scores, box, (1, 1), 1.0, -1, aligned=False)
        assert 100 * float(found) == pytest.approx(mean, abs=1e-2)


def test_maps_that_are_not_square(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    scores, ids = generator.normal(size=(5, 4, 7)), generator.integers(0, 1000, (5, 4, 7))
    shapes: dict[Axes, tuple[int, ...]] = {"yx": (2, 5, 4, 7), "xy": (2, 5, 7, 4)}
    for axes, shape in shapes.items():
        (tmp_path / "map.pt").write_bytes(published_bytes(scores, ids, axes=axes))
        raw = torch.load(tmp_path / "map.pt", weights_only=True)
        assert (raw.shape, raw.dtype) == (shape, torch.float32)
        read, classes = read_published(tmp_path / "map.pt", axes=axes, classes=1000)
        assert np.array_equal(read, scores.astype(np.float32))
        assert np.array_equal(classes, ids)


def test_a_folder_of_them_is_asked_by_image_id(tmp_path: Path) -> None:
    stored(tmp_path / published_file("n01/n01_7.JPEG"), "xy")
    maps = PublishedLabelMaps(tmp_path, axes="xy", classes=ClassSpace("two", ("a", "b")))
    assert "n01/n01_7.JPEG" in maps
    assert "n01/n01_8.JPEG" not in maps
    assert pooled(*maps["n01/n01_7.JPEG"]) == pytest.approx(144.25, abs=1e-2)
    with pytest.raises(CueError, match="no folder"):
        PublishedLabelMaps(tmp_path / "none", axes="xy", classes=maps.classes)


class Evil:
    """Would make a folder if it were unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


def test_no_code_in_a_file_runs(tmp_path: Path) -> None:
    torch.save(Evil(tmp_path / "harm"), tmp_path / "map.pt")
    with pytest.raises(CueError, match="no tensor that can be read safely"):
        read_published(tmp_path / "map.pt", axes="yx", classes=9)
    assert not (tmp_path / "harm").exists()


MAP = torch.zeros(2, 5, 3, 3)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ([MAP], "an object of type list"),
        (MAP[0], r"a tensor \[5, 3, 3\]"),
        (MAP.repeat(2, 1, 1, 1), r"a tensor \[4, 5, 3, 3\]"),
        (MAP[:, :0], r"a tensor \[2, 0, 3, 3\]"),
        (MAP.int(), "a strided tensor of torch.int32"),
        (MAP.to_sparse(), "holds"),
        (MAP + torch.inf, "not finite"),
        (MAP + 9, r"none of the 9 classes, from 9.0 to 9.0"),
        (MAP - 1, r"none of the 9 classes"),
        (MAP + 0.5, r"none of the 9 classes"),
    ],
)
def test_what_is_no_map(tmp_path: Path, held: Any, told: str) -> None:
    torch.save(held, tmp_path / "map.pt")
    with pytest.raises(CueError, match=told):
        read_published(tmp_path / "map.pt", axes="yx", classes=9)


def test_half_floats_hold_few_classes(tmp_path: Path) -> None:
    torch.save((MAP + 1000).half(), tmp_path / "map.pt")
    assert read_published(tmp_path / "map.pt", axes="yx", classes=9000)[1].max() == 1000
    torch.save((MAP + 2050).half(), tmp_path / "map.pt")
    with pytest.raises(CueError, match="cannot tell them apart"):
        read_published(tmp_path / "map.pt", axes="yx", classes=9000)


def test_truncated_or_not_there(tmp_path: Path) -> None:
    path = stored(tmp_path / "map.pt", "yx")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CueError, match="no tensor that can be read safely"):
        read_published(path, axes="yx", classes=2)
    with pytest.raises(CueError, match="No such file"):
        read_published(tmp_path / "none.pt", axes="yx", classes=2)
