"""Planted classifiers for label_map: one that sees what is where, one that sees what alone, one that sees noise."""

from __future__ import annotations

from dataclasses import replace

import torch

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.instruments.label_map import MARGIN, LabelMap
from cuescope.methods.annotator_score import score_of_positions
from toys import COLORS, toy
from truth.table import breaks, planted, sayable


class Places(torch.nn.Module):
    """The color of each pixel, or of all pixels within `reach` of it, averaged over the image."""

    def __init__(self, reach: int = 0, size: float = 10.0) -> None:
        super().__init__()
        side = 2 * reach + 1
        self.conv = torch.nn.Conv2d(3, 3, side, padding=reach, bias=False)
        self.conv.weight.data = size * torch.eye(3)[:, :, None, None].expand(-1, -1, side, side)
        self.pool = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(pixels)).flatten(1)


def conclude(
    module: torch.nn.Module, n: int = 30, *, shows: bool = True, boxes: bool = True, right: str = ""
) -> Conclusion:
    """The instrument's answer about n images of 4 x 4 px with a bright quarter, of one color in turn, on dim noise.

    Without `shows` the quarter is noise, too. `right` says what labels are known to be right: "shown" or "other".
    """
    random, samples, labels = torch.Generator().manual_seed(3), [], []
    for i in range(n):
        pixels = torch.randint(0, 60, (3, 4, 4), generator=random, dtype=torch.uint8)
        x, y = 2 * (i // 3 % 2), 2 * (i // 6 % 2)
        if shows:
            pixels[i % 3, y : y + 2, x : x + 2] = 250
        box = (Box(x, y, x + 2, y + 2, COLORS.names[i % 3]),) if boxes else ()
        samples.append(Sample(f"{i:03d}", pixels, i % 3, boxes=box, framing="stimulus"))
        labels.append((i % 3,) if right == "shown" else (i * 7 // 3 % 3,))
    classifier, tool = toy(module, size=4), LabelMap(least_area=0.2)
    batch = classifier.see(samples, [s.label or 0 for s in samples])
    observer = tool.start(classifier)
    rows = observer.observe(replace(batch, all_labels=tuple(labels)) if right else batch)
    return tool.conclude(rows, About("toy", "toys", COLORS.names, COLORS.name, observer.facts))


@planted(
    "label_map",
    "truth",
    "names the color of each pixel; objects are bright quarters of a color",
    "the objects are found where they are",
    holds=lambda said: said.verdict.names[0] == "finds_objects" and said["in_boxes"].value == 1,
    broken=breaks("cuescope.instruments.label_map.classes_of_positions", lambda *_: [0] * 16),
    shows=("in_boxes", "beside_boxes"),
)
def sees_where() -> Conclusion:
    return conclude(Places())


@planted(
    "label_map",
    "absence",
    "names the color of the object at each place, wherever the object is",
    "what, but not where",
    holds=lambda said: said.verdict.names[0] == "not_where" and said["beside_boxes"].value == 1,
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: True),
    shows=("in_boxes", "beside_boxes"),
)
def sees_not_where() -> Conclusion:
    return conclude(Places(reach=3), 120)


@planted(
    "label_map",
    "absence",
    "names the color of each pixel, where all pixels are noise and the boxes empty",
    "no objects are found, though a third of the positions is right",
    holds=lambda said: said.verdict.said != "yes" and 0.2 < said["in_boxes"].value < 0.5,
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: True),
    shows=("in_boxes", "beside_boxes"),
)
def sees_noise() -> Conclusion:
    return conclude(Places(), 60, shows=False)


@planted(
    "label_map",
    "truth",
    "names the color of the object; all right labels are known",
    "all classes of its maps are right labels, and none is missing",
    holds=lambda said: said.verdict.names[0] == "labels_fit" and said["precision"].value == said["recall"].value == 1,
    broken=breaks("cuescope.methods.annotator_score.common_by_chance", lambda said, right: 1.0),
    shows=("precision", "recall"),
)
def names_labels() -> Conclusion:
    return conclude(Places(reach=3), boxes=False, right="shown")


@planted(
    "label_map",
    "absence",
    "the classifier that sees where, its logits divided by 8",
    "the objects are found as before: what is in boxes does not depend on the temperature",
    holds=lambda said: said.verdict.names[0] == "finds_objects" and said["labels"].value == 0,
    broken=breaks(
        "cuescope.instruments.label_map.score_of_positions",
        lambda top, boxes: score_of_positions([[0, 0]] * 9, [[1, -1]] * 9),
    ),
    shows=("in_boxes", "labels"),
)
def other_temperature() -> Conclusion:
    return conclude(Places(size=10 / 80))


def above(said: Conclusion, name: str) -> bool:
    measure = said[name]
    return measure.interval is not None and measure.chance is not None and measure.interval[0] > measure.chance


def ends(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def finds(said: Conclusion) -> bool:
    return above(said, "in_boxes") and ends(said, "where")[0] > 0


def not_where(said: Conclusion) -> bool:
    return above(said, "in_boxes") and not finds(said) and ends(said, "where")[1] < MARGIN


def none(said: Conclusion) -> bool:
    measure = said["in_boxes"]
    return not above(said, "in_boxes") and ends(said, "in_boxes")[1] < (measure.chance or 0) + MARGIN


def counted(said: Conclusion) -> int:
    return said["labels"].n


NAME = "label_map"
sayable(NAME, "nothing", lambda said: not counted(said), lambda: conclude(Places(), 0))
sayable(NAME, "one", lambda said: counted(said) == 1, lambda: conclude(Places(), 1))
sayable(NAME, "counts", lambda said: counted(said) > 1, sees_where)
sayable(
    NAME,
    "unchecked",
    lambda said: said["in_boxes"].value is None and said["recall"].value is None,
    lambda: conclude(Places(), 6, boxes=False),
)
sayable(NAME, "finds_objects", finds, sees_where)
sayable(NAME, "not_where", not_where, sees_not_where)
sayable(NAME, "no_objects", none, lambda: conclude(Places(reach=3), 960, shows=False))
sayable(
    NAME, "objects_open", lambda said: not (finds(said) or not_where(said) or none(said)), lambda: conclude(Places(), 3)
)
sayable(NAME, "labels_fit", lambda said: above(said, "precision") and above(said, "recall"), names_labels)
sayable(
    NAME,
    "labels_open",
    lambda said: not (above(said, "precision") and above(said, "recall")),
    lambda: conclude(Places(reach=3), boxes=False, right="other"),
)
