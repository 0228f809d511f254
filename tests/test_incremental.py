"""Recomputing only what a changed rectangle reaches gives what whole forward passes give."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Rectangle, cover
from cuescope.methods.incremental import IncrementalNetwork, groups, painted_logits, painted_sums
from cuescope.methods.incremental.graph import UntraceableError
from cuescope.methods.incremental.patch import Reach, Spans
from toys import plain

COLOR = (0.9, 0.1, 0.4)


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics under which an occluder shows in the logits: default ones can let it fade to nothing."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            fan_in = part.weight[0].numel()
            part.weight.data = torch.randn(part.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            if part.bias is not None:
                part.bias.data = torch.randn(part.bias.shape, generator=generator) * 0.1
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            if part.affine:
                part.weight.data.uniform_(0.5, 1.5, generator=generator)
                part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def picture(height: int, width: int | None = None) -> Tensor:
    return torch.rand(3, height, width or height, generator=torch.Generator().manual_seed(1))


def slid(size: int, square: int, stride: int) -> list[Rectangle]:
    """Squares at every stride, some of which stand out of the image and are cut off at its border."""
    starts = range(1 - square // 2, size - square // 2, stride)
    return [
        Rectangle(max(0, y), max(0, x), min(size, y + square), min(size, x + square)) for y in starts for x in starts
    ]


def twin(module: nn.Module, pixels: Tensor, rectangles: list[Rectangle]) -> Tensor:
    """The slow way: every painted image through the whole network, one at a time."""
    with torch.no_grad():
        return torch.cat([module(cover(pixels, [rectangle], COLOR)) for rectangle in rectangles])


def check(module: nn.Module, pixels: Tensor, rectangles: list[Rectangle], tolerance: float = 1e-5) -> None:
    wanted = twin(module, pixels, rectangles)
    clean, found = IncrementalNetwork(module).logits(pixels[None], rectangles, torch.tensor(COLOR))
    scale = wanted.abs().max()
    assert (wanted - clean).abs().max() > 10 * tolerance * scale, "the paint is hardly seen: this shows nothing"
    assert (found - wanted).abs().max() <= tolerance * scale
    with torch.no_grad():
        assert (clean - module(pixels[None])[0]).abs().max() <= tolerance * scale


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "stride past the kernel": lambda: nn.Conv2d(6, 6, 1, stride=3),
    "dilation": lambda: nn.Conv2d(6, 6, 3, padding=2, dilation=2),
    "no padding": lambda: nn.Conv2d(6, 6, 5),
    "large padding": lambda: nn.Conv2d(6, 6, 3, padding=3),
    "uneven kernel": lambda: nn.Conv2d(6, 6, (1, 5), stride=(2, 1), padding=(0, 2)),
    "groups": lambda: nn.Conv2d(6, 6, 3, padding=1, groups=3),
    "depthwise": lambda: nn.Conv2d(6, 6, 7, padding=3, groups=6),
    "padding same": lambda: nn.Conv2d(6, 6, 5, padding="same"),
    "reflected padding": lambda: nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),
    "max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max pool dilated": lambda: nn.MaxPool2d(2, 1, dilation=3),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "average pool without pad": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average pool ceil": lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "average pool ceil and pad": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "batch norm": lambda: nn.BatchNorm2d(6),
    "leaky": lambda: nn.LeakyReLU(0.3, inplace=True),
    "transposed": lambda: nn.ConvTranspose2d(6, 6, 2, 2),
    "instance norm": lambda: nn.InstanceNorm2d(6),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "resized": lambda: nn.Upsample(scale_factor=2.0, mode="bilinear"),
    "parametric": lambda: nn.PReLU(6),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [25, 32])
def test_every_layer_is_exact(name: str, size: int) -> None:
    around = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), LAYERS[name](), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    check(lively(nn.Sequential(*around, *head(6))), picture(size), slid(size, 7, 6))


class Functional(nn.Module):
    """What modules do, by functions and methods; and the same maps read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 6).view(6, 1, 1))
        self.place = nn.Parameter(torch.linspace(-1, 1, 32).view(1, 1, 32))
        self.norm, self.mix, self.fc = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        y = F.max_pool2d(F.conv2d(x, self.second.weight, self.second.bias, padding=1), 3, 1, 1)
        y = self.mix(self.norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        y = 2 - torch.mul(y, self.scale).add_(x)
        y = y * x.sigmoid() / (1 + F.avg_pool2d(x, 3, stride=1, padding=1))
        y = y + self.second(y) + self.place
        z = torch.cat([y, F.gelu(x)], dim=1)
        return self.fc(F.adaptive_avg_pool2d(z, 1).view(z.size(0), z.shape[1]))


class Squeezing(nn.Module):
    """Squeeze and excitation: from here on a change anywhere is felt everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.fc(x.amax((2, 3)))


@pytest.mark.parametrize("kind", [Functional, Squeezing])
def test_functions_and_methods_are_exact(kind: type[nn.Module]) -> None:
    check(lively(kind()), picture(32), slid(32, 5, 6))


@pytest.mark.parametrize("kind", [Squeezing])
def test_one_rectangle_alone_is_no_constant(kind: type[nn.Module]) -> None:
    """A whole map of one image has the shape of something that does not depend on the image."""
    check(lively(kind()), picture(32), [Rectangle(3, 4, 9, 9)])


@pytest.mark.parametrize(
    "rectangles",
    [
        [Rectangle(0, 0, 32, 32)],
        [Rectangle(0, 0, 1, 1), Rectangle(31, 31, 32, 32), Rectangle(0, 31, 1, 32)],
        [Rectangle(0, 0, 32, 2), Rectangle(10, 3, 11, 30), Rectangle(5, 5, 20, 20), Rectangle(31, 0, 32, 32)],
        slid(32, 9, 5),
    ],
    ids=["the whole image", "corners of a pixel", "mixed sizes", "many"],
)
def test_every_rectangle_is_exact(rectangles: list[Rectangle]) -> None:
    check(lively(Functional()), picture(32), rectangles)


def test_images_need_not_be_square() -> None:
    module = lively(nn.Sequential(nn.Conv2d(3, 6, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), *head(6)))
    rectangles = [Rectangle(y, x, y + 6, x + 4) for y in (0, 9, 14) for x in (0, 20, 41, 47)]
    check(module, picture(20, 51), rectangles)


@pytest.mark.parametrize(
    "name",
    [
        *("torchvision/resnet18", "torchvision/squeezenet1_1", "torchvision/densenet121", "torchvision/convnext_tiny"),
        *("timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224", "timm/resnetv2_50"),
    ],
)
def test_architectures_are_exact(name: str) -> None:
    house, _, kind = name.partition("/")
    if house == "timm":
        timm = pytest.importorskip("timm")
        module = timm.create_model(kind, img_size=64) if "vit" in kind else timm.create_model(kind)
    else:
        module = pytest.importorskip("torchvision").models.get_model(kind, weights=None)
    check(lively(module), picture(64), [Rectangle(y, x, y + 9, x + 9) for y, x in ((0, 0), (20, 31), (55, 55))], 1e-4)


def test_each_rectangle_has_its_own_color() -> None:
    network, pixels, rectangles = lively(Functional()), picture(32), slid(32, 7, 6)
    paints = torch.rand(len(rectangles), 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = torch.cat([network(cover(pixels, [r], c)) for r, c in zip(rectangles, paints.tolist(), strict=True)])
    found = IncrementalNetwork(network).logits(pixels[None], rectangles, paints)[1]
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-5)
    box = Classifier(lambda x: network(x), classes=list("abcde"), preprocessing=plain(32), batch_size=5)
    seen = Classifier(network, classes=list("abcde"), preprocessing=plain(32))
    for classifier in (box, seen):
        painted = painted_logits(classifier, pixels, rectangles, paints)
        assert bool(painted.why_plain) == (classifier is box)
        assert torch.allclose(painted.logits, wanted, atol=1e-4, rtol=1e-4)


def test_no_rectangle_gives_no_logits() -> None:
    clean, found = IncrementalNetwork(lively(Functional())).logits(picture(32)[None], [], torch.zeros(3))
    assert clean.shape == (5,)
    assert found.shape == (0, 5)


def test_it_saves_work() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    layers = [nn.Conv2d(3, 16, 3, padding=1), *(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))]
    module = lively(nn.Sequential(*layers, *head(16)))
    rectangles, pixels = slid(64, 8, 8), picture(64)
    with FlopCounterMode(display=False) as fast:
        IncrementalNetwork(module).logits(pixels[None], rectangles, torch.tensor(COLOR))
    with FlopCounterMode(display=False) as slow:
        twin(module, pixels, rectangles)
    assert slow.get_total_flops() > 12 * fast.get_total_flops()


class SharedWrite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = F.relu(x, inplace=True)
        return self.fc((F.max_pool2d(x, 2) + F.max_pool2d(y, 2)).mean((2, 3)))


class Branching(SharedWrite):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc((x if x.sum() > 0 else -x).mean((2, 3)))


class OneImageOnly(SharedWrite):
    """Right for a batch of one, and for what fx sees; elsewhere it mixes the images."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(x.mean((2, 3)) + 0.1 * x.amax((0, 2, 3)))


@pytest.mark.parametrize("kind", [SharedWrite, Branching])
def test_what_cannot_be_followed_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(UntraceableError):
        IncrementalNetwork(lively(kind()))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Squeezing, ""),
        (SharedWrite, "overwrites a feature map"),
        (Branching, "torch.fx cannot trace it"),
        (OneImageOnly, "its graph gives other logits"),
    ],
)
def test_a_classifier_falls_back_to_whole_passes(module: type[nn.Module], why: str) -> None:
    network = lively(module())
    classifier = Classifier(network, classes=list("abcde"), preprocessing=plain(32), batch_size=1)
    rectangles = slid(32, 9, 9)
    for _ in range(2):
        painted = painted_logits(classifier, picture(32), rectangles, COLOR)
        assert why in painted.why_plain
        assert bool(why) == bool(painted.why_plain)
        assert torch.allclose(painted.logits, twin(network, picture(32), rectangles), atol=1e-4, rtol=1e-4)


