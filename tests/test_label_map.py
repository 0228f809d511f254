"""What each part shows: known answers of a classifier that sees color in blocks, and of the world's models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.findings import About, Conclusion, Map
from cuescope.data.images import Batch, Box, Sample
from cuescope.instruments.base import Misfit
from cuescope.instruments.label_map import LabelMap
from cuescope.report.draw import maps as drawn
from cuescope.world.images import WorldImages
from toys import COLORS, Constant, toy

ABOUT = About("toy", "toys", COLORS.names)


class Blocks(nn.Module):
    """The mean color of blocks of 4 pixels, times 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 4, 4, bias=False)
        self.conv.weight.data = 10 * torch.eye(3)[:, :, None, None].expand(-1, -1, 4, 4) / 16
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.pool(self.conv(pixels)).flatten(1)


def colored(name: str, *rows: str) -> Sample:
    """An image of 16 x 16 px from rows of four letters, a block each: r, g, b, or . for black."""
    cells = torch.tensor([[[255 * (c == k) for c in row] for row in rows] for k in "rgb"])
    return Sample(name, cells.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8), framing="stimulus")


HALVES = colored("halves", "rrrr", "rrrr", "bbbb", "bbb.")
SPOT = colored("spot", "rrrr", "rrrr", "rrrr", "rrrg")
DARK = colored("dark", "....", "....", "....", "....")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return toy(Blocks())


def seen(classifier: Classifier, *samples: Sample, labels: list[int] | None = None) -> Batch:
    return classifier.see(samples, labels)


