"""`cuescope make stylized`: which style for which image, what is kept and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from cuescope.api.make import make
from cuescope.core.errors import CueError
from cuescope.core.seeds import seed_of
from cuescope.data.readers import read_folder
from cuescope.makers import stylized as stylized_module
from cuescope.makers.output_folder import OutputFolder
from cuescope.makers.stylized import Stylized, published_pairs
from cuescope.makers.synthesis import styles as styles_module
from cuescope.makers.synthesis.styles import Styles, square
from cuescope.models.adain import AdaIN
from cuescope.models.wct import embedded
from cuescope.world.images import WorldImages


def save(path: Path, height: int, width: int, seed: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 4)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images of two classes, four styles."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        save(tmp_path / f"photos/cat/{i}.jpg", 40, 52, i)
    for i in range(2):
        save(tmp_path / f"photos/dog/{i}.png", 36, 36, 10 + i)
    for i in range(4):
        save(tmp_path / f"styles/{'abcd'[i]}.png", 48, 40, 20 + i)
    return tmp_path


def stylized(folder: str = "made", source: Any = "photos", **settings: Any) -> dict[str, Any]:
    make("stylized", source, folder, **{"styles": "styles", "size_px": 32} | settings)
    return json.loads(Path(folder, "manifest.json").read_text())


def contents(folder: str = "made") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*.*g"))}


def test_the_tree_names_labels_and_manifest(folders: Path) -> None:
    found = stylized()
    assert list(contents()) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]
    made = read_folder("made")
    assert made.classes == read_folder("photos").classes
    assert [made.read(i).pixels.shape for i in range(5)] == [(3, 32, 32)] * 5
    assert {entry["style"] for entry in found["images"]} <= {"a.png", "b.png", "c.png", "d.png"}
    assert found["recipe"]["stylizer"]["digest"] == embedded().digest
    assert found["recipe"]["styles"]["count"] == 4


def test_a_file_is_what_the_stylizer_makes_of_this_image_and_this_style(folders: Path) -> None:
    """The plain twin: one image, its style encoded for it, no cache and no batch."""
    found = stylized(size_px=None, original_size=True, alpha=0.7, style_px=32)
    stylizer = embedded()
    for entry in found["images"]:
        style = square(read_folder("styles").read("abcd".index(entry["style"][0])).pixels, 32)[None].float() / 255
        content = torch.from_numpy(np.asarray(Image.open(Path("photos", entry["source"])).convert("RGB")).copy())
        wanted = stylizer.stylize(content.permute(2, 0, 1)[None].float() / 255, stylizer.statistics(style), alpha=0.7)
        pixels = torch.from_numpy(np.asarray(Image.open(Path("made", entry["file"]))).copy())
        assert (pixels.int() - (wanted[0] * 255).round().int().permute(1, 2, 0)).abs().max() <= 1


def test_an_images_style_depends_on_the_seed_and_its_name_alone(folders: Path) -> None:
    before = {entry["source"]: entry["style"] for entry in stylized()["images"]}
    (folders / "photos/cat/0.jpg").unlink()
    after = {entry["source"]: entry["style"] for entry in stylized("again")["images"]}
    assert after == {name: style for name, style in before.items() if name != "cat/0.jpg"}
    other = [entry["style"] for seed in range(1, 4) for entry in stylized(f"seed{seed}", seed=seed)["images"]]
    assert set(other) == {"a.png", "b.png", "c.png", "d.png"}


def test_several_styles_for_each_image(folders: Path) -> None:
    found = stylized(styles_each=3)
    assert [entry["file"] for entry in found["images"]][:4] == [
        "cat/0-1.png", "cat/0-2.png", "cat/0-3.png", "cat/1-1.png",
    ]  # fmt: skip
    for at in range(0, 15, 3):
        assert len({entry["style"] for entry in found["images"][at : at + 3]}) == 3
    # The first of several is the one that an image has alone.
    single = {entry["source"]: entry["style"] for entry in stylized("one")["images"]}
    assert {entry["source"]: entry["style"] for entry in found["images"] if "-1." in entry["file"]} == single


def test_styles_are_drawn_once_for_each_image(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permutation of all styles, of which there may be 80,000, not one for each file; the styles stay the same."""
    draw, seeds = np.random.default_rng, []
    monkeypatch.setattr(np.random, "default_rng", lambda seed: seeds.append(seed) or draw(seed))
    stylized_module.seeded_styles.cache_clear()
    found = stylized(styles_each=3, seed=7)
    assert sorted(seeds) == sorted(seed_of(7, name) for name in {entry["source"] for entry in found["images"]})
    order = draw(seed_of(7, "cat/1.jpg")).permutation(4)[:3]
    assert [e["style"] for e in found["images"] if e["source"] == "cat/1.jpg"] == [f"{'abcd'[k]}.png" for k in order]


