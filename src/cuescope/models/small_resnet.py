"""A ResNet (He et al. 2016) small enough to be trained on one core and shipped with the package."""

from collections.abc import Sequence

from torch import Tensor, nn


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The other way past a residual block: a 1x1 convolution where its shape changes, else None, the identity."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class SmallResNet(nn.Module):
    """What does an ordinary residual network of few parameters make of 64 px images?

    A 3x3 stem of stride 2, then stages that halve the map from the second on. Layers are named as in
    torchvision: conv1, bn1, layer1, ..., fc. Takes normalized images (B, 3, H, W), gives (B, classes) logits.
    """

    def __init__(
        self, classes: int = 16, widths: Sequence[int] = (24, 48, 96), blocks: Sequence[int] = (1, 2, 2)
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.stages: list[str] = []
        inputs = widths[0]
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            strides = [1 if number == 1 else 2] + [1] * (count - 1)
            layers: list[nn.Module] = []
            for stride in strides:
                layers.append(BasicBlock(inputs, width, stride))
                inputs = width
            self.stages.append(f"layer{number}")
            self.add_module(self.stages[-1], nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """The last maps (B, C, h, w), whose mean over positions the head reads."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.maps(x).mean((2, 3)))
