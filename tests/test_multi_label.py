"""All the labels that are right: known answers of a classifier that sees color, label maps, and the world's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.classifier.sources import load
from cuescope.core.classes import ClassSpace, imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Finding
from cuescope.core.stats import difference, share
from cuescope.data.images import Sample
from cuescope.data.label_maps import open_label_maps, write_label_maps
from cuescope.data.label_maps.corrected import relabel
from cuescope.data.label_maps.labels import with_label_maps
from cuescope.data.label_maps.layout import Header
from cuescope.data.label_maps.pooling import LabelPooling
from cuescope.data.readers import read_folder, read_real
from cuescope.instruments.multi_label import MultiLabel
from cuescope.instruments.registry import unmet
from cuescope.runs.task import Task
from cuescope.world.images import WorldImages
from toys import COLORS, Constant, Images, MeanColor, colored, toy

ABOUT = About("toy", "toys", COLORS.names)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def told(labels: Sequence[tuple[int, ...]], source: str = "ReaL") -> list[Sample]:
    """Images that are red, green, blue and so on in turn, labeled so, with all the labels that are right."""
    samples = colored(len(labels))
    return [replace(s, labels=right, labels_from=source) for s, right in zip(samples, labels, strict=True)]


def asked(samples: Sequence[Sample], singles: Sequence[int], **parameters: Any) -> Finding:
    tool, classifier = MultiLabel(**parameters), toy(MeanColor())
    batch = replace(classifier.see(samples, singles), all_labels=tuple(s.labels for s in samples))
    return tool.conclude(tool.observe(classifier, batch), ABOUT)


def test_the_numbers() -> None:
    """It says red, green, blue, red, green, blue: right by both, no error, an error, left out, a dispute, no label."""
    samples = told([(0, 1), (1, 2), (0, 1), (), (1,), (2,)])
    finding = asked(samples, [0, 2, 0, 0, 0, -1])
    assert (finding["multi_label"].count, finding["multi_label"].n) == (4, 5)
    assert finding["multi_label"].interval == share("", 4, 5).interval
    assert (finding["single_label"].count, finding["single_label"].n) == (1, 4)
    assert (finding["no_errors"].count, finding["no_errors"].n) == (2, 3)
    assert (finding["disputed"].count, finding["disputed"].n) == (1, 4)
    assert (finding["left_out"].count, finding["left_out"].n) == (1, 6)
    assert (finding["labels"].value, finding["labels"].n) == (8 / 5, 5)
    assert (finding["difference"].value, finding["difference"].n) == (3 / 4 - 1 / 4, 4)
    assert finding["difference"].interval == difference("", [1, 1, 0, 1], [1, 0, 0, 0]).interval
    # Of the answers to one image, among the right labels of the four others: red of 1 (twice), green of 3 and 2, ...
    said, right = [0, 1, 2, 1, 2], [(0, 1), (1, 2), (0, 1), (1,), (2,)]
    pairs = [said[i] in right[j] for i in range(5) for j in range(5) if i != j]
    assert finding["multi_label"].chance == pytest.approx(np.mean(pairs))
    said, single, right = [1, 2, 1], [2, 0, 0], [(1, 2), (0, 1), (1,)]
    pairs = [said[i] in right[j] for i in range(3) for j in range(3) if i != j and said[i] != single[j]]
    assert finding["no_errors"].chance == pytest.approx(np.mean(pairs))
    assert finding.verdict.names == ("cannot_tell", "errors_open", "disputed")
    assert finding["multi_label"].label == "ReaL accuracy"
    assert [p.value for p in finding["multi_label"].published] == [0.836, 0.850]
    assert "Left out of all but their own share, since no right label is known: 1 image." in finding.caveats
    table, bars = finding.panels
    assert [row[:1] + row[2:] for row in table.data["rows"]] == [["red", "green", "green", "0004.png"]]
    assert bars.data["values"] == [2, 3]


def test_an_image_without_right_labels_counts_for_neither() -> None:
    """Else two classifiers would be compared by their single labels on other images."""
    classifier, samples = toy(MeanColor()), told([(0,), ()])
    batch = replace(classifier.see(samples, [0, 1]), all_labels=((0,), ()))
    rows = MultiLabel().observe(classifier, batch)
    assert rows.select("multi", "single", "disputed").rows() == [(True, True, False), (None, None, None)]


def test_other_truths_have_no_published_numbers_beside() -> None:
    finding = asked(told([(0,)], "boxes of objects"), [0])
    assert finding["multi_label"].label == "multi-label accuracy"
    assert not finding["multi_label"].published
    assert finding["no_errors"].why == "it makes no error"
    assert not any("annotator" in caveat for caveat in finding.caveats)
    own = asked(told([(0,)], "label maps of toy"), [0])
    assert any("is this classifier itself" in caveat for caveat in own.caveats)
    assert own.verdict.names == ("itself",)
    assert (own["multi_label"].better, own["multi_label"].per_image) == ("", "")
    assert finding["multi_label"].better == "higher"


def test_nothing_to_score() -> None:
    bare = asked(told([(), ()]), [0, 1])
    assert bare["multi_label"].why == "no image has labels that are known to be right"
    assert bare["left_out"].count == 2
    single = asked(told([(0,), (0,)]), [-1, -1])
    assert single["single_label"].why == "no image has a single label besides"
    assert single["multi_label"].value == 0.5
    none = MultiLabel().conclude(MultiLabel().empty, ABOUT)
    assert {m.value for m in none.measures} == {None}
    assert "no multi-label annotations" in unmet(MultiLabel(), toy(MeanColor()), Images(colored(3)))


@pytest.mark.parametrize("wrong", [{"listed": -1}, {"shown": 10}, {"shown": -1}])
def test_values_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MultiLabel(**wrong)


def target(*shares: float) -> Any:
    return lambda crops: torch.tensor([shares] * len(crops))


def test_disputes_are_ranked_by_the_annotator_else_by_the_classifier() -> None:
    classifier, tool = toy(MeanColor()), MultiLabel(listed=2)
    weak, strong, own = target(0.3, 0.4, 0.3), target(0.2, 0.4, 0.4), target(0.8, 0.1, 0.1)
    samples = [
        replace(s, label_map=m, labels=right)
        for s, m, right in zip(colored(3), (weak, strong, own), ((1,), (2,), (0,)), strict=True)
    ]
    samples = [replace(s, label=0) for s in samples]
    batch = replace(classifier.see(samples, [0, 0, 0]), all_labels=tuple(s.labels for s in samples))
    rows = tool.observe(classifier, batch)
    assert rows["disputed"].to_list() == [True, True, False]
    assert rows["weight"].to_list() == pytest.approx([0.3, 0.2, None])
    assert tool.examples(rows)[:2] == ["0001.png", "0000.png"]
    (panel,) = tool.illustrate(classifier, batch, rows)
    assert [f.caption for f in panel.figures] == [
        "labeled red; right is blue; it says green",
        "labeled red; right is green; it says red",
    ]
    mapped = rows.with_columns(source=pl.lit("label maps of somebody"))
    assert "; the annotator has blue; " in next(iter(tool.illustrate(classifier, batch, mapped))).figures[0].caption
    bare = [replace(s, label_map=None) for s in samples]
    rows = tool.observe(classifier, replace(batch, samples=tuple(bare)))
    p = batch.logits.double().softmax(1)
    assert rows["weight"].to_list() == pytest.approx([float(p[0, 0]), float(p[1, 0]), None])
    assert tool.examples(rows)[:2] == ["0001.png", "0000.png"]


def test_labels_are_those_of_the_classifier() -> None:
    """The images' classes stand in another order, and one of them the classifier has not."""
    space = ClassSpace("mine", ("blue", "pink", "green", "red"))
    images = Images(told([(3, 2), (1,), (0, 1)]), classes=space)
    images.knows = images.knows | {"labels"}
    classifier = toy(MeanColor())
    task = Task(classifier, images, MultiLabel(), place=(2, -1, 1, 0))
    assert task.batch(classifier.see(images.samples), images.samples).all_labels == ((0, 1), (), (2,))


