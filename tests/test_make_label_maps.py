"""`cuescope make label-maps`: maps as the annotator has them, the same after kills, and labels that are corrected."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from cuescope.api.make import Making, make
from cuescope.classifier.classifier import Classifier
from cuescope.cli import main
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.label_maps import PublishedLabelMaps, open_label_maps, write_label_maps
from cuescope.data.label_maps.corrected import relabel, write_relabeled
from cuescope.data.label_maps.layout import Header
from cuescope.data.label_maps.pooling import LabelPooling
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from cuescope.data.readers import read_folder
from cuescope.makers import label_maps
from cuescope.makers.output_folder import PARTS
from cuescope.methods.patch_annotator import Annotator
from toys import COLORS, Constant, toy

NET = """
import torch
from torch import nn

def net():
    # Each channel's brightness in blocks of 8 pixels, times 10: three classes.
    conv = nn.Conv2d(3, 3, 8, 8, bias=False)
    conv.weight.data = 10 * torch.eye(3)[:, :, None, None].expand(-1, -1, 8, 8) / 64
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())

def one_place():
    return nn.Sequential(nn.Conv2d(3, 3, 224), nn.Flatten())
"""
MODEL = "net.py:net"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine images, red in the upper and blue in the lower part, of unequal sides, and one more that is damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(label_maps, "SHARD", 4)
    Path("net.py").write_text(NET)
    for i in range(9):
        pixels = np.zeros((40 + i, 90, 3), np.uint8)
        pixels[: 4 + 4 * i, :, 0], pixels[4 + 4 * i :, :, 2] = 255, 255
        path = Path("photos", ("red", "green", "blue")[i // 3], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    Path("photos/green/bad.png").write_bytes(b"no image at all")
    Path("classes.txt").write_text("red\ngreen\nblue\n")
    return Path("photos")


def annotate(folder: str = "maps", **settings: Any) -> Making:
    return make("label-maps", "photos", folder, **{"model": MODEL, "k": 2, "size_px": 32, **settings})


def test_one_file_of_all_images(photos: Path) -> None:
    found = annotate()
    assert (found.made, found.before, found.what) == (9, 0, "label maps")
    assert [s.id for s in found.skipped] == ["green/bad.png"]
    kept = ["label_maps.safetensors", "labels.csv", "labels.parquet", "manifest.json", "skipped.csv"]
    assert sorted(p.name for p in Path("maps").iterdir()) == kept
    maps, images = open_label_maps("maps"), read_folder("photos")
    assert list(maps) == [images.id(i) for i in range(10) if images.id(i) != "green/bad.png"]
    assert maps.header.images_digest == images.digest
    assert maps.header.annotator == MODEL
    assert maps.header.framing == "squashed"
    scores, classes = maps["red/0.png"]
    assert scores.shape == (2, 4, 4), "squashed to 32 x 32 px, a position each 8 px"
    assert classes[0, :, 0].tolist() == [2, 2, 2, 2]
    assert maps["blue/8.png"][1][0, :, 0].tolist() == [0, 0, 0, 2], "red above: rows go first"
    manifest = json.loads(Path("maps/manifest.json").read_text())
    assert manifest["recipe"]["positions"].startswith("patch logits: each position sees 8 x 8 px")
    assert manifest["recipe"]["annotator"]["digest"] == maps.header.annotator_digest
    assert manifest["images"][0]["images"] == 9


def test_the_logits_are_the_annotators_own(photos: Path) -> None:
    annotate(bits=16, k=3)
    scores, classes = open_label_maps("maps")["green/5.png"]
    pixels = Image.open("photos/green/5.png").resize((32, 32), Image.Resampling.BILINEAR)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    normal = (torch.from_numpy(np.array(pixels)).permute(2, 0, 1) / 255 - mean) / std
    wanted = 10 * normal.unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4))
    full = np.zeros((3, 4, 4), np.float32)
    np.put_along_axis(full, classes, scores, 0)
    assert np.allclose(full, wanted, atol=2e-3)
    assert (scores[0] >= scores[1]).all()


def test_the_aspect_is_kept_on_demand(photos: Path) -> None:
    annotate(keep_aspect=True)
    maps = open_label_maps("maps")
    assert maps.header.framing == "aspect kept"
    assert maps["red/0.png"][0].shape == (2, 4, 9), "40 x 90 px become 32 x 72"
    assert maps["blue/8.png"][0].shape == (2, 4, 7)


class Killed(BaseException):
    """As sudden as SIGKILL: nothing catches it."""


def contents(folder: str) -> dict[str, bytes]:
    names = ("label_maps.safetensors", "labels.csv", "labels.parquet", "skipped.csv")
    return {name: Path(folder, name).read_bytes() for name in names}


@pytest.mark.parametrize("sudden", [Killed, KeyboardInterrupt])
def test_the_same_file_bit_for_bit_however_often_it_is_stopped(
    photos: Path, monkeypatch: pytest.MonkeyPatch, sudden: type[BaseException]
) -> None:
    annotate("whole")
    for stop in ("make", "make", "pack_label_maps", "write_relabeled"):
        where = label_maps._Annotating if stop == "make" else label_maps
        real, calls = getattr(where, stop), []

        def stopped(*arguments: Any, real: Any = real, calls: Any = calls, stop: str = stop) -> Any:
            calls.append(1)
            if len(calls) == (2 if stop == "make" else 1):
                raise sudden
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(where, stop, stopped)
            with pytest.raises((Killed, CueError)):
                annotate()
            assert not Path("maps/label_maps.safetensors").exists() or stop == "write_relabeled"
    found = annotate()
    assert (found.made, found.before) == (0, 9), "what was made before is not made again"
    assert contents("maps") == contents("whole")
    assert not Path("maps", PARTS).exists()
    assert (annotate().made, annotate().before) == (0, 9)


def test_an_earlier_runs_parts_outlive_a_later_kill(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C moves the journal to the manifest; a kill of the run after it must not lose what stands there."""
    real = label_maps._Annotating.make
    for sudden in (KeyboardInterrupt, Killed):
        calls: list[int] = []

        def stopped(*arguments: Any, sudden: Any = sudden, calls: Any = calls) -> Any:
            calls.append(1)
            if len(calls) == (2 if sudden is KeyboardInterrupt else 1):
                raise sudden
            return real(*arguments)

        monkeypatch.setattr(label_maps._Annotating, "make", stopped)
        with pytest.raises((Killed, CueError)):
            annotate()
    monkeypatch.setattr(label_maps._Annotating, "make", real)
    assert annotate().before == 4


