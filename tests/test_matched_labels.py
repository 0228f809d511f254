"""What an audit assumes of labels stands in its manifest, and a mistake is one error."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.runs.options import AuditOptions
from cuescope.runs.store import Run
from toys import MeanColor, toy

SHADES = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), SHADES[color], np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def folders(root: Path, **colors: str) -> Path:
    """A folder for each name, with three images of its color."""
    for name, color in colors.items():
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.png").write_bytes(png(color))
    return root


def accuracy(tmp_path: Path, images: Path, classes: ClassSpace, **options: object) -> tuple[float | None, str, Run]:
    """The share of right answers, the notes on the images, and the run."""
    out = tmp_path / "run"
    run = cuescope.audit(toy(MeanColor(), classes), images=images, only=["accuracy"], out=out, **options)
    return run.finding("accuracy")["top1"].value, "; ".join(run.manifest["image_sets"][0]["notes"]), run


def test_folders_named_by_numbers_are_indices_and_the_run_says_so(tmp_path: Path) -> None:
    images = folders(tmp_path / "photos", **{"00": "red", "1": "green", "2": "blue"})
    value, notes, _ = accuracy(tmp_path, images, ClassSpace.numbered(3))
    assert value == 1
    assert "toy: the folders' names, 00 to 2, are taken as indices of the outputs" in notes


def test_matching_by_position_is_said_in_the_run(tmp_path: Path) -> None:
    images = folders(tmp_path / "photos", a="red", b="green", c="blue")
    value, notes, _ = accuracy(tmp_path, images, ClassSpace.numbered(3))
    assert value == 1
    assert "toy: the classifier's classes have no names: label k in alphabetical order is taken as output k" in notes


def test_labels_that_the_classifier_has_not_are_said_in_the_run(tmp_path: Path) -> None:
    images = folders(tmp_path / "photos", кот="red", лис="green")
    value, notes, run = accuracy(tmp_path, images, ClassSpace("mine", ("кот", "волк", "пёс")))
    assert value == 1
    assert run.finding("accuracy")["top1"].n == 3
    assert "toy: labels that are no class of the classifier, whose images are unlabeled: лис" in notes


def test_images_without_labels_say_why_and_what_to_do(tmp_path: Path) -> None:
    images = folders(tmp_path / "photos", home="red", work="green")
    run = cuescope.audit(
        toy(MeanColor()), images=images, only=["accuracy", "shift_stability"], out=tmp_path / "run"
    )  # the classes are red, green, blue
    cell = next(cell for cell in run.cells if cell.instrument == "accuracy")
    assert "are none of the classifier's 3 classes" in cell.why
    assert "give --labels FILE.csv" in cell.why


def test_a_csv_whose_names_contradict_the_classes_is_refused(tmp_path: Path) -> None:
    images = folders(tmp_path / "photos", red="red", green="green")
    (tmp_path / "l.csv").write_text("file,index,name\nred/0.png,1,red\ngreen/0.png,0,green\n")
    with pytest.raises(CueError, match="the labels CSV names class 0 'green', the classifier 'red'"):
        accuracy(tmp_path, images, ClassSpace("mine", ("red", "green", "blue")), labels=tmp_path / "l.csv")


def test_a_tar_is_audited(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for i, color in enumerate([*SHADES] * 2):
            for name, data in ((f"{i}.png", png(color)), (f"{i}.cls", color.encode())):
                about = tarfile.TarInfo(name)
                about.size = len(data)
                file.addfile(about, io.BytesIO(data))
    value, notes, run = accuracy(tmp_path, tmp_path / "a.tar", ClassSpace("mine", ("red", "green", "blue")))
    assert (value, run.manifest["image_sets"][0]["count"]) == (1, 6)
    assert "labels from the .cls and .json files beside the images" in notes


def test_classes_of_imagenet_need_no_file(tmp_path: Path) -> None:
    folders(tmp_path / "photos", red="red")
    given = {"images": tmp_path / "photos", "out": tmp_path / "run"}
    AuditOptions.of(**given, classes=Path("imagenet-1k")).check(["timm/resnet18@random"])
    with pytest.raises(CueError, match=r"no file 'imagenet'(.|\n)*or imagenet-1k"):
        AuditOptions.of(**given, classes=Path("imagenet")).check(["timm/resnet18@random"])
