"""`cuescope transfer`: models of different classes ranked on images whose classes are their own."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from torch import nn

import cuescope
from commands import call
from cuescope.api.transfer import transfer
from cuescope.core.classes import ClassSpace
from cuescope.runs.store import Run
from toys import COLORS, Images, colored, toy

SHADES = ClassSpace("shades", ("carmine", "moss", "navy"))


def sees(channels: int) -> nn.Module:
    """It sees so many of the colors, and has as many classes as outputs."""
    first = nn.Conv2d(3, 3, 1, bias=False)
    first.weight.data[:] = 0
    for i in range(channels):
        first.weight.data[i, i] = 1
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))


def five(channels: int, name: str) -> cuescope.Classifier:
    return toy(sees(channels), ClassSpace("fives", tuple("abcde")), name)


def test_models_of_other_classes_are_ranked_on_the_images_own(tmp_path: Path) -> None:
    three = toy(nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)), name="three")
    models = five(0, "blind"), five(3, "all"), three
    images = Images(colored(60), SHADES)
    found = transfer("probe", *models, images=images, out=tmp_path / "run", workers=1)
    assert found.ranking[0].classifier in ("all", "three")
    assert [one.classifier for one in found.ranking][-1] == "blind"
    assert "blind" in found.ranking[0].beats
    measures = found.ranking[0].measures
    assert measures["accuracy"].value == 1
    assert measures["ms"].value > 0
    assert measures["parameters"].value == pytest.approx(9 * 1e-6 + 12e-6, abs=30e-6)
    run = Run.open(tmp_path / "run")
    assert not any("unlabeled" in note for s in run.manifest["image_sets"] for note in s["notes"])
    finding = run.finding("layer_probe", "all")
    table = next(panel for panel in finding.panels if panel.name == "classes")
    assert {row[0] for row in table.data["rows"]} == set(SHADES.names)
    right = run.frame("layer_probe").filter(pl.col("classifier") == "all")["right"]
    assert right.to_list() == [True] * 60
    assert run.cells[0].rows(columns=["id", "right", "label"]).columns == ["id", "right", "label"]


def test_the_command_prints_a_ranking_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    arguments = ["transfer", "probe", "cuescope/world-congruent", "--images", "world:congruent:80", "--out", out]
    settings = ["--set", "layer_probe.layers=layer1,layer3", "--set", "layer_probe.control=false"]
    status, printed, _ = call(*arguments, *settings, "--json", capsys=capsys)
    (first,) = json.loads(printed)
    assert (status, first["place"], first["classifier"]) == (0, 1, "cuescope/world-congruent")
    assert first["measures"]["accuracy"]["value"] > 0.8
    status, printed, err = call(*arguments, *settings, capsys=capsys)
    assert "world-congruent" in printed
    assert "nothing to do" in err or "report" in err


def test_labels_of_nothing_are_said(tmp_path: Path) -> None:
    images = Images([s for s in colored(6) if s.label is not None], None)
    with pytest.raises(cuescope.CueError, match="label"):
        transfer("probe", five(3, "all"), images=images, out=tmp_path / "run", workers=1)


def test_an_instrument_of_the_classifiers_classes_gets_them_still(tmp_path: Path) -> None:
    run = cuescope.audit(
        toy(sees(3).append(nn.Linear(5, 3)), COLORS),
        images=Images(colored(30)),
        only=["accuracy", "layer_probe"],
        out=tmp_path / "run",
        workers=1,
    )
    assert run.finding("accuracy")["top1"].n == 30
    assert run.finding("layer_probe")["accuracy"].n == 30


def test_few_shot_ranks_too(tmp_path: Path) -> None:
    models = five(0, "blind"), five(3, "all")
    found = transfer("few-shot", *models, images=Images(colored(60), SHADES), out=tmp_path / "run", workers=1)
    assert [one.classifier for one in found.ranking] == ["all", "blind"]
    assert found.ranking[0].beats == ("blind",)
