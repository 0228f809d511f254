"""`cuescope make cues` and `make patch-shuffle`: what is in the files, whose they are, and what cannot be made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from commands import call
from cuescope.api.make import make
from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.ops.edges import LOWER, NOT_EDGES, edges
from cuescope.data.ops.tilings import shuffled
from cuescope.data.readers import read_cues, read_folder
from cuescope.makers.base import framed
from cuescope.world.images import WorldImages
from toys import Images, colored


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of two images of 40 x 60 px, with a mask for three of them: a square."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for kind in ("T-shirt", "dog"):
        for folder in ("photos", "masks"):
            Path(folder, kind).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(generator.integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(f"photos/{kind}/{i}.jpg")
            mask = np.zeros((40, 60, 3), np.uint8)
            mask[10:30, 20:40, 1] = 64
            if (kind, i) != ("dog", 1):
                Image.fromarray(mask).save(f"masks/{kind}/{i}.png")
    return tmp_path / "photos"


def test_cues_of_the_world_are_what_it_knows_and_are_read_and_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make("cues", "world:congruent:16", tmp_path / "made")
    assert found.made == 64
    world, cues = WorldImages("congruent", count=16), read_cues(tmp_path / "made")
    assert {cues.read(i).cues["shown"] for i in range(len(cues))} == {"original", "greyscale", "silhouettes", "edges"}
    assert len(cues) == 64
    first = world.read(1)
    assert first.mask is not None
    shape = pixels(tmp_path / "made/silhouettes/bolt2.png")
    assert ((shape == 0) == first.mask.numpy()).all()
    assert set(np.unique(shape)) == {0, 255}
    assert (pixels(tmp_path / "made/original/bolt2.png") == first.pixels.permute(1, 2, 0).numpy()).all()
    assert set(np.unique(pixels(tmp_path / "made/edges/bolt2.png"))) == {0, 255}
    status, _, err = call(
        *("audit", "cuescope/world-shape", "--images", "world:congruent:16", "--cues", str(tmp_path / "made")),
        *("--only", "cue_accuracy", "--out", str(tmp_path / "run")),
        capsys=capsys,
    )
    assert status == 0, err
    (finding,) = [json.loads(p.read_text()) for p in (tmp_path / "run").rglob("finding.json")]
    known = {measure["name"]: measure for measure in finding["measures"]}
    assert {known[kind]["n"] for kind in ("original", "greyscale", "silhouettes", "edges")} == {16}
    assert known["original"]["value"] == 1


def test_photographs_without_masks_have_no_silhouettes_and_say_so(photos: Path) -> None:
    found = make("cues", "photos", "made", size_px=28)
    assert sorted(p.name for p in Path("made").iterdir() if p.is_dir()) == ["edges", "greyscale", "original"]
    assert found.made == 12
    assert Path("made/edges/t shirt1.png").is_file()
    with pytest.raises(CueError, match=r"no silhouettes can be made of photos: where their objects are is not known"):
        make("cues", "photos", "other", kinds="silhouettes")
    with pytest.raises(CueError, match="their labels name textures"):
        make("cues", "world:texture-only:4", "other", kinds="silhouettes")


def test_masks_are_framed_as_their_images_are(photos: Path) -> None:
    found = make("cues", "photos", "made", masks="masks", kinds="silhouettes,original", size_px=28)
    assert {s.id: s.why for s in found.skipped} == {"dog/1.jpg": "it has no mask in the folder of masks"}
    # 40 x 60 px to 32 x 48, the middle 28 of it: rows 8 to 24 become 6 to 22, columns 16 to 32 become 6 to 22.
    wanted = np.full((28, 28), 255, np.uint8)
    wanted[6:22, 6:22] = 0
    assert (pixels(Path("made/silhouettes/dog3.png")) == wanted).all()
    assert len(list(Path("made/original").iterdir())) == 3


def test_what_cannot_be_named_or_made_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="has no labels"):
        make("cues", Images(colored(3), classes=None), tmp_path / "made")
    with pytest.raises(CueError, match="unknown kind of cue 'edge'"):
        make("cues", "world:congruent:2", tmp_path / "made", kinds="edge")
    for name in ("a 3", "b 4"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (30, 30)).save(tmp_path / "photos" / name / "x.png")
    with pytest.raises(CueError, match="a class named 'a 3' cannot be told from a number"):
        make("cues", tmp_path / "photos", tmp_path / "made")


def plain_edges(gray: NDArray[np.float64], sigma: float) -> NDArray[np.bool_]:
    """The definition, one pixel after the other."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(gray, reach, mode="reflect")
    smooth = np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), 1, padded)
    smooth = np.pad(np.apply_along_axis(lambda row: np.convolve(row, kernel, "valid"), 0, smooth), 1, mode="edge")
    height, width = gray.shape
    strength, angle = np.zeros((height + 2, width + 2)), np.zeros((height + 2, width + 2), int)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            near = smooth[i - 1 : i + 2, j - 1 : j + 2]
            x = (near[:, 2] - near[:, 0]) @ [1, 2, 1] / 8
            y = (near[2] - near[0]) @ [1, 2, 1] / 8
            strength[i, j], angle[i, j] = np.hypot(x, y), round(np.arctan2(y, x) / (np.pi / 4)) % 4
    thin = np.zeros_like(strength)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            down, right = ((0, 1), (1, 1), (1, 0), (1, -1))[angle[i, j]]
            ahead, behind = strength[i + down, j + right], strength[i - down, j - right]
            thin[i, j] = strength[i, j] if strength[i, j] >= ahead and strength[i, j] > behind else 0
    upper = np.quantile(strength[1:-1, 1:-1], NOT_EDGES)
    found, waiting = thin > upper, list(zip(*np.nonzero(thin > upper), strict=True))
    while waiting:
        i, j = waiting.pop()
        for near in ((i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
            if thin[near] > LOWER * upper and not found[near]:
                found[near] = True
                waiting.append(near)
    return found[1:-1, 1:-1]


def test_edges_are_their_definition() -> None:
    gray = np.random.default_rng(0).random((40, 48))
    gray[10:30, 12:36] += 1
    found = edges(gray / 2)
    assert (found == plain_edges(gray / 2, np.sqrt(2))).all()
    assert 50 < found.sum() < 800
    assert not edges(np.full((20, 20), 0.5)).any()


def test_a_square_has_the_edge_of_a_square() -> None:
    gray = np.zeros((60, 60))
    gray[20:40, 20:40] = 1
    found = edges(gray)
    assert not found[:15].any()
    assert not found[27:33, 27:33].any()
    assert (found[25:35].sum(1) == 2).all()


def test_tiles_trade_places_in_files_of_the_same_names(photos: Path) -> None:
    settings: dict[str, Any] = {"grid": 6, "rule": "full", "seed": 3, "size_px": 28}
    assert make("patch-shuffle", "photos", "made", **settings).made == 4
    images = read_folder("photos")
    index = next(i for i in range(len(images)) if images.id(i) == "dog/0.jpg")
    image = framed(images.read(index), 28)
    seed = seed_of(3, "dog/0.jpg")
    wanted = shuffled(image[None], 6, [np.random.default_rng(seed)], "full")[0]
    assert (pixels(Path("made/dog/0.png")) == wanted.permute(1, 2, 0).numpy()).all()
    assert not torch.equal(wanted, image)
    entries = {e["file"]: e for e in json.loads(Path("made/manifest.json").read_text())["images"]}
    assert entries["dog/0.png"]["seed"] == seed
    with pytest.raises(CueError, match="grid is 1"):
        make("patch-shuffle", "photos", "other", grid=1)
    with pytest.raises(CueError, match="at least 12 px for 6 tiles"):
        make("patch-shuffle", "photos", "other", grid=6, size_px=10)
    world = make("patch-shuffle", "world:congruent:2", "third", grid=40)
    assert "too few for 40 tiles" in world.skipped[0].why
