"""Accuracy among the classes of the images: the columns that are kept, folders named by id and index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cuescope
from cuescope.core.classes import IMAGENET, ClassSpace, imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.readers import read_folder
from cuescope.instruments import registry
from cuescope.instruments.class_subset import ClassSubset, listed
from toys import toy


class Names(nn.Module):
    """The class whose number is the red of the image; another one, 9 or the 10th, is always likelier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        own = (pixels[:, 0].mean((1, 2)) * 255).round().long() % self.classes
        logits = 3.0 * nn.functional.one_hot(own, self.classes).float()
        logits[:, 9] = 5
        return logits


def folders(path: Path, names: dict[str, int]) -> Path:
    for name, red in names.items():
        (path / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (16, 16), (red, i, 0)).save(path / name / f"{i}.png")
    return path


@pytest.mark.parametrize("by", ["wnid", "index"])
def test_folders_of_ids_and_of_indices_are_scored_among_their_classes(by: str, tmp_path: Path) -> None:
    space = imagenet_1k() if by == "wnid" else ClassSpace("given", tuple(f"name {k}" for k in range(12)))
    names = {space.keys[k]: k for k in (6, 11, 13)} if by == "wnid" else {str(k): k for k in range(12)}
    classifier = toy(Names(len(space)), space)
    images = folders(tmp_path / "images", names)
    run = cuescope.audit(classifier, images=images, only=["class_subset"], out=tmp_path / "run", workers=1)
    said = run.finding("class_subset")
    if by == "wnid":
        assert (said["accuracy"].value, said["whole"].value) == (1, 0)
        assert said["accuracy"].chance == pytest.approx(1 / 3)
    else:
        # All are there, the one that is always likelier among them.
        assert said["accuracy"].value == said["whole"].value == pytest.approx(1 / 12)


def test_a_folder_of_several_classes_is_right_by_any_of_them(tmp_path: Path) -> None:
    space = ClassSpace("given", tuple(f"name {k}" for k in range(12)))
    # The classifier says the class of the red: of the chairs 1 and 2, of the pans 6 (right) and 7 (wrong).
    images = folders(tmp_path / "images", {"chair/a": 1, "chair/b": 2, "pan/a": 6, "pan/b": 7, "hat": 3, "other": 4})
    table = tmp_path / "folders.csv"
    table.write_text("folder,class\nchair,name 1\nchair,name 2\npan,name 6\npan,name 5\nhat,name 3\n")
    run = cuescope.audit(
        toy(Names(12), space), images=images, labels=table, only=["class_subset"], out=tmp_path / "run", workers=1
    )
    said = run.finding("class_subset")
    # Among 1, 2, 3, 5 and 6: an image of a 7 is taken for the first of these.
    assert (said["accuracy"].n, said["accuracy"].value, said["whole"].value) == (20, 0.8, 0)
    assert said["accuracy"].chance == pytest.approx((4 * 2 + 1) / 5 / 5)
    rows = {row[0]: row[1:3] for row in said.panels[0].data["rows"]}
    assert rows == {"name 1 or name 2": [8, 1], "name 5 or name 6": [8, 0.5], "name 3": [4, 1]}
    notes = [note for one in run.manifest["image_sets"] for note in one["notes"]]
    assert "labels from folders.csv: 3 folders, 2 of them of several classes" in notes
    assert any("4 images in folders" in note for note in notes)


@pytest.mark.parametrize(
    ("row", "said"), [("sofa,name 1", "lies in a folder"), ("chair,", "line 2"), (",name 1", "line 2"), ("", "no row")]
)
def test_a_table_of_folders_that_says_nothing_is_refused(row: str, said: str, tmp_path: Path) -> None:
    images = folders(tmp_path / "images", {"chair": 1})
    (tmp_path / "folders.csv").write_text(f"folder,class\n{row}\n")
    with pytest.raises(CueError, match=said):
        read_folder(images, labels=tmp_path / "folders.csv")


def test_the_lists_are_those_that_were_published() -> None:
    a, r = listed("imagenet-a"), listed("imagenet-r")
    assert (len(a), len(r), a.sum(), r.sum(), len(np.intersect1d(a, r))) == (200, 200, 102178, 86135, 86)


def test_a_named_subset_leaves_out_the_images_of_other_classes() -> None:
    tool = ClassSubset(subset="imagenet-a")
    logits = np.eye(1000, dtype=np.float32)[[6, 0, 11]]
    rows = tool.table({"id": list("abc"), "label": [6, 0, None], "answers": [[6], [0], [11, 1]], "logits": logits})
    said = tool.conclude(rows, About("net", "images", imagenet_1k().names, IMAGENET))
    assert (said["accuracy"].n, said["accuracy"].value, said["accuracy"].chance) == (2, 1, 1 / 200)
    assert len(said["accuracy"].published) == 6
    other = tool.conclude(rows, About("net", "images", tuple("ab"), "letters"))
    assert other["accuracy"].value is None
    with pytest.raises(CueError, match="imagenet-r"):
        registry.build("class_subset", {"subset": "imagenet-x"})
