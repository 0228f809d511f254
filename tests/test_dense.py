"""Dense class logits against what each family's own layers give at each position, and whom they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.errors import CueError
from cuescope.instruments.registry import unmet
from cuescope.models.bagnet import BagNet
from cuescope.models.seeding import seeded
from toys import Images, colored, plain

SIDE = 64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def classifier_of(module: nn.Module, side: int = SIDE, **settings: Any) -> Classifier:
    return Classifier(module, preprocessing=plain(side), device="cpu", **settings)


def by_position(head: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """The slow twin: the head of a network on a map of one position, a position after the other."""
    rows = [[head(maps[:, :, i : i + 1, j : j + 1]) for j in range(maps.shape[3])] for i in range(maps.shape[2])]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]] = {
    "resnet18": (
        lambda: models.resnet18(num_classes=7),
        lambda net, x: nn.Sequential(*list(net.children())[:-2])(x),
        lambda net, x: net.fc(x.flatten(1)),
    ),
    "densenet": (
        lambda: models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=7),
        lambda net, x: F.relu(net.features(x)),
        lambda net, x: net.classifier(x.flatten(1)),
    ),
    "mobilenet_v3_small": (
        lambda: models.mobilenet_v3_small(num_classes=7),
        lambda net, x: net.features(x),
        lambda net, x: net.classifier(x.flatten(1)),
    ),
    "squeezenet1_1": (
        lambda: models.squeezenet1_1(num_classes=7),
        lambda net, x: net.features(x),
        lambda net, x: net.classifier(x).flatten(1),
    ),
    "convnext": (
        lambda: timm.create_model("convnext_atto", num_classes=7, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
        lambda net, x: net.forward_features(x),
        lambda net, x: net.forward_head(x),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_every_position_goes_through_the_head_alone(name: str) -> None:
    make, features, head = TWINS[name]
    network = seeded(0, make).eval()
    classifier, pixels = classifier_of(network, batch_size=2), random(3, 3, SIDE, 96)
    with torch.no_grad():
        wanted = by_position(lambda x: head(network, x), features(network, pixels))
    found = classifier.dense_logits(pixels)
    assert found.shape == wanted.shape
    assert found.shape[2] < found.shape[3]
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int | None, int, bool]] = {
    "googlenet": (lambda: models.googlenet(num_classes=7, init_weights=False), 379, 32, True),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=7), 491, 32, True),
    "shufflenet": (lambda: models.shufflenet_v2_x0_5(num_classes=7), 527, 32, True),
    "efficientnet": (lambda: models.efficientnet_b0(num_classes=7), None, 32, True),
    "regnet": (lambda: models.regnet_x_400mf(num_classes=7), 975, 32, True),
    "mobilenet_v3": (lambda: models.mobilenet_v3_small(num_classes=7), None, 32, False),
    "timm resnet": (lambda: timm.create_model("resnet10t", num_classes=7), 199, 32, True),
    "timm regnety": (lambda: timm.create_model("regnety_002", num_classes=7), None, 32, True),
    "timm mobilenetv3": (lambda: timm.create_model("mobilenetv3_small_050", num_classes=7), None, 32, False),
    "timm convnextv2": (
        lambda: timm.create_model("convnextv2_atto", num_classes=7, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
        None,
        32,
        False,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    make, field, stride, additive = FAMILIES[family]
    classifier, pixels = classifier_of(seeded(0, make)), random(2, 3, SIDE, SIDE)
    assert "dense_logits" in classifier.capabilities
    assert "patch_logits" not in classifier.capabilities
    found, maps = classifier.dense, classifier.dense_logits(pixels)
    assert found is not None
    assert (found.field_px, found.field.stride_px, found.additive, found.local) == (field, stride, additive, False)
    assert (found.size, found.image) == (tuple(maps.shape[2:]), (SIDE, SIDE))
    if additive:
        gap = (maps.mean((2, 3)) - classifier.logits(pixels)).abs().max()
        assert gap <= 1e-4 * maps.abs().max()
    assert classifier.why_not_dense == ""


def head(pool: nn.Module, inputs: int = 5) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), pool, nn.Flatten(), nn.Linear(inputs, 7))


class Squeezed(nn.Module):
    """Squeeze-and-excitation, then a head that needs the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Linear(4 * 64, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc((x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()).flatten(1))


class Both(nn.Module):
    """Mean and maximum of the map, together."""

    def forward(self, x: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1)) / 2


