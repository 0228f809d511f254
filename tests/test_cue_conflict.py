"""`cuescope make cue-conflict`: the published names and balance, judged originals, the search for style."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing, frame
from cuescope.data.readers import read_cue_conflict, read_folder
from cuescope.data.readers.cue_conflict import cues_of
from cuescope.makers.cue_conflict import file_names, paired
from cuescope.makers.synthesis.originals import judged
from cuescope.makers.synthesis.styles import square
from cuescope.makers.synthesis.transfer import Transfer
from cuescope.models.wct import embedded
from cuescope.world.images import WorldImages
from toys import plain, toy


def save(path: Path, color: tuple[int, int, int], seed: int, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-30, 30, (side, side, 3))
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(path)


COLORS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes, told by their color: three shapes and two textures of each."""
    monkeypatch.chdir(tmp_path)
    for name, color in COLORS.items():
        for i in range(3):
            save(tmp_path / f"shapes/{name}/{i}.png", color, i)
        for i in range(2):
            save(tmp_path / f"textures/{name}/{i}.png", color, 10 + i)
    (tmp_path / "net.py").write_text(
        "import torch\nfrom cuescope.core.classes import ClassSpace\n"
        "from cuescope.classifier.classifier import Classifier\n"
        "from cuescope.data.preprocessing import Preprocessing\n"
        "class Mean(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return 10 * x.mean((2, 3))\n"
        "def make():\n"
        "    how = Preprocessing((16, 16), 16, mean=(0, 0, 0), std=(1, 1, 1))\n"
        "    return Classifier(Mean(), classes=ClassSpace('colors', ('red', 'green', 'blue')), preprocessing=how)\n"
    )
    return tmp_path


def conflicts(folder: str = "made", **settings: Any) -> dict[str, Any]:
    make("cue-conflict", "shapes", folder, **{"textures": "textures", "size_px": 32} | settings)
    return json.loads(Path(folder, "manifest.json").read_text())


def test_names_and_balance_are_the_published_ones(folders: Path) -> None:
    found = conflicts()
    files = [entry["file"] for entry in found["images"]]
    assert len(files) == 3 * 3 * 5
    pairs = Counter(tuple((cues_of(file) or {}).values()) for file in files)
    assert set(pairs.values()) == {5}
    assert all(file.split("/")[0] == (cues_of(file) or {})["shape"] for file in files)
    for entry in found["images"]:
        shape, texture = Path(entry["file"]).stem.split("-")
        assert f"{shape[:-1]}/{int(shape[-1]) - 1}.png" == entry["source"]
        assert f"{texture[:-1]}/{int(texture[-1]) - 1}.png" == entry["texture"]
    assert len(read_cue_conflict("made")) == 45


def test_each_original_is_used_about_as_often_as_the_others() -> None:
    """As published: 16 classes of 10 shapes and 3 textures, five of each pair: 8 of a shape, 26 or 27 of a texture."""
    names = [chr(97 + i) for i in range(16)]
    shapes = {name: list(range(10 * i, 10 * i + 10)) for i, name in enumerate(names)}
    textures = {name: list(range(3 * i, 3 * i + 3)) for i, name in enumerate(names)}
    found = paired(shapes, textures, 5, seed=1)
    assert len({(piece.source, piece.key) for piece in found}) == len({piece.file for piece in found}) == 1280
    assert set(Counter(piece.source for piece in found).values()) == {8}
    assert set(Counter(piece.key for piece in found).values()) <= {25, 26, 27, 28}
    assert found != paired(shapes, textures, 5, seed=2)


@pytest.mark.parametrize(("count", "of"), [(1, 1), (2, 4), (4, 6), (6, 4)])
def test_no_two_meet_twice(count: int, of: int) -> None:
    found = paired({"a": list(range(count))}, {"a": list(range(of))}, 99, seed=0)
    assert len({(piece.source, piece.key) for piece in found}) == len(found) == count * of


