"""Invariance: classifiers that something leaves cold, a plain twin, and the arithmetic of the measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.transform import scaled, shifted, turned
from cuescope.data.preprocessing import Preprocessing
from cuescope.instruments.invariance import Invariance
from cuescope.instruments.registry import build
from toys import COLORS, Constant, MeanColor, colored, toy

ABOUT = About("toy", "toys", COLORS.names)
COARSE = {"translation_px": 56, "translation_step_px": 28, "scale_step": 0.4, "rotation_step": 90.0}
MEAN = (0.25, 0.5, 0.75)


def network(seed: int = 0) -> nn.Sequential:
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made.eval()


def gray(module: nn.Module, size: int = 16) -> Classifier:
    """A classifier whose mean pixel is `MEAN`."""
    how = Preprocessing((size, size), size, "bilinear", MEAN, (1.0, 1.0, 1.0), "toy")
    return Classifier(module, classes=COLORS, preprocessing=how, name="toy")


def look(module: nn.Module, count: int = 3, **settings: Any) -> tuple[pl.DataFrame, Conclusion]:
    tool = Invariance(**{**COARSE, **settings})
    classifier = toy(module)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(colored(count, 16), [i % 3 for i in range(count)]))
    return rows, tool.conclude(rows, replace(ABOUT, facts=observer.facts))


def test_rows_are_those_of_a_plain_loop() -> None:
    """The slow twin: one image and one transform at a time, each layer asked for by name."""
    classifier, tool = gray(network()), Invariance(**COARSE, horizontal=True)  # type: ignore[arg-type]
    batch = classifier.see(colored(2, 16), [2, -1])
    observer = tool.start(classifier)
    rows = observer.observe(batch)

    def features(pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps = classifier.features(pixels[None], ["1", "3"])
        return maps["1"].flatten(), maps["3"].mean((2, 3)).flatten()

    for i, row in enumerate(rows.iter_rows(named=True)):
        pixels = batch.pixels[i]
        tracked = [2, int(batch.logits[1].argmax())][i]
        views = {
            "vertical": [shifted(pixels, px, 0, MEAN) for px in (-4, -2, 0, 2, 4)],
            "horizontal": [shifted(pixels, 0, px, MEAN) for px in (-4, -2, 0, 2, 4)],
            "scale": [scaled(pixels, factor, MEAN) for factor in (1.0, 1.4, 1.8)],
            "rotation": [turned(pixels, degrees, MEAN) for degrees in (0.0, 90.0, 180.0, 270.0)],
        }
        own = features(pixels)
        for kind, images in views.items():
            assert len(observer.facts[f"{kind}_at"]) == len(images)
            for k, view in enumerate(images):
                for side, seen, before in zip(("low", "high"), features(view), own, strict=True):
                    assert row[f"{kind}_{side}"][k] == pytest.approx(float((seen - before).norm()), rel=1e-4, abs=1e-5)
                said = [int(classifier.logits(x[None]).argmax()) for x in (view, pixels)]
                assert row[f"{kind}_stays"][k] == (said[0] == said[1])
                p = float(classifier.logits(view[None]).double().softmax(1)[0, tracked])
                assert row[f"{kind}_p"][k] == pytest.approx(p, abs=1e-6)
        assert row["high_own"] == pytest.approx(own[1].tolist(), abs=1e-5)
        assert (row["tracked"], row["label"]) == (tracked, [2, None][i])


def test_the_image_as_it_is_has_distance_0_exactly() -> None:
    rows, _ = look(network())
    for row in rows.iter_rows(named=True):
        for kind, k in (("vertical", 2), ("scale", 0), ("rotation", 0)):
            assert Invariance(**COARSE).steps(kind, (16, 16))[k] in (0, 1)  # type: ignore[arg-type]
            assert row[f"{kind}_low"][k] == row[f"{kind}_high"][k] == 0
            assert row[f"{kind}_p"][k] == row["p_clean"]


def test_a_turn_by_360_degrees_is_none() -> None:
    rows, _ = look(network(), rotation_most=360.0)
    assert Invariance(rotation_most=360.0, rotation_step=90.0).steps("rotation", (16, 16))[-1] == 360
    for row in rows.iter_rows(named=True):
        assert row["rotation_low"][-1] == pytest.approx(0, abs=1e-5)
        assert row["rotation_p"][-1] == pytest.approx(row["p_clean"], abs=1e-6)


def mean_classifier() -> Classifier:
    return toy(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))


def test_a_mean_is_not_moved_where_what_comes_in_is_the_mean() -> None:
    """Every row of the image has the mean that the frame is filled with, so shifts up and down leave the mean."""
    classifier = mean_classifier()
    pixels = torch.tensor([27, 228]).repeat(8).expand(3, 16, 16).to(torch.uint8)
    batch = classifier.see([Sample("rows", pixels)])
    row, black = (
        Invariance(**COARSE, fill=fill, horizontal=True).start(classifier).observe(batch).row(0, named=True)  # type: ignore[arg-type]
        for fill in ("gray", "black")
    )
    assert row["vertical_high"] == pytest.approx([0] * 5, abs=1e-5)
    assert np.ptp(row["vertical_p"]) < 1e-6
    assert row["horizontal_high"] == pytest.approx([0] * 5, abs=1e-5), "even shifts, and columns in pairs"
    length = np.linalg.norm(black["high_own"])
    assert np.array(black["vertical_high"]) / length == pytest.approx([0.25, 0.125, 0, 0.125, 0.25], abs=1e-5)


def test_features_that_are_the_same_for_all_images_have_no_distance() -> None:
    classifier = mean_classifier()
    tool = Invariance(**COARSE)  # type: ignore[arg-type]
    observer = tool.start(classifier)
    black = torch.zeros(3, 16, 16, dtype=torch.uint8)
    rows = observer.observe(classifier.see([Sample("a", black), Sample("b", black)]))
    finding = tool.conclude(rows, replace(ABOUT, facts=observer.facts))
    assert finding["high_vertical"].value is None
    assert finding["high_vertical"].why == "its features are the same for all images"
    assert finding["kept_near_vertical"].value == pytest.approx(1)
    one = tool.conclude(rows.head(1), replace(ABOUT, facts=observer.facts))
    assert one["high_vertical"].why == "one image has no other one to be compared with"


def test_distances_depend_neither_on_the_scale_nor_on_the_offset_of_features() -> None:
    """In lengths of the feature vector a large bias made every distance small."""
    plain, other = network(), network()
    with torch.no_grad():
        other[2].weight *= 100
        other[2].bias.mul_(100).add_(1000)  # far above 0, where the ReLU leaves everything as it is
        plain[2].bias.add_(10)
    found = [look(module, count=6)[1] for module in (plain, other)]
    for name in ("low_vertical", "high_vertical", "high_scale", "high_rotation", "low_over_high", "rise_high"):
        assert found[1][name].value == pytest.approx(found[0][name].value, rel=0.05), name


def test_the_answer_that_stays_does_not_depend_on_the_scale_of_logits() -> None:
    class Cooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, pixels: Tensor) -> Tensor:
            return self.inner(pixels) / 8

    one, other = look(network(), count=8)[1], look(Cooled(), count=8)[1]
    assert one["stays_far_rotation"].value == other["stays_far_rotation"].value
    assert one["kept_far_vertical"].value != pytest.approx(other["kept_far_vertical"].value, rel=1e-4)
    assert not any(measure.better or measure.per_image for measure in one.measures)


def test_an_answer_that_is_always_the_same_is_not_praised_for_staying() -> None:
    assert look(Constant(), count=90)[1].verdict.names == ("one_answer",)
    names = look(MeanColor(), count=90)[1].verdict.names
    assert names == ("stays",)
    assert look(MeanColor(), count=6)[1].verdict.names == ("unsure",)


def test_turns_do_not_move_a_mean_and_shifts_do() -> None:
    _, finding = look(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    assert finding["high_rotation"].value == pytest.approx(0, abs=1e-5)
    assert finding["high_vertical"].value > 0.05  # type: ignore[operator]
    assert finding.verdict.names[-1] == "features"


def test_a_classifier_without_layers_still_has_its_answer() -> None:
    _, finding = look(MeanColor())
    assert "neither a convolution" in finding["low_vertical"].why
    assert finding["kept_far_rotation"].value == pytest.approx(1, abs=1e-5)
    assert finding["kept_far_vertical"].value < 0.99  # type: ignore[operator]
    assert [p.name for p in finding.panels] == ["stays_vertical", "stays_scale", "stays_rotation"]
    _, constant = look(Constant())
    assert all(
        constant[f"kept_{k}"].value == pytest.approx(1)
        for k in ("near_vertical", "near_scale", "far_scale", "far_rotation")
    )


def rows_of(*images: dict[str, Any]) -> pl.DataFrame:
    start, _ = look(network(), count=1)
    rows = []
    for i, values in enumerate(images):
        rows.append({**start.row(0, named=True), "id": str(i), **values})
    return pl.DataFrame(rows, schema=start.schema)


def test_measures_are_ratios_of_means_over_images() -> None:
    one = {"vertical_low": [1.0, 0.9, 0.0, 0.7, 1.2], "low_own": [0.0, 0.0], "high_own": [0.0]}
    one |= {"vertical_high": [0.4, 0.2, 0, 0.2, 0.4], "p_clean": 0.8, "vertical_p": [0.2, 0.7, 0.8, 0.5, 0.2]}
    one |= {"vertical_stays": [0.0, 1.0, 1.0, 1.0, 0.0], "answer": 1}
    two = {"vertical_low": [1.0, 0.6, 0.0, 0.6, 1.0], "low_own": [0.0, 2.0], "high_own": [4.0]}
    two |= {"vertical_high": [0.8, 0.4, 0, 0.4, 0.8], "p_clean": 0.2, "vertical_p": [0.0, 0.2, 0.2, 0.2, 0.0]}
    two |= {"vertical_stays": [0.0, 0.0, 1.0, 1.0, 1.0], "answer": 1}
    facts = {f"{kind}_at": Invariance(**COARSE).steps(kind, (16, 16)) for kind in ("scale", "rotation")}  # type: ignore[arg-type]
    facts |= {"vertical_at": [-20.0, -10.0, 0.0, 10.0, 20.0]}
    names = {f"{side}_{what}": "" for side in ("low", "high") for what in ("name", "why")}
    finding = Invariance().conclude(rows_of(one, two), replace(ABOUT, facts={**facts, **names}))
    assert finding["low_vertical"].value == pytest.approx(0.7 / 2)
    assert finding["high_vertical"].value == pytest.approx(0.3 / 4)
    assert finding["low_over_high"].value == pytest.approx(0.35 / 0.075)
    assert finding["rise_low"].value == pytest.approx(1.4 / 2.1)
    assert finding["rise_high"].value == pytest.approx(0.5), "a straight line"
    assert finding["kept_near_vertical"].value == pytest.approx(0.8 / 1.0)
    assert finding["kept_far_vertical"].value == pytest.approx((1.6 / 4 + 0.4 / 4) / 1.0)
    assert finding["stays_near_vertical"].value == pytest.approx(3 / 4)
    assert finding["stays_far_vertical"].value == pytest.approx(4 / 8)
    assert finding["stays_far_vertical"].chance == 1
    assert any("50%" in caveat for caveat in finding.caveats)
    assert finding["low_vertical"].title.startswith("distance at the low layer after one shift by 10 px")
    features = next(p for p in finding.panels if p.name == "features_vertical").data
    assert [s["name"] for s in features["series"]] == ["low layer", "high layer"]
    assert features["series"][0]["y"] == pytest.approx([0.5, 0.375, 0.0, 0.325, 0.55])


def test_one_image_has_curves_without_bands() -> None:
    _, finding = look(network(), count=1)
    series = next(p for p in finding.panels if p.name == "stays_rotation").data["series"]
    assert "low" not in series[0]
    assert finding["low_vertical"].interval is None


def test_shifts_to_the_sides_on_request() -> None:
    with pytest.raises(KeyError):
        look(network())[1]["low_horizontal"]
    rows, finding = look(network(), horizontal=True)
    assert finding["low_horizontal"].value > 0  # type: ignore[operator]
    assert rows["horizontal_low"].null_count() == 0
    assert Invariance(**COARSE).steps("horizontal", (16, 64)) == [-56.0, -28.0, 0.0, 28.0, 56.0]  # type: ignore[arg-type]
    assert len(Invariance().steps("horizontal", (8, 224))) == 13
    assert "stays_horizontal" in [panel.name for panel in finding.panels]


def test_other_layers_by_name_and_near_names() -> None:
    assert Invariance(low_layer="2").start(toy(network())).facts["low_name"] == "2"
    _, finding = look(network(), low_layer="2")
    assert any("The low layer is 2." in caveat for caveat in finding.caveats)
    with pytest.raises(CueError, match="'33'"):
        look(network(), high_layer="33")


def test_strips() -> None:
    tool, classifier = Invariance(**COARSE), toy(network())  # type: ignore[arg-type]
    batch = classifier.see(colored(8, 16), [0] * 8)
    rows = tool.start(classifier).observe(batch)
    assert tool.examples(rows) == ["0000.png", "0004.png"]
    (panel,) = tool.illustrate(classifier, batch.select([5]), rows.filter(pl.col("id") == "0005.png"))
    (figure,) = panel.figures
    stays = rows.row(5, named=True)["rotation_stays"]
    assert "all" not in figure.caption
    assert figure.caption.endswith(f"and {int(sum(stays)) - 1} of {len(stays) - 1} turns")
    assert figure.pixels is not None
    assert figure.pixels.shape == (3 * 20 - 4, 5 * 20 - 4, 3)
    wanted = (shifted(batch.pixels[5], -4, 0, (0, 0, 0)) * 255).round().byte().permute(1, 2, 0).numpy()
    assert (figure.pixels[:16, :16] == wanted).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"images": 0},
        {"rotation_step": 0},
        {"translation_step_px": 61},
        {"scale_most": 1.05},
        {"rotation_most": 5},
        {"fill": "red"},
    ],
)
def test_parameters_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(CueError, match="invariance"):
        build("invariance", setting)


@pytest.mark.real
def test_the_low_layer_of_a_real_network_jumps_and_its_answer_does_not_stand_turns(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_folder

    classifier = load(f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}")
    images = read_folder(data / "imagenet-sample")
    samples = [images.read(i) for i in range(0, 500, 100)]
    tool = Invariance(translation_step_px=20, scale_step=0.4, rotation_step=60)
    observer = tool.start(classifier)
    finding = tool.conclude(observer.observe(classifier.see(samples)), replace(ABOUT, facts=observer.facts))
    assert finding["low_over_high"].value > 2  # type: ignore[operator]
    assert finding["rise_low"].value > finding["rise_high"].value + 0.1  # type: ignore[operator]
    assert finding["stays_far_rotation"].value < 0.7  # type: ignore[operator]


def test_look_shows_moved_images_and_after_how_many_steps_the_answer_stays() -> None:
    tool, classifier = Invariance(**COARSE), toy(network())  # type: ignore[arg-type]
    batch = classifier.see(colored(1, 16))
    row = tool.start(classifier).observe(batch)
    seen = tool.look(classifier, batch, row)
    kept = [int(sum(row[f"{kind}_stays"][0])) - 1 for kind in tool.kinds]
    assert f"after {kept[0]} of 4 shifts up and down, {kept[1]} of" in seen.sentence
    figures = {figure.caption.partition(":")[0]: figure for figure in seen.panels[0].figures}
    assert next(iter(figures)) == "shifted down by -56 px"
    assert "shifted down by 0 px" not in figures
    wanted = (shifted(batch.pixels[0], -4, 0, (0, 0, 0)) * 255).round().byte().permute(1, 2, 0).numpy()
    assert (figures["shifted down by -56 px"].pixels == wanted).all()
