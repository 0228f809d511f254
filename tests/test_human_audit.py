"""`cuescope audit --human-data --cues`: from folders on disk to the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cuescope.cli import main
from cuescope.runs.store import Run

MODEL = """
import torch

class Mean(torch.nn.Module):
    def forward(self, x):
        return 9 * x.mean((2, 3))

def make():
    return Mean()
"""
COLORS = ("red", "green", "blue")
ASKED = "shape_bias,human_agreement,cue_accuracy"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, images of a color each, cue-conflict images of which it sees the shape, and two people's answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "names.txt").write_text("\n".join(COLORS))
    lines = {who: ["subj,session,trial,rt,object_response,category,condition,imagename"] for who in ("01", "02")}
    for k, shape in enumerate(COLORS):
        pixels = np.full((8, 8, 3), 40, np.uint8)
        pixels[..., k] = 200
        for folder in ("photos", "cues/edges", "cues/textures"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{shape}1.png")
        for texture in COLORS:
            name = f"{shape}1-{texture}2.png"
            (tmp_path / "stimuli").mkdir(exist_ok=True)
            Image.fromarray(pixels if texture != "blue" else pixels[..., ::-1].copy()).save(tmp_path / "stimuli" / name)
            lines["01"].append(f"subject-01,1,1,.8,{shape},{shape},0,0001_x_{name}")
            lines["02"].append(f"subject-02,1,1,.8,{texture},{shape},0,0001_x_{name}")
    for who, rows in lines.items():
        (tmp_path / "human" / "some-experiment").mkdir(parents=True, exist_ok=True)
        (tmp_path / "human" / "some-experiment" / f"subject-{who}_session_1.csv").write_text("\n".join(rows))
    return tmp_path


def call(*more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    base = ["audit", "model.py:make", "--images", "photos", "--classes", "names.txt", "--out", "out", "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*base, *more])
    return int(end.value.code or 0), capsys.readouterr().err


def test_one_pass_over_the_stimuli_serves_both_questions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--cue-conflict", "stimuli", "--human-data", "human", "--cues", "cues", "--only", ASKED]
    status, err = call(*more, capsys=capsys)
    assert status == 0, err
    run = Run.open("out")
    assert [s["role"] for s in run.manifest["image_sets"]] == ["cue-conflict", "cues"]
    assert "9 of 9 images have answers of 2 people and 0 networks" in str(run.manifest["image_sets"][0]["notes"])
    agreement = run.finding("human_agreement")
    assert (agreement["accuracy"].count, agreement["accuracy"].n) == (7, 9), "red and blue trade places in three"
    assert agreement["accuracy_people"].value == pytest.approx((1 + 1 / 3) / 2)
    assert agreement["kappa_people"].value is not None, "one person is always right, the other is not"
    assert run.finding("cue_accuracy")["edges"].count == 3
    assert run.finding("shape_bias")["shape_bias"].n
    page = (here / "out" / "report.html").read_text()
    assert "Does it err on the images that people err on?" in page
    shutil.rmtree(here / "human")
    with pytest.raises(SystemExit):
        main(["report", "out", "--out", "again.html"])
    assert "Whose errors are like its own" in (here / "again.html").read_text()


def test_what_is_not_given_is_said_and_no_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, err = call("--cue-conflict", "stimuli", "--only", "shape_bias", capsys=capsys)
    assert status == 0, err
    shutil.rmtree(here / "out")
    status, err = call("--cue-conflict", "stimuli", "--only", "human_agreement", capsys=capsys)
    assert status == 2
    assert "give --cue-conflict DIR --human-data DIR" in err
    status, err = call("--only", "cue_accuracy", capsys=capsys)
    assert status == 2
    assert "give --cues DIR" in err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--human-data", "human"], "give them too: --cue-conflict DIR"),
        (["--human-data", "none", "--cue-conflict", "stimuli"], "cuescope get human-data none"),
        (["--human-data", "photos", "--cue-conflict", "stimuli"], "no trials in 'photos'"),
        (["--human-data", "human", "--cue-conflict", "world:conflict:9"], "has no free answer to an image of world"),
        (["--cues", "photos"], "no folder of stimuli in 'photos'"),
    ],
)
def test_bad_input_is_one_clear_error(
    here: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    status, err = call(*more, capsys=capsys)
    assert status == 2
    assert told in err
    assert "Traceback" not in err
    assert not (here / "out").exists()