def test_the_published_stream_is_the_papers() -> None:
    """PROTOCOLS 4; drawn in parts it is the same stream."""
    assert published_pairs(8, 79395).tolist() == [75686, 79149, 64876, 10784, 49078, 48016, 36527, 42163]
    assert published_pairs(5, 79395, 3).tolist() == published_pairs(8, 79395)[3:].tolist()


def test_the_published_pairing_draws_for_val_first(folders: Path) -> None:
    for i in range(3):
        save(folders / f"both/train/cat/{i}.png", 40, 40, i)
        save(folders / f"both/val/cat/{i}.png", 40, 40, i + 3)
        save(folders / f"large/{i}.png", 224, 230, i + 3)
    save(folders / "large/0b.png", 223, 400)  # left out before the numbers are drawn
    found = stylized(source="both", styles="large", pairing="published")
    order = [f"{split}/cat/{i}.png" for split in ("val", "train") for i in range(3)]
    styles = {entry["file"]: entry["style"] for entry in found["images"]}
    assert [styles[name] for name in order] == [f"{k}.png" for k in published_pairs(6, 3)]
    assert "large/0b.png,400 x 223 px; styles have sides of at least 224 px" in Path("made/skipped.csv").read_text()
    late = stylized("late", source="both/train", styles="large", pairing="published", drawn_before=3)
    assert [e["style"] for e in late["images"]] == [styles[f"train/cat/{i}.png"] for i in range(3)]


def test_a_style_that_does_not_serve_is_passed_over_and_told(folders: Path) -> None:
    for name in "abc":
        (folders / f"styles/{name}.png").write_bytes(b"no image")
    assert {entry["style"] for entry in stylized()["images"]} == {"d.png"}
    told = Path("made/skipped.csv").read_text()
    assert "styles/a.png" in told


