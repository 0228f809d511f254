"""Accuracy on images that show one cue alone: folders by what they show, and classifiers whose strategy is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cuescope.classifier.classifier import Classifier
from cuescope.core import published
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.core.published.stimuli import OBJECTS
from cuescope.data.images import ImageSet
from cuescope.data.readers import CueSet, read_cues
from cuescope.instruments.cue_accuracy import CueAccuracy
from cuescope.runs.inputs import open_inputs
from toys import toy

IMAGENET = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))
SPACE = ClassSpace("animals", ("cat", "dog", "elk"))


class Brightest(torch.nn.Module):
    """Names the brightest channel: red is cat, green is dog, blue is elk."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


def put(root: Path, name: str, channel: int) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., channel] = 200
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / name)


def asked(classifier: Classifier, images: ImageSet) -> Conclusion:
    tool = CueAccuracy()
    rows = tool.observe(classifier, classifier.see([images.read(i) for i in range(len(images))]))
    return tool.conclude(rows, About("toy", images.name, classifier.classes.names, classifier.classes.name))


def test_each_cue_has_its_own_accuracy(tmp_path: Path) -> None:
    put(tmp_path, "filled-silhouettes/cat/cat1.png", 0)
    put(tmp_path, "filled-silhouettes/dog/dog10.png", 2)
    put(tmp_path, "texture/elk3.png", 2)
    put(tmp_path, "Edge/dnn/session-1/0001_edg_s01_0_dog_00_dog7.png", 1)
    put(tmp_path, "Edge/dnn/session-1/0002_edg_s01_0_dog_00_cat7.png", 1)
    put(tmp_path, "Edge/dnn/session-1/0003_edg_s01_0_dog_00_elk7.png", 1)
    put(tmp_path, "style-transfer/cat1-dog1.png", 1)
    images = read_cues(tmp_path)
    assert images.notes == ("images by what they show: silhouettes (2), edges (3), textures (1)",)
    conclusion = asked(toy(Brightest(), SPACE, size=8), images)
    counted = {m.name: (m.count, m.n) for m in conclusion.measures if m.value is not None}
    assert counted == {"silhouettes": (1, 2), "edges": (1, 3), "textures": (1, 1)}
    assert conclusion["greyscale"].why == "there are no such images"
    assert conclusion["edges"].chance == pytest.approx(1 / 3), "it always says dog, and one of three images is a dog"
    assert conclusion["edges"].published == (), "nobody was asked about these classes"
    assert conclusion.verdict.names == ("cannot_tell",), "two or three images of each kind say nothing"
    assert [r["label"] for r in conclusion.panels[0].data["rows"]] == ["silhouettes", "edges", "textures"]


def test_people_stand_beside_an_imagenet_classifier(tmp_path: Path) -> None:
    class Airplane(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(pixels),), 404), 1000).float() * 9

    for name in OBJECTS:
        put(tmp_path, f"edges/{name}.png", 0)
        put(tmp_path, f"silhouettes/{name}.png", 0)
    (tmp_path / "silhouettes" / "airplane1.png").rename(tmp_path / "silhouettes" / "airplane11.png")
    conclusion = asked(toy(Airplane(), IMAGENET, size=8), read_cues(tmp_path))
    assert (conclusion["edges"].value, conclusion["edges"].chance) == (1 / 16, 1 / 16)
    assert conclusion["silhouettes"].published == (), "these are not the authors' own"
    assert {p.who: p.value for p in conclusion["edges"].published}["ResNet-50 (torchvision)"] == 0.181
    people = conclusion.panels[0].data["marks"][0]
    assert (people["who"], people["values"]) == ("people", [None, 0.871])


def test_the_set_is_ordered_and_its_digest_tells_of_each_file(tmp_path: Path) -> None:
    for name in ("textures/cat1.png", "edges/cat1.png", "edges/dog1.png"):
        put(tmp_path, name, 0)
    images = read_cues(tmp_path)
    assert [images.id(i) for i in range(3)] == ["edges/cat1.png", "edges/dog1.png", "textures/cat1.png"]
    assert [images.read(i).id for i in range(3)] == [images.id(i) for i in range(3)]
    assert [dict(images.read(i).cues)["shown"] for i in range(3)] == ["edges", "edges", "textures"]
    before = images.digest
    put(tmp_path, "edges/elk1.png", 0)
    assert read_cues(tmp_path).digest != before
    assert read_cues(tmp_path, limit=2).digest != read_cues(tmp_path).digest
    assert [read_cues(tmp_path, limit=2).id(i) for i in range(2)] == ["edges/cat1.png", "textures/cat1.png"]


def test_what_a_file_shows_must_be_in_its_name(tmp_path: Path) -> None:
    put(tmp_path, "edges/12.png", 0)
    put(tmp_path, "edges/cat1.png", 0)
    (tmp_path / "edges" / "dog1.png").write_bytes(b"no image")
    ((_, sample),), lost = next(read_cues(tmp_path).stream([[0, 1, 2]]))
    assert sample.id == "edges/cat1.png"
    assert [s.id for s in lost] == ["edges/12.png", "edges/dog1.png"]
    assert lost[0].why.startswith("the file name does not say what it shows")


def test_folders_that_show_nothing_known_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CueError, match="no folder of stimuli"):
        read_cues(tmp_path)
    put(tmp_path, "edges/cat1.png", 0)
    (tmp_path / "edge").mkdir()
    with pytest.raises(CueError, match=r"'edge' and 'edges' in .* both show edges"):
        read_cues(tmp_path)
    with pytest.raises(CueError, match="world:COUNT"):
        open_inputs({"cues": "world:many"})
    (tmp_path / "edges" / "cat1.png").unlink()
    (tmp_path / "edge").rmdir()
    with pytest.raises(CueError, match="no image in"):
        read_cues(tmp_path)


@pytest.mark.parametrize(("model", "sees", "blind"), [("world-shape", "silhouettes", "textures")])
def test_the_world_s_networks_need_the_cue_they_were_taught(model: str, sees: str, blind: str) -> None:
    from cuescope import load

    images = open_inputs({"cues": "world:48"})["cues"]
    assert isinstance(images, CueSet)
    conclusion = asked(load(f"cuescope/{model}", device="cpu"), images)
    assert (conclusion["original"].value or 0) > 0.9
    assert (conclusion[sees].value or 0) > 0.9
    assert (conclusion[blind].value or 0) < 0.3


def test_every_published_row_has_all_cues() -> None:
    assert all(tuple(values) == published.CUES for values in published.CUE_ACCURACY.values())
    assert set(published.CUE_ACCURACY) == set(published.SHAPE_BIAS) == set(published.SHAPE_BIAS_BY_CATEGORY)
