"""Typicality: places of known boxes, classifiers whose instability is known, and the numbers written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.data.ops.neighbors import neighbors
from cuescope.data.ops.objects import largest_seen
from cuescope.data.preprocessing import Preprocessing
from cuescope.instruments.registry import build, unmet
from cuescope.instruments.typicality import Typicality, middle_by_chance, with_distance
from cuescope.world.images import CLASSES, WorldImages
from toys import COLORS, Constant, Images, MeanColor, OnePixel, colored, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def made(count: int = 90, **columns: list[object]) -> pl.DataFrame:
    """Rows of images whose objects lie ever farther from the middle, to all sides, and change ever more."""
    turn, far = np.arange(count) * 2.4, np.linspace(0, 0.4, count)
    rows = {
        "id": [f"{i:03d}" for i in range(count)],
        "label": [i % 3 for i in range(count)],
        "x": 0.5 + far * np.cos(turn),
        "y": 0.5 + far * np.sin(turn),
        "width": [0.2] * count,
        "height": [0.3] * count,
        "change": np.where(far > 0.27, 0.75, 0.0),
        "predicted": [i % 3 for i in range(count)],
        "whole": [True] * count,
        "right": [True] * count,
    }
    return pl.DataFrame({**rows, **columns}, schema_overrides={"label": pl.Int32, "predicted": pl.Int32})


def concluded(rows: pl.DataFrame) -> Conclusion:
    return Typicality().conclude(rows, ABOUT)


def test_instability_at_untypical_places_is_found() -> None:
    finding = concluded(made())
    assert finding["change_typical"].value == 0
    assert finding["change_untypical"].value == pytest.approx(0.75, abs=0.05)
    low, high = finding["excess"].interval or (0, 0)
    assert 0.5 < low < (finding["excess"].value or 0) <= high
    assert finding["excess_right"].value == finding["excess"].value
    assert (finding["correlation"].value or 0) > 0.6
    assert finding.verdict.names == ("less", "places")
    curve = next(panel for panel in finding.panels if panel.name == "instability").data["series"][0]
    assert curve["x"] == sorted(curve["x"])
    assert curve["y"][0] == 0
    assert curve["y"][-1] == 0.75


def test_no_difference_is_said_to_be_none() -> None:
    still = concluded(made(change=[0.0] * 90))
    assert still["excess"].value == 0
    low, high = still["excess"].interval or (0, 0)
    assert low < 0 < high, "that nothing changed among 30 images does not mean that nothing can"
    assert still.verdict.names == ("cannot_tell", "places"), "30 images a third are too few to say that there is none"
    assert still["correlation"].value is None
    turned = concluded(made(change=[0.75 * (i < 30) for i in range(90)]))
    assert turned.verdict.names == ("more", "places")
    many = concluded(made(900, change=[0.0] * 900))
    assert many.verdict.names == ("alike", "places")
    blind = concluded(made(900, change=[0.0] * 900, predicted=[0] * 900, right=[i % 3 == 0 for i in range(900)]))
    assert blind.verdict.names == ("cannot_tell", "places"), "it may see nothing"


def test_wrong_answers_can_be_what_changes() -> None:
    """All that changes is answered wrongly: among right answers there is no difference."""
    rows = made()
    finding = concluded(rows.with_columns((pl.col("change") == 0).alias("right")))
    assert (finding["excess"].value or 0) > 0.5
    assert finding["accuracy_typical"].value == 1
    assert (finding["accuracy_untypical"].value or 0) < 0.1
    assert finding["excess_right"].value is None or abs(finding["excess_right"].value) < 0.01
    assert finding.verdict.names == ("wrong", "places")
    unlabeled = concluded(
        rows.with_columns(pl.lit(None, pl.Boolean).alias("right"), pl.lit(None, pl.Int32).alias("label"))
    )
    assert unlabeled["accuracy_typical"].why == "no label is known"
    assert unlabeled["excess_right"].value is None
    assert unlabeled["excess"].value is not None
    assert "classes" not in {panel.name for panel in unlabeled.panels}


def test_distance_is_mahalanobis() -> None:
    rows = made(20, width=(0.2 + 0.01 * (np.arange(20) % 5)).tolist())
    found, why = with_distance(rows)
    assert not why
    values = np.stack([rows["x"], rows["y"], np.log(np.sqrt(rows["width"] * rows["height"]))], 1)
    inverse = np.linalg.inv(np.cov(values.T, bias=True))
    apart = values - values.mean(0)
    expected = {i: float(np.sqrt(d @ inverse @ d)) for i, d in zip(rows["id"], apart, strict=True)}
    assert {i: pytest.approx(d) for i, d in found.select("id", "distance").rows()} == expected
    assert found["distance"].to_list() == sorted(found["distance"])


def test_what_never_differs_is_left_out() -> None:
    """Objects on one line and of one size: the distance is that along the line."""
    count = 20
    rows = made(count, x=np.linspace(0.2, 0.8, count).tolist(), y=[0.5] * count)
    found, why = with_distance(rows)
    assert not why
    along = np.linspace(0.2, 0.8, count)
    expected = np.sort(np.abs(along - 0.5) / along.std())
    assert found["distance"].to_numpy() == pytest.approx(expected)
    alike = rows.with_columns(pl.lit(0.5).alias("x"))
    assert with_distance(alike)[1] == "all objects have the same place and size"
    finding = concluded(alike)
    assert finding["excess"].why == "all objects have the same place and size"
    assert finding["middle"].value == 1
    assert finding.verdict.names == ("nothing", "places")


def test_images_without_a_whole_object() -> None:
    places = ("x", "y", "width", "height")
    none = made(12).with_columns(*(pl.lit(None, pl.Float64).alias(c) for c in places), whole=pl.lit(None, pl.Boolean))
    finding = concluded(none)
    assert finding["middle"].why == "no image shows a whole object"
    assert finding["top1_change"].n == 12
    cut = made(7, change=[0.5] * 7).with_columns(pl.format("cut{}", "id").alias("id"), whole=pl.lit(False))
    mixed = concluded(pl.concat([made(30), none.with_columns(pl.format("none{}", "id").alias("id")), cut]))
    assert mixed["middle"].n == 30
    assert mixed["top1_change"].n == 49
    assert mixed["excess"].n == 20
    assert (mixed["change_cut"].value, mixed["change_cut"].n) == (0.5, 7)
    assert any(caveat.startswith("7 of 49 images show an object that is cut") for caveat in mixed.caveats)
    assert any(caveat.startswith("12 of 49 images have no box in view") for caveat in mixed.caveats)
    few = concluded(made(14))
    assert few["excess"].why == "only 14 images show a whole object"
    assert few["middle"].n == 14


def test_the_box_that_counts_is_the_one_the_network_sees() -> None:
    how = Preprocessing((16, 16), 16)  # of 20 x 40 px the middle 20 x 20 is seen, each px .8
    pixels = torch.zeros(3, 20, 40)

    def seen(*boxes: Box, room_px: int = 0) -> object:
        return largest_seen(Sample("a", pixels, boxes=boxes), how, room_px)

    small, beyond, cut = Box(20, 5, 25, 10), Box(0, 0, 9, 20), Box(25, 0, 40, 20)
    assert seen() is None
    assert seen(beyond) is None
    assert seen(small, beyond) == pytest.approx((0.625, 0.375, 0.25, 0.25, True))
    assert seen(small, cut) == pytest.approx((0.875, 0.5, 0.25, 1.0, False))
    assert seen(Box(11, 1, 29, 19)) == pytest.approx((0.5, 0.5, 0.9, 0.9, True))
    assert seen(Box(11, 1, 29, 19), room_px=1) == pytest.approx((0.5, 0.5, 0.9, 0.9, False)), "a shift would cut it"
    stimulus = Sample("a", pixels, boxes=(beyond,), framing="stimulus")
    assert largest_seen(stimulus, how) == pytest.approx((0.1125, 0.5, 0.225, 1.0, True))


def test_chance_of_the_middle_third() -> None:
    random = np.random.default_rng(0)
    for side in (0.1, 0.5, 0.7):
        centers = random.uniform(side / 2, 1 - side / 2, 20_000)
        assert middle_by_chance(side) == pytest.approx((np.abs(centers - 0.5) < 1 / 6).mean(), abs=0.015)


def test_neighbors_equal_shifts_written_out() -> None:
    image = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    expected = []
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            if (dy, dx) == (0, 0):
                continue
            view = torch.empty_like(image)
            for i in range(6):
                for j in range(7):
                    view[:, :, i, j] = image[:, :, min(max(i + dy, 0), 5), min(max(j + dx, 0), 6)]
            expected.append(view)
    found = list(neighbors(image, 2))
    assert len(found) == len(expected) == 8
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class Corner(nn.Module):
    """Class 1 where the pixel left of the middle is bright: one shift in three moves an edge across it."""

    def forward(self, pixels: Tensor) -> Tensor:
        bright = pixels[:, :, 8, 8].mean(1)
        return torch.stack([1 - bright, bright, torch.zeros_like(bright)], 1)


def test_rows_of_known_classifiers() -> None:
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[:, :, 8:] = 255
    sample = Sample("a", pixels, label=1, boxes=(Box(8, 0, 16, 16),))
    for module, change in ((Corner(), 3 / 8), (OnePixel(), 3 / 8), (Constant(), 0.0), (MeanColor(), 0.0)):
        classifier = toy(module)
        (row,) = Typicality().observe(classifier, classifier.see([sample], [1])).to_dicts()
        assert row["change"] == change
        assert (row["x"], row["y"], row["width"], row["height"]) == (0.75, 0.5, 0.5, 1.0)
        assert not row["whole"], "it reaches the border"
    assert not row["right"]
    far = Typicality(shift_px=8)
    assert far.observe(toy(Corner()), toy(Corner()).see([sample]))["change"].to_list() == [3 / 8]


def test_centered_images_are_found_to_be_so() -> None:
    classifier = toy(Constant(16), size=64, classes=CLASSES)
    found = []
    for placement in ("centered", "uniform"):
        images = WorldImages("congruent", placement=placement, count=60)
        samples = [images.read(i) for i in range(60)]
        tool = Typicality()
        rows = tool.observe(classifier, classifier.see(samples, [s.label or 0 for s in samples]))
        found.append(tool.conclude(rows, dataclasses.replace(ABOUT, classes=classifier.classes.names)))
    centered, uniform = found
    assert centered["middle"].value == 1
    low, high = uniform["middle"].interval or (0, 0)
    assert high < 1
    # By chance a box lies anywhere; the world places the circle around an object, so it is a little more central.
    assert low > (uniform["middle"].chance or 1) > 0.4
    table = next(panel for panel in uniform.panels if panel.name == "classes").data
    assert len(table["rows"]) == 16
    assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_shows_the_most_typical_and_the_least() -> None:
    rows = made()
    chosen = Typicality().examples(rows)
    order = with_distance(rows)[0]["id"].to_list()
    assert chosen == order[:3] + order[-3:]
    assert Typicality().examples(rows.head(2)) == with_distance(rows.head(2))[0]["id"].to_list()


def test_images_without_boxes_are_refused_with_the_reason() -> None:
    photographs = Images(colored(3))
    photographs.name = "photos"
    assert unmet(Typicality(), toy(MeanColor()), photographs) == "the images of photos have no boxes of objects"


def test_parameters_in_range() -> None:
    with pytest.raises(CueError, match="at least 1"):
        build("typicality", {"shift_px": "0"})
