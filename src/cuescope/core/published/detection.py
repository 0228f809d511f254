"""Detection on PASCAL VOC and COCO as it is published: folds, sizes, schedules, metrics, and values to stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cuescope.core.findings import Published

PresetName = Literal["voc07", "voc12", "coco"]


@dataclass(frozen=True)
class Preset:
    """How a data set is used: what is learned from and held out, the settings, and the measure that ranks."""

    folds: tuple[str, str]
    settings: Mapping[str, Any]
    ranks: str
    """The measure by which models are compared: map50_eleven, map50_area or map."""
    published: Mapping[str, tuple[Published, ...]] = field(default_factory=dict)
    """Values by measure; those of masks begin with mask_."""


_GEIRHOS = "Geirhos et al. 2019, table 2: Faster R-CNN without a pyramid, so compare differences alone"
_TORCHVISION = "torchvision, weights COCO_V1"
# The schedule of VOC is that of detectors in mmdetection: 4 epochs of images seen 3 times each, the rate falls after 3.
_VOC = {"size_px": 600, "longest_px": 1000, "epochs": 12, "drop_every": 9, "learning_rate": 0.01}

PRESETS: Mapping[PresetName, Preset] = {
    "voc07": Preset(
        ("trainval", "test"),
        _VOC,
        "map50_eleven",
        {"map50_eleven": (Published("ResNet-50", 0.707, _GEIRHOS), Published("Shape-ResNet", 0.751, _GEIRHOS))},
    ),
    "voc12": Preset(("train", "val"), _VOC, "map50_area"),
    "coco": Preset(
        ("train2017", "val2017"),
        {"size_px": 800, "longest_px": 1333, "epochs": 26, "drop_every": 16, "learning_rate": 0.02},
        "map",
        {
            "map50": (Published("ResNet-50", 0.523, _GEIRHOS), Published("Shape-ResNet", 0.552, _GEIRHOS)),
            "map": (Published("ResNet-50-FPN", 0.370, _TORCHVISION),),
            "mask_map": (Published("ResNet-50-FPN", 0.346, _TORCHVISION),),
        },
    ),
}
