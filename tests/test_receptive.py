"""Receptive fields against brute force: a row of the image that is no number spoils exactly what sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.models.bagnet import BagNet
from cuescope.models.seeding import seeded
from cuescope.network import hooks
from cuescope.network.receptive import WHOLE, Extent, Field, fields


class Fn(nn.Module):
    """A layer that is a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def spoiled(network: nn.Module, side: tuple[int, int], axis: int) -> dict[str, Tensor]:
    """By layer, (pixels, positions) along an axis: which positions see which row (column) of pixels."""
    images = torch.zeros(side[axis], 3, *side)
    images.movedim(2 + axis, 1)[torch.arange(side[axis]), torch.arange(side[axis])] = torch.nan
    found: dict[str, Tensor] = {}

    def keep(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found[name] = output.isnan().any(1).any(2 - axis)

    named = {name: module for name, module in network.named_modules() if name}
    with torch.no_grad(), hooks.evaluating(network), hooks.hooked(named, keep):
        network(images)
    return found


def check(network: nn.Module, side: tuple[int, int] = (40, 44), widened: bool = False) -> int:
    """All layers agree with brute force; how many were compared that do not see everything.

    Never too small anywhere. Exact without padding; with it, in the middle, as what is padded at the border may
    stand for pixels that a stride has left out there.
    """
    found, compared = fields(network, torch.rand(1, 3, *side)), 0
    for axis in (0, 1):
        for name, sees in spoiled(network, side, axis).items():
            if name not in found:
                continue
            field = found[name]
            compared += not field.everywhere
            for position in range(sees.shape[1]):
                pixels = sees[:, position].nonzero()[:, 0]
                window = field.window(*((position, 0) if axis == 0 else (0, position)), side)
                told, where = (window[axis], window[axis + 2]), f"{name}, position {position} along {axis}, {field}"
                true = (int(pixels[0]), int(pixels[-1]) + 1) if len(pixels) else (told[0], told[0])
                assert told[0] <= true[0], where
                assert told[1] >= true[1], where
                if not field.padded or (position == sees.shape[1] // 2 and told[0] > 0 and told[1] < side[axis]):
                    assert widened or told == true, where
    return compared


def conv(kernel: Any, *settings: Any, **more: Any) -> nn.Conv2d:
    layer = nn.Conv2d(3, 3, kernel, *settings, **more)
    nn.init.ones_(layer.weight)
    return layer


class Residual(nn.Module):
    """Two paths of different reach, added or concatenated."""

    def __init__(self, cat: bool = False) -> None:
        super().__init__()
        self.first, self.second = conv(3, padding=1), conv((1, 5), padding=(0, 2))
        self.norm, self.cat = nn.BatchNorm2d(3), cat

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.norm(self.first(x)))
        if self.cat:
            return torch.cat([self.second(y), x], dim=1)[:, 1:4]
        y = self.second(y)
        y += x
        return y


class Written(nn.Module):
    """A tensor is written to through a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.last = conv(5, padding=2), conv(1)

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        half = y[:, :2]
        half.add_(self.wide(x)[:, :2])
        return self.last(y)


class Excited(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.squeeze, self.after = conv(3, 2, 1), conv(1), conv(3, padding=1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(self.gate(x, self.squeeze(F.adaptive_avg_pool2d(x, 1)).sigmoid()))


def channels_last(x: Tensor) -> Tensor:
    y = F.layer_norm(x.permute(0, 2, 3, 1), (3,))
    return F.linear(y, torch.ones(3, 3)).movedim(-1, 1).contiguous()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "strides and dilation": lambda: nn.Sequential(conv(3, 2, 1), conv(3, dilation=3), conv(5, 2, 2), conv(2, 3)),
    "sides that differ": lambda: nn.Sequential(conv((1, 7), padding=(0, 3)), conv((5, 1), (2, 1)), conv(3, (1, 2))),
    "same": lambda: nn.Sequential(conv(5, padding="same"), conv(3, padding="same", dilation=2), conv(2, 2)),
    "max pooling": lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2)),
    "mean pooling": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d((2, 3), ceil_mode=True), nn.ReLU()),
    "adaptive pooling": lambda: nn.Sequential(conv(3, padding=1), nn.AdaptiveAvgPool2d((10, 11)), conv(3)),
    "padding": lambda: nn.Sequential(
        conv(3, 2), nn.ZeroPad2d((3, 0, 1, 2)), conv(3), nn.ZeroPad2d(-2), nn.MaxPool2d(2)
    ),
    "mirrored": lambda: nn.Sequential(conv(5, 2, 2, padding_mode="reflect"), nn.Hardswish(), conv(3)),
    "mirrored farther than seen": lambda: nn.Sequential(nn.ReflectionPad2d(3), conv(3), nn.ReflectionPad2d(2)),
    "repeated border": lambda: nn.Sequential(conv(3, 2, 1, padding_mode="replicate"), conv(3)),
    "residual": lambda: nn.Sequential(Residual(), nn.MaxPool2d(2), Residual(cat=True), Residual()),
    "slices": lambda: nn.Sequential(
        conv(3), Fn(lambda x: x[..., 2:-1, 1::2]), conv(3), Fn(lambda x: x.narrow(2, 3, 9))
    ),
    "channels last": lambda: nn.Sequential(conv(3, 2), Fn(channels_last), conv(3)),
    "sides exchanged": lambda: nn.Sequential(
        Fn(lambda x: F.max_pool2d(x.transpose(2, 3), (3, 1), (2, 1)).swapaxes(-1, -2)), conv(2)
    ),
    "channels shuffled": lambda: nn.Sequential(
        conv(3, 2), Fn(lambda x: x.view(len(x), 1, 3, *x.shape[2:]).transpose(1, 2).flatten(1, 2)), conv(3)
    ),
    "halves": lambda: nn.Sequential(Fn(lambda x: torch.cat([x, F.max_pool2d(x, 3, 1, 1)], 1).chunk(2, 1)[1]), conv(3)),
    "space to depth": lambda: nn.Sequential(nn.PixelUnshuffle(2), Fn(lambda x: x[:, :3]), conv(3)),
    "pooling by views": lambda: nn.Sequential(
        conv(3), Fn(lambda x: x[..., :40].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))), conv(3, dilation=2)
    ),
    "operators": lambda: nn.Sequential(conv(3, 2), Fn(lambda x: 1 - 2 / (3 + x) ** 2 + (0.5**x) * (x > 0)), conv(3)),
    "stacked": lambda: nn.Sequential(conv(3), Fn(lambda x: torch.stack([x, x.relu()], 1).amax(1)), conv(3)),
    "normalized by position": lambda: nn.Sequential(conv(3), Fn(lambda x: F.normalize(x.softmax(1), dim=1)), conv(2)),
    "gate": lambda: Excited(lambda x, gate: x * gate),
    "gate, expanded": lambda: Excited(lambda x, gate: x.mul_(gate.expand_as(x))),
    "group norm": lambda: nn.Sequential(conv(3), nn.GroupNorm(1, 3), conv(3, 2)),
    "layer norm of the whole": lambda: nn.Sequential(conv(3, padding=1), nn.LayerNorm((3, 40, 44)), conv(3)),
    "weights that depend on the image": lambda: nn.Sequential(
        conv(3, 2, 1), Fn(lambda x: F.conv2d(x, x.mean((0, 2, 3))[None, :, None, None])), nn.ReLU()
    ),
    "written through a view": Written,
}
WIDENED = ("written through a view", "mirrored farther than seen")
"""Where more is told than is seen, as no interval of one length holds exactly."""


@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_what_brute_force_finds(name: str) -> None:
    assert check(seeded(0, NETWORKS[name]), widened=name in WIDENED) > 0


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int) -> None:
    def build() -> nn.Module:
        draw = torch.Generator().manual_seed(seed)
        pick: Callable[[int, int], int] = lambda low, high: int(torch.randint(low, high + 1, (1,), generator=draw))  # noqa: E731
        layers: list[nn.Module] = []
        for _ in range(5):
            kernel, stride, dilation = pick(1, 4), pick(1, 2), pick(1, 2)
            kind = pick(0, 3)
            if kind == 0:
                layers.append(nn.MaxPool2d(kernel, stride, pick(0, kernel // 2), ceil_mode=bool(pick(0, 1))))
            elif kind == 1:
                layers.append(Residual(cat=bool(pick(0, 1))))
            else:
                layers.append(conv((kernel, pick(1, 3)), stride, pick(0, 2), dilation))
        return nn.Sequential(*layers, nn.Sigmoid())

    assert check(build(), (64, 52)) > 0


def edges(network: nn.Module, layer: str, height: int) -> tuple[Field, list[bool]]:
    """Of one position in the middle: whether a row that is no number spoils it, for the rows at its field's ends."""
    field = fields(network, torch.rand(1, 3, height, 32))[layer]
    assert field.rows is not None
    position = (height // 2 - field.rows.start_px - field.rows.size_px // 2) // field.rows.stride_px
    first = field.rows.start_px + position * field.rows.stride_px
    assert first > 0
    assert first + field.rows.size_px < height, "the field is inside of the image"
    images = torch.zeros(4, 3, height, 32)
    for i, row in enumerate((first - 1, first, first + field.rows.size_px - 1, first + field.rows.size_px)):
        images[i, :, row] = torch.nan
    found: list[Tensor] = []
    hook = hooks.hooked({layer: network.get_submodule(layer)}, lambda _name, _inputs, output: found.append(output))
    with torch.no_grad(), hooks.evaluating(network), hook:
        network(images)
    return field, found[0][:, :, position].isnan().flatten(1).any(1).tolist()


@pytest.mark.parametrize(
    ("make", "layer", "height", "size", "stride"),
    [
        (torchvision.models.resnet18, "layer4", 640, 435, 32),
        (torchvision.models.squeezenet1_1, "features.12", 320, 207, 16),
        (torchvision.models.mobilenet_v2, "features.18", 640, 491, 32),
        (lambda: torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"]), "20", 256, 150, 32),
    ],
    ids=["resnet18", "squeezenet1_1", "mobilenet_v2", "vgg11"],
)
def test_known_networks(make: Callable[[], nn.Module], layer: str, height: int, size: int, stride: int) -> None:
    """The sizes of Araujo, Norris and Sim 2019, where they are given, and their ends by brute force."""
    field, spoils = edges(seeded(0, make), layer, height)
    assert (field.size_px, field.stride_px) == (size, stride)
    assert spoils == [False, True, True, False]


@pytest.mark.parametrize(
    ("kernel3", "size"), [((1, 1, 0, 0), 9), ((1, 1, 1, 0), 17), ((1, 1, 1, 1), 33)], ids=["9", "17", "33"]
)
def test_bagnets_see_their_patch(kernel3: tuple[int, ...], size: int) -> None:
    network = BagNet((1, 2, 1, 1), (4, 4, 6, 8), kernel3=kernel3, stem=4, classes=5)
    extent = Extent(0, 8, size)
    assert fields(network, torch.rand(1, 3, 64, 72))["layer4"] == Field(extent, extent)


def test_the_layers_of_zfnet() -> None:
    """As in the table of Zeiler and Fergus 2014."""
    layers = [conv(7, 2, 1), nn.MaxPool2d(3, 2, 1), conv(5, 2), nn.MaxPool2d(3, 2, 1)]
    network = nn.Sequential(*layers, *(conv(3, 1, 1) for _ in range(3)), nn.MaxPool2d(3, 2))
    found = fields(network, torch.rand(1, 3, 224, 224))
    assert [found[name].size_px for name in "024567"] == [7, 27, 75, 107, 139, 171]


def test_sides_may_differ() -> None:
    field = fields(nn.Sequential(conv((3, 7), (1, 2), (1, 0))), torch.rand(1, 3, 20, 20))["0"]
    assert (field.rows, field.columns) == (Extent(-1, 1, 3), Extent(0, 2, 7))
    assert (field.size_px, field.stride_px, field.start_px) == (7, 2, -1)
    assert field.window(0, 3, (20, 20)) == (0, 6, 2, 13)
    assert WHOLE.window(0, 3, (20, 20)) == (0, 0, 20, 20)


class Own(torch.autograd.Function):
    """An operation that cannot be watched."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(x.numpy().cumsum(2))


ANYTHING = torch.rand(1, 3, 1, 1)
"""Not the network's own: for all that is known, made from the image."""


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cumprod(x, 2),
        lambda x: x + Own.apply(x),
        lambda x: x + torch.full_like(x, x.sum().item()),
        lambda x: x * (torch.ones(3, 1, 1) * x.sum().item()),
        lambda x: x * ANYTHING,
        lambda x: x.flip(2),
        lambda x: x.roll(3, 3),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
        lambda x: x.flatten(2).transpose(1, 2).matmul(torch.eye(3)).mT.unflatten(2, x.shape[2:]),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: x[:, :, torch.arange(x.shape[2]).flip(0)],
        lambda x: x[:, x.mean((0, 2, 3)).argsort()],
        lambda x: x + x[:, :, :1],
        lambda x: x + x.flip(2),
        lambda x: F.linear(x, torch.ones(8, 8)),
        lambda x: torch.zeros_like(x).copy_(x.flip(2)),
    ],
    ids=[
        *(
            "unknown",
            "unwatched",
            "number",
            "factor",
            "not its own",
            "flip",
            "roll",
            "resize",
            "circular",
            "tokens",
            "attention",
        ),
        *("index", "index of the image", "row", "added", "linear along a row", "copied"),
    ],
)
def test_what_has_no_rule_sees_everything(function: Callable[[Tensor], Tensor]) -> None:
    network = nn.Sequential(conv(3, 2, 1), Fn(function), conv(1))
    found = fields(network, torch.rand(1, 3, 16, 16))
    assert found["0"].size_px == 3
    assert found["1"].size_px is None
    assert found["2"].size_px is None


@pytest.mark.parametrize(
    "gate", [lambda x, gate: x * gate, lambda x, gate: x * gate.expand_as(x)], ids=["broadcast", "expanded"]
)
def test_squeeze_and_excitation_sees_everything_from_where_it_lies(gate: Callable[[Tensor, Tensor], Tensor]) -> None:
    found = fields(Excited(gate), torch.rand(1, 3, 20, 20))
    assert found["squeeze"] == WHOLE
    assert found["after"] == Field(Extent(-3, 2, 7), Extent(-3, 2, 7), everywhere=True, padded=True)
    assert found["after"].size_px is None


def test_a_window_beyond_the_end_sticks_out_as_padding_does() -> None:
    pool = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))
    assert not fields(pool, torch.rand(1, 3, 8, 8))["0"].padded
    assert fields(pool, torch.rand(1, 3, 9, 8))["0"].padded