def test_a_black_box_goes_through_its_function() -> None:
    network = lively(Squeezing())
    box = Classifier(lambda x: network(x), classes=list("abcde"), preprocessing=plain(32), batch_size=5)
    painted = painted_logits(box, picture(32), slid(32, 9, 9), COLOR)
    assert painted.why_plain == "it is a black box"
    assert torch.allclose(painted.logits, twin(network, picture(32), slid(32, 9, 9)), atol=1e-4)
    assert torch.allclose(painted.clean, network(picture(32)[None])[0], atol=1e-4)


class Block(nn.Module):
    """Its output is that of a module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.relu(self.conv(x)))


class Blocks(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), Block(), Block(), *head(8))


@pytest.mark.parametrize(
    ("kind", "layer", "why"),
    [
        *((Blocks, layer, "") for layer in ("0", "1.conv", "2")),
        (SharedWrite, "conv", ""),
        (Branching, "conv", "torch.fx cannot trace it"),
    ],
)
def test_sums_of_a_layers_map_are_those_of_whole_passes(kind: type[nn.Module], layer: str, why: str) -> None:
    classifier = Classifier(lively(kind()), classes=list("abcde"), preprocessing=plain(32), batch_size=5)
    rectangles = slid(32, 7, 6)
    for _ in range(2):
        found = painted_sums(classifier, picture(32), rectangles, COLOR, layer, 3)
        maps = [classifier.features(cover(picture(32), [r], COLOR), [layer])[layer] for r in rectangles]
        wanted = torch.stack([one[0, 3].sum() for one in maps])
        assert wanted.std() > 1e-3 * wanted.abs().max()
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    way = classifier.known(("incremental", layer), lambda: "asked anew")
    assert isinstance(way, IncrementalNetwork) == (not why)
    assert why in str(way)


def test_normalization_and_bfloat16() -> None:
    network = lively(nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), *head(8)))
    from cuescope.data.preprocessing import Preprocessing

    how = Preprocessing((32, 32), 32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    exact = Classifier(network, classes=list("abcde"), preprocessing=how)
    rough = Classifier(network, classes=list("abcde"), preprocessing=how, precision="bfloat16")
    before = copy.deepcopy(rough.network)
    rectangles = slid(32, 9, 7)
    wanted = torch.cat([exact.logits(cover(picture(32), [r], COLOR)) for r in rectangles])
    assert torch.allclose(painted_logits(exact, picture(32), rectangles, COLOR).logits, wanted, atol=1e-4)
    painted = painted_logits(rough, picture(32), rectangles, COLOR)
    assert not painted.why_plain
    assert painted.logits.dtype == torch.float32
    gap = (painted.logits - wanted).abs().max() / wanted.abs().max()
    assert 1e-6 < gap < 0.02
    assert before is not None
    assert rough.network is not None
    for old, new in zip(before.parameters(), rough.network.parameters(), strict=True):
        assert torch.equal(old, new), "the head is lifted on the side, not in the classifier"
        assert old.dtype == new.dtype


def test_logits_of_bfloat16_are_not_rounded_to_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), *head(4))
    lively(network)
    network[-1].bias.data.fill_(100.0)  # type: ignore[union-attr]
    rough = Classifier(network, classes=list("abcde"), preprocessing=plain(32), precision="bfloat16")
    logits = painted_logits(rough, picture(32), slid(32, 9, 7), COLOR).logits
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("reach", [Reach(3, 1, 1), Reach(7, 2, 3), Reach(1, 2, 0), Reach(3, 2, 0, 2), Reach(2, 3, 1)])
def test_spans_hold_all_outputs_that_read_a_changed_input(reach: Reach) -> None:
    size = 20
    out = (size + 2 * reach.pad - reach.extent) // reach.step + 1
    for low in range(size):
        for high in range(low + 1, size + 1):
            read = [{o * reach.step - reach.pad + i * reach.dilation for i in range(reach.kernel)} for o in range(out)]
            changed = [o for o in range(out) if read[o] & set(range(low, high))]
            spans = Spans(np.array([low]), np.array([high]), size).through(reach, out)
            assert set(changed) <= set(range(spans.low[0], spans.high[0]))
            if reach.dilation == 1 and changed:
                assert (spans.low[0], spans.high[0]) == (changed[0], changed[-1] + 1), "and no more than those"


def test_groups_hold_each_rectangle_once() -> None:
    generator = np.random.default_rng(0)
    found = groups(generator.integers(0, 7, 53), generator.integers(0, 9, 53), batch=16)
    assert sorted(i for group in found for i in group) == list(range(53))
    assert max(map(len, found)) <= 16
