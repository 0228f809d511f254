"""Faster R-CNN and Mask R-CNN with a feature pyramid over any classifier (Ren et al. 2015, He et al. 2017, Lin 2017).

torchvision's, with its constants but for those that `Shape` names.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from cuescope.network.feature_maps import FeatureMaps

RATIOS = (0.5, 1.0, 2.0)
"""Height by width of the anchors of each side."""
ANCHORS = 5
"""Sides of anchors, at least: those of the original's five levels."""
MASK_LAYERS = 4


class Shape(NamedTuple):
    """What is not the same for each detector. Sizes are in px of the resized images."""

    classes: int
    """Without the background."""
    masks: bool
    size_px: int
    longest_px: int
    fixed: tuple[int, int] | None
    """(H, W) that all images are squeezed to, for a backbone that takes no other."""
    anchors: tuple[tuple[int, ...], ...]
    """Their sides, of each level of the pyramid and of the one pooled from the last."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    width: int
    rois: int
    proposals: int


class Pyramid(nn.Module):
    """The maps of a backbone, and their pyramid: what torchvision's detectors call a backbone."""

    def __init__(self, body: FeatureMaps, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, channels
        self.fpn = FeaturePyramidNetwork(list(widths), channels, LastLevelMaxPool())

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(i), maps) for i, maps in enumerate(self.body(pixels))))


def detector(body: FeatureMaps, widths: Sequence[int], shape: Shape) -> FasterRCNN:
    """The detector on maps of so many channels, its own weights new, drawn from torch's global generator.

    It takes a list of images (3, H, W) float in [0, 1], and targets while it learns; see torchvision.
    """
    levels = [str(i) for i in range(len(widths))]
    more: dict[str, Any] = {}
    if shape.masks:
        layers = (shape.channels,) * MASK_LAYERS
        more["mask_roi_pool"] = MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2)
        more["mask_head"] = MaskRCNNHeads(shape.channels, layers, 1)
        more["mask_predictor"] = MaskRCNNPredictor(shape.channels, shape.channels, shape.classes + 1)
    return (MaskRCNN if shape.masks else FasterRCNN)(
        Pyramid(body, widths, shape.channels),
        min_size=shape.size_px,
        max_size=shape.longest_px,
        image_mean=list(shape.mean),
        image_std=list(shape.std),
        rpn_anchor_generator=AnchorGenerator(shape.anchors, (RATIOS,) * len(shape.anchors)),
        rpn_pre_nms_top_n_train=shape.proposals,
        rpn_post_nms_top_n_train=shape.proposals,
        rpn_pre_nms_top_n_test=shape.proposals // 2,
        rpn_post_nms_top_n_test=shape.proposals // 2,
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(shape.channels * 7**2, shape.width),
        box_predictor=FastRCNNPredictor(shape.width, shape.classes + 1),
        box_batch_size_per_image=shape.rois,
        fixed_size=shape.fixed,
        **more,
    )


def spread(low: float, high: float, levels: int) -> tuple[tuple[int, ...], ...]:
    """Sides of anchors from `low` to `high`, in equal ratios: as many of each level, five in all or more.

    >>> spread(16, 64, 5)
    ((16,), (23,), (32,), (45,), (64,))
    """
    each = math.ceil(ANCHORS / levels)
    count = each * levels
    steps = (high / low) ** (1 / max(count - 1, 1))
    sides = [max(2, round(low * steps**k)) for k in range(count)]
    return tuple(tuple(sides[i * each : (i + 1) * each]) for i in range(levels))


def cut(sides: Sequence[int], levels: int) -> tuple[tuple[int, ...], ...]:
    """Given sides of anchors, from small to large, as many of each level: torchvision's head wants that.

    Raises ValueError where they cannot be shared out.
    """
    each, rest = divmod(len(sides), levels)
    if rest or not each:
        raise ValueError(f"{len(sides)} sides of anchors for {levels} levels")
    ordered = sorted(sides)
    return tuple(tuple(ordered[i * each : (i + 1) * each]) for i in range(levels))


def widths_of(body: FeatureMaps, size: tuple[int, int]) -> list[int]:
    """The channels of each level."""
    body.eval()
    with torch.no_grad():
        return [maps.shape[1] for maps in body(torch.zeros(1, 3, *size))]