def test_an_audit_with_labels_in_another_order(tmp_path: Path) -> None:
    samples = [replace(s, label=3) for s in told([(3, 2), (2,), (0,), (3,)])]
    images = Images(samples, classes=ClassSpace("mine", ("blue", "pink", "green", "red")))
    images.knows = images.knows | {"labels"}
    finding = audit(toy(MeanColor()), images=images, only=["multi_label"], out=tmp_path).finding("multi_label")
    assert (finding["multi_label"].count, finding["single_label"].count) == (4, 2)
    assert {panel.name for panel in finding.panels} == {"worklist", "labels_per_image", "disputed"}


def test_the_objects_of_the_world_by_a_plain_loop() -> None:
    classifier, world = load("cuescope/world-congruent"), WorldImages("several", count=24)
    samples = [world.read(i) for i in range(24)]
    batch = classifier.see(samples, [s.label or 0 for s in samples])
    batch = replace(batch, all_labels=tuple(s.labels for s in samples))
    finding = MultiLabel().conclude(MultiLabel().observe(classifier, batch), ABOUT)
    answers = [classifier.classes.names[k] for k in batch.logits.argmax(1)]
    shown = [{box.name for box in s.boxes} for s in samples]
    assert finding["multi_label"].count == sum(a in names for a, names in zip(answers, shown, strict=True))
    assert finding["labels"].value == np.mean([len(names) for names in shown])
    assert finding["disputed"].count == 0
    assert WorldImages("congruent", count=1).read(0).labels == ()