def test_an_image_is_its_shape_in_its_texture(folders: Path) -> None:
    entry = conflicts(size_px=56, alpha=0.8, pairs=1)["images"][3]
    stylizer, shapes, textures = embedded(), read_folder("shapes"), read_folder("textures")

    def pixels(images: Any, name: str) -> Tensor:
        return next(images.read(i).pixels for i in range(len(images)) if images.id(i) == name)

    number = [shapes.id(i) for i in range(len(shapes))].index(entry["source"])
    content = frame([shapes.read(number)], Preprocessing((56, 56), 64)).float() / 255
    style = square(pixels(textures, entry["texture"]), 224)[None].float() / 255
    wanted = (stylizer.stylize(content, stylizer.statistics(style), 0.8)[0] * 255).round().int().permute(1, 2, 0)
    made = np.asarray(Image.open(Path("made", entry["file"]))).astype(int)
    assert np.abs(made - wanted.numpy()).max() <= 1


def test_originals_that_a_judge_misreads_are_left_out_and_told(folders: Path) -> None:
    save(folders / "shapes/red/1.png", COLORS["blue"], 1)
    save(folders / "textures/green/0.png", COLORS["red"], 1)
    found = conflicts(judges="net.py:make")
    verdict = found["recipe"]["judges"]["net.py:make"]
    assert verdict["shapes"] == {"right": 8, "of": 9}
    assert verdict["textures"] == {"right": 5, "of": 6}
    assert not any(entry["source"] == "red/1.png" or entry["texture"] == "green/0.png" for entry in found["images"])
    told = Path("made/skipped.csv").read_text()
    assert "shapes/red/1.png,net.py:make reads 'blue' in the shape of 'red'" in told
    assert "textures/green/0.png,net.py:make reads 'red' in the texture of 'green'" in told
    # Never more than there are: two reds with four, four and two textures, three of the others with six, six and three.
    assert len(found["images"]) == (4 + 4 + 2) + 2 * (5 + 5 + 3)


def test_classes_of_one_set_alone_are_left_out(folders: Path) -> None:
    save(folders / "shapes/pink/0.png", (250, 150, 150), 0)
    assert conflicts(pairs=1)["recipe"]["classes"] == ["blue", "green", "red"]


def test_shape_bias_can_be_measured_over_ones_own_classes(folders: Path) -> None:
    conflicts(pairs=2)
    run = audit("net.py:make", images="shapes", cue_conflict="made", only=["shape_bias"], out="run")
    measure = run.finding("shape_bias")["shape_bias"]
    # It goes by mean color, which the texture brings along.
    assert measure.value is not None
    assert measure.value < 0.1


def test_file_names_are_read_back() -> None:
    for name, text in file_names(["cat", "Class 1", "Class 12", "T-shirt", "猫", "волк", "C", "C++"]).items():
        cues = cues_of(f"{text}3-{text}1.png")
        assert cues == {"shape": text, "texture": text}, name


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu().mean((2, 3))


def test_the_search_lowers_the_plain_loss() -> None:
    net = toy(Layers(), ClassSpace("four", ("a", "b", "c", "d")))
    content, style = torch.rand(3, 20, 24), torch.rand(3, 16, 16) ** 3
    module = net.network
    assert isinstance(module, Layers)

    def loss(made: Tensor, weight: float) -> tuple[float, float]:
        """In the most direct way, with loops over pairs of features."""

        def features(x: Tensor) -> tuple[Tensor, Tensor]:
            first = module.first(x[None])
            return first[0], module.second(first.relu())[0]

        with torch.no_grad():
            (g1, f1), (_, f2), (g3, _) = features(made), features(content), features(style)
            of_content = float(((f1 - f2) ** 2).mean() / (f2**2).mean())

            def grams(g: Tensor) -> np.ndarray:
                flat = g.flatten(1)
                n, m = flat.shape
                return np.array([[float((flat[i] * flat[j]).sum()) / m for j in range(n)] for i in range(n)])

            a, b = grams(g1), grams(g3)
            return of_content, float(((a - b) ** 2).sum() / (b**2).sum())

    for weight in (0.1, 100.0):
        transfer = Transfer(net, content_layer="second", style_layers=["first"], style_weight=weight)
        made = transfer(content, style, steps=40)
        before, after = loss(content, weight), loss(made, weight)
        assert before[0] + weight * before[1] > 1.5 * (after[0] + weight * after[1])
        assert 0 <= made.min() <= made.max() <= 1
    assert loss(made, 1)[1] < 0.1 * loss(content, 1)[1]
    found = transfer(content, style, steps=0)
    assert torch.equal(found, content)


