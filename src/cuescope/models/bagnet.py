"""BagNet: a network whose logits are an exact average of the logits of local patches (Brendel and Bethge 2019)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.models.seeding import seeded
from cuescope.models.small_resnet import shortcut

MAPS = {torch.float32: 1, torch.bfloat16: 4}
"""Shifted maps that `display_logits` computes together: as many as are fastest on a CPU."""


class Bottleneck(nn.Module):
    """ResNet's bottleneck without padding; the identity path is cropped to fit."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, kernel: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self._rest(self.relu(self.bn1(self.conv1(x))), x)

    def phases(self, x: Tensor) -> Tensor:
        """(s * s * B, C, h, w): what the block gives for x shifted by 0..s-1 px along y and x, s its stride.

        Together they are its output at stride 1. The first convolution, which has no stride, runs once.
        """
        (stride, _), (kernel, _) = self.conv2.stride, self.conv2.kernel_size
        h, w = ((side - kernel + 1) // stride for side in x.shape[2:])
        out = self.relu(self.bn1(self.conv1(x)))
        shifts = [(a, b) for a in range(stride) for b in range(stride)]
        parts = [self._rest(out[:, :, a:, b:], x[:, :, a:, b:])[:, :, :h, :w] for a, b in shifts]
        return torch.cat(parts)

    def _rest(self, out: Tensor, x: Tensor) -> Tensor:
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        residual = x if self.downsample is None else self.downsample(x)
        # Cropped at the bottom and right, not centered: the identity path lies one pixel off the middle of the
        # 3x3. The published weights were trained so; the receptive field is the same.
        return self.relu(out + residual[:, :, : out.shape[2], : out.shape[3]])


class BagNet(nn.Module):
    """Which patches speak for a class, and how much? A ResNet with nearly all 3x3 convolutions replaced by 1x1.

    `kernel3[s]` says how many leading blocks of stage s keep their 3x3 convolution; nothing is padded, so unit (i, j)
    of the last map sees rows stride_px * i to stride_px * i + receptive_field_px - 1 of the image, and columns alike.
    Names of layers and parameters are those of the authors' checkpoints.

    >>> net = BagNet(blocks=(1, 1), widths=(4, 8), strides=(2, 1), kernel3=(1, 0), stem=4, classes=3)
    >>> net.receptive_field_px, net.stride_px, tuple(net.patch_logits(torch.zeros(1, 3, 9, 11)).shape)
    (5, 2, (1, 3, 3, 4))
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (2, 2, 2, 1),
        kernel3: Sequence[int] = (1, 1, 1, 1),
        stem: int = 64,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 1, bias=False)
        self.conv2 = nn.Conv2d(stem, stem, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem, momentum=0.001)
        self.relu = nn.ReLU(inplace=True)
        self.receptive_field_px, self.stride_px = 3, 1
        self.stages: list[str] = []
        inputs = stem
        for number, (count, width, stride, threes) in enumerate(zip(blocks, widths, strides, kernel3, strict=True), 1):
            layers: list[nn.Module] = []
            for k in range(count):
                kernel, step = (3 if k < threes else 1), (stride if k == 0 else 1)
                layers.append(Bottleneck(inputs, width, step, kernel))
                inputs = width * Bottleneck.expansion
                self.receptive_field_px += (kernel - 1) * self.stride_px
                self.stride_px *= step
            self.stages.append(f"layer{number}")
            self.add_module(self.stages[-1], nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))

    def features(self, x: Tensor) -> Tensor:
        """The last map before the classifier: (B, C, h, w)."""
        x = self.relu(self.bn1(self.conv2(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of normalized images (B, 3, H, W): the mean of `patch_logits` over the map."""
        # The mean before the linear layer is the same sum for a fraction of the work.
        return self.fc(self.features(x).mean((2, 3)))

    def patch_logits(self, x: Tensor) -> Tensor:
        """(B, K, h, w): the logits each patch would get alone, bias included. Paper section 2.1."""
        return F.conv2d(self.features(x), self.fc.weight[:, :, None, None], self.fc.bias)

    def display_logits(self, x: Tensor, targets: Sequence[int]) -> Tensor:
        """(B, H, W): the logit of each image's target class at every pixel, from the patch about it.

        The authors' display heatmap: `patch_logits` at stride 1 of images (B, 3, H, W) with zeros about them, no
        patch computed twice: a block with a stride runs once for each shift below its stride.
        """
        total, before = self.receptive_field_px - 1, (self.receptive_field_px - 1) // 2
        height, width = x.shape[2:]
        more = [-side % self.stride_px for side in (height, width)]
        x = F.pad(x, (before, total - before + more[1], before, total - before + more[0]))
        blocks = [m for stage in self.stages for m in self.get_submodule(stage).children() if isinstance(m, Bottleneck)]
        maps = []
        for image, target in zip(x, targets, strict=True):
            weight, bias = self.fc.weight[target][None, :, None, None], self.fc.bias[target : target + 1]
            stem = self.relu(self.bn1(self.conv2(self.conv1(image[None]))))
            maps.append(_at_every_pixel(stem, blocks, lambda map, w=weight, b=bias: F.conv2d(map, w, b)))
        return torch.cat(maps)[:, 0, :height, :width]


def _at_every_pixel(x: Tensor, blocks: Sequence[Bottleneck], head: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, K, h, w) at stride 1 of maps (N, C, ., .) that enter these blocks. Depth first: small maps at any time."""
    for number, block in enumerate(blocks):
        stride = block.conv2.stride[0]
        if stride > 1:
            shifted = block.phases(x).split(MAPS.get(x.dtype, 1))
            parts = torch.cat([_at_every_pixel(part, blocks[number + 1 :], head) for part in shifted])
            grid = parts.unflatten(0, (stride, stride, len(x)))
            return grid.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)
        x = block(x)
    return head(x)


def bagnet9(classes: int = 1000, seed: int = 0) -> BagNet:
    """BagNet-9: patches of 9 x 9 px. Published top-5 accuracy on ImageNet 70.0 %."""
    return seeded(seed, lambda: BagNet(kernel3=(1, 1, 0, 0), classes=classes))


def bagnet17(classes: int = 1000, seed: int = 0) -> BagNet:
    """BagNet-17: patches of 17 x 17 px. Published top-5 accuracy on ImageNet 80.5 %."""
    return seeded(seed, lambda: BagNet(kernel3=(1, 1, 1, 0), classes=classes))


def bagnet33(classes: int = 1000, seed: int = 0) -> BagNet:
    """BagNet-33: patches of 33 x 33 px. Published top-5 accuracy on ImageNet 87.6 %."""
    return seeded(seed, lambda: BagNet(kernel3=(1, 1, 1, 1), classes=classes))