class Turned(nn.Module):
    """Its map's rows are taken in another order before they are averaged."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, 2).mean((2, 3))


VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 7}
NONE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "vgg": (lambda: head(nn.AdaptiveAvgPool2d(4), 80), "does not read the average"),
    "maximum": (lambda: head(nn.AdaptiveMaxPool2d(1)), "does not read the average"),
    "flat": (lambda: head(nn.Identity(), 320), "does not read the average"),
    "squeezed": (Squeezed, "needs the whole map"),
    "both": (lambda: head(Both()), "needs the whole map"),
    "rolled": (lambda: head(Turned()), "cannot be laid on the image"),
    "transformer": (lambda: timm.create_model("vit_tiny_patch16_224", **VIT), "its head reads the class token"),
    "a single position": (
        lambda: nn.Sequential(nn.Conv2d(3, 5, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "single position in images of 16 x 16 px",
    ),
    "pooling of a constant": (lambda: Constant(), "does not read the average"),
}


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 7, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :7] + self.table.mean((2, 3))


@pytest.mark.parametrize("name", NONE)
def test_who_has_no_dense_head(name: str) -> None:
    make, why = NONE[name]
    classifier = classifier_of(seeded(0, make), 16)
    assert classifier.dense is None
    assert "dense_logits" not in classifier.capabilities
    assert why in classifier.why_not_dense
    with pytest.raises(CueError, match="has no dense head: "):
        classifier.dense_logits(random(1, 3, 16, 16))


def test_a_black_box_has_none() -> None:
    box = Classifier(lambda x: x.mean((2, 3)), preprocessing=plain())
    assert box.capabilities == {"logits"}
    assert "black box" in box.why_not_dense
    with pytest.raises(CueError, match="black box"):
        box.dense_logits(random(1, 3, 16, 16))


class Needs:
    needs = frozenset({"dense_logits"})


def test_the_reason_is_told_before_the_first_batch() -> None:
    images = Images(colored(1))
    assert "has no dense head: its head does not read the average" in unmet(
        Needs,
        classifier_of(head(nn.AdaptiveMaxPool2d(1)), 16),
        images,  # type: ignore[arg-type]
    )
    assert unmet(Needs, classifier_of(head(nn.AdaptiveAvgPool2d(1)), 16), images) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.AvgPool2d(8),
        timm.layers.SelectAdaptivePool2d(pool_type="avg", flatten=True),  # type: ignore[attr-defined]
        timm.layers.SelectAdaptivePool2d(pool_type="fast"),  # type: ignore[attr-defined]
    ],
    ids=["adaptive", "window", "timm", "timm fast"],
)
def test_all_ways_to_average(pool: nn.Module) -> None:
    check_against_linear(pool)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean(dim=[-1, -2], keepdim=True),
        lambda x: torch.mean(x, (3, 2)),
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
        lambda x: x.permute(0, 2, 3, 1).mean([1, 2], True),
        lambda x: x.transpose(2, 3).mean((2, 3)),
        lambda x: F.avg_pool2d(input=x, kernel_size=(8, 8)),
    ],
    ids=["mean", "keepdim", "torch.mean", "channels last", "channels last, keepdim", "transposed", "keyword"],
)
def test_all_ways_to_call_it(function: Callable[[Tensor], Tensor]) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    check_against_linear(Pool())


def check_against_linear(pool: nn.Module) -> None:
    network = seeded(0, lambda: head(pool))
    classifier, pixels = classifier_of(network, 16), random(3, 3, 16, 16)
    conv, linear = network.get_submodule("0"), network.get_submodule("3")
    with torch.no_grad():
        wanted = F.conv2d(conv(pixels), linear.weight[:, :, None, None], linear.bias)  # type: ignore[arg-type,index]
    assert torch.allclose(classifier.dense_logits(pixels), wanted, atol=1e-5)
    assert classifier.dense is not None
    assert classifier.dense.additive


def small_bagnet() -> BagNet:
    return BagNet((1, 1, 1, 1), (4, 4, 6, 8), kernel3=(1, 1, 0, 0), stem=4, classes=5)


class Undeclared(BagNet):
    """A BagNet that does not say that it is one."""

    patch_logits = None  # type: ignore[assignment]


def test_a_bagnet_has_the_logits_of_patches_whether_it_says_so_or_not() -> None:
    network = seeded(0, small_bagnet)
    quiet = seeded(0, small_bagnet)
    quiet.__class__ = Undeclared
    first, second, pixels = classifier_of(network), classifier_of(quiet), random(2, 3, SIDE, SIDE)
    assert torch.equal(first.dense_logits(pixels), first.patch_logits(pixels))
    assert torch.allclose(second.dense_logits(pixels), first.patch_logits(pixels), atol=1e-5)
    for found in (first.dense, second.dense):
        assert found is not None
        assert (found.field_px, found.field.stride_px, found.field.start_px, found.local, found.additive) == (
            9,
            8,
            0,
            True,
            True,
        )
        assert found.description == "patch logits: each position sees 9 x 9 px (of 64 x 64 px) and nothing else"
    assert "patch_logits" not in second.capabilities


def test_patches_whose_mean_is_not_the_logits_are_told_apart() -> None:
    class Off(BagNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    network = seeded(0, small_bagnet)
    network.__class__ = Off
    found = classifier_of(network).dense
    assert found is not None
    assert not found.additive


def test_what_a_reader_is_told() -> None:
    def told(network: nn.Module, side: int) -> str:
        found = classifier_of(seeded(0, lambda: network), side).dense
        assert found is not None
        return found.description

    wide, pool = nn.Conv2d(3, 5, 21, 1, 10), [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    more = (
        "class activation: each position sees 21 x 21 px (more than the image), so this is no evidence of local patches"
    )
    assert told(nn.Sequential(wide, *pool), 16) == more
    assert "sees 21 x 21 px (of 32 x 32 px), so" in told(nn.Sequential(wide, *pool), 32)
    nonlinear = told(nn.Sequential(wide, nn.GroupNorm(1, 5), *pool, nn.Linear(5, 5), nn.ReLU()), 16)
    assert "sees the whole image, so" in nonlinear
    assert nonlinear.endswith("its mean is not the logits either, since the head is not linear")


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_folded_and_in_low_precision(fold: bool, precision: str) -> None:
    network = seeded(0, lambda: timm.create_model("resnet10t", num_classes=7))
    pixels = random(5, 3, SIDE, SIDE)
    classifier = classifier_of(network, fold=fold, precision=precision, batch_size=2)
    plain_maps = classifier_of(network, fold=False).dense_logits(pixels)
    maps = classifier.dense_logits(pixels)
    assert maps.dtype == torch.float32
    gap = (maps - plain_maps).abs().max() / plain_maps.abs().max()
    assert gap <= (1e-4 if precision == "float32" else 5e-2)
    assert classifier.dense is not None
    assert classifier.dense.additive


def test_a_head_that_is_nearly_linear_on_noise_is_not_called_so() -> None:
    """All positions of the noise that it is tried on are alike, as in an untrained network."""
    network = seeded(0, lambda: head(nn.AdaptiveAvgPool2d(1)))
    network.append(nn.Hardswish())
    network.get_submodule("0").weight.data.mul_(1e-4)  # type: ignore[union-attr,operator]
    found = classifier_of(network, 16).dense
    assert found is not None
    assert not found.additive


def test_asking_runs_the_network_few_times_once_and_leaves_no_trace() -> None:
    images: list[int] = []

    class Counted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            images.append(len(x))
            return super().forward(x)

    network = nn.Sequential(Counted(3, 5, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7))
    classifier = Classifier(network.train(), preprocessing=Preprocessing((16, 16), 16), device="cpu", owned=True)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images.clear()
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        assert {"dense_logits"} <= classifier.capabilities == classifier.capabilities
    assert sum(images) == 3
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_no_images_have_no_maps() -> None:
    classifier = classifier_of(head(nn.AdaptiveAvgPool2d(1)), 16)
    assert classifier.dense_logits(torch.zeros(0, 3, 16, 16)).shape == (0, 7, 8, 8)


def test_receptive_fields_of_the_layers() -> None:
    network = seeded(0, lambda: torchvision.models.squeezenet1_1(num_classes=3))
    classifier = classifier_of(network)
    fields = classifier.receptive_fields
    assert tuple(fields) == classifier.layers
    assert [fields[name].size_px for name in ("features.0", "features.2", "features.3", "features.5")] == [3, 7, 15, 31]
    assert fields["features.12"] == classifier.dense.field  # type: ignore[union-attr]
    with pytest.raises(CueError, match="black box"):
        _ = Classifier(lambda x: x.mean((2, 3)), preprocessing=plain()).receptive_fields


def test_where_a_map_lies() -> None:
    found = classifier_of(seeded(0, small_bagnet)).dense
    assert found is not None
    place = found.place(found.size, (64, 64))
    assert place.middle(0, 1, found.size) == (12.5 / 64, 4.5 / 64), "the middle of columns 8 to 16 and rows 0 to 8"
