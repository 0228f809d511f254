"""What happens inside networks: layers as maps for every family, and batch norms found by running."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.errors import CueError
from cuescope.models.seeding import seeded
from cuescope.network import hooks
from cuescope.network.flow import record

SIDE = 64
HOW = Preprocessing((SIDE, SIDE), SIDE)

VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2}
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", {"img_size": SIDE, **VIT}, "blocks.1", (24, 4, 4)),
    "vit with registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56, **VIT}, "blocks.1", (24, 4, 4)),
    "deit distilled": ("deit_tiny_distilled_patch16_224", {"img_size": SIDE, **VIT}, "blocks.2", (24, 4, 4)),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": SIDE, "window_size": 4, "embed_dim": 12, "depths": (1, 1, 1, 1)},
        "layers.2",
        (48, 4, 4),
    ),
    "convnext": ("convnext_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)}, "stages.2", (24, 4, 4)),
    "resnet": ("resnet10t", {}, "layer3", (256, 4, 4)),
    "mobilenet": ("mobilenetv3_small_050", {}, "blocks.3", (24, 4, 4)),
    "xcit": ("xcit_nano_12_p16_224", {"img_size": SIDE, "embed_dim": 24, "depth": 2}, "blocks.1", (24, 4, 4)),
}


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def classifier_of(module: nn.Module, side: int = SIDE, **settings: object) -> Classifier:
    return Classifier(module, preprocessing=Preprocessing((side, side), side), device="cpu", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_timm_gives_maps(family: str) -> None:
    name, settings, layer, shape = FAMILIES[family]
    network = seeded(0, lambda: timm.create_model(name, num_classes=5, **settings))
    side = settings.get("img_size", SIDE)
    classifier = classifier_of(network, side)  # type: ignore[arg-type]
    pixels = random(3, 3, side, side)  # type: ignore[arg-type]
    maps = classifier.features(pixels, [layer])[layer]
    assert maps.shape == (3, *shape)
    entries = [entry["module"] for entry in network.feature_info]  # type: ignore[union-attr]
    with torch.no_grad():
        wanted = network.eval().forward_intermediates(  # type: ignore[operator]
            classifier.normalize(pixels), indices=[entries.index(layer)], intermediates_only=True
        )
    assert torch.allclose(maps, wanted[0], atol=1e-4)


@pytest.mark.parametrize("family", ["vit", "swin", "convnext", "resnet", "xcit"])
def test_all_layers_are_maps_of_the_image(family: str) -> None:
    name, settings, _, _ = FAMILIES[family]
    classifier = classifier_of(seeded(0, lambda: timm.create_model(name, num_classes=5, **settings)))
    maps = classifier.features(random(2, 3, SIDE, SIDE), classifier.layers)
    assert tuple(maps) == classifier.layers
    sides = {tuple(m.shape[2:]) for m in maps.values()}
    assert all(m.shape[0] == 2 and m.dtype == torch.float32 for m in maps.values())
    assert sides <= {(s, s) for s in (64, 32, 16, 8, 4, 2)}
    assert not any(name.endswith(("attn_drop", "q_norm", "k_norm")) for name in maps), "attention is no map"


def test_tokens_lie_where_their_patches_are() -> None:
    """A ViT that only embeds: a bright patch must come out bright at its own place, and nowhere else."""
    network = seeded(0, lambda: timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=2, **VIT))
    network.blocks = nn.Sequential(nn.Identity())  # type: ignore[assignment]
    network.pos_embed.data.zero_()  # type: ignore[union-attr]
    network.patch_embed.proj.bias.data.zero_()  # type: ignore[union-attr]
    classifier = Classifier(network, preprocessing=Preprocessing((SIDE, SIDE), SIDE, "bilinear", (0,) * 3, (1,) * 3))
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[:, :, 16:32, 48:64] = 1
    found = classifier.features(pixels, ["blocks.0"])["blocks.0"].abs().sum(1)[0]
    assert found.nonzero().tolist() == [[1, 3]]


def test_channels_last_layers_are_turned() -> None:
    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn, self.norm = nn.Conv2d(3, 5, 4, 4), nn.LayerNorm(5)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.turn(x).permute(0, 2, 3, 1)).mean((1, 2))

    classifier = classifier_of(Turning(), 16)
    maps = classifier.features(random(2, 3, 16, 16), ["turn", "norm"])
    assert maps["norm"].shape == (2, 5, 4, 4)
    assert torch.allclose(
        maps["norm"], nn.functional.layer_norm(maps["turn"].permute(0, 2, 3, 1), (5,)).permute(0, 3, 1, 2), atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "grid", "wanted"),
    [
        ((2, 5, 8, 12), None, ("NCHW", (8, 12))),
        ((2, 8, 12, 5), None, ("NHWC", (8, 12))),
        ((2, 8, 8, 12), None, ("NCHW", (8, 12))),
        ((2, 3, 97, 97), (8, 12), None),
        ((2, 97, 7), (8, 12), ("tokens", (8, 12))),
        ((2, 7, 96), (8, 12), None),
        ((2, 24, 7), (8, 12), ("tokens", (4, 6))),
        ((2, 20, 7), (7, 9), ("tokens", (4, 5))),
        ((2, 25, 7), (8, 12), None),
        ((2, 97, 1), (8, 12), None),
        ((2, 7, 1, 1), None, None),
        ((32, 7, 8, 12), None, None),
        ((2, 7), (8, 12), None),
    ],
)
def test_layout_is_judged_by_shape(
    shape: tuple[int, ...], grid: tuple[int, int] | None, wanted: tuple[str, tuple[int, int]] | None
) -> None:
    assert hooks.layout_of(torch.Size(shape), torch.Size((2, 3, 64, 96)), grid, {97}) == wanted


def test_in_place_layers_do_not_spoil_what_was_captured() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = classifier_of(net, 16).features(random(2, 3, 16, 16), ["0", "1"])
    assert maps["0"].min() < 0
    assert torch.equal(maps["1"], maps["0"].relu())


def test_no_farther_than_needed() -> None:
    calls: list[str] = []

    class Loud(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            calls.append("late")
            return super().forward(x)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Loud(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = classifier_of(net, 16)
    assert "2" in classifier.layers
    calls.clear()
    classifier.features(random(2, 3, 16, 16), ["1"])
    assert calls == []


def test_vectors_are_what_comes_after_the_last_map() -> None:
    class Gated(nn.Module):
        """A squeeze and excitation between maps, one ReLU used twice behind them."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.gate = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1)
            self.late, self.fc6, self.fc7, self.fc8 = (
                nn.Conv2d(4, 5, 3),
                nn.Linear(5, 6),
                nn.Linear(6, 7),
                nn.Linear(7, 2),
            )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            x = self.late(x * self.gate(self.pool(x)))
            x = self.relu(self.fc6(x.mean((2, 3))))
            return self.fc8(self.relu(self.fc7(x)))

    classifier, pixels = classifier_of(seeded(0, Gated), 16), random(3, 3, 16, 16)
    assert classifier.vectors == ("fc6", "fc7", "fc8")
    found = classifier.features(pixels, ["fc8", "late", "fc6"])
    assert {name: tuple(v.shape) for name, v in found.items()} == {
        "fc8": (3, 2, 1, 1), "late": (3, 5, 12, 12), "fc6": (3, 6, 1, 1)
    }  # fmt: skip
    # As it was before the ReLU that overwrites it.
    assert found["fc6"].min() < 0
    assert torch.equal(found["fc8"][:, :, 0, 0], classifier.logits(pixels))