def test_the_published_layout(photos: Path) -> None:
    found = annotate("yx", layout="published", keep_aspect=True)
    assert (found.made, found.what) == (9, "label maps")
    annotate("xy", layout="published", keep_aspect=True, axes="xy")
    annotate("indexed", keep_aspect=True, bits=16)
    assert torch.load("yx/red/0.pt", weights_only=True).shape == (2, 2, 4, 9)
    assert torch.load("xy/red/0.pt", weights_only=True).shape == (2, 2, 9, 4)
    rows, columns = (PublishedLabelMaps(a, axes=a, classes=COLORS) for a in ("yx", "xy"))
    for name in (indexed := open_label_maps("indexed")):
        assert np.allclose(rows[name][0], indexed[name][0], atol=1e-3)
        for a, b, c in zip(rows[name], columns[name], indexed[name], strict=True):
            assert np.array_equal(a, b)
            assert a.dtype == c.dtype
    assert Path("yx/labels.csv").read_bytes() == Path("xy/labels.csv").read_bytes()
    assert (annotate("yx", layout="published", keep_aspect=True).made) == 0
    Path("yx/red/1.pt").unlink()
    assert annotate("yx", layout="published", keep_aspect=True).made == 1


def test_the_corrected_labels(photos: Path) -> None:
    annotate(bits=16)
    table = pl.read_parquet("maps/labels.parquet")
    assert table.columns == [
        *("file", "index", "wnid", "name", "labels", "weights", "old_index", "old_name", "old_weight")
    ]
    maps = open_label_maps("maps")
    scores, ids = maps["green/4.png"]
    target = LabelPooling(3)(ids[None], scores[None], [(0, 0, 1, 1)])[0]
    row = table.row(by_predicate=pl.col("file") == "green/4.png", named=True)
    order = [k for k in target.argsort(descending=True).tolist() if target[k] >= 0.1] or [int(target.argmax())]
    assert row["labels"] == order
    assert row["weights"] == pytest.approx(target[order].tolist())
    assert row["index"] == order[0]
    assert row["name"] == f"class {order[0]}"
    # The folders blue, green, red are no class of a network whose classes are numbers but as many.
    assert row["old_index"] == 1
    assert row["old_name"] == "green"
    assert row["old_weight"] == pytest.approx(float(target[1]))
    with Path("maps/labels.csv").open(newline="") as file:
        flat = {line["file"]: line for line in csv.DictReader(file)}
    assert flat["green/4.png"]["labels"].split() == [str(k) for k in order]
    assert [float(w) for w in flat["green/4.png"]["weights"].split()] == pytest.approx(target[order].tolist(), abs=1e-4)
    # And the CSV is read as labels of the same images.
    again = read_folder("photos", labels="maps/labels.csv")
    assert again.label([again.id(i) for i in range(10)].index("green/4.png")) == order[0]


def one_map(folder: Path, name: str, tops: Sequence[tuple[int, float]], space: ClassSpace) -> Path:
    """A map of 2 x 2 positions that all say the same."""
    scores = np.array([score for _, score in tops])[:, None, None] * np.ones((1, 2, 2))
    ids = np.array([k for k, _ in tops])[:, None, None] * np.ones((1, 2, 2), int)
    return write_label_maps(folder / "m.safetensors", Header(space, len(tops)), [(name, scores, ids)])


