"""Boxes from XML: corners counted from 1, what cannot be used is told, and nothing in a file is executed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope
from cuescope.cli import main
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import Box, UnreadableError
from cuescope.data.label_maps import FILE, write_label_maps
from cuescope.data.label_maps.layout import Header
from cuescope.data.readers import read_folder, with_boxes
from cuescope.runs.inputs import find_images
from cuescope.runs.store import Run
from cuescope.world.images import CLASSES as WORLD
from toys import MeanColor, toy

Thing = tuple[str, float, float, float, float]


def xml(*things: Thing, size: tuple[int, int] | None = (50, 40), head: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in things
    )
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"{head}<annotation><filename>../../etc/passwd</filename>{told}{objects}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four images of 50 x 40 px: a cat and a dog, a clipped cat with two boxes that are none, a dog, and one without
    an annotation; a folder of masks beside.
    """
    root, random = tmp_path / "VOC2007", np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        Image.fromarray(random.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(root / f"JPEGImages/{name}.jpg")
    Image.new("L", (50, 40)).save(root / "SegmentationClass" / "a.png")
    told = {
        "a": xml(("cat", 1, 1, 10, 20), ("dog", 11, 5, 50, 40)),
        "b": xml(("cat", 30, 30, 60, 45), ("cat", 20, 5, 10, 9), ("cat", 60, 1, 70, 5), size=None),
        "c": xml(("dog", 0, 0, 49, 39)),
    }
    for name, text in told.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return root


def test_a_folder_in_the_layout_of_voc(voc: Path) -> None:
    images = find_images(voc)
    assert images.name == "VOC2007"
    assert [images.id(i) for i in range(len(images))] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "no masks among them"
    assert images.knows == {"label", "labels", "boxes", "regions"}
    assert images.classes == ClassSpace("boxes", ("cat", "dog"), ("cat", "dog"))
    a, b, c, d = (images.read(i) for i in range(4))
    # xmin 1 is the first pixel, xmax 10 the last: ten pixels. The largest box, of the label's class, comes first.
    assert a.boxes == (Box(10, 4, 50, 40, "dog"), Box(0, 0, 10, 20, "cat"))
    assert (a.label, a.labels, a.labels_from) == (1, (1, 0), "boxes of objects")
    assert b.boxes == (Box(29, 29, 50, 40, "cat"),)
    assert c.boxes == (Box(0, 0, 49, 39, "dog"),), "counted from 0: moved by less than a pixel, and not clipped"
    assert (d.boxes, d.label, d.labels) == ((), None, ())
    assert [images.label(i) for i in range(4)] == [1, 0, 1, None]
    assert "4 boxes of 3 of 4 images from Annotations" in images.notes
    assert "without an annotation: 1 images" in images.notes
    assert "1 boxes that leave their image are clipped" in images.notes
    assert "labels: the class of the largest box, of 2" in images.notes
    assert [(s.id, s.why) for s in images.skipped] == [
        ("b.jpg", "the box 20,5,10,9 of cat is empty or not in the image; it is left out"),
        ("b.jpg", "the box 60,1,70,5 of cat is empty or not in the image; it is left out"),
    ]


def test_the_same_from_the_folder_of_images(voc: Path) -> None:
    images = [find_images(voc), find_images(voc / "JPEGImages")]
    assert len({one.digest for one in images}) == 1
    assert len(find_images(voc, limit=2)) == 2
    (voc / "Annotations" / "c.xml").write_text(xml(("dog", 1, 1, 5, 5)))
    assert find_images(voc).digest != images[0].digest


def test_labeled_images_keep_their_labels(tmp_path: Path) -> None:
    """As in ILSVRC: folders of classes, and annotations elsewhere, flat or in folders."""
    for name in ("n01/x", "n02/y"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40)).save(tmp_path / "train" / f"{name}.png")
    (tmp_path / "boxes" / "n01").mkdir(parents=True)
    (tmp_path / "boxes" / "n01" / "x.xml").write_text(
        xml(("n02", 1, 1, 50, 40), ("n01", 1, 1, 5, 5), ("n09", 1, 1, 9, 9))
    )
    (tmp_path / "boxes" / "y.xml").write_text(xml(("n02", 1, 1, 50, 40)))
    images = find_images(tmp_path / "train", boxes=tmp_path / "boxes")
    x, y = images.read(0), images.read(1)
    assert [box.name for box in x.boxes] == ["n01", "n02", "n09"], "the label's own first, then by size"
    assert (x.label, set(x.labels)) == (0, {0, 1})
    assert (y.label, y.labels) == (1, (1,))
    assert not any("no box of their label's class" in note for note in images.notes)
    (tmp_path / "boxes" / "y.xml").write_text(xml(("n01", 1, 1, 9, 9), ("n07", 1, 1, 50, 40)))
    images = find_images(tmp_path / "train", boxes=tmp_path / "boxes")
    assert "1 images have no box of their label's class: the largest box stands for it" in images.notes
    assert [box.name for box in images.read(1).boxes] == ["n07", "n01"]


