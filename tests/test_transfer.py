"""`cuescope transfer`: models of different classes ranked on images whose classes are their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from torch import nn

import cuescope
from commands import call
from cuescope.api.transfer import transfer
from cuescope.cli.transfer import _print
from cuescope.core.classes import ClassSpace
from cuescope.core.files import read_json
from cuescope.core.findings import Measure
from cuescope.runs.comparisons.ranking import Ranked, along
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
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Which cues" not in page
    assert "<title>Whose features serve these classes best?" in page
    opened = page[page.index('class="opened"') : page.index('class="audited seen"')]
    assert "surely more than" in opened
    assert (
        opened.index("1. ") < opened.index("3. blind") < opened.index("against its cost") < opened.index("each layer")
    )
    assert measures["ms"].value > 0
    assert measures["parameters"].value == pytest.approx(9 * 1e-6 + 12e-6, abs=30e-6)
    run = Run.open(tmp_path / "run")
    assert not any("unlabeled" in note for s in run.manifest["image_sets"] for note in s["notes"])
    finding = run.finding("layer_probe", "all")
    table = next(panel for panel in finding.panels if panel.name == "classes")
    assert {row[0] for row in table.data["rows"]} == set(SHADES.names)
    right = run.frame("layer_probe").filter(pl.col("classifier") == "all")["right"]
    assert right.to_list() == [True] * 60
    assert read_json(tmp_path / "run" / "classes.json")["images toys"] == list(SHADES.names)
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


def test_a_preset_is_the_published_protocol_with_its_values(tmp_path: Path) -> None:
    images = Images(colored(96), SHADES)
    found = transfer("few-shot", five(3, "all"), images=images, out=tmp_path / "run", preset="caltech101", workers=1)
    (cell,) = found.run.cells
    asked = cell.identity["params"]
    assert (list(asked["counts"]), asked["draws"], asked["beside"]) == ([15, 30], 5, "caltech101")
    assert [p.value for p in found.ranking[0].measures["accuracy"].published] == [0.865, 0.465, 0.814, 0.843]
    assert "Bo et al. 2013" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(cuescope.CueError, match="caltech101"):
        transfer("few-shot", five(3, "all"), images=images, out=tmp_path / "other", preset="caltech1O1")
    with pytest.raises(cuescope.CueError, match="few-shot"):
        transfer("probe", five(3, "all"), images=images, out=tmp_path / "other", preset="caltech101")


def test_the_cues_of_an_audit_stand_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, images = [five(k, f"net-{k}") for k in (0, 3)], Images(colored(45), SHADES)
    own = [toy(sees(k).append(nn.Linear(5, 3)), COLORS, f"net-{k}") for k in (0, 3)]
    cuescope.audit(*own, images=Images(colored(45)), only=["accuracy"], out=tmp_path / "audit", workers=1)
    found = transfer("few-shot", *models, images=images, out=tmp_path / "run", audited=tmp_path / "audit", workers=1)
    assert {name: list(own) for name, own in found.cues.items()} == {"net-0": ["top1"], "net-3": ["top1"]}
    assert [m.value for m in found.along] == [None], "two models say nothing of what goes along"
    _print(found)
    assert "needs at least three" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(cuescope.CueError, match="no run"):
        transfer("probe", *models, images=images, out=tmp_path / "other", audited=tmp_path / "nowhere")


def test_cues_that_go_along_come_first() -> None:
    def measure(name: str, value: float) -> Measure:
        return Measure(name, value, "share", 50)

    ranked = [Ranked(k, f"net-{k}", f"net-{k}", {"accuracy": measure("accuracy", 1 - k / 10)}, ()) for k in range(8)]
    known = {f"net-{k}": {"odd": measure("odd", k % 2), "same": measure("same", 0.9 - k / 11)} for k in range(7)}
    first, second = along(ranked, "accuracy", known)
    assert (first.name, first.n, second.name) == ("same", 7, "odd")
    assert first.value == pytest.approx(1)
    assert second.interval is not None
    assert second.interval[0] < 0 < second.interval[1]


def test_small_classes_are_left_out_or_end_the_curve(tmp_path: Path) -> None:
    samples = colored(43)
    samples[42] = replace(samples[42], label=2)
    few = [replace(s, label=0 if i in (0, 3) else 1 + i % 2) for i, s in enumerate(samples)]
    run = cuescope.audit(
        five(3, "all"), images=Images(few, SHADES), only=["layer_probe", "few_shot"], out=tmp_path / "run", workers=1
    )
    probe, shots = run.finding("layer_probe"), run.finding("few_shot")
    assert probe["accuracy"].n == 41
    assert any("2 images of classes with fewer than 5 (carmine)" in text for text in probe.caveats)
    assert "from 1 image" in shots["accuracy"].title
    assert any("carmine, has 2 images" in text for text in shots.caveats)


def test_a_class_of_one_image_is_named_and_left_out(tmp_path: Path) -> None:
    few = [replace(s, label=0 if i == 0 else 1 + i % 2) for i, s in enumerate(colored(30))]
    asked = ["layer_probe", "few_shot", "label_issues"]
    run = cuescope.audit(five(3, "all"), images=Images(few, SHADES), only=asked, out=tmp_path / "run", workers=1)
    for name, least in zip(asked, (5, 2, 5), strict=True):
        (said,) = [text for text in run.finding(name).caveats if "carmine" in text]
        assert said == f"Left out: 1 image of classes with fewer than {least} (carmine)."
    assert run.finding("few_shot")["accuracy"].n == run.finding("layer_probe")["accuracy"].n == 29


def test_classes_of_one_image_each_tell_nothing(tmp_path: Path) -> None:
    images = Images([replace(s, label=i) for i, s in enumerate(colored(3))], SHADES)
    found = transfer("few-shot", five(3, "all"), images=images, out=tmp_path / "run", workers=1)
    assert "no two classes have 2 labeled images" in found.run.finding("few_shot")["accuracy"].why
