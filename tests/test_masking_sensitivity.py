"""Masking by heatmaps: classifiers that read one cell or nothing, and the arithmetic of the curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Batch, Sample
from cuescope.instruments.masking_sensitivity import OWN, MaskingSensitivity
from cuescope.instruments.registry import build
from cuescope.methods.attribution.masking import Masking, counts
from cuescope.world.images import WorldImages
from toys import MeanColor, toy

TWO = ClassSpace("two", ("rough", "smooth"))
ABOUT = About("toy", "toys", TWO.names)
GRADIENTS = ("saliency", "integrated_gradients", "deeplift")


class OneCell(nn.Module):
    """Says rough where the upper left of the four pixels at (8, 4) is darker than their mean."""

    def forward(self, pixels: Tensor) -> Tensor:
        cell = pixels[:, :, 8:10, 4:6].mean(1)
        rough = 40 * (cell.mean((1, 2)) - cell[:, 0, 0]) - 10
        return torch.stack([rough, torch.zeros_like(rough)], 1)


class Sure(nn.Module):
    """Never in doubt, whatever it sees."""

    def forward(self, pixels: Tensor) -> Tensor:
        sure = 40 + 0 * pixels.mean((1, 2, 3))
        return torch.stack([sure, torch.zeros_like(sure)], 1)


class Patches(nn.Module):
    """Each patch of 4 px, 4 px apart, says how bright it is: the mean is what OneCell's peer could see."""

    receptive_field_px, stride_px = 4, 4

    def patch_logits(self, pixels: Tensor) -> Tensor:
        bright = torch.nn.functional.avg_pool2d(pixels, 4).mean(1, keepdim=True)
        return torch.cat([bright, -bright], 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


def spotted(count: int, size: int = 16) -> list[Sample]:
    made = []
    for i in range(count):
        pixels = torch.zeros(3, size, size, dtype=torch.uint8)
        pixels[:, 8:10, 4:6] = 255
        pixels[:, 8, 4] = i
        made.append(Sample(f"{i}.png", pixels))
    return made


def look(tool: MaskingSensitivity, classifier: Classifier, batch: Batch) -> tuple[pl.DataFrame, Conclusion]:
    observer = tool.start(classifier)
    rows = observer.observe(batch)
    return rows, tool.conclude(rows, replace(ABOUT, facts=observer.facts))


@pytest.mark.parametrize("fill", ["cell", "mean"])
def test_what_reads_one_cell_loses_its_answer_with_it(fill: str) -> None:
    tool = MaskingSensitivity(parts=8, most=16, points=4, fill=fill)  # type: ignore[arg-type]
    classifier = toy(OneCell(), TWO)
    rows, conclusion = look(tool, classifier, classifier.see(spotted(6)))
    row = rows.row(0, named=True)
    facts = {"cell_px": 2, "height": 8, "width": 8, "masked": [0, 1, 4, 9, 16]}
    assert (tool.start(classifier).facts, row["target"]) == (facts, 0)
    for name in GRADIENTS:
        curve = row["curves"][[h.lower().replace(" ", "_") for h in row["heatmaps"]].index(name)]
        assert curve[0] > 0.99
        assert max(curve[1:]) < 0.01, f"{name} finds the cell at once"
        # From 1 to 0 over the first of 16 cells.
        assert conclusion[f"area_{name}"].value == pytest.approx(0.5 / 16, abs=0.01)
        assert conclusion[f"left_{name}"].value == pytest.approx(0, abs=0.01)
    chance = conclusion["area_random"].value
    assert chance is not None
    assert chance > 0.75, "a random cell of 64 hardly ever meets it"
    assert conclusion["mean_area"].chance == chance
    each = [conclusion[f"area_{name}"].value for name in (*GRADIENTS, "class_map") if conclusion[f"area_{name}"].value]
    assert conclusion["mean_area"].value == pytest.approx(np.mean(each))  # type: ignore[arg-type]
    assert conclusion["mean_area"].headline
    assert conclusion["lost_with_all"].value == pytest.approx(1, abs=0.01)
    assert conclusion.verdict.names == ("finds",)
    assert conclusion["area_grad_cam"].value is None
    assert conclusion["area_grad_cam"].why == "its last map is not a convolutional one"
    assert "16 cells (25% of the image)" in conclusion.sentence


def test_with_every_cell_masked_the_color_is_left() -> None:
    classifier = toy(MeanColor())
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    clean = float(classifier.logits(pixels[None]).softmax(1)[0, 1])
    assert Masking(classifier, pixels, 1, 4, (1,)).everything() == pytest.approx(clean, abs=1e-6)
    assert Masking(classifier, pixels, 1, 4, (1,), (0.5, 0.5, 0.5)).everything() == pytest.approx(1 / 3, abs=1e-6)


def test_what_reads_nothing_keeps_its_answer() -> None:
    tool = MaskingSensitivity(parts=8, most=9, points=3)
    classifier = toy(Sure(), TWO)
    _, conclusion = look(tool, classifier, classifier.see(spotted(3)))
    for name in ("random", *GRADIENTS):
        assert conclusion[f"area_{name}"].value == pytest.approx(1)
    assert conclusion.verdict.names == ("hidden",)


def test_the_patches_of_a_peer_are_a_heatmap() -> None:
    classifier, peer = toy(OneCell(), TWO), toy(Patches(), TWO, name="some/patches")
    tool = MaskingSensitivity(parts=8, most=4, points=2)
    batch = replace(classifier.see(spotted(2)), peers=(peer,))
    rows, conclusion = look(tool, classifier, batch)
    # The bright cell lies in the peer's brightest patch, which is at (8, 4) and 4 x 4 px: the cell is one of its four.
    assert conclusion["left_patches_of_patches"].value == pytest.approx(0, abs=0.01)
    assert any("crop the image alike" in caveat for caveat in conclusion.caveats)
    assert rows.row(0, named=True)["heatmaps"] == [*OWN, "patches of patches"]
    _, alone = look(tool, classifier, classifier.see(spotted(2)))
    assert not any("crop the image alike" in caveat for caveat in alone.caveats)
    assert not any(measure.name.startswith("area_patches") for measure in alone.measures)


def test_peers_are_networks_of_local_patches_with_the_same_classes() -> None:
    one, peer = toy(OneCell(), TWO), toy(Patches(), TWO, name="patches")
    other = toy(Patches(), ClassSpace("others", ("left", "right")), name="other classes")
    assert MaskingSensitivity().peers(one, (other, one, peer, toy(Sure(), TWO))) == (peer,)
    assert MaskingSensitivity().peers(peer, (one, peer)) == ()


def test_cells_are_masked_in_order_and_no_others() -> None:
    """The slow twin: cell by cell, pixel by pixel."""
    classifier = toy(Patches(), TWO, size=14)
    pixels = torch.rand(3, 14, 14, generator=torch.Generator().manual_seed(0))
    before, order = pixels.clone(), np.random.default_rng(0).permutation(16)
    for color in (None, (0.1, 0.2, 0.3)):
        masking = Masking(classifier, pixels, 1, 3, (1, 5, 16), color)
        assert masking.grid == (4, 4)
        wanted = []
        for count in masking.counts:
            image = pixels.clone()
            for cell in order[:count]:
                y, x = 3 * (cell // 4), 3 * (cell % 4)
                inside = pixels[:, y : y + 3, x : x + 3]
                paint = inside.mean((1, 2)) if color is None else torch.tensor(color)
                image[:, y : y + 3, x : x + 3] = paint[:, None, None]
            wanted.append(image)
        assert torch.allclose(masking._masked(order), torch.stack(wanted), atol=1e-6)
        expected = classifier.logits(torch.stack(wanted)).softmax(1)[:, 1].tolist()
        assert masking.follow(order) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(pixels, before)


def test_few_cells_first() -> None:
    assert counts(100, 10, 10_000) == (1, 4, 9, 16, 25, 36, 49, 64, 81, 100)
    assert counts(100, 10, 12)[-1] == 12
    assert counts(3, 50, 100) == (1, 2, 3)


def test_rows_are_the_same_whatever_the_seed_of_others() -> None:
    classifier = toy(OneCell(), TWO)
    batch = classifier.see([Sample(name, spotted(1)[0].pixels) for name in "abcdef"])
    one, same, other = (
        look(MaskingSensitivity(parts=8, most=40, points=6, draws=1, seed=s), classifier, batch)[0] for s in (0, 0, 1)
    )
    assert one.equals(same)
    assert not one["area_random"].equals(other["area_random"])
    assert one["area_saliency"].equals(other["area_saliency"])
    assert one["area_random"].n_unique() > 1, "each image has its own order"


def test_missing_heatmaps_do_not_stop_the_others() -> None:
    tool = MaskingSensitivity()
    conclusion = tool.conclude(tool.empty, replace(ABOUT, facts=tool.start(toy(Sure(), TWO)).facts))
    assert conclusion["mean_area"].value is None
    assert all(conclusion[f"area_{name}"].why == "no image was seen" for name in ("random", "saliency", "class_map"))
    assert not conclusion.panels
    assert len(conclusion.measures) == 3 + 2 * len(OWN)


def test_panels_and_figures() -> None:
    classifier = load("cuescope/world-shape")
    world = WorldImages("congruent", count=9, seed=1)
    tool = MaskingSensitivity(most=100, points=4, steps=4, draws=1)
    batch = classifier.see([world.read(i) for i in range(9)])
    rows, conclusion = look(tool, classifier, batch)
    areas, curves = conclusion.panels
    assert [row["label"] for row in areas.data["rows"]] == list(OWN)
    assert [series["name"] for series in curves.data["series"]] == list(OWN)
    for series in curves.data["series"]:
        assert series["x"] == [0, 6, 25, 56, 100]
        assert series["y"][0] == pytest.approx(rows["p_clean"].mean())
    chosen = tool.examples(rows)
    assert len(chosen) == 2
    keep = [i for i in range(9) if batch.ids[i] in chosen]
    (panel,) = tool.illustrate(classifier, batch.select(keep), rows.filter(pl.col("id").is_in(chosen)))
    assert [m.name.partition(":")[0] for m in panel.figures[0].maps] == list(OWN[1:])
    assert panel.figures[0].maps[0].extent == (0.0, 0.0, 1.0, 1.0)
    for heat in panel.figures[0].maps:
        values = np.array(heat.values)
        assert values.shape == (32, 32)
        assert values.max() <= 1
        assert values.min() >= (0 if heat.kind == "heat" else -1)
    best = conclusion["mean_area"]
    assert best.value is not None
    assert best.chance is not None
    assert best.value < best.chance - 0.05, "what it reads can be found"


def test_look_says_what_masking_leaves_of_this_image() -> None:
    classifier = load("cuescope/world-shape")
    batch = classifier.see([WorldImages("congruent", count=1, seed=1).read(0)])
    tool = MaskingSensitivity(most=100, points=4, steps=4, draws=1)
    row = tool.start(classifier).observe(batch)
    seen = tool.look(classifier, batch, row)
    pictures, plot = seen.panels
    left = {dot["label"]: dot["value"] for dot in plot.data["rows"]}
    curves = dict(zip(row["heatmaps"][0], row["curves"][0], strict=True))
    assert left == {
        "nothing": row["p_clean"][0],
        "at random": curves["random"][-1],
        **{name: curves[name][-1] for name in OWN[1:]},
        "all cells": row["p_all"][0],
    }
    lowest = min(OWN[1:], key=left.__getitem__)
    assert f"those that {lowest} ranks highest it is {left[lowest]:.2f}" in seen.sentence
    assert "With 100 of 1024 cells masked at random" in seen.sentence
    assert pictures.figures[0].maps[0].name == f"saliency: P {left['saliency']:.2f} after 100 cells"


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(CueError, match="at least 1"):
        build("masking_sensitivity", {"most": "0"})
    with pytest.raises(CueError, match="fill"):
        build("masking_sensitivity", {"fill": "gray"})


@pytest.mark.real
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_heatmaps_of_real_networks_find_more_than_chance(name: str, data: Path) -> None:
    from cuescope.data.readers import read_folder

    images = read_folder(data / "imagenet-sample")
    classifier = load(f"torchvision/{name}@{data / 'weights' / name}.safetensors")
    batch = classifier.see([images.read(i) for i in range(0, len(images), len(images) // 4)][:4])
    _, conclusion = look(MaskingSensitivity(points=4, draws=1, steps=8), classifier, batch)
    best = conclusion["mean_area"]
    assert best.value is not None
    assert best.chance is not None
    assert best.value < 0.95 * best.chance
    assert all(
        conclusion[f"area_{name}"].value is not None for name in ("saliency", "deeplift", "grad_cam", "class_map")
    )
