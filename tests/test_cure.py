"""cuescope cure: data, fine-tuning, audits and the report in one command; every mistake is one message."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import cuescope
from commands import call
from cuescope.api import cure as api
from cuescope.api.cure import cure
from cuescope.core.errors import CueError
from cuescope.models.saved import Saved, to_bytes
from cuescope.report.cured import sentences
from cuescope.runs.comparisons.changes import Change, Changes
from cuescope.training import stages
from cuescope.training.cure import Goal
from cuescope.training.cures import cures, find
from cuescope.training.kept import Kept
from cuescope.training.settings import StylizedNetwork
from cuescope.training.stylized import stylized_images
from cuescope.world.images import CLASSES, WorldImages

WORLD = "cuescope/world-congruent"
QUICK = {"steady.epochs": 1, "steady.average": 0, "steady.batch": 32}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that a cure cannot learn from."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((16, 16, 3), np.uint8)
    names = [f"few/{name}/{i}.png" for name in CLASSES.names[:2] for i in range(12 if name == CLASSES.names[0] else 4)]
    names += [f"strange/{name}/{i}.png" for name in (CLASSES.names[0], "kitten") for i in range(12)]
    for name in ["flat/a.png", *names]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    return tmp_path


BAD: list[tuple[list[str], str]] = [
    (["--for", "shape"], "unknown cure 'shape'"),
    (["--images", "nowhere"], "no folder 'nowhere'"),
    (["--images", "flat"], "flat have no labels"),
    (["--images", "few"], f"the class '{CLASSES.names[1]}' of few has 4 images"),
    (["--images", "strange"], f"{WORLD} does not know the class 'kitten'"),
    (["--images", "world:congruent:64"], "has 4 images"),
    (["--out", "used"], "'used' holds files that are not a run"),
    (["--images", "few", "--out", "few/cure"], "--out few/cure lies in --images few"),
    (["--set", "epochs=3"], "unknown stage 'epochs'"),
    (["--set", "steady.epoch=3"], "unknown blurpool-fine-tuned setting 'epoch'"),
    (["--set", "steady.epochs=none"], "epochs = 'none'"),
    (["--styles", "flat"], "--styles with --for shift"),
    (["--annotator", WORLD], "--annotator with --for shift"),
    (["--limit", "0"], "limit is 0"),
    (["--cue-conflict", "nowhere"], "no folder 'nowhere'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes(here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--for": "shift", "--images": "world:congruent:160", "--out": "mine"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    status, _, err = call("cure", WORLD, *(word for pair in given.items() for word in pair), capsys=capsys)
    assert status == 2
    assert message in err
    assert "do:" in err
    assert not (here / "mine").exists()


def test_what_is_no_torch_network_cannot_be_cured(here: Path) -> None:
    (here / "own.py").write_text("def make():\n    return lambda images: images.mean((2, 3))\n")
    with pytest.raises(CueError, match="black box"):
        cure("own.py:make", "shift", images="world:congruent:160", out="mine")


def test_the_control_sees_as_many_images_without_the_remedy() -> None:
    mixed, clean = (stage.control for stage in find("shape_bias").with_settings({"mixed.epochs": "3"}).stages)
    assert (mixed.recipe, mixed.settings["epochs"], mixed.made) == ("imagenet", 9, "")
    assert clean.settings == find("shape_bias").stages[1].settings
    asked = find("shift").with_settings({"steady.least": ".4", "steady.epochs": "2"})
    cured, control = asked.stages[0].configured(model="x"), asked.stages[0].control.configured(model="x")
    assert (cured.least, cured.most, cured.epochs) == (0.4, 0.8, 2)
    assert (control.least, control.most, control.epochs) == (0.35, 1.0, 2)
    whole = find("shift").seen_whole.stages[0]
    assert (whole.configured(model="x").whole, whole.control.configured(model="x").least) == (0.5, 1.0)
    assert find("labels").stages[0].control.configured(model="x").targets == "label"


def test_a_suffix_comes_before_the_weights(here: Path) -> None:
    assert api._suffixed(WORLD, "+blur4") == (f"{WORLD}+blur4", "")
    network = cuescope.load(WORLD, device="cpu", fold=False)
    assert network.module is not None
    saved = Saved("world-congruent", network.classes, network.preprocessing)
    (here / "own.safetensors").write_bytes(to_bytes(network.module, saved))
    assert api._suffixed("own", "+blur4") == (f"{WORLD}+blur4@own.safetensors", "")
    assert api._suffixed(f"{WORLD}+blur4", "+blur4") == (f"{WORLD}+blur4", f"{WORLD}+blur4 has +blur4 already")
    model, note = api._suffixed("cuescope/world-bow", "+blur4")
    assert model == "cuescope/world-bow"
    assert note.startswith("without +blur4: ")


@pytest.mark.parametrize("name", list(cures()))
def test_a_cure_is_complete(name: str) -> None:
    one = find(name)
    assert one.what.endswith(".")
    assert one.goal.instrument in one.judges
    for stage in one.stages:
        assert stage.configured(model="x").epochs >= 1


def change(instrument: str, measure: str, was: float, now: float, outcome: str) -> Change:
    about = {"instrument": instrument, "measure": measure, "title": measure, "unit": "share", "better": ""}
    values = {"was": was, "now": now, "value": now - was, "interval": (now - was - 0.02, now - was + 0.02)}
    return Change(**about, **values, headline=True, images="i", outcome=outcome, n=90, p=0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("better", "from_before", "from_control", "starts"),
    [
        ("higher", "changed", "changed", ("It worked", "the remedy did it.")),
        ("higher", "better", "no difference shown", ("It got better, but not by the", "the remedy shows no effect.")),
        ("higher", "better", "cannot tell", ("It got better; whether by", "what the remedy did is open.")),
        ("lower", "worse", "no difference shown", ("It did not work", "the remedy shows no effect.")),
        ("higher", "cannot tell", "cannot tell", ("Whether it worked cannot be told", "what the remedy did is open.")),
    ],
)
def test_what_is_said_first(better, from_before: str, from_control: str, starts: tuple[str, str]) -> None:
    top1 = change("accuracy", "top1", 0.99, 0.96, "worse")
    before = Changes("a", "c", (change("shape_bias", "shape_bias", 0.1, 0.5, from_before), top1))
    control = Changes("b", "c", (change("shape_bias", "shape_bias", 0.2, 0.5, from_control),))
    first, second, third = sentences([before, control], Goal("shape_bias", "shape_bias", better))
    assert first.startswith(starts[0])
    assert "10.0% to 50.0%" in first
    assert second.endswith(starts[1])
    assert "has 20.0%; the cured one less the control is +30.0 points" in second
    assert third.startswith("Accuracy went from 99.0% to 96.0%")
    assert third.endswith("worse.")


def test_images_are_decoded_once_while_there_is_room() -> None:
    images = WorldImages(count=3)
    kept = Kept(images, most_bytes=2 * 3 * 64 * 64)
    first = [kept.read(i) for i in range(3)]
    assert [kept.read(i) is first[i] for i in range(3)] == [True, True, False]
    assert kept.digest == images.digest
    assert [kept.label(i) for i in range(3)] == [sample.label for sample in first]


def test_stylized_images_of_several_folders(tmp_path: Path) -> None:
    images = WorldImages(count=5)
    for folder, which, level in (("a", (1, 3), 255), ("b", (2, 3), 0)):
        (tmp_path / folder).mkdir()
        for i in which:
            Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / folder / f"{images.id(i)}.png")
    settings = StylizedNetwork(stylized=f"{tmp_path / 'a'},{tmp_path / 'b'}", originals=True)
    found, at, of = stylized_images(images, np.array([0, 3, 4]), settings)
    assert [found.id(i) for i in at.tolist()] == [f"{s}{images.id(3)}" for s in ("stylized/", "stylized-2/", "")]
    assert of.tolist() == [3, 3, 3]
    assert [found.read(i).pixels.float().mean() for i in at.tolist()][:2] == [255, 0]
    assert torch.equal(found.read(int(at[2])).pixels, images.read(3).pixels)
    assert {found.label(i) for i in at.tolist()} == {images.label(3)}
    assert len({found.id(i) for i in range(len(found))}) == len(found) == 6
    alone, at, _ = stylized_images(images, np.array([3]), replace(settings, originals=False))
    assert (len(alone), len(at)) == (4, 2)


@pytest.mark.slow
def test_the_whole_way(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped in the control, it goes on; what it says was measured on images that nothing was learned from."""
    monkeypatch.setattr(api, "CONFLICTS", 48)
    asked = ["cure", WORLD, "--images", "world:congruent:160", "--for", "shift", "--out", "mine"]
    asked += [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    whole, trained = stages.fine_tuned, []

    def stopped(stage, *more):
        trained.append(stage.name)
        if stage.name.startswith("control") and trained.count(stage.name) == 1:
            raise KeyboardInterrupt
        return whole(stage, *more)

    monkeypatch.setattr(stages, "fine_tuned", stopped)
    status, _, err = call(*asked, capsys=capsys)
    assert status == 130
    assert "it goes on where it stopped" in err
    status, out, err = call(*asked, capsys=capsys)
    assert status == 0, err
    assert trained == ["steady", "control-steady", "control-steady"]
    assert "128 images to learn from, 32 held out" in err
    assert "P(top-1 change)" in out
    assert "next: cuescope audit mine/cured" in out
    page = (here / "mine/report.html").read_text()
    assert "Is world-congruent cured?" in page
    assert page.index("From world-congruent to cured") < page.index("From control to cured")
    run = cuescope.Run.open("mine/audit")
    assert [c["title"] for c in run.manifest["classifiers"]] == ["world-congruent", "control", "cured"]
    learned = json.loads((here / "mine/training/steady/training.json").read_text())["images"]
    assert learned["count"] == 128
    judged = set(run.frame("accuracy").filter(pl.col("classifier") == WORLD)["id"])
    assert len(judged) == 32
    assert "antialiased in 4 places by blurs of size 4" in cuescope.load("mine/cured", device="cpu").notes

    with pytest.raises(CueError, match="holds a cure with seed 0, not 1"):
        cure(WORLD, "shift", images="world:congruent:160", out="mine", seed=1, settings=QUICK)
