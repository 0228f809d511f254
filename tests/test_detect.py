"""Detectors on any backbone: what they stand on, that they learn, that a stop changes nothing, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from cuescope.api import detect as api
from cuescope.classifier.sources import find
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.core.findings import Published
from cuescope.core.published.detection import PRESETS, PresetName
from cuescope.data.marked import MarkedImages, names_of
from cuescope.data.readers.marked import read_marked
from cuescope.methods.mean_precision import Found
from cuescope.models.detector import cut, spread
from cuescope.network.feature_maps import FeatureMaps, Levels, without_head
from cuescope.report import detected
from cuescope.runs.detected import TITLES, measured
from cuescope.training import detect as training_detect
from cuescope.training import marked as training
from cuescope.training.detect import FILE, detection, fit_detector, load_detector, new_detector
from cuescope.training.marked import MarkedBatches
from cuescope.training.settings import DetectionSettings
from cuescope.world.marked import write_marked

WORLD = "cuescope/world-congruent"
TINY: dict[str, Any] = {"epochs": 2, "batch": 2, "width": 16, "channels": 8, "rois": 8, "proposals": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of 64 px to learn from and two held out, in both layouts."""
    root = tmp_path_factory.mktemp("detect")
    write_marked(root / "coco", "coco", 4, 2, side=64)
    write_marked(root / "voc", "voc", 4, 2, side=64)
    return root


def tiny(**changes: Any) -> DetectionSettings:
    how = {"optimizer": "adamw", "learning_rate": 1e-3, "size_px": 0, "device": "cpu", "frozen": 0}
    return DetectionSettings(**{**how, **TINY, **changes})


def images_of(folder: Path, layout: str = "voc", masks: bool = False) -> tuple[MarkedImages, MarkedImages]:
    learned, held_out, _ = read_marked(folder / layout, masks=masks)
    assert held_out is not None
    names = frozenset(names_of(held_out)) - frozenset(names_of(learned))
    return learned, held_out.without(names)


def levels(spec: str, size: int) -> tuple[nn.Module, Levels]:
    module = find(spec)[1].module
    return module, Levels(module.requires_grad_(True), (size, size), spec, (224, 224))


@pytest.mark.parametrize(
    ("spec", "strides", "fixed"),
    [
        (WORLD, [4, 8], False),
        ("torchvision/resnet18@random", [4, 8, 16, 32], False),
        ("torchvision/mobilenet_v3_small@random", [4, 8, 16, 32], False),
        ("timm/vit_tiny_patch16_224@random", [16], True),
    ],
)
def test_levels_of_a_backbone(spec: str, strides: list[int], fixed: bool) -> None:
    module, found = levels(spec, 128)
    assert (found.strides, found.fixed) == (strides, fixed)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parts = without_head(module, found.layers, found.size)
    assert len(parts) == len(strides)
    body = FeatureMaps(module, found.layers, frozen_norms=True).train()
    maps = body(torch.zeros(1, 3, *found.size))
    assert [found.size[0] // one.shape[2] for one in maps] == strides
    torch.stack([one.sum() for one in maps]).sum().backward()
    used = {id(parameter) for level in parts for parameter in level}
    lacking = [
        name for name, one in module.named_parameters() if one.grad is None and id(one) in used and one.requires_grad
    ]
    assert not lacking
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), "batch norms keep their statistics"


def test_a_backbone_without_maps_is_refused() -> None:
    with pytest.raises(CueError, match="cuescope/world-bow gives no maps over the image"):
        levels("cuescope/world-bow", 64)


def test_anchors() -> None:
    assert spread(10, 40, 3) == ((10, 13), (17, 23), (30, 40))
    assert cut((40, 10, 20, 30), 2) == ((10, 20), (30, 40))
    with pytest.raises(ValueError, match="3 sides of anchors for 2 levels"):
        cut((1, 2, 3), 2)


def test_anchors_and_sizes_follow_the_data(folder: Path) -> None:
    learned, _ = images_of(folder)
    made = new_detector(tiny(), WORLD, learned, 3, False)
    shape = made.facts["shape"]
    assert (shape["size_px"], shape["fixed"]) == (64, None)
    sides = [side for level in shape["anchors"] for side in level]
    boxes = [(box.x1 - box.x0) * (box.y1 - box.y0) for e in learned.entries for box in (t.box for t in e.things)]
    assert min(boxes) ** 0.5 - 1 <= sides[0] < sides[-1] <= max(boxes) ** 0.5 + 1
    doubled = new_detector(tiny(size_px=128), WORLD, learned, 3, False).facts["shape"]["anchors"]
    assert doubled[-1][-1] == pytest.approx(2 * sides[-1], abs=1)
    assert any("anchors" in note and f"{sides[0]}, {sides[1]}" in note for note in made.notes)
    given = new_detector(tiny(anchors=(8, 16, 32)), WORLD, learned, 3, False)
    assert given.facts["shape"]["anchors"] == ((8,), (16,), (32,))
    with pytest.raises(CueError, match="2 sides of anchors for 3 levels"):
        new_detector(tiny(anchors=(8, 16)), WORLD, learned, 3, False)


