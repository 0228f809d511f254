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


def test_the_lists_are_those_that_were_published() -> None:
    a, r = listed("imagenet-a"), listed("imagenet-r")
    assert (len(a), len(r), a.sum(), r.sum(), len(np.intersect1d(a, r))) == (200, 200, 102178, 86135, 86)


def test_a_named_subset_leaves_out_the_images_of_other_classes() -> None:
    tool = ClassSubset(subset="imagenet-a")
    logits = np.eye(1000, dtype=np.float32)[[6, 0, 11]]
    rows = tool.table({"id": list("abc"), "label": [6, 0, 11], "logits": logits})
    said = tool.conclude(rows, About("net", "images", imagenet_1k().names, IMAGENET))
    assert (said["accuracy"].n, said["accuracy"].value, said["accuracy"].chance) == (2, 1, 1 / 200)
    assert len(said["accuracy"].published) == 6
    other = tool.conclude(rows, About("net", "images", tuple("ab"), "letters"))
    assert other["accuracy"].value is None
    with pytest.raises(CueError, match="imagenet-r"):
        registry.build("class_subset", {"subset": "imagenet-x"})
