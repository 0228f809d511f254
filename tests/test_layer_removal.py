"""What can be left out of a network, found by running it; and that it is then gone as if it had never been there."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.models.seeding import seeded
from cuescope.models.zfnet import ZFNet
from cuescope.network.layer_removal import Cut, Cuts, cuts, left_out

SIDE = 32
VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
TORCHVISION_VIT = {
    "image_size": SIDE,
    "patch_size": 8,
    "num_layers": 3,
    "num_heads": 2,
    "hidden_dim": 24,
    "mlp_dim": 48,
}
SWIN = {"img_size": SIDE, "window_size": 2, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}
NEXT = {"dims": (8, 8, 8, 16), "depths": (1, 1, 1, 2)}
NETWORKS = {
    "ViT of timm": (
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT),
        ["blocks.0", "blocks.1", "blocks.2"],
    ),
    # Its encoder keeps the shape as a whole, but holds the blocks in a row.
    "ViT of torchvision": (
        lambda: torchvision.models.VisionTransformer(num_classes=5, **TORCHVISION_VIT),
        [f"encoder.layers.encoder_layer_{i}" for i in range(3)],
    ),
    "Swin": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **SWIN),
        ["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0", "layers.1.blocks.1"],
    ),
    "ConvNeXt": (
        lambda: timm.create_model("convnext_atto", num_classes=5, **NEXT),
        [*(f"stages.{i}.blocks.0" for i in range(4)), "stages.3.blocks.1"],
    ),
    "ResNet of torchvision": (
        lambda: torchvision.models.resnet18(num_classes=5),
        ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"],
    ),
    # It adds the shortcut in place, so that the block seems to give what its last batch norm gave.
    "ResNet of timm": (
        lambda: timm.create_model("resnet26d", num_classes=5),
        ["layer1.1", "layer2.1", "layer3.1", "layer4.1"],
    ),
    "SqueezeNet": (
        lambda: torchvision.models.squeezenet1_1(num_classes=5),
        ["features.4", "features.7", "features.10", "features.12"],
    ),
    "MobileNetV2": (
        lambda: torchvision.models.mobilenet_v2(num_classes=5),
        [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)],
    ),
    "DenseNet, where every layer adds maps": (
        lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5),
        [],
    ),
}


def image(count: int = 1, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def names(found: Cuts) -> list[str]:
    return [cut.name for cut in found.usual]


def lively(network: nn.Module) -> nn.Module:
    """Weights under which every layer shows in the logits: many are zero when training starts."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel())
        parameter.data = torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5
    return network.eval()


class Gone(nn.Module):
    """The identity, whatever else it is called with (nn.Identity takes no attention mask)."""

    def forward(self, x: Tensor, *_args: object, **_more: object) -> Tensor:
        return x


def swapped(network: nn.Module, cut: Cut) -> nn.Module:
    """The slow twin: a copy whose modules from the first to the last are the identity."""
    twin = copy.deepcopy(network)
    parent, _, first = cut.first.rpartition(".")
    row = [name for name, _ in twin.get_submodule(parent).named_children()]
    last = cut.last.rpartition(".")[2]
    for name in row[row.index(first) : row.index(last) + 1]:
        twin.set_submodule(f"{parent}.{name}" if parent else name, Gone())
    return twin


@pytest.mark.parametrize("family", NETWORKS)
def test_blocks_are_found_and_leave_as_if_swapped_for_identities(family: str) -> None:
    make, wanted = NETWORKS[family]
    network = lively(seeded(0, make))
    pixels = image(2, 64 if family == "SqueezeNet" else SIDE)
    found = cuts(network, pixels[:1])
    assert names(found) == wanted
    with torch.no_grad():
        whole = network(pixels)
        for cut in found.usual[::3]:
            with left_out(network, cut):
                without = network(pixels)
            assert torch.equal(without, swapped(network, cut)(pixels)), cut.name
            assert not torch.equal(without, whole), cut.name
        assert torch.equal(network(pixels), whole)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_of_plain_layers_each_one_that_can_and_the_stretch_that_brings_the_shape_back() -> None:
    network = lively(ZFNet(4, widths=(2, 3, 4, 4, 3), hidden=5))
    found = cuts(network, image(side=224))
    assert names(found) == ["features.conv3..conv5", "features.conv4", "classifier.fc7"]
    stretch = found.every["features.conv3..conv5"]
    assert stretch.parameters == sum(
        p.numel() for i in (3, 4, 5) for p in network.features.get_submodule(f"conv{i}").parameters()
    )
    pixels = image(2, 224)
    with torch.no_grad(), left_out(network, stretch):
        without = network(pixels)
    with torch.no_grad():
        assert torch.equal(without, swapped(network, stretch)(pixels))


