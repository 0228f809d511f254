"""Raw trials of people and networks: both layouts, every oddity of the authors' files, and their published numbers."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cuescope.core import error_consistency, published
from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.data.readers import read_human_data, with_answers
from toys import Images, colored

HEAD = "subj,session,trial,rt,object_response,category,condition,imagename"
CONFLICT = "style-transfer-512-nomask-experiment"


def put(root: Path, folder: str, name: str, *rows: str, head: str = HEAD) -> Path:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows, ""]))
    return path


def test_both_layouts_and_all_oddities(tmp_path: Path) -> None:
    put(
        tmp_path,
        CONFLICT,
        f"{CONFLICT}_subject-01_session_1.csv",
        "subject-01,1,1,0.8,cat,cat,0,0001_s5n_s01_0_cat_00_cat7-clock1.png",
        "subject-01,1,2,NaN,na,cat,0,0002_s5n_s01_0_cat_00_cat8-cat1.png",
    )
    put(tmp_path, CONFLICT, "alexnet_session_1.csv", "alexnet,1,1,NaN,clock,cat,0,1_cat7-clock1.png")
    put(tmp_path, f"{CONFLICT}-trained-CNNs", "alexnet_session-1.csv", "alexnet,1,1,NaN,oven,cat,0,1_cat7-clock1.png")
    put(tmp_path, f"{CONFLICT}-trained-CNNs", "b.csv", "resnet50-train-60-epochs,1,1,NaN,cat,cat,0,1_cat7-clock1.png")
    put(tmp_path, f"{CONFLICT}-trained-CNNs", "c.csv", "oidv2-resnet101,1,1,NaN,cat,cat,3,1_cat7-clock1.png")
    put(tmp_path, "cue-conflict", "d.csv", "resnet50,1,1,NaN,Cat,cat,NaN,cat7-clock1.png", head=HEAD.replace("s", "S"))
    put(tmp_path, "texture-filled-rotated-experiment", "e.csv", "vgg,1,1,NaN,cat,cat,0,1_x_cat7-clock1-108.png")
    put(
        tmp_path,
        "noise-experiment",
        "f.csv",
        "resnet50,1,1,NaN,knife,knife,0.1,0001_nse_dnn_0.1_knife_10_n0304163_87.png",
    )
    data = read_human_data(tmp_path)
    assert data.skipped == ()
    table = {(r["experiment"], r["subject"], r["image"]): r for r in data.trials.iter_rows(named=True)}
    nomask = "style-transfer-512-nomask"
    assert set(table) == {
        (nomask, "subject-01", "cat7-clock1.png"),
        (nomask, "subject-01", "cat8-cat1.png"),
        (nomask, "AlexNet (Caffe)", "cat7-clock1.png"),
        (nomask, "AlexNet (torchvision)", "cat7-clock1.png"),
        (nomask, "ResNet-50 (SIN)", "cat7-clock1.png"),
        (nomask, "ResNet-101 (OpenImages)", "cat7-clock1.png"),
        ("cue-conflict", "resnet50", "cat7-clock1.png"),
        ("texture-filled-rotated", "VGG-16 (Caffe)", "cat7-clock1-108.png"),
        ("noise", "ResNet-50 (torchvision)", "87.png"),
    }
    assert table[nomask, "subject-01", "cat8-cat1.png"]["response"] is None
    assert table["cue-conflict", "resnet50", "cat7-clock1.png"]["response"] == "cat"
    rotated = table["texture-filled-rotated", "VGG-16 (Caffe)", "cat7-clock1-108.png"]
    assert (rotated["shape"], rotated["texture"]) == ("cat", "clock"), "the texture is the second part, not the last"
    noise = table["noise", "ResNet-50 (torchvision)", "87.png"]
    assert (noise["shape"], noise["texture"], noise["condition"]) == ("knife", None, "0.1")
    assert set(data.trials.filter(kind="human")["subject"]) == {"subject-01"}


def test_images_of_imagenet_keep_their_name(tmp_path: Path) -> None:
    put(tmp_path, "noise-experiment", "a.csv", "vgg,1,1,NaN,knife,knife,0,1_nse_dnn_0_knife_10_n03041632_8725.png")
    assert read_human_data(tmp_path).trials["image"].to_list() == ["n03041632_8725.png"]


def test_what_cannot_be_used_is_listed(tmp_path: Path) -> None:
    row = "subject-01,1,1,0.8,cat,cat,0,1_cat7-clock1.png"
    put(tmp_path, "x", "a.csv", row)
    put(tmp_path, "x", "b (copy).csv", row)
    put(tmp_path, "x", "c.csv", row.replace("01", "02"), row.replace("01", "02"))
    put(tmp_path, "x", "d.csv", "a.png,0", head="file,index")
    put(tmp_path, "x", "e.csv")
    put(tmp_path, "x", "f.csv", "subject-03,1,1,0.8,cat,cat,0,")
    put(tmp_path, "x", "g.csv", "subject-03,1,1")
    (tmp_path / "x" / "h.csv").write_bytes(b"\xff\xfe\x00")
    data = read_human_data(tmp_path)
    assert data.trials.height == 1
    why = {s.id: s.why for s in data.skipped}
    assert list(why) == [f"x/{name}.csv" for name in ("b (copy)", "c", "d", "e", "f", "g", "h")]
    assert why["x/b (copy).csv"] == "subject-01 has answered cat7-clock1.png already, in x/a.csv"
    assert why["x/c.csv"] == "subject-02 has answered cat7-clock1.png already, in x/c.csv"
    assert "lacks the columns" in why["x/d.csv"]
    assert why["x/e.csv"] == "it has no row"
    assert why["x/f.csv"] == "line 2 has no image name"
    assert "3 values for 8 columns" in why["x/g.csv"]
    assert "no CSV in UTF-8" in why["x/h.csv"]


def test_folders_without_trials_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="cuescope get human-data"):
        read_human_data(tmp_path / "none")
    with pytest.raises(CueError, match="no trials in"):
        read_human_data(tmp_path)
    path = put(tmp_path, "x", "labels.csv", "a.png,0", head="file,index")
    with pytest.raises(CueError, match=r"'x/labels.csv' is left out, .* lacks the columns"):
        read_human_data(tmp_path)
    with pytest.raises(CueError, match="is a file"):
        read_human_data(path)


def stimuli(*names: str) -> Images:
    pixels = colored(1)[0].pixels
    return Images([Sample(name, pixels, cues={"shape": "cat", "texture": "clock"}) for name in names])


def test_answers_are_attached_by_file_name(tmp_path: Path) -> None:
    for subject, answer in (("subject-02", "na"), ("alexnet", "clock"), ("subject-01", "cat")):
        put(tmp_path, CONFLICT, f"{subject}.csv", f"{subject},1,1,1,{answer},cat,0,1_cat7-clock1.png")
    told = "subject-01,1,1,1,clock,cat,0,1_cat7-clock1.png"
    put(tmp_path, "style-transfer-512-nomask-texture-guessing-experiment", "a.csv", told, told.replace("cat7", "cat8"))
    put(tmp_path, "aaa-experiment", "a.csv", "subject-09,1,1,1,oven,cat,0,1_cat7-clock1.png")
    put(tmp_path, "aaa-experiment", "broken.csv", head="x")
    images = stimuli("cat/cat7-clock1.png", "cat/cat8-clock1.png")
    found = with_answers(images, read_human_data(tmp_path))
    assert [tuple(a) for a in found.read(0).answers] == [
        ("subject-01", "human", "cat"),
        ("subject-02", "human", None),
        ("AlexNet (Caffe)", "network", "clock"),
    ], "of the experiment with most trials, in which people were free"
    assert found.read(1).answers == ()
    assert (len(found), found.id(1), found.name) == (2, "cat/cat8-clock1.png", images.name)
    assert found.knows == images.knows | {"answers"}
    assert "1 of 2 images have answers of 2 people and 1 networks" in found.notes[-1]
    assert [s.id for s in found.skipped] == [f"{tmp_path.name}/aaa-experiment/broken.csv"]


def test_the_digest_tells_of_every_answer(tmp_path: Path) -> None:
    digests = set()
    for answer in ("cat", "clock", "na"):
        put(tmp_path, CONFLICT, "a.csv", f"subject-01,1,1,1,{answer},cat,0,1_cat7-clock1.png")
        digests.add(with_answers(stimuli("cat7-clock1.png"), read_human_data(tmp_path)).digest)
    assert len(digests | {stimuli("cat7-clock1.png").digest}) == 4


def test_trials_on_other_images_are_one_clear_error(tmp_path: Path) -> None:
    put(tmp_path, CONFLICT, "a.csv", "subject-01,1,1,1,cat,cat,0,1_cat7-clock1.png")
    with pytest.raises(CueError, match=r"named as cat7-clock1.png, those of toys as dog1-cat2.png"):
        with_answers(stimuli("dog1-cat2.png"), read_human_data(tmp_path))


@pytest.fixture(scope="module")
def trials(data: Path) -> pl.DataFrame:
    return read_human_data(data / "human").trials


def bias(trials: pl.DataFrame) -> float:
    shape, texture = (trials.filter(pl.col("response") == pl.col(cue)).height for cue in ("shape", "texture"))
    return shape / (shape + texture)


# PROTOCOLS 2, the column "pooled": shape and texture decisions of 1,200.
COUNTS = {
    "AlexNet (Caffe)": (283, 376),
    "GoogLeNet (Caffe)": (228, 503),
    "VGG-16 (Caffe)": (130, 625),
    "ResNet-50 (torchvision)": (162, 572),
    "AlexNet (torchvision)": (182, 537),
    "VGG-16 (torchvision)": (84, 828),
    "ResNet-101 (torchvision)": (180, 509),
    "ResNet-152 (torchvision)": (196, 569),
    "DenseNet-121 (torchvision)": (163, 597),
    "SqueezeNet 1.1 (torchvision)": (133, 597),
    "ResNet-101 (OpenImages)": (98, 402),
    "ResNet-50 (SIN)": (586, 141),
    "AlexNet (SIN)": (488, 161),
    "VGG-16 (SIN)": (551, 163),
    "DenseNet-121 (SIN)": (618, 130),
    "SqueezeNet 1.1 (SIN)": (467, 124),
}


@pytest.mark.real
def test_shape_bias_of_all_people_and_networks(trials: pl.DataFrame) -> None:
    conflict = trials.filter(pl.col("shape") != pl.col("texture"))
    people = conflict.filter(kind="human")
    assert people.height == 12_000
    assert round(bias(people), 4) == published.SHAPE_BIAS["people"] == 0.9587
    each = [bias(own) for (_,), own in people.group_by("subject")]
    assert [round(v, 3) for v in (min(each), max(each))] == [0.919, 0.987]
    for who, counts in COUNTS.items():
        own = conflict.filter(subject=who)
        assert own.height == 1200
        assert tuple(own.filter(pl.col("response") == pl.col(c)).height for c in ("shape", "texture")) == counts
    for who, value in published.SHAPE_BIAS.items():
        own = people if who == "people" else conflict.filter(subject=who)
        assert bias(own) == pytest.approx(value, abs=5.1e-4)
        by_category = {name: bias(part) for (name,), part in own.group_by("shape")}
        assert by_category == pytest.approx(published.SHAPE_BIAS_BY_CATEGORY[who], abs=5.1e-4)
        if who == "people":
            means = [np.mean([bias(c) for _, c in p.group_by("shape")]) for _, p in own.group_by("subject")]
            assert round(float(np.mean(means)), 3) == published.CATEGORY_MEAN_OF_PEOPLE


# PROTOCOLS 3; its "AlexNet" is torchvision's, which is why the name is spelt out here.
KAPPAS = {
    "AlexNet (torchvision)": 0.078,
    "GoogLeNet (Caffe)": 0.087,
    "VGG-16 (Caffe)": 0.060,
    "ResNet-50 (torchvision)": 0.067,
    "ResNet-101 (torchvision)": 0.070,
    "ResNet-152 (torchvision)": 0.082,
    "DenseNet-121 (torchvision)": 0.064,
    "SqueezeNet 1.1 (torchvision)": 0.058,
    "ResNet-50 (SIN)": 0.190,
    "DenseNet-121 (SIN)": 0.184,
    "VGG-16 (SIN)": 0.153,
}


@pytest.mark.real
def test_error_consistency_of_all_people_and_networks(trials: pl.DataFrame) -> None:
    right = trials.with_columns((pl.col("response") == pl.col("shape")).fill_null(False).alias("right"))
    table = right.pivot("subject", index="image", values="right")
    assert table.height == 1280
    people = sorted(set(trials.filter(kind="human")["subject"]))

    def kappa(one: str, other: str) -> float:
        value = error_consistency.kappa(table[one].to_list(), table[other].to_list())
        assert value is not None
        return value

    assert round(float(np.mean([kappa(a, b) for a, b in combinations(people, 2)])), 3) == 0.331
    for who, value in KAPPAS.items():
        assert round(float(np.mean([kappa(who, p) for p in people])), 3) == value
    assert round(kappa("AlexNet (torchvision)", "GoogLeNet (Caffe)"), 3) == 0.609
    assert round(kappa("ResNet-50 (torchvision)", "VGG-16 (torchvision)"), 3) == 0.591
    assert published.KAPPA_WITH_PEOPLE.items() - {("people among themselves", 0.331)} <= KAPPAS.items()
