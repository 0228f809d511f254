"""A run as samples that FiftyOne reads: the values in the files, and what the package itself reads of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cuescope
from cuescope.core.errors import CueError
from cuescope.report import fiftyone
from cuescope.runs.store import Run
from toys import Images, MeanColor, colored, toy


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, color in enumerate(["red", "green", "blue"] * 2):
        (folder / color).mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), color if i < 5 else "white").save(folder / color / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path) -> Run:
    only = ["accuracy", "shift_stability"]
    return cuescope.audit(toy(MeanColor()), images=photos, only=only, out=photos.parent / f"{photos.name}-run")


@pytest.fixture(scope="module")
def samples(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("samples")
    assert fiftyone.write(run, out).endswith(": 6 samples")
    return out, json.loads((out / "samples.json").read_text())["samples"]


def test_each_image_has_its_label_answer_and_numbers(run: Run, samples: tuple[Path, list[dict[str, Any]]]) -> None:
    rows, moved = run.frame("accuracy"), run.frame("shift_stability")
    names = run.about(run.cells[0]).classes
    of = {sample["image"]: sample for sample in samples[1]}
    assert list(of) == rows["id"].to_list()
    for row in rows.iter_rows(named=True):
        said = of[row["id"]]["toy_prediction"]
        assert (said["label"], said["confidence"]) == (names[row["predicted"]], row["confidence"])
        assert of[row["id"]]["ground_truth"]["label"] == names[row["label"]]
        assert of[row["id"]]["toy_accuracy_top1"] == row["top1"]
    for row in moved.iter_rows(named=True):
        assert of[row["id"]]["toy_shift_stability_mac"] == row["mac"]


def test_an_image_has_its_path_where_its_file_is_there(photos: Path, run: Run, tmp_path: Path) -> None:
    fiftyone.write(run, tmp_path)
    (first, *_) = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert Path(first["filepath"]) == photos / first["image"]
    (photos / first["image"]).rename(photos / "away")
    try:
        assert "; 1 images are not where they were" in fiftyone.write(run, tmp_path)
        assert json.loads((tmp_path / "samples.json").read_text())["samples"][0]["filepath"] == first["image"]
    finally:
        (photos / "away").rename(photos / first["image"])


def test_a_run_without_rows_of_images_is_told(tmp_path: Path) -> None:
    run = cuescope.audit(toy(MeanColor()), images=Images(colored(5)), only=["error_agreement"], out=tmp_path / "a")
    with pytest.raises(CueError, match="no rows of single images"):
        fiftyone.write(run, tmp_path)


def test_a_run_that_is_not_finished_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(CueError, match="not finished"):
        fiftyone.write(Run(run.path, {**run.manifest, "finished": None}), tmp_path)


@pytest.mark.extra
def test_the_package_reads_them(samples: tuple[Path, list[dict[str, Any]]]) -> None:
    fo = pytest.importorskip("fiftyone")
    data = fo.Dataset.from_dir(dataset_dir=str(samples[0]), dataset_type=fo.types.FiftyOneDataset)
    try:
        assert data.values("image") == [sample["image"] for sample in samples[1]]
        assert data.values("toy_prediction.confidence") == [s["toy_prediction"]["confidence"] for s in samples[1]]
        wrong = data.match(fo.ViewField("toy_accuracy_top1") < 1)
        assert len(wrong) == sum(sample["toy_accuracy_top1"] < 1 for sample in samples[1])
    finally:
        data.delete()