def test_random_backbones_train_what_others_keep(folder: Path) -> None:
    learned, _ = images_of(folder)
    kept, whole = (
        new_detector(tiny(frozen=1), spec, learned, 3, False).network.backbone.body  # pyright: ignore[reportAttributeAccessIssue]
        for spec in (WORLD, f"{WORLD}@random")
    )
    assert not kept.network.conv1.weight.requires_grad
    assert kept.network.layer3[0].conv1.weight.requires_grad
    assert (kept.frozen_norms, whole.frozen_norms) == (True, False)
    assert whole.network.conv1.weight.requires_grad


def test_batches(folder: Path) -> None:
    learned, _ = images_of(folder, masks=True)
    labels = {name: i for i, name in enumerate(names_of(learned))}
    data = MarkedBatches(learned, labels, 4, 0, masks=True)
    images, sizes, boxes, found, masks = data.batch(0, slice(0, 4))
    assert (images.shape, images.dtype, sizes.tolist()) == ((4, 3, 64, 64), torch.uint8, [[64, 64]] * 4)
    assert sorted((found > 0).sum(1).tolist()) == sorted(len(entry.things) for entry in learned.entries)
    mirrored = 0
    for i, place in enumerate(data.order.places(0)):
        for k, thing in enumerate(learned.things(place)):
            x0, y0, x1, y1 = boxes[i, k].tolist()
            assert found[i, k] == labels[thing.box.name] + 1
            assert (y0, y1) == (thing.box.y0, thing.box.y1)
            assert x1 - x0 == thing.box.x1 - thing.box.x0
            rows, columns = torch.nonzero(masks[i, k].any(1)), torch.nonzero(masks[i, k].any(0))
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [x0, y0, x1, y1]
        mirrored += not torch.equal(images[i], learned.read(place).pixels)
    assert 0 < mirrored < 4
    assert torch.equal(images, data.batch(0, slice(0, 4))[0])


def test_crowds_teach_nothing(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder / "voc", tmp_path / "voc"))
    for file in (root / "Annotations").iterdir():
        text = file.read_text()
        if text.count("<object>") > 1:
            file.write_text(text.replace("<difficult>0", "<difficult>1", 1))
    learned = read_marked(root).learned
    several = [i for i in range(len(learned)) if len(learned.things(i)) > 1]
    labels = {name: i for i, name in enumerate(names_of(learned))}
    _, _, _, found = MarkedBatches(learned.only(several), labels, len(several), 0, False).batch(0, slice(None))
    counts = sorted((found > 0).sum(1).tolist())
    assert counts == sorted(len(learned.things(i)) - 1 for i in several)


@pytest.mark.parametrize("masks", [False, True])
def test_the_loss_goes_down(folder: Path, masks: bool) -> None:
    learned, _ = images_of(folder, masks=masks)
    names = names_of(learned)
    network = new_detector(tiny(), WORLD, learned, len(names), masks).network.train()
    parts = MarkedBatches(learned, {name: i for i, name in enumerate(names)}, 2, 0, masks).batch(0, slice(0, 2))
    optimizer, values = torch.optim.AdamW(network.parameters(), 5e-3), []
    for _ in range(8):
        value, describe = detection()(network, *parts)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert sum(values[-3:]) < 0.9 * sum(values[:3])
    assert ("mask" in describe()) == masks


def small_fit(folder: Path, out: Path, masks: bool = False, **changes: Any) -> Any:
    learned, held_out = images_of(folder, "coco", masks)
    return fit_detector(tiny(**changes), WORLD, learned, held_out, names_of(learned), masks=masks, out=out, every_s=0)