# --- label maps ---------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images, two each labeled red, green and blue, whose upper half is that color and whose lower half is red."""
    for i in range(6):
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[:16, :, i // 2], pixels[16:, :, 0] = 200, 200
        path = tmp_path / "photos" / COLORS.names[i // 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def maps_of(photos: Path, space: ClassSpace = COLORS, annotator: str = "somebody") -> Path:
    """Label maps of four of the images: the lower half surely blue, the upper half the class 1."""
    images = read_folder(photos)
    ids, scores = np.zeros((1, 4, 3), int), np.zeros((1, 4, 3))
    ids[:, :2], ids[:, 2:], scores[:, :2], scores[:, 2:] = 1, 2, 4.0, 5.0
    entries = [(images.id(i), scores, ids) for i in range(4)]
    path = photos.parent / "maps" / "label_maps.safetensors"
    return write_label_maps(path, Header(space, k=1, images="photos", annotator=annotator), entries)


def test_images_with_their_label_maps(photos: Path) -> None:
    path = maps_of(photos)
    images = with_label_maps(read_folder(photos), path.parent)
    assert len(images) == 4
    assert images.notes == ("4 of 6 images have a label map, made by somebody",)
    assert images.knows == {"label", "labels", "regions"}
    assert images.classes == COLORS
    sample, maps = images.read(3), open_label_maps(path)
    assert sample.labels_from == "label maps of somebody"
    assert sample.label_map is not None
    crops = np.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0.2, 0.5, 0.7]])
    scores, ids = maps[sample.id]
    plain = [LabelPooling(3)(ids[None], scores[None], crop[None]) for crop in crops]
    assert torch.allclose(sample.label_map(crops), torch.cat(plain))
    assert sample.label_map(crops).argmax(1).tolist() == [1, 2]
    # The labels are those of the corrected labels that lie beside the maps.
    for row in relabel(maps, read_folder(photos)).iter_rows(named=True):
        index = next(i for i in range(4) if images.id(i) == row["file"])
        assert list(images.read(index).labels) == row["labels"]
        assert images.read(index).label == row["old_index"]
    assert with_label_maps(read_folder(photos), path).digest == images.digest
    maps_of(photos, annotator="another one")
    assert with_label_maps(read_folder(photos), path).digest != images.digest


def test_an_audit_with_label_maps(photos: Path, tmp_path: Path) -> None:
    asked = ("multi_label", "crop_supervision", "accuracy")
    run = audit(toy(MeanColor()), images=photos, label_maps=maps_of(photos), only=asked, out=tmp_path / "run")
    multi, crops = run.finding("multi_label"), run.finding("crop_supervision")
    assert multi["multi_label"].n == 4
    assert multi.images == "photos, label maps"
    assert run.finding("accuracy").images == "photos"
    assert crops["other_than_label"].n == 4
    assert crops["missing"].why == "no image has a box"
    plain = audit(toy(MeanColor()), images=photos, only=["accuracy"], out=tmp_path / "run")
    assert plain.finding("accuracy")["top1"].n == 6