@pytest.mark.parametrize("family", ["vit", "swin", "resnet"])
def test_networks_have_the_vector_that_their_head_reads(family: str) -> None:
    name, settings, _, _ = FAMILIES[family]
    network = seeded(0, lambda: timm.create_model(name, num_classes=5, **settings))
    classifier, pixels = classifier_of(network), random(2, 3, SIDE, SIDE)
    assert classifier.vectors
    before = [v for v in classifier.vectors if classifier.features(pixels, [v])[v].shape[1] != 5][-1]
    with torch.no_grad():
        wanted = network.eval().forward_head(network.forward_features(classifier.normalize(pixels)), pre_logits=True)  # type: ignore[operator]
    assert torch.allclose(classifier.features(pixels, [before])[before][:, :, 0, 0], wanted, atol=1e-4)


def test_zeros_about_a_map_are_no_layer_of_their_own() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 5, 3, 2), nn.AdaptiveAvgPool2d(1))
    classifier = classifier_of(nn.Sequential(*net, nn.Flatten()), 16)
    assert classifier.layers == ("0", "2")
    assert classifier.stages() == ("0", "2")


def test_layers_called_twice_have_no_one_output() -> None:
    network = seeded(0, lambda: torchvision.models.resnet18(num_classes=3))
    classifier = classifier_of(network)
    assert "layer1.0" in classifier.layers
    assert "layer1.0.relu" not in classifier.layers