@pytest.mark.extra
@pytest.mark.slow
def test_a_stop_changes_no_bit_and_the_file_is_the_detector(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchmetrics")
    whole = small_fit(folder, tmp_path / "whole")
    batch = MarkedBatches.batch

    def broken(self: MarkedBatches, step: int, part: slice) -> Any:
        if step == 3:
            raise OSError("the disk is gone")
        return batch(self, step, part)

    monkeypatch.setattr(training.MarkedBatches, "batch", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        small_fit(folder, tmp_path / "parts")
    monkeypatch.setattr(training.MarkedBatches, "batch", batch)
    parts = small_fit(folder, tmp_path / "parts")
    one, two = (safetensors.torch.load_file(tmp_path / run / FILE) for run in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert [epoch for epoch, _ in whole.epochs] == [1, 2] == [epoch for epoch, _ in parts.epochs]
    network, classes = load_detector(tmp_path / "whole" / FILE)
    learned, held_out = images_of(folder, "coco")
    assert classes == names_of(learned)
    with torch.inference_mode():
        again = network([held_out.read(index).pixels.float() / 255 for index, _, _ in whole.tried])
    for output, (_, _, before) in zip(again, whole.tried, strict=True):
        torch.testing.assert_close(output["boxes"].double(), torch.from_numpy(before.boxes))
    with pytest.raises(CueError, match="holds a training with epochs=2, not epochs=3"):
        small_fit(folder, tmp_path / "whole", epochs=3)
    with pytest.raises(CueError, match="is no detector"):
        load_detector(tmp_path / "whole" / "training.json")


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layout"), [("detect", "voc"), ("segment", "coco")])
def test_the_command_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    layout: str,
) -> None:
    pytest.importorskip("torchmetrics")
    monkeypatch.chdir(tmp_path)
    given = [f"--set={key}={value}" for key, value in {**TINY, "epochs": 1, "device": "cpu"}.items()]
    asked = ["transfer", kind, WORLD, "--random", "--small", "--json", "--images", str(folder / layout), *given]
    with pytest.raises(SystemExit) as stopped:
        main(asked)
    assert stopped.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / kind / api.FILE).read_text())
    assert {one["model"] for one in told["models"]} == {WORLD, f"{WORLD}@random"}
    assert all((tmp_path / kind / one["folder"] / FILE).is_file() for one in told["models"])
    first = told["models"][0]
    assert set(first["measures"]) == {"map", "map50", "map75"} | (
        {"map50_eleven", "map50_area"} if kind == "detect" else set()
    )
    assert first["measures"]["map50"]["n"] == 2
    assert first["measures"]["map50"]["interval"] is None  # of two images
    assert len(told["differences"]) == 1
    assert first["assumed"]
    page = (tmp_path / kind / "report.html").read_text()
    assert "Which backbone finds your objects" in page
    assert "found" in page


def test_without_the_extra(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pycocotools" else there(name, *more)
    )
    with pytest.raises(CueError, match=r"needs (torchmetrics and )?pycocotools(.|\n)*pip install 'cuescope\[detect\]'"):
        api.detect(WORLD, images=folder / "coco", out=tmp_path / "out")


@pytest.mark.extra
def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    images, out = folder / "coco", tmp_path / "out"
    for found, models, how in (
        ("no model was given", (), {}),
        ("unknown preset 'voc'", (WORLD,), {"preset": "voc"}),
        ("limit is 0", (WORLD,), {"limit": 0}),
        ("lies in --images", (WORLD,), {"out": images / "out"}),
        ("unknown detect setting 'epoch'", (WORLD,), {"settings": {"epoch": 1}}),
        ("epochs=0", (WORLD,), {"settings": {"epochs": "0"}}),
        ("has no fold 'trainval'", (WORLD,), {"preset": "voc07"}),
        ("gives no maps over the image", ("cuescope/world-bow",), {"small": True}),
        ("gives no maps over the image", (WORLD, "cuescope/world-bow"), {"small": True}),
        ("is given twice", (WORLD, WORLD), {"small": True}),
    ):
        with pytest.raises(CueError, match=found):
            api.detect(*models, **{"images": images, "out": out, **how})
    assert not any(tmp_path.rglob("*.safetensors")), "nothing is trained before all are known to do"


def test_classes_that_only_the_held_out_have_are_told(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder / "voc", tmp_path / "voc"))
    path = root / "Annotations" / "000005.xml"
    name = path.read_text().split("<name>")[1].split("<")[0]
    path.write_text(path.read_text().replace(f"<name>{name}", "<name>dragon", 1))
    _, held_out, names, notes = api._images(root, None, False, 0, None)
    assert "dragon" not in names
    assert any("'dragon'" in note and "are not counted" in note for note in notes)
    assert "dragon" not in names_of(held_out)
    shutil.rmtree(root / "ImageSets")
    learned, held_out, _, notes = api._images(root, None, False, 0, None)
    assert (len(learned), len(held_out)) == (5, 1)
    assert any("has no folds: one image of 5 is held out, 1 of 6" in note for note in notes)