def test_maps_that_do_not_fit(photos: Path, tmp_path: Path) -> None:
    path = maps_of(photos)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "z.png")
    with pytest.raises(CueError) as error:
        audit(toy(MeanColor()), images=other, label_maps=path, only=["multi_label"], out=tmp_path / "run")
    assert "has no map of any of the 1 images of other, as 'z.png'" in str(error.value)
    assert "these are of photos, such as" in str(error.value)
    assert not (tmp_path / "run").exists(), "nothing is half-written"
    with pytest.raises(CueError, match="no file or folder"):
        audit(
            toy(MeanColor()), images=photos, label_maps=tmp_path / "nowhere", only=["multi_label"], out=tmp_path / "run"
        )
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CueError, match="is truncated"):
        audit(toy(MeanColor()), images=photos, label_maps=path, only=["multi_label"], out=tmp_path / "run")
    with pytest.raises(CueError, match="give --label-maps DIR, --boxes DIR or --real FILE"):
        audit(toy(MeanColor()), images=photos, only=["multi_label"], out=tmp_path / "run")


def test_maps_of_other_classes(photos: Path, tmp_path: Path) -> None:
    """Of another number of classes the classifier cannot be scored; what crops show can still be told."""
    path = maps_of(photos, ClassSpace("animals", ("cat", "dog", "cow", "pig")))
    images = with_label_maps(read_folder(photos), path)
    assert images.notes[1] == "the labels of the images are none of the annotator's classes"
    assert images.knows == {"labels", "regions"}
    assert images.read(0).label is None
    with pytest.raises(CueError, match=r"none of the classifier's 3 classes"):
        audit(toy(MeanColor()), images=photos, label_maps=path, only=["multi_label"], out=tmp_path / "run")
    run = audit(toy(MeanColor()), images=photos, label_maps=path, only=["crop_supervision"], out=tmp_path / "run")
    assert run.finding("crop_supervision")["other_than_whole"].n == 4
    assert run.finding("crop_supervision")["other_than_label"].why == "no labeled image has a label map"


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="no real data here")
def test_a_mislabeled_photograph_comes_first(tmp_path: Path) -> None:
    """Of 25 photographs MobileNetV2's maps dispute most the label of one, by the annotator's own certainty."""
    model = f"torchvision/mobilenet_v2@{DATA / 'weights' / 'mobilenet_v2.safetensors'}"
    make("label-maps", DATA / "imagenet-sample", tmp_path / "maps", limit=25, model=model)
    images = with_label_maps(read_folder(DATA / "imagenet-sample", limit=25), tmp_path / "maps")
    assert images.classes == imagenet_1k()
    run = audit(
        model,
        images=DATA / "imagenet-sample",
        limit=25,
        label_maps=tmp_path / "maps",
        out=tmp_path / "run",
        only=["multi_label"],
    )
    finding = run.finding("multi_label")
    disputed = next(panel for panel in finding.panels if panel.name == "worklist").data["rows"]
    assert finding["disputed"].count == len(disputed) > 0
    assert disputed == sorted(disputed, key=lambda row: row[1])
    assert any("is this classifier itself" in caveat for caveat in finding.caveats)


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="no real data here")
def test_real_json_by_the_names_of_the_images(tmp_path: Path) -> None:
    """Image 1 of ReaL has no label, image 2 the label 795; the network says the same of all images."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (1, 2, 3, 4):
        Image.new("RGB", (8, 8)).save(photos / f"ILSVRC2012_val_{number:08d}.png")
    real = read_real(DATA / "real" / "real.json")
    classifier = toy(Constant(1000, answer=real[1][0]), classes=imagenet_1k())
    run = audit(classifier, images=photos, real=DATA / "real" / "real.json", only=["multi_label"], out=tmp_path / "run")
    finding = run.finding("multi_label")
    assert (finding["left_out"].count, finding["multi_label"].n) == (1, 3)
    assert finding["multi_label"].count == sum(real[1][0] in labels for labels in real[1:4]) > 0
    assert finding["labels"].value == np.mean([len(labels) for labels in real[1:4]])
    assert finding["single_label"].why == "no image has a single label besides"
    assert finding["multi_label"].label == "ReaL accuracy"