def test_resized_images(voc: Path) -> None:
    Image.new("RGB", (100, 80)).save(voc / "JPEGImages" / "a.jpg")
    Image.new("RGB", (80, 100)).save(voc / "JPEGImages" / "c.jpg")
    images = find_images(voc)
    assert images.read(0).boxes[0] == Box(20, 8, 100, 80, "dog")
    with pytest.raises(UnreadableError, match="80 x 100 px, its annotation is of 50 x 40 px: other proportions"):
        images.read(2)


GROWING = '<!DOCTYPE a [<!ENTITY x "dog"><!ENTITY y "&x;&x;&x;&x;">]>'
REACHING = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (xml(("&y;", 1, 1, 5, 5), head=GROWING).encode(), "it declares a document type, which is not read"),
        (xml(("&x;", 1, 1, 5, 5), head=REACHING).encode(), "it declares a document type"),
        (xml(("&x;", 1, 1, 5, 5), head=GROWING).encode("utf-16"), "it declares a document type"),
        (xml(("dog", 1, 1, 5, 5)).encode()[:-20], "it is no XML"),
        (b"", "it is no XML"),
        (b"\xff\xd8 a photograph", "it is no XML"),
        (b"<annotation>" + b" " * (1 << 20) + b"</annotation>", "it has more than 1,048,576 bytes"),
    ],
)
def test_files_that_are_refused(voc: Path, data: bytes, why: str) -> None:
    (voc / "Annotations" / "a.xml").write_bytes(data)
    images = find_images(voc)
    assert images.read(0).boxes == ()
    (refused,) = [s for s in images.skipped if s.id == "Annotations/a.xml"]
    assert why in refused.why
    assert refused.why.endswith("no boxes of 'a.jpg'")
    assert images.notes[-2].endswith("cannot be used and are listed")


@pytest.mark.parametrize("thing", [("", 1, 1, 5, 5), ("dog", "one", 1, 5, 5), ("dog", 1, 1, "nan", 5)])
def test_objects_that_are_none(voc: Path, thing: Thing) -> None:
    (voc / "Annotations" / "a.xml").write_text(xml(thing))
    images = find_images(voc)
    assert images.read(0).boxes == ()
    assert images.skipped[0].why == "an object without a name or without four corners; it is left out"


def test_folders_without_any_box(voc: Path) -> None:
    for file in (voc / "Annotations").iterdir():
        file.unlink()
    with pytest.raises(CueError, match=r"has no box of an image of VOC2007, as 'a\.xml' would have"):
        find_images(voc)
    (voc / "Annotations" / "a.xml").write_text("<annotation")
    with pytest.raises(CueError, match="it is no XML"):
        find_images(voc)
    with pytest.raises(CueError, match="no folder"):
        with_boxes(read_folder(voc / "JPEGImages"), voc / "nowhere")


def test_an_audit_of_it(voc: Path, tmp_path: Path) -> None:
    classifier = toy(MeanColor(), ClassSpace("pets", ("cat", "dog", "cow")))
    asked = ("multi_label", "crop_supervision", "accuracy")
    run = cuescope.audit(
        classifier, images=voc, only=asked, out=tmp_path / "run", settings={"crop_supervision.crops": 20}
    )
    assert run.finding("multi_label")["multi_label"].n == 3
    assert run.finding("multi_label")["left_out"].count == 1
    assert run.finding("crop_supervision")["missing"].n == 3
    assert run.finding("accuracy")["top1"].n == 3


def test_the_command_line(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes by an option of images that have none of their own, and label maps of the same images."""
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "flat"
    shutil.copytree(voc / "JPEGImages", flat)
    images = read_folder(flat)
    ids, scores = np.zeros((1, 2, 2), int), np.full((1, 2, 2), 5.0)
    maps = [(images.id(i), scores, ids) for i in range(3)]
    write_label_maps(tmp_path / "maps" / FILE, Header(WORLD, k=1, annotator="somebody"), maps)
    asked = ["--only", "crop_supervision,multi_label", "--label-maps", "maps"]
    with pytest.raises(SystemExit) as stopped:
        main(["audit", "cuescope/world-shape", "--images", "flat", "--boxes", str(voc / "Annotations"), *asked])
    assert stopped.value.code == 0
    crops = Run.open("run").finding("crop_supervision")
    assert (crops["missing"].n, crops["other_than_whole"].value) == (3, 0)
    assert Run.open("run").finding("multi_label")["multi_label"].n == 3