class Forked(nn.Module):
    """A stretch whose middle is read twice: to leave it out would leave the other reader."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.aside = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.up(x).mean((2, 3)) + self.aside(x).mean((2, 3))


def test_a_stretch_that_others_read_from_stays() -> None:
    assert names(cuts(Forked(), image())) == []


class InPlace(nn.Module):
    """A branch that begins by changing its input, which the shortcut reads after it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        return (self.branch(x) + x).mean((2, 3))


def test_what_a_layer_does_to_its_input_in_place_is_gone_with_it() -> None:
    network, pixels = InPlace(), image(2)
    with torch.no_grad(), left_out(network, Cut("branch", "branch", 0)):
        without = network(pixels)
    torch.testing.assert_close(without, 2 * (pixels - 0.5).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))


def test_blocks_in_a_list_are_found() -> None:
    assert names(cuts(Listed(), image())) == ["blocks.0", "blocks.1"]


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.scale = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.pair, self.relu = Pair(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.scale(self.twice(self.twice(x)))).mean((2, 3)) + self.pair(x)[0]


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x


def test_names_that_cannot_be_left_out_say_why() -> None:
    found = cuts(Shared().eval(), image())
    assert names(found) == []
    assert found.barred == {
        "twice": "it is called 2 times in a pass",
        "never": "it is not called as a module of its own",
        "scale": "it holds no weights but a scale for each channel",
        "relu": "it holds no weights",
        "pair": "it does not make one tensor of another",
    }
    zfnet = cuts(ZFNet(4, widths=(2, 3, 4, 4, 3), hidden=5).eval(), image(side=224))
    with pytest.raises(CueError, match=r"'features.conv2' cannot be left out: it makes 3 x 26 x 26 of 2 x 55 x 55"):
        zfnet.named(["features.conv2"])
    with pytest.raises(CueError, match=r"did you mean features.conv4"):
        zfnet.named(["features.conv_4"])
    with pytest.raises(CueError, match=r"choose one of: classifier.fc7, features.conv3..conv5, features.conv4"):
        zfnet.named(["somewhere else"])
    assert [cut.name for cut in zfnet.named(["classifier.fc7", "features.conv4", "classifier.fc7"])] == [
        "classifier.fc7",
        "features.conv4",
    ]


def test_inside_of_a_block_layers_can_be_named() -> None:
    network = lively(timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT))
    (cut,) = cuts(network, image()).named(["blocks.1.attn"])
    pixels = image(2)
    with torch.no_grad(), left_out(network, cut):
        without = network(pixels)
    with torch.no_grad():
        assert torch.equal(without, swapped(network, cut)(pixels))


def test_too_many_are_thinned_out_from_the_inside() -> None:
    outer = [Cut(f"stage.{i}", f"stage.{i}", 1) for i in range(6)]
    inner = [Cut(f"stem.0.{i}", f"stem.0.{i}", 1) for i in range(3)]
    found = Cuts((*inner, *outer), {}, {})
    assert [cut.name for cut in found.most(9)] == [cut.name for cut in found.usual]
    assert [cut.name for cut in found.most(7)] == ["stem.0.1", *(cut.name for cut in outer)]
    assert [cut.name for cut in found.most(3)] == ["stage.1", "stage.3", "stage.5"]
    assert len(found.most(1)) == 1


def test_the_hooks_go_when_the_network_fails() -> None:
    network = InPlace()
    with pytest.raises(RuntimeError), left_out(network, Cut("branch", "branch", 0)):
        network(torch.zeros(1, 5, 4, 4))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
