"""Distorted images by their folders: three layouts, labels, and what does not fit."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from cuescope.api.make import make
from cuescope.core.errors import CueError
from cuescope.data.images import Condition
from cuescope.data.readers import read_distortions
from cuescope.data.readers.distortions import DistortedSet, condition_of

IMAGE = b"P6 1 1 255 abc"


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(IMAGE)
    return root


def told(images: DistortedSet) -> list[tuple[str, float, str]]:
    return [tuple(images.condition(i)) for i in range(len(images))]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("high-pass/inf/a.png", ("high-pass", math.inf, "a")),
        ("uniform-noise/0.03/cat/b.c.png", ("uniform-noise", 0.03, "cat/b.c")),
        ("my-own/-1/a.png", None),
        ("contrast/c30/a.png", None),
        ("contrast/30", None),
        ("0.35/cat/a.png", ("noise", 0.35, "cat/a")),
        ("gaussian_noise/5/n01/a.JPEG", ("imagenet-c-gaussian-noise", 5, "n01/a")),
        ("contrast/dnn/session-1/0001_c_dnn_c05_dog_10_n02_3.png", ("contrast", 5, "dog/10_n02_3")),
        ("dnn/session-2/0001_n_dnn_0.35_dog_10_n02.png", ("noise", 0.35, "dog/10_n02")),
        ("phase-scrambling/dnn/session-1/1_p_dnn_150_cat_1.png", ("phase-noise", 150, "cat/1")),
        ("eidolonIII/dnn/session-1/1_p_dnn_64-0-10_cat_1.png", ("eidolon-0", 64, "cat/1")),
        ("stylized/dnn/session-1/1_p_dnn_no_cat_1.png", None),
    ],
)
def test_a_path_tells_the_condition(name: str, condition: tuple[str, float, str] | None) -> None:
    assert condition_of(name, "noise") == (condition and Condition(*condition))


def test_what_is_made_is_read_with_its_conditions_and_labels(tmp_path: Path) -> None:
    make("distorted", "world:congruent:3", tmp_path / "made", kinds="contrast,high-pass", levels="1,5")
    images = read_distortions(tmp_path / "made")
    assert images.knows == {"label", "distortion"}
    assert told(images)[0] == ("contrast", 1.0, "congruent-000000")
    assert len(images) == 12
    sample = images.read(7)
    assert sample.condition == ("high-pass", 1.0, "congruent-000001")
    assert sample.label == 1
    assert sample.framing == "stimulus"
    assert sample.pixels.shape == (3, 64, 64)
    assert images.classes is not None
    assert images.classes.names[1] == "bolt"


def test_folders_below_the_level_are_the_labels_and_may_be_categories(tmp_path: Path) -> None:
    names = [f"contrast/{level}/{kind}/a.ppm" for level in (100, 3) for kind in ("Cat", "dog")]
    images = read_distortions(put(tmp_path, *names))
    assert images.knows == {"label", "distortion", "category"}
    assert images.classes is not None
    assert images.classes.names == ("Cat", "dog")
    assert [(images.label(i), images.read(i).cues["category"]) for i in range(4)] == [(0, "cat"), (1, "dog")] * 2
    put(tmp_path, "contrast/3/cow/a.ppm")
    assert "category" not in read_distortions(tmp_path).knows
    assert not read_distortions(tmp_path).read(0).cues


def test_the_stimuli_of_model_vs_human(tmp_path: Path) -> None:
    names = [f"low-pass/dnn/session-1/000{i}_lp_dnn_{i}_{kind}_n.ppm" for i, kind in enumerate(("cat", "oven"))]
    images = read_distortions(put(tmp_path, *names))
    assert told(images) == [("low-pass", 0, "cat/n"), ("low-pass", 1, "oven/n")]
    assert [images.read(i).cues["category"] for i in range(2)] == ["cat", "oven"]


def test_the_contrast_of_imagenet_c_is_not_taken_for_percent(tmp_path: Path) -> None:
    images = read_distortions(put(tmp_path, *(f"contrast/{i}/n01/a.ppm" for i in range(1, 6))))
    assert {name for name, _, _ in told(images)} == {"imagenet-c-contrast"}
    images = read_distortions(put(tmp_path, "contrast/10/n01/a.ppm"))
    assert {name for name, _, _ in told(images)} == {"contrast"}
    ours = put(tmp_path / "ours", *(f"contrast/{i}/n01/a.ppm" for i in (1, 3, 5)))
    assert told(read_distortions(ours / "contrast"))[0][0] == "imagenet-c-contrast"
    (ours / "manifest.json").write_text(json.dumps({"recipe": {"maker": "distorted"}}))
    assert told(read_distortions(ours))[0][0] == "contrast"


def test_a_limit_takes_images_with_all_their_versions(tmp_path: Path) -> None:
    names = [f"{kind}/{level}/{i}.ppm" for kind in ("contrast", "rotation") for level in (0, 90) for i in range(6)]
    images = read_distortions(put(tmp_path, *names), limit=2)
    assert {source for _, _, source in told(images)} == {"0", "3"}
    assert len(images) == 8
    assert "the versions of 2 of 6 images, evenly spread" in images.notes
    assert images.knows == {"distortion"}


def test_a_labels_csv_goes_by_the_files_of_the_folder(tmp_path: Path) -> None:
    put(tmp_path, "rotation/0/a.ppm", "rotation/0/b.ppm", "rotation/90/a.ppm")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "index"), ("rotation/0/a.ppm", 4), ("rotation/90/a.ppm", 4)])
    images = read_distortions(tmp_path)
    assert [images.label(i) for i in range(3)] == [4, None, 4]
    assert "without a label: 1 of 3 images" in images.notes
    (tmp_path / "labels.csv").write_text("file,index\na.ppm,4\n")
    with pytest.raises(
        CueError, match=r"none of the files in(?s:.*)relative to the folder, such as 'rotation/0/a.ppm'"
    ):
        read_distortions(tmp_path)


def test_what_lies_elsewhere_is_skipped_and_nothing_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "contrast/30/a.ppm", "preview.ppm", "contrast/strong/a.ppm")
    images = read_distortions(tmp_path)
    assert [entry.id for entry in images.skipped] == ["preview.ppm", "contrast/strong/a.ppm"]
    with pytest.raises(CueError, match=r"no image in(?s:.*)lies in a folder DISTORTION/LEVEL(?s:.*)make distorted"):
        read_distortions(put(tmp_path / "photos", "cat/a.ppm"))
    with pytest.raises(CueError, match="no folder"):
        read_distortions(tmp_path / "nowhere")
    digest = read_distortions(tmp_path / "contrast").digest
    put(tmp_path, "contrast/30/b.ppm")
    assert read_distortions(tmp_path / "contrast").digest != digest
