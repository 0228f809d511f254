"""A classifier: what turns pixels into logits. It owns its resize, crop, normalization, device and precision.

INTERFACE FIXED; body to be written.
"""

from __future__ import annotations
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import torch
from torch import Tensor, nn
from cuescope.classes import ClassSpace
from cuescope.images import Batch, Sample


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded photograph becomes network input: what the report prints."""

    size: tuple[int, int]  # (H, W) of the input
    resize: int | tuple[int, int]  # short side, or (H, W)
    interpolation: str  # "bilinear" | "bicubic", always antialiased
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str  # where it was read: "timm pretrained_cfg", ...
    center_crop: bool = True


class Classifier:
    name: str  # as the user wrote it
    classes: ClassSpace
    module: nn.Module | None  # None: black box
    capabilities: frozenset[str]  # {"logits", "features", "gradients", "patch_logits"}
    preprocessing: Preprocessing
    device: torch.device
    precision: str  # "float32" | "bfloat16"
    batch_size: int
    notes: tuple[str, ...]  # folded, channels-last, compiled, random weights, ...
    digest: str  # hash of weights + architecture text + preprocessing + precision

    def prepare(self, samples: Sequence[Sample]) -> Tensor: ...
    def logits(self, pixels: Tensor) -> Tensor: ...
    def see(self, samples: Sequence[Sample], labels: Sequence[int] | None = None) -> Batch: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    def features(self, pixels: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]: ...
    def patch_logits(self, pixels: Tensor) -> Tensor: ...