def tried_by(images: MarkedImages, names: tuple[str, ...], moved: float, wrong: int) -> training_detect.Detected:
    """What a detector would be that finds all objects, each box moved by so many px, and so many of no object."""
    tried = []
    for i in range(len(images)):
        truth = training.MarkedTrial(images, {name: k for k, name in enumerate(names)}, False).truth(i)
        boxes = np.concatenate([truth.boxes + moved, np.tile([0.0, 0.0, 5.0, 5.0], (wrong, 1))])
        labels = np.concatenate([truth.labels, np.full(wrong, truth.labels[0])])
        scores = np.concatenate([np.full(len(truth.labels), 0.6), np.full(wrong, 0.9)])
        tried.append((i, truth, Found(boxes, labels, scores)))
    return training_detect.Detected(tried, [(1.0, 0.5)], ("assumed",), (), 10)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> MarkedImages:
    root = tmp_path_factory.mktemp("many")
    write_marked(root, "coco", 1, 24, side=64)
    found = read_marked(root).held_out
    assert found is not None
    return found


@pytest.mark.extra
def test_what_is_said_of_several(many: MarkedImages) -> None:
    pytest.importorskip("torchmetrics")
    names = names_of(many)
    made = {
        "good": tried_by(many, names, 0, 0),
        "poor": tried_by(many, names, 3, 2),
        "same": tried_by(many, names, 0, 0),
    }
    known = (Published("ResNet-50", 0.7, "a paper"),)
    found, differences = measured(made, names, False, "map50_eleven", {"map50_eleven": known}, print)
    values = {name: {m.name: m for m in of.measures} for name, of in found.items()}
    assert values["good"]["map"].value == pytest.approx(1)
    assert (values["good"]["map"].interval, values["good"]["map"].why[:4]) == (None, "each")
    assert values["good"]["map50_eleven"].published == known
    assert values["good"]["map50_eleven"].headline
    poor = values["poor"]["map50"]
    assert poor.interval is not None
    assert poor.value is not None
    assert poor.interval[0] < poor.value < poor.interval[1] < 0.9
    assert poor.n == 24
    rows = found["poor"].classes
    assert [row["label"] for row in rows] == list(names)
    assert np.mean([row["value"] for row in rows]) == pytest.approx(poor.value, abs=1e-6)
    assert sum(row["n"] for row in rows) == sum(len(entry.things) for entry in many.entries)
    said = {(one.a, one.b): one for one in differences}
    assert said["good", "poor"].sure
    assert not said["good", "same"].sure
    assert said["good", "same"].measure.value == 0
    low, high = said["good", "poor"].measure.interval or (0, 0)
    assert 0 < low < (said["good", "poor"].measure.value or 0) < high
    few = many.only(range(3))
    good, poor = (tried_by(few, names_of(few), *how) for how in ((0, 0), (30, 3)))
    found, (one,) = measured({"good": good, "poor": poor}, names_of(few), False, "map50", {}, print)
    assert (one.measure.value, one.measure.interval, one.sure) == (pytest.approx(1, abs=0.1), None, False)
    assert one.measure.why == "an interval needs at least 5 images, not 3"
    result = api.Detection((), differences, "map50_eleven", (), Path())
    assert (result.beats("good"), result.beats("poor"), result.beats("same")) == (("poor",), (), ("poor",))


@pytest.mark.extra
def test_boxes_are_drawn(many: MarkedImages) -> None:
    names = names_of(many)
    panel = detected.pictures(many, tried_by(many, names, 0, 1).tried, names, False, 4)
    assert len(panel.figures) == 4
    figure, entry = panel.figures[0], many.entries[0]
    count = len(entry.things)
    assert f"{count} of {count} found, 1 wrong" in figure.caption
    times = detected.SIDE_PX / 64
    for inset, shade in zip(figure.insets, (detected.WANTED, detected.HIT), strict=True):
        assert inset.pixels is not None
        for thing in entry.things:
            x, y = round(thing.box.x0 * times) + 1, round((thing.box.y0 + thing.box.y1) / 2 * times)
            assert tuple(inset.pixels[y, x]) == shade, inset.name


@pytest.mark.parametrize("name", ["voc07", "voc12", "coco"])
def test_presets_are_settings(name: PresetName) -> None:
    preset = PRESETS[name]
    how = api.SETTINGS.configured(preset.settings, 0)
    assert how.size_px in (600, 800)
    assert how.longest_px > how.size_px
    assert preset.ranks in TITLES
    assert {key.removeprefix("mask_") for key in preset.published} <= TITLES.keys()
    assert api.SETTINGS.configured({**preset.settings, "epochs": "3"}, 0, small=True).epochs == 3
