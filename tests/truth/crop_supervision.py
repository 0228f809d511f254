"""Planted images for crop_supervision: an object in a corner, one that fills the image, a wrong annotator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.instruments.crop_supervision import MARGIN, CropSupervision
from toys import COLORS, Constant, toy
from truth.table import breaks, planted, sayable

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)
Maps = Callable[[Any], torch.Tensor]


def conclude(box: Box | None = None, n: int = 12, maps: Maps | None = None, label: int = 0) -> Conclusion:
    """The instrument's answer about n images of 100 x 100 px that all have this box, label map and label."""
    pixels, tool = torch.zeros(3, 100, 100, dtype=torch.uint8), CropSupervision(crops=200)
    boxes = () if box is None else (box,)
    samples = [Sample(f"{i}", pixels, label, boxes=boxes, label_map=maps) for i in range(n)]
    classifier = toy(Constant(), size=2)
    return tool.conclude(tool.observe(classifier, classifier.see(samples)), ABOUT)


def halves(crops: Any) -> torch.Tensor:
    """A crop is of class 1 where its middle lies in the right half of the image, else of class 0; the image of 0."""
    middles = np.asarray(crops)[:, 1] + np.asarray(crops)[:, 3] / 2
    return torch.eye(3)[(middles > 0.5).astype(int)]


def always(crops: Any) -> torch.Tensor:
    return torch.eye(3)[[2] * len(crops)]


@planted(
    "crop_supervision",
    "truth",
    "an object of 10 px in the corner of 100 px",
    "most crops miss it, and none overlaps well",
    holds=lambda said: said.verdict.names == ("miss",) and said["missing"].value > 0.6 and said["over_half"].value == 0,
    broken=breaks(
        "cuescope.instruments.crop_supervision.random_resized_crops",
        lambda height, width, count, *more: np.array([[0, 0, height, width]] * count),
    ),
    shows=("missing", "over_half"),
)
def in_the_corner() -> Conclusion:
    return conclude(Box(0, 0, 10, 10))


@planted(
    "crop_supervision",
    "absence",
    "an object that fills the image",
    "hardly any crop misses it",
    holds=lambda said: said.verdict.names == ("hardly_miss",) and said["missing"].value == 0,
    broken=breaks("cuescope.core.findings.Measure.below", lambda measure, bound: False),
    shows=("missing", "over_half"),
)
def fills_the_image() -> Conclusion:
    return conclude(Box(0, 0, 100, 100), 400)


@planted(
    "crop_supervision",
    "truth",
    "a map of class 0 on the left and 1 on the right, of an image labeled 0",
    "half of the crops are of class 1",
    holds=lambda said: said.verdict.names == ("other_label",) and 0.4 < said["other_where_agreed"].value < 0.6,
    broken=breaks(
        "cuescope.instruments.crop_supervision.random_resized_crops",
        lambda height, width, count, *more: np.array([[0, 0, height, width]] * count),
    ),
    shows=("other_where_agreed",),
)
def two_halves() -> Conclusion:
    return conclude(maps=halves)


@planted(
    "crop_supervision",
    "absence",
    "an annotator that says class 2 to everything, of images labeled 0",
    "nothing is said of the crops, though all have another label than the image",
    holds=lambda said: said.verdict.names == ("never_agrees",) and said["other_than_label"].value == 1,
    broken=breaks("cuescope.instruments.crop_supervision._agrees", lambda first, label: True),
    shows=("other_than_label", "other_where_agreed"),
)
def wrong_annotator() -> Conclusion:
    return conclude(maps=always)


def upper(said: Conclusion, name: str) -> float:
    return (said[name].interval or (0.0, 1.0))[1]


NAME = "crop_supervision"
sayable(NAME, "nothing", lambda said: all(m.value is None for m in said.measures), conclude)
sayable(
    NAME,
    "few",
    lambda said: said["missing"].interval is None and said["other_where_agreed"].interval is None,
    lambda: conclude(Box(0, 0, 10, 10), 3),
)
sayable(NAME, "miss", lambda said: upper(said, "missing") >= MARGIN, in_the_corner)
sayable(NAME, "hardly_miss", lambda said: upper(said, "missing") < MARGIN, fills_the_image)
sayable(NAME, "other_label", lambda said: upper(said, "other_where_agreed") >= MARGIN, two_halves)
sayable(
    NAME,
    "hardly_other",
    lambda said: upper(said, "other_where_agreed") < MARGIN,
    lambda: conclude(n=400, maps=always, label=2),
)
sayable(
    NAME,
    "never_agrees",
    lambda said: said["other_than_label"].value == 1 and said["other_where_agreed"].value is None,
    wrong_annotator,
)
