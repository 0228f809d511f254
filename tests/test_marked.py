"""Images with marked objects, in COCO's layout and VOC's: what is read, what is clipped, and what cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cuescope.core.errors import CueError
from cuescope.data.images import Box, UnreadableError
from cuescope.data.marked import names_of
from cuescope.data.readers.marked import read_marked
from cuescope.world.marked import marked, run_lengths, write_marked
from cuescope.world.shapes import NAMES


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images to learn from and two held out, in both layouts."""
    root = tmp_path_factory.mktemp("marked")
    write_marked(root / "coco", "coco", 4, 2)
    write_marked(root / "voc", "voc", 4, 2)
    return root


@pytest.fixture
def coco(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written / "coco", tmp_path / "coco"))


@pytest.fixture
def voc(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written / "voc", tmp_path / "voc"))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the file of the images to learn from says."""
    path = root / "annotations" / "instances_train2017.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def test_the_world_knows_its_objects() -> None:
    images = [marked(number) for number in range(48)]
    assert {len(image.labels) for image in images} == {1, 2, 3}
    sides = [max(x1 - x0, y1 - y0) for image in images for x0, y0, x1, y1 in image.boxes]
    assert min(sides) < 24
    assert max(sides) > 40
    left = [box[0] for image in images for box in image.boxes]
    assert min(left) < 10 < 80 < max(left)
    for image in images[:6]:
        assert image.masks.sum(0).max() == 1, "each pixel is one object's"
    assert np.array_equal(marked(7).pixels, marked(7).pixels)
    assert not np.array_equal(marked(7).pixels, marked(7, seed=1).pixels)


def test_both_layouts_say_the_same(written: Path) -> None:
    coco, voc = (read_marked(written / layout) for layout in ("coco", "voc"))
    assert (coco.layout, voc.layout) == ("coco", "voc")
    for one, other in zip(coco[:2], voc[:2], strict=True):
        assert [one.things(i)[0].box for i in range(2)] == [other.things(i)[0].box for i in range(2)]
    truth = marked(2)
    assert [tuple(thing.box[:4]) for thing in voc.learned.things(2)] == truth.boxes
    assert [thing.box.name for thing in voc.learned.things(2)] == [NAMES[k] for k in truth.labels]
    assert np.array_equal(coco.learned.read(2).pixels.permute(1, 2, 0).numpy(), truth.pixels)
    assert (len(coco.learned), len(coco.held_out or ())) == (4, 2)


def test_masks_of_voc(voc: Path) -> None:
    learned = read_marked(voc, masks=True).learned
    assert torch.equal(learned.masks(2), torch.from_numpy(marked(2).masks))
    (voc / "SegmentationObject" / "000001.png").unlink()
    (voc / "SegmentationObject" / "000003.png").write_bytes(b"no picture")
    learned = read_marked(voc, masks=True).learned
    assert len(learned) == 3
    assert learned.skipped[0].why == "it has no mask in SegmentationObject"
    with pytest.raises(UnreadableError, match="its mask is no picture of numbers"):
        learned.masks(2)


@pytest.mark.extra
def test_masks_of_coco(coco: Path) -> None:
    pytest.importorskip("pycocotools")
    learned = read_marked(coco, masks=True).learned
    assert torch.equal(learned.masks(2), torch.from_numpy(marked(2).masks))

    def polygons(told: dict[str, Any]) -> None:
        told["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 30, 20, 10, 20]]
        told["annotations"][1]["segmentation"] = {"size": [128, 128], "counts": [5, 7]}

    edit(coco, polygons)
    learned = read_marked(coco, masks=True).learned
    first = [i for i in range(4) for _ in learned.things(i)][:2]
    assert int(learned.mask_of(learned.entries[first[0]], learned.things(first[0])[0]).sum()) == 200
    with pytest.raises(UnreadableError, match="run lengths of another number of pixels"):
        learned.masks(first[1])


def test_run_lengths() -> None:
    mask = np.array([[True, False, True], [True, False, False]])
    assert run_lengths(mask) == [0, 2, 2, 1, 1]


def test_coco_boxes_that_are_none(coco: Path) -> None:
    def change(told: dict[str, Any]) -> None:
        first = told["annotations"][0]
        number = first["image_id"]
        others = ([5, 5, 0, 9], [200, 5, 10, 10], [-5, -5, 20, 30], [100, 100, 60, 8])
        told["annotations"] = [
            {**first, "id": 90 + k, "image_id": number, "bbox": box, "category_id": 1, "iscrowd": int(k == 3)}
            for k, box in enumerate(others)
        ] + [{**first, "category_id": 99}, {**first, "image_id": 12345}]

    edit(coco, change)
    learned = read_marked(coco).learned
    things = [thing for entry in learned.entries for thing in entry.things]
    assert [thing.box for thing in things] == [Box(0, 0, 15, 25, NAMES[0]), Box(100, 100, 128, 108, NAMES[0])]
    assert [thing.crowd for thing in things] == [False, True]
    assert names_of(learned) == (NAMES[0],)
    assert [one.why for one in learned.skipped] == [
        f"the box 5,5,0,9 of {NAMES[0]} is empty or not in the image; it is left out",
        f"the box 200,5,10,10 of {NAMES[0]} is empty or not in the image; it is left out",
        "an object of the category 99, which the file does not name; it is left out",
    ]
    for note in (
        "2 boxes that leave their image are clipped",
        "1 crowd regions teach nothing",
        "3 objects cannot be used",
        "1 boxes of images that are not listed",
    ):
        assert any(note in one for one in learned.notes), note


def test_coco_images_that_are_none(coco: Path) -> None:
    (coco / "train2017" / "000000.png").unlink()
    edit(coco, lambda told: told["images"][1].update(file_name="../val2017/000004.png"))
    learned = read_marked(coco).learned
    assert [(one.id, one.why) for one in learned.skipped] == [
        ("000000.png", "it is listed, but not there"),
        ("../val2017/000004.png", "its name leaves the folder"),
    ]
    assert any("2 listed images are not there" in note for note in learned.notes)
    edit(coco, lambda told: told["images"][2].update(width=64))
    with pytest.raises(UnreadableError, match="it has 128 x 128 px, its annotation is of 64 x 128 px"):
        read_marked(coco).learned.read(0)
    shutil.rmtree(coco / "train2017")
    with pytest.raises(CueError, match="has no box of an image that is there"):
        read_marked(coco)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "is no file of COCO's"),
        ("[]", "Expected `object`"),
        ('{"images": [], "annotations": []}', "missing required field `categories`"),
        ('{"images": [{"id": "a"}], "annotations": [], "categories": []}', r"Expected `int`, got `str`"),
        ('{"images": [], "annotations": [], "categories": []}', "has no box of an image"),
        ("[" * 100_000, "is no file of COCO's"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "two categories of the name 'a'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1}, {"id": 1, "file_name": "b", "width": 1, '
            '"height": 1}], "annotations": [], "categories": []}',
            "two images of the id '1'",
        ),
    ],
)
def test_files_that_are_not_cocos(coco: Path, text: str, found: str) -> None:
    (coco / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(CueError, match=found):
        read_marked(coco)


def test_voc_files_that_are_none(voc: Path) -> None:
    (voc / "Annotations" / "000000.xml").write_text("")
    (voc / "JPEGImages" / "000001.jpg").unlink()
    thing = "<object><name>cat</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    things = [
        thing.format(0, corners.format(9, 9, 5, 20)),
        thing.format(1, corners.format(1, 1, 10, 10)),
        thing.format(0, corners.format(100, 100, 140, 120)),
    ]
    size = "<size><width>128</width><height>128</height></size>"
    (voc / "Annotations" / "000002.xml").write_text(f"<annotation>{size}{''.join(things)}</annotation>")
    (voc / "Annotations" / "000003.xml").write_text(f"<annotation>{size}</annotation>")
    learned = read_marked(voc).learned
    assert [learned.id(i) for i in range(len(learned))] == ["000002", "000003"]
    assert learned.things(1) == (), "an image without objects is one"
    assert [(thing.box, thing.crowd, thing.outline) for thing in learned.things(0)] == [
        (Box(0, 0, 10, 10, "cat"), True, 2),
        (Box(99, 99, 128, 120, "cat"), False, 3),
    ]
    assert [one.id for one in learned.skipped] == ["Annotations/000000.xml", "000001", "000002"]
    assert learned.skipped[1].why == "it is listed, but not there"
    for note in ("2 listed images cannot be used", "1 boxes that leave", "1 difficult objects", "1 objects cannot"):
        assert any(note in one for one in learned.notes), note


def test_lists_of_voc(voc: Path) -> None:
    lists = voc / "ImageSets" / "Main"
    (lists / "cat_trainval.txt").write_text("000000 1\n")
    (lists / "trainval.txt").write_text("000003\n../x\n000003\n")
    learned = read_marked(voc).learned
    assert [learned.id(i) for i in range(len(learned))] == ["000003"]
    assert learned.skipped[0].why == "its name leaves the folder"
    (lists / "trainval.txt").write_text("\n")
    with pytest.raises(CueError, match="is empty"):
        read_marked(voc)
    with pytest.raises(CueError, match="has no fold 'train', but test, trainval"):
        read_marked(voc, ("train", "val"))
    shutil.rmtree(voc / "ImageSets")
    whole = read_marked(voc)
    assert (len(whole.learned), whole.held_out) == (6, None)


def test_folders_that_are_neither_or_both(coco: Path, voc: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CueError, match="has no marked objects"):
        read_marked(tmp_path / "empty")
    with pytest.raises(CueError, match="no folder"):
        read_marked(tmp_path / "nowhere")
    shutil.copytree(voc, coco, dirs_exist_ok=True)
    with pytest.raises(CueError, match="two layouts"):
        read_marked(coco)


def test_folds_that_are_unclear(coco: Path) -> None:
    of = coco / "annotations"
    shutil.copy(of / "instances_train2017.json", of / "instances_train2014.json")
    (coco / "train2017").rename(coco / "train2014")
    with pytest.raises(CueError, match="several folds"):
        read_marked(coco)
    assert len(read_marked(coco, ("train2014", "val2017")).held_out or ()) == 2


def test_a_change_of_an_object_is_another_set(coco: Path) -> None:
    before = read_marked(coco).learned.digest
    assert read_marked(coco).learned.digest == before
    edit(coco, lambda told: told["annotations"][0].update(iscrowd=1))
    assert read_marked(coco).learned.digest != before