def test_tensors_of_a_module_that_are_no_buffers_are_its_own() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.means = conv(3), [torch.rand(3, 1, 1)]

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x - self.means[0])

    assert fields(Own(), torch.rand(1, 3, 8, 8))["conv"].size_px == 3


def test_layers_called_twice_are_left_out_and_nothing_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(self.conv(x)))

    network = Twice()
    with torch.inference_mode():
        found = fields(network, torch.rand(2, 3, 12, 12))
        assert fields(Written(), torch.rand(1, 3, 12, 12))["last"] == WHOLE
    assert set(found) == {"norm"}
    assert found["norm"].size_px == 5
    assert network.norm.training
    assert not network.conv._forward_hooks


@pytest.mark.parametrize(
    ("name", "settings", "layer", "wanted"),
    [
        (
            "convnext_atto",
            {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)},
            "stages.1",
            (-36, 8, 4 + 6 * 4 + 4 + 6 * 8),
        ),
        ("tf_mobilenetv3_small_minimal_100", {}, "blocks.1", (-8, 8, 31)),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4, "embed_dim": 12}, "layers.0", (0, 4, 4)),
    ],
)
def test_networks_of_timm(name: str, settings: dict[str, Any], layer: str, wanted: tuple[int, int, int]) -> None:
    network = seeded(0, lambda: timm.create_model(name, num_classes=5, **settings))
    found = fields(network, torch.rand(1, 3, 64, 64))[layer]
    # Attention sees everything from the place of its query.
    size = None if name.startswith("swin") else wanted[2]
    assert (found.rows, found.columns, found.size_px) == (Extent(*wanted), Extent(*wanted), size)