def test_what_wins_where(classifier: Classifier) -> None:
    rows = LabelMap().start(classifier).observe(seen(classifier, HALVES, SPOT, DARK, labels=[0, 1, -1]))
    halves, spot, dark = rows.iter_rows(named=True)
    assert (halves["labels"], halves["areas"]) == ([0, 2], [0.5, 7 / 16])
    assert halves["top"] == [0] * 8 + [2] * 7 + [0], "of black, the first of equals"
    assert halves["sure"][-1] == pytest.approx(1 / 3, abs=1e-3)
    assert halves["sure"][0] == pytest.approx(float(torch.tensor([10.0, 0, 0]).softmax(0)[0]), abs=1e-3)
    assert (halves["count"], halves["several"], halves["own"], halves["whole"]) == (2, True, True, True)
    assert (spot["labels"], spot["count"], spot["several"], spot["own"]) == ([0, 1], 1, False, False)
    assert (dark["labels"], dark["count"], dark["own"], dark["whole"]) == ([], 0, None, False)
    assert LabelMap(least_area=1 / 16).start(classifier).observe(seen(classifier, SPOT))["count"].to_list() == [2]
    # .73 of the probability is over .5 and not over .8.
    pale = Sample("pale", HALVES.pixels // 9 + 128, framing="stimulus")
    for least, count in ((0.5, 2), (0.8, 0)):
        assert LabelMap(least=least).start(classifier).observe(seen(classifier, pale))["count"].to_list() == [count]


def found(
    classifier: Classifier, *samples: Sample, labels: list[int] | None = None, least_area: float = 0.1
) -> Conclusion:
    tool = LabelMap(least_area=least_area)
    observer = tool.start(classifier)
    rows = observer.observe(seen(classifier, *samples, labels=labels))
    return tool.conclude(rows, replace(ABOUT, facts=observer.facts))


def test_the_numbers(classifier: Classifier) -> None:
    finding = found(classifier, HALVES, SPOT, DARK, labels=[0, 1, -1])
    assert (finding["labels"].value, finding["labels"].n) == (1.0, 3)
    assert finding["labels"].why == "an interval needs at least 5 images, not 3"
    assert (finding["several"].count, finding["several"].n) == (1, 3)
    assert (finding["nothing"].count, finding["whole"].count) == (1, 2)
    assert (finding["own_label"].count, finding["own_label"].n) == (1, 2)
    assert finding.panels[0].data["values"] == [1, 1, 1]
    assert finding.verdict.names == ("counts", "unchecked")
    assert "each position sees 4 x 4 px" in finding.caveats[0]


def test_positions_in_boxes_and_classes_beside_right_labels(classifier: Classifier) -> None:
    """The upper box of one image is red as its map, the lower one blue but for a corner; the rest is in no box."""
    halves = replace(HALVES, boxes=(Box(0, 0, 16, 8, "red"), Box(8, 8, 16, 16, "Blue"), Box(0, 14, 2, 16, "unicorn")))
    spot = replace(SPOT, boxes=(Box(0, 0, 4, 16, "green"),))
    batch = replace(seen(classifier, halves, spot, DARK), all_labels=((0, 2), (0,), ()))
    observer = LabelMap().start(classifier)
    rows = observer.observe(batch)
    o = [-1]
    assert rows["boxes"].to_list() == [[0] * 8 + o * 2 + [2] * 2 + o * 2 + [2] * 2, [1, *o * 3] * 4, None]
    assert rows["right"].to_list() == [[0, 2], [0], None]
    finding = LabelMap().conclude(rows, replace(ABOUT, facts=observer.facts))
    assert (finding["in_boxes"].value, finding["in_boxes"].n) == (pytest.approx(11 / 16), 2)
    # Beside boxes: both blue blocks of the first are of a class of its boxes; the second has no green there but one.
    assert finding["beside_boxes"].value == pytest.approx((4 + 1) / (4 + 12))
    assert finding["where"].value == pytest.approx(((11 / 12 - 4 / 4) + (0 - 1 / 12)) / 2)
    # No green in the first for the second's box; red of the second where two thirds of the first's boxes are red.
    assert finding["in_boxes"].chance == pytest.approx((0 * 12 + 4 * 8 / 12) / 16)
    assert (finding["precision"].value, finding["recall"].value) == (1, 1)
    assert finding["precision"].chance == pytest.approx((1 + 1) / 2 / 1.5)


def test_half_the_temperature_has_more_classes(classifier: Classifier) -> None:
    pale = Sample("pale", HALVES.pixels // 9 + 128, framing="stimulus")
    rows = LabelMap(least=0.8).start(classifier).observe(seen(classifier, pale))
    assert rows.select("count_half", "count", "count_double").row(0) == (2, 0, 0)


def test_one_image_or_none(classifier: Classifier) -> None:
    assert "red (50%), blue (44%)" in found(classifier, HALVES).sentence
    assert "none of 2 classes in 60% of it (most: red (50%))" in found(classifier, HALVES, least_area=0.6).sentence
    assert "red (50%), and in less than 45% each 1 more" in found(classifier, HALVES, least_area=0.45).sentence
    assert "no part" in found(classifier, DARK).sentence
    assert found(classifier, HALVES)["own_label"].why == "no image has a label"
    assert found(classifier, HALVES)["labels"].interval is None
    none = found(classifier)
    assert none.sentence
    assert {m.value for m in none.measures} == {None}


def test_look_says_what_the_parts_are_beside_the_whole(classifier: Classifier) -> None:
    batch, tool = seen(classifier, HALVES), LabelMap()
    shown = tool.look(classifier, batch, tool.start(classifier).observe(batch))
    assert shown.sentence.endswith("; in parts red (50%), blue (44%).")
    (layer,) = shown.panels[0].figures[0].maps
    assert (layer.legend, layer.name) == (("red", "blue"), "sure parts: 94% of the image")
    batch = seen(classifier, DARK)
    shown = tool.look(classifier, batch, tool.start(classifier).observe(batch))
    assert "no part of it is over 0.5" in shown.sentence


def test_the_images_with_the_most_labels_are_shown(classifier: Classifier) -> None:
    thirds = colored("thirds", "rrgg", "rrgg", "bbbb", "bbbb")
    more = colored("more", "rrrr", "rrrr", "rrrr", "rrbb")
    batch, tool = seen(classifier, DARK, more, HALVES, SPOT, thirds), LabelMap(shown=3)
    rows = tool.start(classifier).observe(batch)
    assert tool.examples(rows) == ["thirds", "halves", "more"]
    (panel,) = tool.illustrate(classifier, batch, rows)
    assert [f.caption.partition(";")[0] for f in panel.figures][1] == "as a whole: red"
    (layer,) = panel.figures[1].maps
    assert layer.legend == ("red", "blue")
    assert layer.values == [[0.0] * 4] * 2 + [[1.0] * 4, [1.0] * 3 + [None]]
    assert layer.strength is not None
    assert layer.strength[0][0] == pytest.approx(0.8, abs=1e-2)
    pale = seen(classifier, Sample("pale", HALVES.pixels // 9 + 128, framing="stimulus"))
    rows = tool.start(classifier).observe(pale)
    (panel,) = tool.illustrate(classifier, pale, rows)
    wanted = 0.25 + 0.55 * (rows["sure"][0][0] - 0.5) / 0.5
    assert panel.figures[0].maps[0].strength[0][0] == pytest.approx(wanted, abs=1e-3)  # type: ignore[index]
    assert 0.3 < wanted < 0.7


def test_a_label_is_laid_on_as_strongly_as_it_is_sure() -> None:
    gray = np.full((40, 40, 3), 100, np.uint8)
    layer = Map("labels", [[0, 0], [1, 1]], legend=("a", "b"), strength=[[0.0, 0.5], [1.0, 1.0]])
    laid = drawn.overlay(gray, layer).astype(float)
    bare, half, (first, second) = laid[0, 0], laid[0, -1], drawn.label_colors(layer).values()
    assert bare.tolist() == [115] * 3
    assert np.allclose(half, (bare + first) / 2, atol=1)
    assert laid[-1, 0].tolist() == list(second)


def test_who_cannot_be_asked() -> None:
    for odd, why in ((toy(Constant()), ""), (Classifier(lambda p: p.mean((2, 3))), "it is a black box")):
        with pytest.raises(Misfit, match=f"has no dense head: {why}"):
            LabelMap().start(odd)


@pytest.mark.parametrize("wrong", [{"images": 0}, {"least": 0.4}, {"least_area": 1.5}, {"shown": -1}])
def test_values_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LabelMap(**wrong)


def test_it_finds_the_objects_of_the_world() -> None:
    """Where both cues agree, a model of the world finds most of several objects, and little else."""
    classifier, images = load("cuescope/world-congruent"), WorldImages("several", count=24)
    samples = [images.read(i) for i in range(24)]
    rows = LabelMap().start(classifier).observe(classifier.see(samples))
    names, right, said, there = classifier.classes.names, 0, 0, 0
    for sample, labels, count in zip(samples, rows["labels"], rows["count"], strict=True):
        told, true = {names[k] for k in labels.to_list()[:count]}, {box.name for box in sample.boxes}
        right, said, there = right + len(told & true), said + len(told), there + len(true)
    assert right / there > 0.75
    assert right / said > 0.65
