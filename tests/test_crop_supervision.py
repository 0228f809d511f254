"""Random crops against boxes and label maps: torchvision's own crops and plain loops are the twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from cuescope.core.findings import About, Finding
from cuescope.data.images import Box, Sample
from cuescope.data.ops.crops import overlap, random_resized_crop, random_resized_crops
from cuescope.instruments.crop_supervision import CropSupervision
from cuescope.instruments.registry import unmet
from cuescope.world.images import WorldImages
from toys import COLORS, Constant, Images, colored, toy

ABOUT = About("toy", "toys", COLORS.names)
CLASSIFIER = toy(Constant())


def image(*boxes: Box, size: tuple[int, int] = (100, 100), name: str = "one", **more: Any) -> Sample:
    return Sample(name, torch.zeros(3, *size, dtype=torch.uint8), boxes=boxes, **more)


def asked(*samples: Sample, **parameters: Any) -> Finding:
    tool = CropSupervision(**parameters)
    return tool.conclude(tool.observe(CLASSIFIER, CLASSIFIER.see(samples)), ABOUT)


def value(finding: Finding, name: str) -> float:
    found = finding[name].value
    assert found is not None
    return found


def torchvision_crops(
    height: int, width: int, count: int, seed: int = 0, ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> np.ndarray[Any, Any]:
    pixels = torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = [RandomResizedCrop.get_params(pixels, [0.08, 1.0], list(ratio)) for _ in range(count)]
    return np.array(drawn)


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (90, 40), (7, 9)])
def test_crops_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    expected, ours = torchvision_crops(*size, 3000), random_resized_crops(*size, 3000, np.random.default_rng(0))
    expected, ours = (
        np.column_stack([c, c[:, 2] * c[:, 3], c[:, 0] + c[:, 2], c[:, 1] + c[:, 3]]) for c in (expected, ours)
    )
    error = np.sqrt((expected.var(0) + ours.var(0)) / 3000)
    assert (abs(expected.mean(0) - ours.mean(0)) < 4 * error + 1e-9).all()
    assert np.allclose(expected.std(0), ours.std(0), rtol=0.08)
    assert (ours.min(0) >= 0).all()
    assert ours[:, 5].max() <= size[0]
    assert ours[:, 6].max() <= size[1]


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.3, 0.8), (1.0, 1.0)])
def test_one_crop_is_that_of_many_to_the_pixel(scale: tuple[float, float]) -> None:
    """So that what a training learned from stays what it was, and no draw is used twice or not at all."""
    for k in range(300):
        size = [(375, 500), (500, 200), (7, 400), (1, 1)][k % 4]
        one, many = (np.random.Generator(np.random.Philox(k)) for _ in range(2))
        expected = random_resized_crops(*size, 1, many, scale)[0].tolist()
        assert list(random_resized_crop(*size, one, scale)) == expected
        assert one.random() == many.random()


def test_wide_crops_are_wide() -> None:
    expected = torchvision_crops(80, 80, 2000, ratio=(2.0, 3.0))
    ours = random_resized_crops(80, 80, 2000, np.random.default_rng(0), ratio=(2.0, 3.0))
    assert abs(expected.mean(0) - ours.mean(0)).max() < 4 * 20 * math.sqrt(2 / 2000)
    assert (ours[:, 3] > 1.8 * ours[:, 2]).all()


@pytest.mark.parametrize("size", [(10, 200), (200, 10)])
def test_no_crop_fits_and_the_middle_is_taken(size: tuple[int, int]) -> None:
    ours = random_resized_crops(*size, 5, np.random.default_rng(0))
    assert (ours == torchvision_crops(*size, 5)).all()


def plain_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = wide * high if wide > 0 and high > 0 else 0.0
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def painted(boxes: list[tuple[int, ...]]) -> set[tuple[int, int]]:
    return {(x, y) for x0, y0, x1, y1 in boxes for x in range(x0, x1) for y in range(y0, y1)}


def test_overlaps_by_counting_pixels() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        low = random.integers(0, 20, (3, 2))
        boxes = [tuple(box) for box in np.hstack([low, low + random.integers(1, 12, (3, 2))]).tolist()]
        crops = random_resized_crops(24, 30, 6, random)
        found = overlap(crops, [Box(*box) for box in boxes])
        whole = painted(boxes)
        for k, (top, left, high, wide) in enumerate(crops.tolist()):
            crop = (left, top, left + wide, top + high)
            seen = painted([crop])
            assert found.covered[k] == len(seen & whole)
            assert found.union[k] == pytest.approx(len(seen & whole) / len(seen | whole))
            assert found.best[k] == pytest.approx(max(plain_iou(crop, box) for box in boxes))


def test_a_box_that_is_the_whole_image() -> None:
    """The IoU is the crop's share of the image: of .08 to 1, as likely everywhere, .5 / .92 is over a half."""
    finding = asked(image(Box(0, 0, 400, 400), size=(400, 400)), ratio=(1.0, 1.0), crops=20_000)
    assert value(finding, "missing") == 0
    share = 0.5 / 0.92
    assert value(finding, "over_half") == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 20_000))
    assert not finding.panels, "one image has no interval to draw"


