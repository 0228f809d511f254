"""Reciprocal ranks by plain loops, originals found by name, and what counts where they are known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from cuescope.core.classes import SIXTEEN, ClassSpace
from cuescope.core.findings import About
from cuescope.core.ranks import Ranks
from cuescope.data.images import Sample
from cuescope.instruments.cue_sensitivity import CueSensitivity
from cuescope.runs.inputs import open_inputs
from toys import toy

SPACE = ClassSpace("animals", ("cat", "dog", "elk", "T-shirt"))
ABOUT = About("toy", "toys", SPACE.names, SPACE.name)


class Brightest(torch.nn.Module):
    """Red, green and blue are cat, dog and elk; a T-shirt is always last."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([pixels.mean((2, 3)), torch.full((len(pixels), 1), -1.0)], 1)


def put(path: Path, *channels: int) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    for k, channel in enumerate(channels):
        pixels[..., channel] = 200 - 50 * k
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_ranks_are_the_mean_over_all_orders_of_ties() -> None:
    """The slow twin: each order of equal logits in turn."""
    random, labels = torch.Generator().manual_seed(0), {"a": (0,), "b": (1, 4), "c": (2, 3, 5)}
    logits = torch.randint(0, 3, (12, 6), generator=random).float()
    found = Ranks.of(logits, labels)
    for i, row in enumerate(logits.tolist()):
        orders = [order for order in itertools.permutations(range(6)) if falls([row[k] for k in order])]
        for c, index in enumerate(labels.values()):
            ranks = [1 + min(order.index(k) for k in index) for order in orders]
            assert found.expected[i, c] == pytest.approx(np.mean(ranks))
            assert found.reciprocal[i, c] == pytest.approx(np.mean([1 / rank for rank in ranks]))
            if len(index) == 1:
                assert found.among_first(2)[i, c] == pytest.approx(np.mean([rank <= 2 for rank in ranks]))


def falls(values: list[float]) -> bool:
    return all(a >= b for a, b in itertools.pairwise(values))


def test_ranks_do_not_change_with_the_scale_of_logits() -> None:
    logits = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))
    a, b = (Ranks.of(logits * scale + shift, SIXTEEN).reciprocal for scale, shift in ((1, 0), (8, 100)))
    assert np.array_equal(a, b)


def test_the_world_of_file_names_is_that_of_the_classes() -> None:
    sample = Sample("a", torch.zeros(3, 4, 4, dtype=torch.uint8), cues={"shape": "t_shirt", "texture": "cat"})
    classifier = toy(Brightest(), SPACE, size=4)
    rows = CueSensitivity().observe(classifier, classifier.see([sample]))
    assert rows.select("shape", "texture", "shape_rank").row(0) == ("T-shirt", "cat", 4)


def test_originals_are_found_by_name_and_only_recognized_ones_count(tmp_path: Path) -> None:
    for shape, texture in itertools.permutations(("cat", "dog", "elk"), 2):
        for i in (1, 2):
            put(tmp_path / f"conflict/{shape}{i}-{texture}1.png", SPACE.names.index(shape), SPACE.names.index(texture))
    for k, name in enumerate(("cat", "dog", "elk")):
        put(tmp_path / f"cues/original/{name}1.png", k)
        put(tmp_path / f"cues/original/0001_s01_{name}2.png", 2)  # All second ones show an elk.
        put(tmp_path / f"cues/textures/{name}1.png", k)
    put(tmp_path / "photos/a.png", 0)
    given = {role: str(tmp_path / folder) for role, folder in INPUTS.items()}
    images = open_inputs(given)["cue-conflict"]
    assert images.knows >= {"originals"}
    assert images.digest != open_inputs({k: v for k, v in given.items() if k != "cues"})["cue-conflict"].digest
    classifier = toy(Brightest(), SPACE, size=4)
    rows = CueSensitivity().observe(classifier, classifier.see([images.read(i) for i in range(len(images))]))
    assert sorted(set(rows.filter("recognized")["object"])) == ["cat1", "dog1", "elk1", "elk2"]
    said = CueSensitivity().conclude(rows, ABOUT)
    assert (said["recognized"].count, said["recognized"].n) == (8, 12)
    assert (said["shape_sensitivity"].value, said["texture_sensitivity"].value) == (1.0, 0.5)
    assert said["shape_sensitivity"].n == 8
    assert said["preference"].value == pytest.approx(2 / 3)
    assert any("4 images with an original that it does not recognize" in caveat for caveat in said.caveats)
    (tmp_path / "cues/textures/elk1.png").write_bytes(b"no image")
    images = open_inputs(given)["cue-conflict"]
    known = [set(images.read(i).versions) for i in range(len(images)) if "elk1" in images.id(i).split("-")[1]]
    assert known == [{"object"}] * 4, "an original that cannot be read is one that is not known"


INPUTS = {"images": "photos", "cue-conflict": "conflict", "cues": "cues"}


def test_without_originals_the_gate_is_not_applied_and_that_is_said() -> None:
    pixels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    samples = [Sample(f"{i}", pixels, cues={"shape": "cat", "texture": "dog"}) for i in range(3)]
    classifier = toy(Brightest(), SPACE, size=4)
    said = CueSensitivity().conclude(CueSensitivity().observe(classifier, classifier.see(samples)), ABOUT)
    assert said["recognized"].value is None
    assert said["shape_sensitivity"].n == 3
    assert any("--cues" in caveat for caveat in said.caveats)


@pytest.mark.real
def test_real_networks_rank_textures_higher(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_cue_conflict

    classifier = load(f"torchvision/mobilenet_v2@{data}/weights/mobilenet_v2.safetensors")
    images, tool = read_cue_conflict(data / "cue-conflict"), CueSensitivity()
    groups = images.stream([range(i, min(i + 32, len(images))) for i in range(0, len(images), 32)])
    rows = pl.concat([tool.observe(classifier, classifier.see([s for _, s in samples])) for samples, _ in groups])
    said = tool.conclude(rows, About("net", "stimuli", classifier.classes.names, classifier.classes.name))
    shape, texture = said["shape_sensitivity"], said["texture_sensitivity"]
    assert (shape.value, texture.value) == pytest.approx((0.067, 0.310), abs=1e-3)
    assert (shape.chance, texture.chance) == pytest.approx((0.040, 0.039), abs=1e-3)
    assert said.verdict.names == ("reads",)