def test_labels_are_kept_by_weight(photos: Path) -> None:
    images = read_folder("photos")
    space = ClassSpace("theirs", ("red", "blue", "sky", "sea"), ("n1", "n2", "n3", "n4"))
    maps = open_label_maps(one_map(Path(), "red/0.png", [(2, 2.0), (3, 1.0), (1, 0.5)], space))
    weights = torch.tensor([0.0, 0.5, 2.0, 1.0]).softmax(0)
    (row,) = relabel(maps, images, least=0.12).rows(named=True)
    assert row["labels"] == [2, 3, 1]
    assert (row["wnid"], row["old_index"], row["old_name"]) == ("n3", 0, "red")
    assert row["old_weight"] == pytest.approx(float(weights[0]))
    assert relabel(maps, images, most=1)["labels"].to_list() == [[2]]
    assert relabel(maps, images, least=0.99)["labels"].to_list() == [[2]], "the first in any case"
    write_relabeled("out", relabel(maps, images))
    assert "n3" in Path("out/labels.csv").read_text()
    with pytest.raises(CueError, match="no label map"):
        relabel(maps, images, without={"red/0.png"})
    maps = open_label_maps(one_map(Path(), "red/0.png", [(0, 2.0)], ClassSpace("others", ("x", "y"))))
    assert relabel(maps, images)["old_index"].to_list() == [None]


def vit(**settings: Any) -> Classifier:
    torch.manual_seed(0)
    how = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 7}
    net = timm.create_model("vit_tiny_patch16_224", **{**how, **settings})
    return Classifier(net, preprocessing=Preprocessing((16, 16), 16), name="vit")


def test_patch_tokens_go_through_the_head_one_by_one() -> None:
    classifier = vit(global_pool="avg", fc_norm=True)
    annotator, pixels = Annotator.of(classifier), torch.rand(3, 3, 16, 16)
    assert annotator.description.startswith("class activation: each position sees the whole image")
    assert annotator.description.endswith("since the head is not linear")
    net: Any = classifier.network
    with torch.no_grad():
        tokens = net.forward_features(classifier.normalize(pixels))[:, 1:]
        wanted = net.head(net.fc_norm(tokens)).transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(annotator.logits(pixels), wanted, atol=1e-5)


def test_what_has_no_dense_head_is_told() -> None:
    for classifier in (vit(), toy(Constant()), Classifier(lambda pixels: pixels.mean((2, 3)))):
        assert classifier.why_not_dense
        with pytest.raises(CueError, match="has no dense head: "):
            Annotator.of(classifier)


def test_patches_that_leave_an_edge_are_repeated_there() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 12, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(net, preprocessing=Preprocessing((32, 32), 32))
    pixels = torch.rand(2, 3, 32, 50)
    maps, bare = Annotator.of(classifier).logits(pixels), classifier.dense_logits(pixels)
    assert bare.shape == (2, 5, 6, 10)
    assert maps.shape == (2, 5, 8, 13), "a cell of 4 px in each of the 32 and 50, the last half begun"
    assert torch.equal(maps[:, :, 1:-1, 1:-2], bare)
    assert torch.equal(maps[:, :, 0, 1:-2], bare[:, :, 0])
    assert torch.equal(maps[:, :, -1, -1], bare[:, :, -1, -1])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": ""}, "no annotator"),
        ({"model": "net.py:one_place", "size_px": None}, "has no dense head"),
        ({"k": 4}, "k is 4"),
        ({"k": 0}, "k is 0"),
        ({"bits": 12}, "bits is 12"),
        ({"size_px": 4}, "cannot annotate images of 4 x 4 px"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(photos: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(CueError, match=told):
        annotate(**settings)
    assert not Path("maps").exists()


def test_a_folder_made_otherwise_is_refused(photos: Path) -> None:
    annotate()
    with pytest.raises(CueError, match=r"parameters.k 2, not 3"):
        annotate(k=3)


def test_no_image_can_be_read(photos: Path) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image at all")
    with pytest.raises(CueError, match="no image of photos could be read"):
        annotate()


def test_the_command(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["photos", "maps", "--model", MODEL, "--k", "2", "--size-px", "32", "--keep-aspect", "--bits", "16"]
    for told in ("made 9 label maps; 1 skipped", "nothing to do: maps has all 9 label maps; 1 skipped"):
        with pytest.raises(SystemExit) as end:
            main(["make", "label-maps", *arguments])
        assert end.value.code == 0
        assert told in capsys.readouterr().err


@pytest.mark.real
def test_real_photographs_get_the_labels_they_have(tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no real data beside the project")
    model = f"torchvision/mobilenet_v2@{data / 'weights/mobilenet_v2.safetensors'}"
    make("label-maps", data / "imagenet-sample", tmp_path / "maps", model=model, limit=64)
    table = pl.read_parquet(tmp_path / "maps" / "labels.parquet")
    assert table.height == 64
    assert (table["index"] == table["old_index"]).mean() > 0.7  # type: ignore[operator]
    maps = open_label_maps(tmp_path / "maps")
    assert maps[maps.ids[0]][0].shape == (5, 7, 7)