def test_a_box_in_the_corner() -> None:
    """A crop of half the side has 51 places along each axis, and meets ten pixels in the corner in ten of them."""
    finding = asked(image(Box(0, 0, 10, 10)), scale=(0.25, 0.25), ratio=(1.0, 1.0), crops=20_000)
    share = 1 - (10 / 51) ** 2
    assert value(finding, "missing") == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 20_000))
    assert value(finding, "over_half") == 0


def test_the_world_by_torchvisions_crops_and_plain_loops() -> None:
    world = WorldImages("several", count=12)
    samples = [world.read(i) for i in range(12)]
    finding = asked(*samples, crops=400)
    missing, over_half = [], []
    for i, sample in enumerate(samples):
        boxes = [box[:4] for box in sample.boxes if box.name == sample.boxes[0].name]
        crops = torchvision_crops(64, 64, 400, seed=i).tolist()
        best = [max(plain_iou((x, y, x + w, y + h), box) for box in boxes) for y, x, h, w in crops]
        missing.append(np.mean([iou == 0 for iou in best]))
        over_half.append(np.mean([iou > 0.5 for iou in best]))
    for name, expected in (("missing", missing), ("over_half", over_half)):
        # Each side's error, of as many crops of the same images.
        error = math.sqrt(2 * sum(p * (1 - p) / 400 for p in expected)) / 12
        assert value(finding, name) == pytest.approx(np.mean(expected), abs=4 * error)
        assert finding[name].n == 12
    assert finding["missing"].interval is not None


def test_several_boxes_of_the_class_and_others() -> None:
    """Two halves make the whole image: with their union a large crop overlaps well, with either never by over .5."""
    left, right = Box(0, 0, 50, 100, "cat"), Box(50, 0, 100, 100, "cat")
    finding = asked(image(left, right, Box(0, 0, 100, 100, "dog")), scale=(0.9, 1.0), ratio=(1.0, 1.0))
    assert value(finding, "over_half_union") == 1
    assert value(finding, "over_half") < 1
    (panel,) = asked(*(image(left, right, name=str(i)) for i in range(6))).panels
    assert [s["name"] for s in panel.data["series"]][1:] == ["IoU > .5 with a box", "IoU > .5 with the union"]
    assert value(asked(image(Box(0, 0, 100, 100, "dog"), left), scale=(0.9, 1.0)), "over_half") == 1


def halves(crops: Any) -> Tensor:
    """What is left of the middle is class 0, the rest class 1."""
    middles = np.asarray(crops)[:, 1] + np.asarray(crops)[:, 3] / 2
    return torch.eye(3)[(middles >= 0.5).astype(int)]


