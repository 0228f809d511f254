"""`cuescope make`: what it leaves behind, how it goes on, and one clear error for each kind of bad input."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cuescope.api.make import make
from cuescope.classifier.sources import load
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.readers import read_folder, read_versions
from cuescope.makers import registry
from cuescope.makers.base import Maker, Tools
from cuescope.makers.output_folder import JOURNAL
from cuescope.makers.texturized import Texturized, texturize
from cuescope.runs.inputs import find_images
from cuescope.world.images import WorldImages

FEW = ["--steps", "2", "--size-px", "16"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of three images, one more that is damaged."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(3):
            pixels = generator.integers(0, 255, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.jpg")
    (tmp_path / "photos" / "dog" / "bad.png").write_bytes(b"no image at all")
    return tmp_path / "photos"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["make", *arguments])
    return int(end.value.code or 0), capsys.readouterr().err


def texturized(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    return run(capsys, "texturized", "photos", "made", *FEW, *arguments)


def manifest(folder: str = "made") -> dict[str, Any]:
    return json.loads(Path(folder, "manifest.json").read_text())


def contents(folder: str = "made") -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*.png"))}


def test_the_same_tree_and_names_and_a_manifest(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = texturized(capsys)
    assert status == 0
    assert "made 6 files; 1 skipped, see skipped.csv: made" in told
    names = [str(p.relative_to("made")) for p in sorted(Path("made").rglob("*")) if p.is_file()]
    assert names == [
        *(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)),
        "manifest.json",
        "skipped.csv",
    ]
    found = manifest()
    assert found["recipe"]["maker"] == "texturized"
    assert found["recipe"]["parameters"]["steps"] == 2
    assert len(found["recipe"]["images"]["digest"]) == 32
    assert found["recipe"]["features"]["digest"]
    assert found["finished"]
    assert [entry["file"] for entry in found["images"]] == names[:6]
    first = found["images"][0]
    assert first["source"] == "cat/0.jpg"
    assert first["seed"] == seed_of(0, "cat/0.jpg")
    assert first["end"] < first["start"]
    with Path("made/skipped.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["dog/bad.png"]


def test_what_is_made_is_read_as_versions_with_the_same_labels(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texturized(capsys)
    made = read_folder("made")
    assert made.classes == read_folder("photos").classes
    assert [made.read(i).label for i in range(6)] == [0, 0, 0, 1, 1, 1]
    versions = read_versions(read_folder("photos"), "texturized", "made")
    assert len(versions) == 6
    assert versions.read(0).versions["texturized"].shape == (3, 16, 16)


def test_labels_of_a_csv_go_along_under_the_new_names(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("cat/0.jpg", "n1", 4, "tabby"), ("dog/1.jpg", "n2", 7, "poodle")]
    with (photos / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "wnid", "index", "name"), *rows])
    assert texturized(capsys)[0] == 0
    text = Path("made/labels.csv").read_text().splitlines()
    assert text == ["file,wnid,index,name", "cat/0.png,n1,4,tabby", "dog/1.png,n2,7,poodle"]
    old, new = read_folder("photos"), read_folder("made")
    assert new.classes == old.classes
    assert {new.read(i).label for i in range(6)} == {4, 7, None}


def test_images_of_the_world_keep_their_size_and_get_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "texturized", "world:congruent:3", "made", "--steps", "1")[0] == 0
    made = read_folder("made")
    assert [made.id(i) for i in range(3)] == [f"congruent-00000{i}.png" for i in range(3)]
    assert made.read(1).pixels.shape == (3, 64, 64)
    assert made.read(1).label == 1
    assert made.classes is not None
    assert made.classes.names[1] == "bolt"


def test_a_photograph_is_framed_as_an_evaluation_does(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((70, 140, 3), np.uint8)
    pixels[3:67, 38:102] = 200  # all that a crop of 7/8 in the middle sees
    Path("wide").mkdir()
    Image.fromarray(pixels).save("wide/a.png")
    assert run(capsys, "texturized", "wide", "made", "--steps", "1", "--size-px", "56")[0] == 0
    assert np.ptp(np.asarray(Image.open("made/a.png"))[4:-4, 4:-4]) <= 2


def test_a_finished_folder_is_left_alone(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "dog" / "bad.png").unlink()
    texturized(capsys)
    before = {p: p.stat().st_mtime_ns for p in Path("made").rglob("*")}
    status, told = texturized(capsys)
    assert (status, told.splitlines()[-1]) == (0, "nothing to do: made has all 6 files")
    assert before == {p: p.stat().st_mtime_ns for p in Path("made").rglob("*")}


class Interrupting:
    """Texturized that is interrupted, as by Ctrl-C, when it is about to make its third batch."""

    def __init__(self, work: Any) -> None:
        self.work, self.batches = work, 0
        self.batch = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.work, name)

    def make(self, pieces: Any, samples: Any) -> Any:
        self.batches += 1
        if self.batches == 3:
            raise KeyboardInterrupt
        return self.work.make(pieces, samples)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    start = Texturized.start
    with monkeypatch.context() as patch:
        patch.setattr(Texturized, "start", lambda *arguments: Interrupting(start(*arguments)))
        yield patch


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(
    photos: Path, capsys: pytest.CaptureFixture[str], interrupted: pytest.MonkeyPatch
) -> None:
    status, told = texturized(capsys)
    assert status == 2
    assert "interrupted\n  wanted: nothing: every finished image is kept (2 of 7)" in told
    assert "goes on where it stopped" in told
    assert not manifest()["finished"]
    assert [entry["file"] for entry in manifest()["images"]] == ["cat/0.png", "cat/1.png"]
    times = {p: p.stat().st_mtime_ns for p in Path("made").rglob("*.png")}
    interrupted.undo()
    status, told = texturized(capsys)
    assert status == 0
    assert "made 4 files, 2 were there" in told
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    run(capsys, "texturized", "photos", "whole", *FEW)
    assert list(contents().values()) == list(contents("whole").values())
    assert manifest()["images"] == manifest("whole")["images"]


def test_a_killed_run_goes_on_from_its_journal(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a last word: only what was written file by file is there."""
    monkeypatch.setattr("cuescope.makers.output_folder.OutputFolder.finish", lambda *_: None)
    make("texturized", "photos", "made", steps=2, size_px=16, limit=4)
    assert not manifest()["finished"]
    assert list(Path("made", JOURNAL).glob("*.json"))
    # As if it had been killed while this one was written.
    Path("made/cat/0.png").unlink()
    Path("made/cat/.0.png.77.part").write_bytes(b"half")
    monkeypatch.undo()
    monkeypatch.chdir(photos.parent)
    found = make("texturized", "photos", "made", steps=2, size_px=16, limit=4)
    assert (found.made, found.before) == (1, 3)
    assert len(manifest()["images"]) == 4
    assert not Path("made", JOURNAL).exists()