def test_the_search_by_command(folders: Path) -> None:
    (folders / "deep.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    torch.manual_seed(0)\n"
        "    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), *head)\n"
    )
    found = conflicts(method="gatys", network="deep.py:make", content_layer="2", style_layers="0,1", steps=3, pairs=1)
    assert len(found["images"]) == 9
    assert found["recipe"]["network"]["style layers"] == ["0", "1"]
    with pytest.raises(CueError, match="unknown layer '7'"):
        conflicts("other", method="gatys", network="deep.py:make", content_layer="7", style_layers="0")
    with pytest.raises(CueError, match="is no VGG"):
        conflicts("other", method="gatys", network="deep.py:make")


BAD = {
    "no textures": ({"textures": "empty"}, "no image in 'empty'"),
    "no labels": ({"textures": "flat"}, "the images of flat have no labels"),
    "nothing in common": ({"textures": "others"}, "shapes and others have no class in common"),
    "one class in common": ({"textures": "one"}, "only the class 'red' in common"),
    "a judge of other classes": ({"judges": "cuescope/world-shape"}, "has no class for the cue categories"),
    "unreadable textures": ({"textures": "broken"}, "no texture image of the class 'blue' is left"),
    "a network without the search": ({"network": "net.py:make"}, "a network without the search"),
    "the search without a network": ({"method": "gatys"}, "the method gatys without a network"),
    "no pairs": ({"pairs": 0}, "pairs is 0"),
    "alpha": ({"alpha": -0.1}, "alpha is -0.1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_error(folders: Path, case: str) -> None:
    Path("empty").mkdir()
    save(Path("flat/a.png"), COLORS["red"], 0)
    for name in COLORS:
        save(Path(f"others/dark{name}/0.png"), COLORS[name], 0)
        save(Path(f"broken/{name}/0.png"), COLORS[name], 0)
    Path("broken/blue/0.png").write_bytes(b"no image")
    for name in ("red", "black"):
        save(Path(f"one/{name}/0.png"), COLORS["red"], 0)
    settings, message = BAD[case]
    with pytest.raises(CueError, match=message):
        conflicts(**settings)
    assert not Path("made").exists()


def test_classes_that_files_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(CueError, match="'t shirt' cannot be distinguished in a file's name from 'T-shirt'"):
        file_names(["T-shirt", "t shirt"])


def test_judges_answer_among_all_their_classes() -> None:
    """A class that the set lacks can still be said: forced to choose among the set's, a judge would be right."""

    class Pink(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[0.0, 0.0, 9.0]]).expand(len(x), 3)

    class Few(WorldImages):
        def __init__(self, variant: Any) -> None:
            super().__init__(variant, count=2)

    names = WorldImages("congruent").classes
    assert names is not None
    space = ClassSpace("three", (names.names[0], names.names[1], "pink"))
    judge = Classifier(Pink(), classes=space, preprocessing=plain(64), name="pink")
    found = judged(Few("congruent"), Few("texture-only"), ["pink"], lambda _: judge)
    assert found.verdicts["pink"]["shapes"] == {"right": 0, "of": 2}
