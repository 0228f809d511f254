"""Soft targets of crops: against the dense map, torchvision's roi_align and a softmax, as the paper has it."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import roi_align
from torchvision.transforms.v2 import functional as F

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.label_maps import Header, open_label_maps, write_label_maps
from cuescope.data.label_maps.pooling import LabelMapDataset, LabelPooling, RandomResizedCropWithCoords, collate, spans
from cuescope.world.images import WorldImages

CLASSES = 40


def dense(ids: np.ndarray, scores: np.ndarray) -> Tensor:
    """(B, CLASSES, h, w): zeros, and the stored scores in their places."""
    batch, _, height, width = ids.shape
    full = torch.zeros(batch, CLASSES, height, width, dtype=torch.float64)
    return full.scatter_add(1, torch.from_numpy(ids).long(), torch.from_numpy(scores).double())


def twin(ids: np.ndarray, scores: np.ndarray, crops: np.ndarray) -> Tensor:
    """The published way, with the box in roi_align's own order: x1, y1, x2, y2."""
    full, (height, width) = dense(ids, scores), ids.shape[2:]
    top, left, high, wide = torch.from_numpy(crops).T
    sides = [left * width, top * height, (left + wide) * width, (top + high) * height]
    boxes = torch.stack([torch.arange(len(ids)).double(), *(side - 0.5 for side in sides)], 1)
    return roi_align(full, boxes, (1, 1), 1.0, -1, aligned=False)[:, :, 0, 0].softmax(1)