def test_a_file_that_was_removed_is_made_again_and_alike(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texturized(capsys)
    before = contents()
    Path("made/dog/1.png").unlink()
    assert "made 1 files, 5 were there" in texturized(capsys)[1]
    assert contents() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "'made' was made with parameters.steps 2, not 3"),
        (["--seed", "1"], "'made' was made with parameters.seed 0, not 1"),
        (["--limit", "2"], "'made' was made with images.count 7, not 2"),
    ],
)
def test_other_parameters_are_refused_with_what_differs(
    photos: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    texturized(capsys)
    before = contents()
    settings = {"--steps": "2", "--size-px": "16", arguments[0]: arguments[1]}
    status, told = run(capsys, "texturized", "photos", "made", *(text for pair in settings.items() for text in pair))
    assert status == 2
    assert message in told
    assert "do:     choose another DST" in told
    assert contents() == before


def test_other_images_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texturized(capsys)
    (photos / "cat" / "0.jpg").write_bytes((photos / "cat" / "1.jpg").read_bytes())
    status, told = texturized(capsys)
    assert status == 2
    assert "'made' was made with images.digest" in told


BAD = {
    "no such folder": (["nowhere", "made"], "no folder 'nowhere'"),
    "a folder of something else": (["photos", "full"], "'full' holds files that no maker made"),
    "a folder with another manifest": (["photos", "run"], "'run/manifest.json' is that of no maker"),
    "a file": (["photos", "full/a.txt"], "cannot write to 'full/a.txt'"),
    "within the images": (["photos", "photos/made"], "lie one within the other"),
    "around the images": (["photos/cat", "photos"], "lie one within the other"),
    "the images themselves": (["photos", "photos"], "are one folder"),
    "no step": (["photos", "made", "--steps", "0"], "steps is 0"),
    "a negative seed": (["photos", "made", "--seed", "-1"], "seed is -1"),
    "smaller than the filters": (["photos", "made", "--size-px", "8"], "an image of 8 x 8 px"),
    "layers without a network": (["photos", "made", "--layers", "a"], "layers without a network"),
    "an unknown network": (
        ["photos", "made", "--features", "cuescope/world-bagnte"],
        "did you mean cuescope/world-bagnet",
    ),
    "an unknown word": (["photos", "made", "--features", "random"], "random-filters"),
    "unknown layers": (
        ["photos", "made", "--features", "net.py:make", "--layers", "frist"],
        "did you mean first",
    ),
    "no layers": (["photos", "made", "--features", "net.py:make"], "give --layers"),
    "a black box": (["photos", "made", "--features", "net.py:box", "--layers", "a"], "black box"),
    "an unknown variant": (["world:textures", "made"], "unknown world variant 'textures'"),
    "an unknown device": (["photos", "made", "--device", "tpu"], "no device 'tpu'"),
}
NETWORK = """
from collections import OrderedDict
from torch import nn
from cuescope.classifier.classifier import Classifier, Preprocessing

def make():
    return nn.Sequential(OrderedDict(first=nn.Conv2d(3, 4, 3), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))

def box():
    return Classifier(lambda x: x.mean((2, 3)), preprocessing=Preprocessing((8, 8), 8))
"""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_error(photos: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    for folder in ("full", "run"):
        Path(folder).mkdir()
    Path("full/a.txt").write_text("mine")
    Path("run/manifest.json").write_text('{"schema": 1}')
    Path("net.py").write_text(NETWORK)
    arguments, message = BAD[case]
    status, told = run(capsys, "texturized", *arguments)
    assert status == 2, told
    assert told.startswith("cuescope: "), told
    assert message in told
    assert "wanted:" in told
    assert "Traceback" not in told
    assert not list(Path().glob("**/*.part"))
    assert not Path("made").exists() or not any(Path("made").iterdir())


def test_a_network_by_name_and_layers(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(NETWORK)
    status, told = texturized(capsys, "--features", "net.py:make", "--layers", "first", "--limit", "2")
    assert status == 0, told
    features = manifest()["recipe"]["features"]
    assert features["features"] == "net.py:make"
    assert features["layers"] == ["first"]
    Path("net.py").write_text(NETWORK.replace("4, 3", "5, 3"))
    status, told = texturized(capsys, "--features", "net.py:make", "--layers", "first", "--limit", "2")
    assert status == 2
    assert "features.digest" in told


def test_two_images_of_one_name_are_not_one_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 20), "red").save(photos / "cat" / "0.png")
    assert "2 skipped" in texturized(capsys)[1]
    assert "would be made of another image" in Path("made/skipped.csv").read_text()


def test_no_image_can_be_read(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"\xff\xd8\xff nothing")
    status, told = texturized(capsys)
    assert status == 0
    assert "made 0 files; 7 skipped" in told


def test_parameters_of_python_are_checked() -> None:
    with pytest.raises(CueError, match=r"unknown parameter of texturized 'step'(?s:.*)did you mean steps"):
        registry.build("texturized", {"step": 3})
    with pytest.raises(CueError, match=r"unknown maker 'texturised'(?s:.*)did you mean texturized"):
        registry.build("texturised", {})


def test_every_maker_is_listed_and_helped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["list", "makers"])
    told = capsys.readouterr().out
    for name in registry.names():
        kind = registry.find(name)
        assert name in told
        assert kind.what
        assert kind.reference
        assert kind.version >= 1
        needed = {f.name: "x" for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
        assert isinstance(registry.build(name, needed), Maker)
    with pytest.raises(SystemExit):
        main(["make", "texturized", "--help"])
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "--steps" in told
    assert "SRC DST" in told


def test_the_generator_of_everyone_is_left_alone(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    texturized(capsys, "--limit", "1")
    assert torch.equal(state, torch.get_rng_state())


def test_what_waits_to_be_written_is_bytes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of the search would keep the device's memory of batches that are done."""
    searched: list[int] = []

    def noted(*arguments: Any, **settings: Any) -> Any:
        found = texturize(*arguments, **settings)
        searched.append(found.pixels.untyped_storage().data_ptr())
        return found

    monkeypatch.setattr("cuescope.makers.texturized.texturize", noted)
    images = WorldImages("congruent", count=2)
    work = Texturized(steps=1).start(images, Tools(load, find_images, torch.device("cpu")))
    outputs: Any = work.make(list(work.pieces), [images.read(i) for i in range(2)])
    for output in outputs:
        (pixels,) = output.data.args
        assert (pixels.dtype, pixels.device.type) == (torch.uint8, "cpu")
        assert pixels.untyped_storage().data_ptr() != searched[0]
        assert output.data().startswith(b"\x89PNG")
