"""cuescope train: from a folder to a file that can be audited, and every mistake is one message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope
from commands import audited, call
from cuescope.api.train import train
from cuescope.training import world

SMALL = {"size_px": 20, "side_px": 6, "stride_px": 2, "components": 8, "words": 20, "patches": 2000}
SET = [part for key, value in SMALL.items() for part in ("--set", f"bow.{key}={value}")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stripes that run across or down, at any place; a damaged file; folders that cannot be learned from."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("across", "down"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            wave = np.sin(np.arange(24)[:, None] * 1.2 + random.uniform(0, 6)) + np.zeros((1, 24))
            noisy = 120 + 70 * (wave if name == "across" else wave.T) + random.normal(0, 15, (24, 24))
            pixels = np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i:02d}.png")
    (tmp_path / "photos" / "down" / "bad.png").write_bytes(b"\x89PNG and nothing more")
    for name in ("flat/a.png", "one/class/a.png", "one/class/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "dir.safetensors").mkdir()
    return tmp_path


def test_a_folder_becomes_a_classifier(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call("train", "bow", "--images", "photos", "--out", "mine.safetensors", *SET, capsys=capsys)
    assert status == 0, err
    assert "held-out accuracy 100.0% (51.0% to 100.0%; 4 of 4 images)" in out
    assert "1 image could not be used:\n  down/bad.png: " in err
    assert "next: cuescope audit cuescope/bow@mine.safetensors --images OTHER-IMAGES" in out
    assert [path.name for path in here.glob("*mine*")] == ["mine.safetensors"]
    classifier = cuescope.load("cuescope/bow@mine.safetensors", device="cpu")
    assert classifier.classes.names == ("across", "down")
    assert classifier.preprocessing.size == (20, 20)
    audited(out, capsys)


def test_the_seed_and_the_limit_are_used(here: Path) -> None:
    def weights(**how: int) -> bytes:
        return train("bow", "a.safetensors", images="photos", settings=SMALL, **how).path.read_bytes()  # type: ignore[arg-type]

    assert weights() == weights()
    assert weights() != weights(seed=1)
    few = train("bow", "a.safetensors", images="photos", settings=SMALL, limit=8)
    assert few.accuracy.value is None
    assert "fewer than ten images" in few.accuracy.why


BAD: list[tuple[list[str], str]] = [
    (["bow"], "bow needs images to learn from"),
    (["bow", "--images", "nowhere"], "no folder 'nowhere'"),
    (["bow", "--images", "flat"], "flat have no labels"),
    (["bow", "--images", "one"], "one holds the class 'class' alone"),
    (["bow", "--images", "photos", "--set", "size_px=5"], "size_px=5 and side_px=9"),
    (["bow", "--images", "photos", "--set", "word=5"], "unknown bow setting 'word'"),
    (["bow", "--images", "photos", "--set", "words=many"], "bow.words = 'many'"),
    (["bow", "--images", "photos", "--set", "seed=3"], "unknown bow setting 'seed'"),
    (["bow", "--images", "photos", "--limit", "0"], "limit is 0"),
    (["bow", "--images", "photos", "--out", "dir.safetensors"], "--out dir.safetensors\n"),
    (["bow", "--images", "photos", "--out", "mine.pth"], "--out mine.pth"),
    (["bow", "--images", "photos", "--out", "file/mine.safetensors"], "cannot write 'file/mine.safetensors'"),
    (["bow", "--images", "photos", "--out", "/proc/mine.safetensors"], "choose another --out"),
    (["world-bagnet", "--images", "photos"], "world-bagnet draws its own images"),
    (["bov"], "unknown recipe 'bov'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes(here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = [] if "--out" in arguments else ["--out", "mine.safetensors"]
    status, _, err = call("train", *arguments, *out, capsys=capsys)
    assert status == 2
    assert message in err
    assert "wanted:" in err
    assert "do:" in err
    assert "Traceback" not in err
    assert not (here / "mine.safetensors").exists()


def test_the_worlds_recipes(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(world, "TESTED", 16)
    quick = ["--set", "steps=1", "--set", "batch=16", "--set", "warmup_steps=0"]
    status, out, err = call("train", "world-bagnet", "--out", "deep/net.safetensors", *quick, capsys=capsys)
    assert status == 0, err
    assert "on 16 conflict images: " in err
    assert "next: cuescope audit cuescope/world-bagnet@deep/net.safetensors --images world:congruent" in out
    assert cuescope.load("cuescope/world-bagnet@deep/net.safetensors", device="cpu").capabilities >= {"patch_logits"}
    blurred = train("world-blur", "blur.safetensors", settings={"steps": 1, "batch": 16, "filter_size": 3})
    assert blurred.model == "cuescope/world-congruent+blur3@blur.safetensors"
    assert "antialiased in 4 places by blurs of size 3" in cuescope.load(blurred.model, device="cpu").notes
    other = train("world-bow", "words.safetensors", settings={**SMALL, "size_px": 64, "images": 40})
    assert other.model == "cuescope/bow@words.safetensors"
    assert len(cuescope.load(other.model, device="cpu").classes) == 16


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call("list", "recipes", "--json", capsys=capsys)
    assert status == 0
    found = json.loads(out)
    assert {"bow", "world-bow", "world-bagnet"} <= set(found)
    assert found["bow"]["parameters"]["words"] == {"default": 1000, "meaning": "Size of the codebook."}
    assert "seed" not in found["bow"]["parameters"]
    _, text, _ = call("list", "recipes", "bow", capsys=capsys)
    assert "--set bow.words=1000" in text
    _, text, _ = call("list", "recipes", "imagenet", capsys=capsys)
    assert "Published: ResNet-50 76.1 %" in text
    assert "--small  model=cuescope/world-congruent@random, " in text
    assert " epochs=8, batch=64, " in text
    assert all(entry["meaning"] for entry in found["imagenet"]["parameters"].values())
    _, text, _ = call("list", "recipes", capsys=capsys)
    assert text.splitlines()[-1].startswith("cuescope list recipes NAME")
    assert len(text.splitlines()) == len(found) + 1


@pytest.mark.real
def test_cifar_is_learned_well_above_chance(data: Path, tmp_path: Path) -> None:
    settings = {"size_px": 32, "side_px": 6, "stride_px": 2, "words": 200, "patches": 20_000}
    found = train("bow", tmp_path / "c.safetensors", images=data / "cifar10-sample" / "train", settings=settings)
    assert found.accuracy.interval is not None
    assert found.accuracy.interval[0] > 0.2, "chance is .1"