def random_maps(batch: int, shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    ids = np.stack(
        [generator.permuted(np.tile(np.arange(CLASSES), (shape[0] * shape[1], 1)), axis=1)[:, :5] for _ in range(batch)]
    )
    ids = ids.transpose(0, 2, 1).reshape(batch, 5, *shape).astype(np.uint16)
    scores = generator.normal(6, 4, (batch, 5, *shape)).astype(np.float16)
    size = generator.uniform(0.02, 1, (batch, 2))
    corner = generator.uniform(0, 1, (batch, 2)) * (1 - size)
    return ids, scores, np.concatenate([corner, size], 1)


@pytest.mark.parametrize("shape", [(15, 15), (7, 12), (12, 7), (1, 5)])
def test_it_is_roi_align_of_the_dense_map(shape: tuple[int, int]) -> None:
    ids, scores, crops = random_maps(64, shape)
    crops[0] = 0, 0, 1, 1
    found = LabelPooling(CLASSES)(ids, scores, crops)
    assert found.dtype == torch.float32
    assert (found.double() - twin(ids, scores, crops)).abs().max() < 1e-5


def test_the_axes_are_the_images_own() -> None:
    """A map of 15 y + x, which no symmetry hides: the box x .2 to .6, y .4 to .9 holds 144.25, swapped 91.75."""
    values = (15 * np.arange(15)[:, None] + np.arange(15)).astype(np.float64)
    ids, scores = np.zeros((1, 1, 15, 15), int), values[None, None] / 100
    crop = [(0.4, 0.2, 0.5, 0.4)]

    def pooled(found: Tensor) -> float:
        # Of two classes, the second with logit 0.
        return 100 * float(torch.log(found[0, 0] / found[0, 1]))

    assert pooled(LabelPooling(2)(ids, scores, crop)) == pytest.approx(144.25, abs=1e-2)
    swapped = LabelPooling(2, transposed=True)
    assert pooled(swapped(ids, scores, crop)) == pytest.approx(91.75, abs=1e-2)
    assert pooled(swapped(ids, scores.swapaxes(2, 3), crop)) == pytest.approx(144.25, abs=1e-2)


def test_transposed_maps_of_unequal_sides() -> None:
    ids, scores, crops = random_maps(16, (9, 14), seed=2)
    stored = LabelPooling(CLASSES, transposed=True)(ids.swapaxes(2, 3), scores.swapaxes(2, 3), crops)
    assert torch.allclose(stored, LabelPooling(CLASSES)(ids, scores, crops), atol=1e-6)


def test_a_flip_after_the_crop_changes_nothing() -> None:
    """The mirrored crop of the mirrored image shows the same."""
    ids, scores, crops = random_maps(16, (9, 14), seed=3)
    mirrored = crops.copy()
    mirrored[:, 1] = 1 - crops[:, 1] - crops[:, 3]
    flipped = LabelPooling(CLASSES)(ids[..., ::-1], scores[..., ::-1], mirrored)
    assert torch.allclose(flipped, LabelPooling(CLASSES)(ids, scores, crops), atol=1e-5)


def test_small_crops_take_one_cell_and_weights_add_up() -> None:
    inside = spans(np.array([3.2, 0.0]), np.array([3.3, 4.0]), 8)
    assert inside.sum(1) == pytest.approx([1, 1])
    assert np.flatnonzero(inside[0]).tolist() == [3, 4]


def test_the_crop_tells_where_it_was() -> None:
    torch.manual_seed(0)
    image = torch.arange(40 * 60).view(1, 40, 60).float().expand(3, -1, -1)
    for _ in range(5):
        crop, (top, left, height, width) = RandomResizedCropWithCoords((16, 16), antialias=True)(image)
        box = [round(v) for v in (top * 40, left * 60, height * 40, width * 60)]
        assert torch.equal(crop, F.resized_crop(image, *box, size=[16, 16], antialias=True))


def test_batches_for_a_loop() -> None:
    ids, scores, crops = random_maps(3, (5, 6))
    pooling = LabelPooling(CLASSES)
    samples = [(torch.full((3, 4, 4), float(i)), tuple(crops[i]), (scores[i], ids[i])) for i in range(3)]
    images, targets = functools.partial(collate, pooling=pooling)(samples)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert torch.equal(targets, pooling(ids, scores, crops))
    one = collate(samples[:1], pooling)[1]
    assert one.shape == (1, CLASSES), "a batch of one stays a batch"
    assert torch.allclose(one[0], targets[0], atol=1e-6)


def test_batches_of_maps_of_several_sizes() -> None:
    pooling = LabelPooling(CLASSES)
    parts = [random_maps(2, shape, seed=i) for i, shape in enumerate([(5, 6), (6, 5), (5, 6)])]
    samples = [(torch.zeros(3, 2, 2), crops[i], (scores[i], ids[i])) for i in range(2) for ids, scores, crops in parts]
    wanted = [pooling(*(part[i : i + 1] for part in one))[0] for i in range(2) for one in parts]
    assert torch.allclose(collate(samples, pooling)[1], torch.stack(wanted), atol=1e-6)


def test_a_dataset_in_three_lines(tmp_path: Path) -> None:
    images = WorldImages("several", count=6)
    generator = np.random.default_rng(0)
    named = {images.id(i): generator.normal(6, 4, (5, 4, 4)) for i in range(6)}
    ids = generator.integers(0, CLASSES, (5, 4, 4))
    header = Header(ClassSpace.numbered(CLASSES), 5, bits=16)
    write_label_maps(tmp_path / "m", header, ((name, scores, ids) for name, scores in named.items()))

    maps, pooling = open_label_maps(tmp_path / "m"), LabelPooling(CLASSES)
    dataset = LabelMapDataset(images, maps, RandomResizedCropWithCoords(16))
    loader = DataLoader(dataset, 4, collate_fn=functools.partial(collate, pooling=pooling))

    torch.manual_seed(3)
    batches = list(loader)
    assert [tuple(b.shape) for b, _ in batches] == [(4, 3, 16, 16), (2, 3, 16, 16)]
    assert 0 <= float(batches[0][0].min()) <= float(batches[0][0].max()) <= 1
    assert [np.allclose(dataset[i][2][0], named[images.id(i)], atol=1e-2) for i in range(6)] == [True] * 6
    torch.manual_seed(3)
    list(DataLoader(TensorDataset(torch.zeros(1))))  # A loader draws a seed of its own first.
    crop, place, (scores, _) = dataset[0]
    assert torch.equal(crop, batches[0][0][0])
    assert torch.allclose(pooling(ids[None], scores[None], [place])[0], batches[0][1][0], atol=1e-6)
    more = LabelMapDataset(WorldImages("several", count=8), maps, RandomResizedCropWithCoords(16))
    assert (len(more), more.missing) == (6, ("several-000006", "several-000007"))
    with pytest.raises(CueError, match="no label map of an image of world-congruent"):
        LabelMapDataset(WorldImages("congruent", count=8), maps, RandomResizedCropWithCoords(16))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda i, s, c: (i, s[:, :3], c), "are needed"),
        (lambda i, s, c: (i, s, c[:2]), "are needed"),
        (lambda i, s, c: (i + CLASSES, s, c), "classes 0 to 39"),
        (lambda i, s, c: (i, s, c + np.array([0, 0, 1, 0])), "must lie in the image"),
        (lambda i, s, c: (i, s, c * np.array([1, 1, 0, 1])), "must lie in the image"),
    ],
)
def test_what_does_not_fit_is_told(change: object, told: str) -> None:
    ids, scores, crops = random_maps(4, (5, 6))
    with pytest.raises(ValueError, match=told):
        LabelPooling(CLASSES)(*change(ids, scores, crops))  # type: ignore[operator]
