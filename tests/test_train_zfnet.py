"""The recipe zfnet: what is kept back, what is cut out, what the file says, and every mistake is one message."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import cuescope
from commands import audited, call
from cuescope.api.train import train
from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.models.saved import read_saved
from cuescope.models.zfnet import VARIANTS, ZFNet
from cuescope.training.fit import fit_network
from cuescope.training.images import SquareCrop, TrainingImages
from cuescope.training.labeled import split
from cuescope.training.recipe import Trained
from cuescope.training.recipes import find
from cuescope.training.settings import ZFNetSettings
from cuescope.training.zfnet import first_weights
from toys import Images, colored

NARROW = {"widths": (8, 8, 8, 8, 8), "hidden": 16}
QUICK = ZFNetSettings(variant="zfnet-without-6-7", epochs=1, batch=8, device="cpu")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variants with a few maps, so that a step takes milliseconds."""
    for name, how in list(VARIANTS.items()):
        monkeypatch.setitem(VARIANTS, name, {**how, **NARROW})


def fit(settings: ZFNetSettings, images: Images) -> Trained:
    with tempfile.TemporaryDirectory() as folder:
        return fit_network(settings, images, out=Path(folder) / "run")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Red, green and blue images; a damaged file; folders that cannot be learned from."""
    monkeypatch.chdir(tmp_path)
    names = ("red", "green", "blue")
    for sample in colored(60):
        folder = tmp_path / "photos" / names[sample.label or 0]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(sample.pixels.permute(1, 2, 0).numpy())
        pixels.save(folder / sample.id)
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"\x89PNG and nothing more")
    for name in ("flat/a.png", "one/class/a.png", "one/class/b.png", "lone/a/1.png", "lone/a/2.png", "lone/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels.save(tmp_path / name)
    for name in ("broken/a/1.png", "broken/a/2.png", "broken/b/1.png", "broken/b/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG and nothing more")
    return tmp_path


def test_a_folder_becomes_a_classifier_that_knows_its_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--set", "variant=zfnet-without-6-7", "--set", "epochs=3", "--set", "batch=4", "--set", "device=cpu"]
    status, out, err = call("train", "zfnet", "--images", "photos", "--out", "mine", *how, capsys=capsys)
    assert status == 0, err
    assert "held-out accuracy 100.0% (61.0% to 100.0%; 6 of 6 images)" in out
    assert "39 steps of 4 images" in err, "of 55 images 13 batches each epoch"
    assert "1 image could not be used:\n  red/bad.png: " in err
    assert "next: cuescope audit mine/best --images OTHER-IMAGES" in out
    classifier = cuescope.load("cuescope/zfnet-without-6-7@mine/best.safetensors", device="cpu")
    assert classifier.classes.names == ("blue", "green", "red")
    assert classifier.preprocessing.source == "as it was trained"
    audited(out, capsys)


BAD: list[tuple[list[str], str, str]] = [
    ([], "zfnet needs images to learn from", "cuescope train zfnet --images DIR"),
    (["--images", "flat"], "the images of flat have no labels", "folders named by class"),
    (["--images", "one"], "one holds the class 'class' alone", "a folder for each class"),
    (["--images", "lone"], "the class 'b' of lone has one image alone\n", "add images"),
    (["--images", "photos", "--limit", "3"], "photos has one image alone (and 2 other classes)", "raise --limit"),
    (["--images", "photos", "--set", "variant=zfnet-without-34"], "unknown variant", "did you mean zfnet-without-3-4"),
    (["--images", "photos", "--set", "epochs=0"], "epochs=0", "list recipes"),
    (["--images", "photos", "--set", "filter_rms=0"], "filter_rms=0", "list recipes"),
    (["--images", "photos", "--set", "initial=xavier"], "unknown value of zfnet.initial 'xavier'", "paper"),
    (["--images", "photos", "--set", "device=tpu"], "no device 'tpu'", "cpu"),
    (["--images", "broken", "--set", "batch=2"], "no image of broken to learn from can be read: ", "check the files"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message", "hint"), BAD, ids=[message for _, message, _ in BAD])
def test_mistakes(
    here: Path, arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call("train", "zfnet", "--out", "mine", *arguments, capsys=capsys)
    assert status == 2
    assert message in err
    assert hint in err
    assert "Traceback" not in err
    assert not (here / "mine" / "best.safetensors").exists()


def test_of_another_name_the_file_says_its_own(here: Path) -> None:
    quick = {"epochs": 1, "batch": 8, "device": "cpu"}
    path = train("zfnet", "mine", images=Images(colored(8)), settings=quick).path / "best.safetensors"
    with pytest.raises(CueError, match=r"'mine/best\.safetensors' holds the weights of zfnet\n") as caught:
        cuescope.load("cuescope/zfnet-without-7@mine/best.safetensors")
    assert "write cuescope/zfnet@mine/best.safetensors" in caught.value.do
    given = cuescope.load("cuescope/zfnet@mine/best.safetensors", classes=["rot", "gruen", "blau"], device="cpu")
    assert given.classes.names == ("rot", "gruen", "blau")
    # Weights from elsewhere say nothing of themselves: their classes are numbered.
    bare = here / "bare.safetensors"
    bare.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path)))
    assert read_saved(bare) is None
    other = cuescope.load("cuescope/zfnet@bare.safetensors", device="cpu")
    assert other.classes.names[0] == "class 0"
    assert other.preprocessing.source == "Zeiler and Fergus 2014"
    bare.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), {"network": json.dumps({"name": 3})}))
    with pytest.raises(CueError, match="makes no sense"):
        cuescope.load("cuescope/zfnet@bare.safetensors")


def test_the_file_gives_what_was_trained_and_is_as_right_as_said(here: Path) -> None:
    """The slow twin: the classifier that is loaded, on the images that were held out."""
    images = Images(colored(60))
    trained = fit(QUICK, images)
    (here / "w.safetensors").write_bytes(trained.weights)
    classifier = cuescope.load("cuescope/zfnet-without-6-7@w.safetensors", device="cpu")
    _, back = split(np.array([s.label for s in images.samples]), np.random.default_rng(0))
    samples = [images.samples[i] for i in back]
    pixels = classifier.prepare(samples)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(pixels), trained.network(classifier.normalize(pixels)))
    right = classifier.logits(pixels).argmax(1).tolist() == np.array([s.label for s in samples])
    assert (trained.correct, trained.held_out, trained.learned) == (right.sum(), 6, 54)


def test_the_same_seed_gives_the_same_file_and_leaves_the_generator() -> None:
    images, state = Images(colored(24)), torch.random.get_rng_state()
    quick = ZFNetSettings(variant="zfnet-without-7", epochs=1, batch=8, device="cpu")
    first = fit(quick, images).weights
    assert fit(quick, images).weights == first
    assert fit(dataclasses.replace(quick, seed=1), images).weights != first
    assert torch.equal(torch.random.get_rng_state(), state)


def test_held_out_images_are_not_learned_from() -> None:
    samples = colored(24)
    learned, back = split(np.array([s.label for s in samples]), np.random.default_rng(0))
    assert not set(learned) & set(back)

    def without(index: int) -> bytes:
        changed = [Sample(s.id, s.pixels * (i != index), s.label) for i, s in enumerate(samples)]
        return fit(QUICK, Images(changed)).weights

    whole = fit(QUICK, Images(samples)).weights
    assert without(int(back[0])) == whole
    assert without(int(learned[0])) != whole


def test_a_tenth_of_each_class_is_held_out_but_never_all() -> None:
    labels = np.repeat([0, 1, 2], 30)
    learned, back = split(labels, np.random.default_rng(0))
    assert np.bincount(labels[back]).tolist() == [3, 3, 3]
    assert sorted([*learned, *back]) == list(range(90))
    # One of three and many of two, so that both of a class may be drawn, each as one of another ten.
    few = np.array([-1, 0, *np.repeat(np.arange(40), 2)])
    for seed in range(40):
        learned, back = split(few, np.random.default_rng(seed))
        assert set(few[learned]) == set(range(40)), "each class is learned from"
        assert 0 not in {*learned, *back}, "what has no label is neither learned nor tried"
        assert len(back) >= 6


def test_the_ten_crops() -> None:
    random, square = np.random.default_rng(0), torch.arange(256 * 256).reshape(1, 256, 256) // 257
    square = square.to(torch.uint8).repeat(3, 1, 1)
    square[1] = square[0].T
    wanted = set()
    for top, left in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16)):
        crop = square[:, top : top + 224, left : left + 224]
        wanted |= {corners(crop), corners(crop.flip(2))}
    assert len(wanted) == 10
    assert {corners(SquareCrop(224, 256)(square, random)[0]) for _ in range(80)} == wanted
    anywhere = {corners(SquareCrop(224, 256, ten=False)(square, random)[0]) for _ in range(80)}
    assert len(anywhere) > 40
    assert all(0 <= low < 33 and 0 <= left < 33 for low, left in map(place_of, range(40)))


def corners(crop: torch.Tensor) -> tuple[int, ...]:
    return tuple(crop[:2, 0, :: crop.shape[2] - 1].flatten().tolist())


def place_of(seed: int) -> tuple[int, int]:
    """Row and column of the crop in its square of 256 px."""
    top, left, _, _ = SquareCrop(224, 256, ten=False)(
        torch.zeros(3, 256, 256, dtype=torch.uint8), np.random.default_rng(seed)
    )[1]
    return round(top * 256), round(left * 256)


def test_images_are_cut_from_the_middle_of_their_short_side() -> None:
    """Also stimuli, which a classifier sees whole."""
    wide = torch.zeros(3, 16, 48, dtype=torch.uint8)
    wide[:, :, 16:32] = 200
    images = Images([Sample(f"{i}", wide, i % 2, framing="stimulus") for i in range(4)])
    data = TrainingImages(images, np.arange(4), np.zeros(4, np.int64), SquareCrop(224, 256), 4, 0)
    seen, _ = data.batch(0, slice(0, 4))
    assert seen.shape[1:] == (3, 224, 224)
    assert (seen[:, :, :, 8:-8] == 200).all()
    top, left, high, across = SquareCrop(224, 256)(wide, np.random.default_rng(0))[1]
    assert (high, across) == pytest.approx((224 / 256, 224 / 256 / 3))
    assert 0 <= top <= 32 / 256
    assert 1 / 3 <= left <= 1 / 3 + 32 / 256 / 3 + 1e-9


def test_first_weights_and_units(tmp_path: Path) -> None:
    def fresh(initial: Any, seed: int = 0) -> ZFNet:
        network = ZFNet(5, **NARROW)
        first_weights(network, initial, seed)
        return network

    paper = fresh("paper")
    assert float(paper.classifier.fc6.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    he = fresh("he")
    assert float(he.features.conv3.weight.detach().std()) == pytest.approx((2 / (8 * 9)) ** 0.5, rel=0.1)
    assert not he.features.conv3.bias.any()
    assert not torch.equal(he.features.conv3.weight, fresh("he", 1).features.conv3.weight)
    quick = ZFNetSettings(variant="zfnet-without-6-7", epochs=1, batch=2, initial="paper", device="cpu")
    trained = fit(quick, Images(colored(6)))
    assert float(trained.network.classifier.fc8.weight.detach().std()) == pytest.approx(0.01, rel=0.2)
    (tmp_path / "w.safetensors").write_bytes(trained.weights)
    saved = read_saved(tmp_path / "w.safetensors")
    assert saved is not None
    assert saved.preprocessing.std == (1 / 255,) * 3
    assert trained.notes[-1].startswith("3 steps of 2 images")


def test_filters_stay_within_their_radius() -> None:
    """Layer 1 as if it read pixels of 0 to 255; the others as they are."""
    how = ZFNetSettings(variant="zfnet-without-6-7", epochs=1, batch=6, filter_rms=0.02, device="cpu")
    trained = fit(how, Images(colored(12)))
    units = 255 * torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    for i in range(1, 6):
        weight = trained.network.features.get_submodule(f"conv{i}").weight.detach()
        rms = (weight / (units if i == 1 else 1)).square().mean((1, 2, 3)).sqrt()
        assert rms.max() <= 0.02 + 1e-6
    assert rms.max() == pytest.approx(0.02)


def test_the_recipe_is_the_papers() -> None:
    how = find("zfnet").settings
    assert (how.epochs, how.batch, how.learning_rate, how.momentum, how.filter_rms) == (70, 128, 0.01, 0.9, 0.1)


def test_smaller_images_have_smaller_heads() -> None:
    from cuescope.models.zfnet import SMALL

    net = ZFNet(5, widths=(2, 2, 2, 2, 3), hidden=4, first=SMALL, size_px=64)
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert net.classifier.fc6.in_features == 3 * 2 * 2
    with pytest.raises(ValueError, match="too small to be pooled again"):
        ZFNet(5, size_px=32)