def test_unknown_and_folded_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    named = nn.Sequential()
    for name, part in zip(("conv", "norm", "pool", "flat"), net, strict=True):
        named.add_module(name, part)
    pixels = random(2, 3, 16, 16)
    with pytest.raises(CueError, match="did you mean norm"):
        classifier_of(named, 16).features(pixels, ["norn"])
    with pytest.raises(CueError, match="folded"):
        classifier_of(named, 16).features(pixels, ["conv"])
    kept = classifier_of(named, 16, fold=False).features(pixels, ["conv", "norm"])
    assert torch.allclose(kept["norm"], named.norm.eval()(kept["conv"]), atol=1e-5)  # type: ignore[operator]
    assert torch.allclose(classifier_of(named, 16).features(pixels, ["norm"])["norm"], kept["norm"], atol=1e-5)


def test_hooks_go_even_when_the_network_fails() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.conv(x)
            raise ValueError("no")

    net = Failing()
    with pytest.raises(ValueError, match="no"):
        hooks.survey(net, random(2, 3, 8, 8))
    assert not net.conv._forward_hooks


class Paths(nn.Module):
    """One convolution for each way its output may be read."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.after_once = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.after_twice = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.changed, self.after_changed = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.shared, self.after_shared = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_once(self.once(x))
        y = self.twice(x)
        x = torch.cat([self.after_twice(y), y], 1)[:, :3]
        y = self.changed(x)
        y.add_(1)
        x = self.after_changed(y)
        return self.after_shared(self.shared(self.shared(x)))


def test_only_convolutions_read_by_nothing_but_their_batch_norm_are_followed() -> None:
    net = Paths().eval()
    convolutions = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    norms = {n: m for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    pixels = random(1, 3, 8, 8)
    output, flow = record(net, pixels)
    pairs = flow.sole_consumers(convolutions, norms)
    assert pairs == {"once": "after_once"}
    assert torch.equal(output, net(pixels))


def thin_densenet() -> nn.Module:
    return torchvision.models.DenseNet(4, (2, 2), 8, num_classes=5)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: timm.create_model("resnet10t", num_classes=5), 14),
        (lambda: timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=5), 34),
        (lambda: timm.create_model("resnetv2_18", num_classes=5), 8),
        (thin_densenet, 5),
    ],
    ids=["activation in the norm", "convolution that pads itself", "norm first", "dense"],
)
def test_folding_is_exact(make: Callable[[], nn.Module], count: int) -> None:
    network = seeded(0, make)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(1))
            part.running_var.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    folded, plain = classifier_of(network), classifier_of(network, fold=False)
    pixels = random(2, 3, SIDE, SIDE)
    assert torch.allclose(folded.logits(pixels), plain.logits(pixels), rtol=1e-4, atol=1e-4)
    assert any(note.startswith(f"{count} batch norms folded") for note in folded.notes), folded.notes
