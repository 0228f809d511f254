"""`cuescope make distorted`: the tree, what it is made of, going on, and what cannot be made."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cuescope.api.make import make
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.ops.distortions import OURS, amplitudes_of, distort, gray
from cuescope.data.readers import read_folder
from cuescope.makers.base import framed
from cuescope.makers.distorted import _Distorting

KINDS = "contrast,uniform-noise"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of two images, one more that is damaged."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(2):
            pixels = generator.integers(0, 255, (40, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.jpg")
    (tmp_path / "photos" / "dog" / "bad.png").write_bytes(b"no image at all")
    return tmp_path / "photos"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["make", "distorted", *arguments])
    return int(end.value.code or 0), capsys.readouterr().err


def files(folder: str = "made") -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*.png"))}


def manifest(folder: str = "made") -> dict[str, Any]:
    return json.loads(Path(folder, "manifest.json").read_text())


def test_a_folder_for_each_level_of_each_distortion(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = run(capsys, "photos", "made", "--kinds", KINDS, "--levels", "0.1,0.5", "--size-px", "28")
    assert status == 0, told
    assert "made 16 files; 1 skipped, see skipped.csv: made" in told
    names = [
        f"{d}/{level}/{k}/{i}.png"
        for d in ("contrast", "uniform-noise")
        for level in ("0.1", "0.5")
        for k in ("cat", "dog")
        for i in range(2)
    ]
    assert list(files()) == names
    entries = {entry["file"]: entry for entry in manifest()["images"]}
    entry = entries["contrast/0.5/cat/1.png"]
    assert {key: entry[key] for key in ("source", "distortion", "level", "label")} == {
        "source": "cat/1.jpg",
        "distortion": "contrast",
        "level": "0.5",
        "label": 0,
    }
    assert len({e["seed"] for e in entries.values()}) == 16
    with Path("made/skipped.csv").open(newline="") as table:
        assert [row["id"] for row in csv.DictReader(table)] == ["dog/bad.png"]


def test_a_file_is_the_framed_image_distorted_with_its_own_seed(photos: Path) -> None:
    make("distorted", "photos", "made", kinds=KINDS, size_px=28)
    images = read_folder("photos")
    index = next(i for i in range(len(images)) if images.id(i) == "dog/1.jpg")
    image = framed(images.read(index), 28)
    assert image.shape == (3, 28, 28)
    seed = seed_of(0, "uniform-noise/0.35/dog/1.jpg")
    wanted = distort(image.double() / 255, "uniform-noise", 0.35, seed)
    with Image.open("made/uniform-noise/0.35/dog/1.png") as found:
        assert found.mode == "L"
        assert (np.asarray(found) == wanted).all()
    assert manifest()["recipe"]["parameters"]["kinds"] == KINDS


def test_equal_power_takes_the_mean_over_all_images(photos: Path) -> None:
    make("distorted", "photos", "made", kinds="power-equalization,false-color", size_px=28)
    images = read_folder("photos")
    readable = [framed(images.read(i), 28).double() / 255 for i in range(5) if "bad" not in images.id(i)]
    mean = sum(amplitudes_of(gray(image)) for image in readable) / 4
    assert len(files()) == 16
    with Image.open("made/power-equalization/1/dog/1.png") as found:
        assert (np.asarray(found) == distort(readable[-1], "power-equalization", 1, 0, mean)).all()
    with Image.open("made/false-color/1/dog/1.png") as found:
        assert found.mode == "RGB"
        assert (np.asarray(found) == distort(readable[-1], "false-color", 1)).all()


def test_all_published_levels_by_default_and_the_world_keeps_its_size(tmp_path: Path) -> None:
    made = make("distorted", "world:congruent:2", tmp_path / "made")
    assert made.made == 2 * sum(len(distortion.levels) for distortion in OURS)
    names = files(str(tmp_path / "made"))
    assert "high-pass/inf/congruent-000001.png" in names
    with Image.open(tmp_path / "made" / "phase-noise/180/congruent-000000.png") as image:
        assert image.size == (64, 64)
    with (tmp_path / "made" / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == made.made
    assert {row["name"] for row in rows if "000001" in row["file"]} == {"bolt"}


def test_a_run_that_was_stopped_ends_as_one_that_was_not(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"kinds": KINDS, "levels": "0.1,0.4", "size_px": 16}
    make("distorted", "photos", "whole", **settings)
    make_ = _Distorting.make
    calls = 0

    def stopping(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return make_(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("cuescope.makers.distorted._Distorting.make", stopping)
        with pytest.raises(CueError, match=r"interrupted(?s:.*)\(8 of 20\)"):
            make("distorted", "photos", "made", **settings)
    Path("made/contrast/0.4/cat/0.png").unlink()
    found = make("distorted", "photos", "made", **settings)
    assert (found.made, found.before) == (9, 7)
    assert files("made") == files("whole")
    assert manifest()["images"] == manifest("whole")["images"]
    with pytest.raises(CueError, match=r"made with parameters.levels 0.1,0.4, not 0.1"):
        make("distorted", "photos", "made", kinds=KINDS, levels="0.1", size_px=16)


def test_an_image_is_decoded_once_for_all_its_levels(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read_folder("photos")
    seen: list[int] = []
    read = images.read
    monkeypatch.setattr(images, "read", lambda index: (seen.append(index), read(index))[1])
    make("distorted", images, "made", kinds=KINDS, size_px=16)
    assert sorted(seen) == list(range(5))


BAD = {
    "an unknown distortion": (["--kinds", "contarst"], "did you mean contrast"),
    "no distortion": (["--kinds", ","], "no distortion is named"),
    "a level it does not have": (["--kinds", "rotation", "--levels", "0,45"], "level 45 of rotation"),
    "a level of one that the other lacks": (["--kinds", KINDS, "--levels", "50"], "level 50 of uniform-noise"),
    "a level that is no number": (["--levels", "0.1,strong"], "level 'strong'"),
    "a negative seed": (["--seed", "-1"], "seed is -1"),
    "no size": (["--size-px", "0"], "size_px is 0"),
    "no package": (["--kinds", "imagenet-c"], "pip install 'cuescope[corruptions]'"),
    "no eidolons": (["--kinds", "eidolon"], "gestaltrevision/Eidolon"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_error(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    for package in ("imagecorruptions", "eidolon"):
        monkeypatch.setitem(sys.modules, package, None)
    arguments, message = BAD[case]
    status, told = run(capsys, "photos", "made", *arguments)
    assert status == 2, told
    assert told.startswith("cuescope: ")
    assert message in told
    assert not Path("made").exists()