def test_labels_of_crops_by_a_map() -> None:
    crops = random_resized_crops(60, 80, 100, np.random.default_rng([5, 0]))
    tool = CropSupervision(seed=5)
    rows = tool.observe(CLASSIFIER, CLASSIFIER.see([image(size=(60, 80), name="", label=0, label_map=halves)]))
    right = sum(left + wide / 2 >= 40 for _, left, _, wide in crops.tolist())
    assert rows["other_than_label"].list.sum().to_list() == [right], "an empty name has the checksum 0"
    assert rows["other_than_whole"].list.sum().to_list() == [100 - right], "the whole image is class 1"
    finding = asked(image(label_map=halves), image(label_map=halves, label=1, name="two"))
    assert (finding["other_than_whole"].n, finding["other_than_label"].n) == (2, 1)
    assert finding["missing"].why == "no image has a box"
    assert finding["other_where_agreed"].n == 1
    assert finding.verdict.names == ("few",)
    assert asked(image(label_map=halves, label=0))["other_where_agreed"].why == (
        "no label map agrees with the label of its image"
    )
    assert finding["other_than_label"].why == "an interval needs at least 5 images, not 1"


def test_by_size_of_the_crop() -> None:
    """Small crops miss a small box more often, and only large ones overlap well with a large one."""
    samples = [image(Box(10, 10, 30, 30), name=str(i)) for i in range(8)]
    (panel,) = asked(*samples, crops=200).panels
    missing, _ = panel.data["series"]
    assert missing["name"] == "no overlap"
    assert missing["x"] == pytest.approx(np.linspace(0.08, 1, 13)[1::2])
    assert missing["y"][0] > missing["y"][2] > missing["y"][5] == 0
    assert all(a <= b <= c for a, b, c in zip(missing["low"], missing["y"], missing["high"], strict=True))


def test_an_image_has_the_same_crops_wherever_it_stands() -> None:
    tool, samples = CropSupervision(), [image(Box(0, 0, 9, 9), name=str(i)) for i in range(3)]
    whole = tool.observe(CLASSIFIER, CLASSIFIER.see(samples))
    assert tool.observe(CLASSIFIER, CLASSIFIER.see(samples[2:])).equals(whole[2:])
    assert whole["missing"].n_unique() > 1, "and not those of another image"
    assert not CropSupervision(seed=1).observe(CLASSIFIER, CLASSIFIER.see(samples)).equals(whole)


def test_published_numbers_stand_beside_the_same_crops_only() -> None:
    sample = image(Box(0, 0, 9, 9))
    assert [p.value for p in asked(sample)["missing"].published] == [0.08]
    assert [p.value for p in asked(sample)["over_half"].published] == [0.235]
    assert not asked(sample)["over_half_union"].published
    assert not asked(sample, scale=(0.2, 1.0))["missing"].published
    assert any("does not say which box" in c for c in asked(sample).caveats)


def test_images_without_boxes_are_counted() -> None:
    finding = asked(image(Box(0, 0, 9, 9)), image(name="bare"))
    assert finding["missing"].n == 1
    assert "Left out of what is said of boxes, since they have none: 1 image." in finding.caveats
    none = asked(image())
    assert none.verdict.names == ("nothing",)
    assert {m.value for m in none.measures} == {None}
    assert CropSupervision().conclude(CropSupervision().empty, ABOUT)["missing"].why == "no image was seen"
    assert "neither boxes nor label maps" in unmet(CropSupervision(), CLASSIFIER, Images(colored(3)))


@pytest.mark.parametrize(
    "wrong",
    [{"crops": 0}, {"bins": 0}, {"scale": (0.5, 0.1)}, {"scale": (0.5,)}, {"ratio": (0.0, 1.0)}, {"scale": (1, 2)}],
)
def test_values_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        CropSupervision(**wrong)