def test_statistics_are_computed_once_for_each_style(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = embedded()
    calls: list[int] = []
    statistics = type(stylizer).statistics
    monkeypatch.setattr(type(stylizer), "statistics", lambda self, x: calls.append(len(x)) or statistics(self, x))
    styles = Styles(read_folder("styles"), stylizer, 32)
    for _ in range(3):
        for number in range(4):
            styles.statistics(styles.usable(number))
    assert calls == [1] * 4
    kept = styles.statistics(3)
    monkeypatch.setattr(styles_module, "KEPT_BYTES", 1)
    styles = Styles(read_folder("styles"), stylizer, 32)
    for number in (3, 0, 3):
        assert len(styles._kept) <= 1
        styles.statistics(styles.usable(number))
    assert len(calls) == 7  # forgotten and computed again, with the same result
    assert all(torch.equal(a, b) for a, b in zip(kept.mean, styles.statistics(3).mean, strict=True))


def test_grey_alpha_small_and_large_images(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folders / "odd/grey.png", 40, 40, mode="L")
    save(folders / "odd/alpha.png", 40, 40, mode="RGBA")
    save(folders / "odd/small.png", 31, 60)
    save(folders / "odd/large.png", 70, 70)
    monkeypatch.setattr("cuescope.makers.stylized.MOST_PX", 60 * 60)
    stylized(source="odd", size_px=None, original_size=True)
    assert list(contents()) == ["alpha.png", "grey.png"]
    told = Path("made/skipped.csv").read_text()
    assert "60 x 31 px; sides of at least 32 px" in told
    assert "70 x 70 px" in told
    stylized("square", source="odd")
    assert len(contents("square")) == 4


def test_images_of_the_world_keep_their_size_and_jpeg(folders: Path) -> None:
    stylized(source="world:congruent:2", styles="world:texture-only:3", size_px=None, format="jpeg")
    with Image.open("made/congruent-000000.jpg") as image:
        assert (image.size, image.format) == ((64, 64), "JPEG")


def vgg(folder: Path) -> str:
    network = AdaIN(seed=3)
    for name, part in (("vgg_normalised", network.encoder), ("decoder", network.decoder)):
        safetensors.torch.save_file(part.state_dict(), folder / f"{name}.safetensors")
    return f"{folder}/vgg_normalised.safetensors,{folder}/decoder.safetensors"


def test_stopped_after_any_image_it_ends_with_the_same_bytes(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of the VGG depend on the company in a batch: groups stay what they were."""
    spec = vgg(folders)
    monkeypatch.setattr("cuescope.makers.stylized.batch_of", lambda *_: 2)
    stylized("whole", stylizer=spec)
    add, left = OutputFolder.add, [0]

    def dying(self: OutputFolder, files: Any) -> None:
        if not left[0]:
            raise SystemExit("killed")
        left[0] -= 1
        add(self, files)

    for _ in range(2):
        left[0] = 1
        with monkeypatch.context() as patch:
            patch.setattr(OutputFolder, "add", dying)
            with pytest.raises(SystemExit):
                stylized(stylizer=spec)
    stylized(stylizer=spec)
    assert contents() == contents("whole")
    assert len(contents()) == 5


def test_images_keep_their_company_however_often_a_run_is_stopped(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "photos/cat/0.jpg").write_bytes(b"no image")  # tried again, alone, by every run
    monkeypatch.setattr("cuescope.makers.stylized.batch_of", lambda *_: 2)
    companies: list[list[str]] = []
    made, add = stylized_module._Stylizing.make, OutputFolder.add

    def noted(self: Any, pieces: Any, samples: Any) -> Any:
        companies.append([piece.file for piece in pieces])
        return made(self, pieces, samples)

    def dying(self: OutputFolder, files: Any) -> None:
        add(self, files)
        raise SystemExit("killed")

    monkeypatch.setattr(stylized_module._Stylizing, "make", noted)
    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "add", dying)
        with pytest.raises(SystemExit):
            stylized()
    stylized()
    assert {tuple(company) for company in companies} == {
        ("cat/1.png",), ("cat/2.png", "dog/0.png"), ("dog/1.png",),
    }  # fmt: skip


def test_a_full_disk_leaves_nothing_half_written(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(part: Any, path: Any) -> None:
        if str(path).endswith("cat/2.png"):
            raise OSError(28, "No space left on device")
        replace(part, path)

    with monkeypatch.context() as patch:
        patch.setattr("cuescope.runs.store.os.replace", full)
        with pytest.raises(CueError, match="the disk is full"):
            stylized()
    assert not list(folders.glob("made/**/*.part"))
    assert set(contents()) <= {"cat/0.png", "cat/1.png"}
    stylized()
    assert len(contents()) == 5


BAD = {
    "no styles": ({"styles": "empty"}, "no image in 'empty'"),
    "no folder": ({"styles": "nowhere"}, "no folder 'nowhere'"),
    "small styles": ({"styles": "tiny"}, r"none of the 1 images of tiny serves as a style(?s:.*)20 x 20 px"),
    "too small for the published pairing": ({"pairing": "published"}, "none of the 4 images of styles serves"),
    "no such stylizer": ({"stylizer": "vgg"}, "no stylizer 'vgg'"),
    "other weights": ({"stylizer": "bad.safetensors,bad.safetensors"}, "these weights are no VGG-19"),
    "alpha": ({"alpha": 1.5}, "alpha is 1.5"),
    "two sizes": ({"original_size": True}, "size_px and original_size"),
    "small size": ({"size_px": 16}, "size_px is 16"),
    "more styles than there are": ({"styles_each": 5}, "5 styles for each image, of 4"),
    "several with the published pairing": ({"styles_each": 2, "pairing": "published"}, "2 styles for each image with"),
    "drawn_before": ({"drawn_before": 5}, "drawn_before without"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_error(folders: Path, case: str) -> None:
    Path("empty").mkdir()
    save(Path("tiny/a.png"), 20, 20)
    safetensors.torch.save_file({"a": torch.zeros(1)}, "bad.safetensors")
    settings, message = BAD[case]
    with pytest.raises(CueError, match=message):
        stylized(**settings)
    assert not Path("made").exists()


def test_styles_must_be_given(folders: Path) -> None:
    with pytest.raises(CueError, match="stylized was given no styles"):
        make("stylized", "photos", "made")
    assert Stylized("a").styles == "a"


def test_world_styles_serve() -> None:
    styles = Styles(WorldImages("texture-only", count=2), embedded(), 32)
    assert styles.statistics(styles.usable(0)).mean[0].shape[0] == 1
