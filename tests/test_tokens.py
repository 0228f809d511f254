"""Maps of class logits from patch tokens: against each family's own head, the place of a token, and who is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers.mlp import GatedMlp
from timm.models import levit as levits
from timm.models import mlp_mixer
from torch import Tensor, fx, nn
from torchvision.models.swin_transformer import SwinTransformer

from cuescope.classifier.classifier import Classifier
from cuescope.instruments.base import Misfit
from cuescope.instruments.evidence import Evidence
from cuescope.instruments.label_map import LabelMap
from cuescope.instruments.registry import unmet
from cuescope.methods.incremental.graph import traced
from cuescope.models.seeding import seeded
from cuescope.network.receptive import fields
from toys import Images, colored, plain

SIDE = 32


def random(network: nn.Module, amount: float = 0.05) -> nn.Module:
    """Random all over: what a recipe sets to zero would hide what it does."""
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=amount)
    return network.eval()


def model(name: str, **settings: Any) -> nn.Module:
    return random(timm.create_model(name, num_classes=7, **settings))


def classifier_of(make: Callable[[], nn.Module], side: int = SIDE, **settings: Any) -> Classifier:
    return Classifier(seeded(0, make), preprocessing=plain(side), device="cpu", **settings)


def pixels(count: int = 3, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


VIT: dict[str, Any] = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
MIXER: dict[str, Any] = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "num_blocks": 2}


def vit(**settings: Any) -> nn.Module:
    return model("vit_tiny_patch16_224", **VIT, **settings)


def mlps(block: str, **settings: Any) -> nn.Module:
    kind: Any = {"block_layer": getattr(mlp_mixer, block), "mlp_ratio": 2, **settings}
    return random(mlp_mixer.MlpMixer(num_classes=7, **MIXER, **kind))


def levit(kind: str = "LevitDistilled", **settings: Any) -> nn.Module:
    size: Any = {"embed_dim": (16, 24, 32), "key_dim": 8, "depth": (1, 1, 1), "num_heads": (2, 3, 4), **settings}
    # Strong enough that attention without a residual tells places apart.
    return random(getattr(levits, kind)(img_size=128, num_classes=7, **size), 0.4)


def swin(**settings: Any) -> nn.Module:
    how = {"img_size": SIDE, "window_size": 4, "embed_dim": 12, "depths": (1, 2), "num_heads": (2, 2)}
    return model("swin_tiny_patch4_window7_224", **how, **settings)


ADDITIVE: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int], int]] = {
    "vit": (lambda: vit(global_pool="avg", fc_norm=False), SIDE, (4, 4), 8),
    "vit without a class token": (
        lambda: vit(global_pool="avg", fc_norm=False, class_token=False),
        SIDE,
        (4, 4),
        8,
    ),
    "mixer": (lambda: mlps("MixerBlock"), SIDE, (4, 4), 8),
    "gmlp": (lambda: mlps("SpatialGatingBlock", mlp_layer=GatedMlp), SIDE, (4, 4), 8),
    "resmlp": (lambda: mlps("ResBlock", norm_layer=mlp_mixer.Affine), SIDE, (4, 4), 8),
    "levit": (lambda: levit("Levit"), 128, (2, 2), 64),
    "levit of two heads": (lambda: levit("LevitDistilled"), 128, (2, 2), 64),
    "levit of convolutions": (lambda: levit("Levit", use_conv=True), 128, (2, 2), 64),
    "efficientformer": (
        lambda: model("efficientformer_l1", depths=(1, 1, 1, 2), embed_dims=(8, 16, 24, 32), num_vit=1),
        224,
        (7, 7),
        32,
    ),
    "swin": (swin, SIDE, (4, 4), 8),
    "swin of torchvision": (
        lambda: SwinTransformer([4, 4], 12, [1, 2], [2, 2], [4, 4], num_classes=7),
        SIDE,
        (4, 4),
        8,
    ),
    "eva02": (
        lambda: model(
            "eva02_tiny_patch14_224", img_size=SIDE, patch_size=8, embed_dim=24, depth=2, num_heads=2, use_fc_norm=False
        ),
        SIDE,
        (4, 4),
        8,
    ),
    "mobilevit": (lambda: model("mobilevit_xxs"), 64, (2, 2), 32),
    "convmixer": (
        lambda: timm.models.ConvMixer(12, 2, kernel_size=5, patch_size=8, num_classes=7),  # type: ignore[attr-defined]
        SIDE,
        (4, 4),
        8,
    ),
    "pvt": (lambda: model("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(8, 16, 40, 64)), 64, (2, 2), 32),
    "maxvit": (lambda: model("maxvit_rmlp_pico_rw_256", img_size=64), 64, (2, 2), 32),
    "coatnet": (lambda: model("coatnet_nano_rw_224", img_size=64, depths=(1, 1, 1, 1)), 64, (2, 2), 32),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_the_mean_of_the_map_is_the_logits(name: str) -> None:
    make, side, size, stride = ADDITIVE[name]
    classifier = classifier_of(make, side)
    dense, images = classifier.dense, pixels(3, side)
    assert dense is not None, classifier.why_not_dense
    assert (dense.size, dense.field.stride_px) == (size, stride)
    assert dense.additive
    assert not dense.local
    maps, logits = classifier.dense_logits(images), classifier.logits(images)
    assert (maps.mean((2, 3)) - logits).abs().max() <= 1e-4 * maps.abs().max()
    assert maps.std((2, 3)).max() > 1e-3 * maps.abs().max()
    assert "dense_logits" in classifier.capabilities


def test_every_token_goes_through_the_head_alone() -> None:
    """The slow twin, where a norm after the mean makes the map not add up."""
    classifier = classifier_of(lambda: vit(global_pool="avg", fc_norm=True))
    assert classifier.dense is not None
    assert not classifier.dense.additive
    images, net = pixels(), classifier.network
    maps = classifier.dense_logits(images)
    with torch.no_grad():
        tokens = net.forward_features(classifier.normalize(images))[:, 1:]  # type: ignore[union-attr,operator]
        for i in range(16):
            wanted = net.head(net.fc_norm(tokens[:, i]))  # type: ignore[union-attr,operator]
            assert torch.allclose(maps[:, :, i // 4, i % 4], wanted, atol=1e-5)


def test_two_heads_are_averaged_at_each_token() -> None:
    classifier, images = classifier_of(lambda: levit("LevitDistilled"), 128), pixels(3, 128)
    net: Any = classifier.network
    with torch.no_grad():
        tokens = net.forward_features(classifier.normalize(images))
        wanted = [(net.head(tokens[:, i]) + net.head_dist(tokens[:, i])) / 2 for i in range(4)]
    maps = classifier.dense_logits(images)
    assert torch.allclose(maps.flatten(2), torch.stack(wanted, 2), atol=1e-5 * float(maps.abs().max()))


@pytest.mark.parametrize(
    ("make", "mixing"),
    [
        (lambda: vit(global_pool="avg", fc_norm=False), "attn.proj"),
        (lambda: mlps("MixerBlock"), "mlp_tokens.fc2"),
        (swin, "attn.proj"),
    ],
    ids=["vit", "mixer", "swin"],
)
def test_a_token_stands_at_its_patch(make: Callable[[], nn.Module], mixing: str) -> None:
    """The planted truth: with nothing that mixes tokens, the change of a patch changes its position and no other."""

    def alone() -> nn.Module:
        network = make()
        for name, tensor in network.named_parameters():
            if mixing in name:
                nn.init.zeros_(tensor)
        return network

    classifier, images = classifier_of(alone), pixels(1).expand(2, -1, -1, -1).clone()
    images[1, :, 8:16, 24:32] = 1
    first, second = classifier.dense_logits(images)
    changed = (first - second).abs().amax(0) > 1e-4 * first.abs().max()
    assert changed.nonzero().tolist() == [[1, 3]]


class Head(nn.Module):
    """Patch tokens behind a class token, and a head that is given what `read` makes of them."""

    def __init__(self, read: Callable[[Tensor], Tensor], inputs: int = 6) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 6, 8, 8), nn.Parameter(torch.rand(1, 1, 6))
        self.head, self.read = nn.Linear(inputs, 7), read

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.read(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)))


TURNED = torch.arange(16).flip(0)
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "vit": (vit, "reads the class token, not an average of patches"),
    "distilled": (
        lambda: model("deit_tiny_distilled_patch16_224", img_size=SIDE, depth=1),
        "reads the class token, not",
    ),
    "cait": (lambda: model("cait_xxs24_224", img_size=SIDE, depth=1), "reads the class token, not"),
    "beside": (
        lambda: Head(lambda x: torch.cat([x[:, 0], x[:, 1:].mean(1)], 1), 12),
        "reads the class token beside the average",
    ),
    "averaged with it": (lambda: Head(lambda x: x.mean(1)), "averages class tokens with the patches"),
    "another order": (lambda: Head(lambda x: x[:, 1:][:, TURNED].mean(1)), "cannot be laid on the image"),
    "some of them": (lambda: Head(lambda x: x[:, 3:].mean(1)), "cannot be laid on the image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_who_is_refused(name: str) -> None:
    make, why = REFUSED[name]
    classifier = classifier_of(make)
    assert classifier.dense is None
    assert why in classifier.why_not_dense
    told = unmet(Evidence, classifier, Images(colored(1)))  # type: ignore[arg-type]
    assert "ask occlusion instead" in told
    assert "gradients" in told
    with pytest.raises(Misfit, match="ask occlusion instead"):
        LabelMap().start(classifier)


def test_the_same_tokens_in_their_order_are_not() -> None:
    classifier = classifier_of(lambda: Head(lambda x: x[:, 1:].mean(1)))
    dense = classifier.dense
    assert dense is not None
    assert (dense.size, dense.additive, dense.local, dense.field_px) == ((4, 4), True, True, 8)


def test_a_black_box_is_told_of_no_gradients() -> None:
    box = Classifier(lambda x: x.mean((2, 3)), preprocessing=plain())
    told = unmet(Evidence, box, Images(colored(1)))  # type: ignore[arg-type]
    assert "ask occlusion instead" in told
    assert "gradients" not in told


def test_tokens_of_an_image_of_another_shape() -> None:
    classifier = classifier_of(lambda: Head(lambda x: x[:, 1:].mean(1)))
    wide = torch.rand(2, 3, 16, 48, generator=torch.Generator().manual_seed(0))
    maps = classifier.dense_logits(wide)
    assert maps.shape == (2, 7, 2, 6)
    assert torch.allclose(maps.mean((2, 3)), classifier.logits(wide), atol=1e-5)


def test_evidence_and_label_maps_of_tokens() -> None:
    classifier = classifier_of(lambda: mlps("MixerBlock"))
    batch = classifier.see(colored(3))
    for tool in (Evidence(), LabelMap()):
        rows = tool.start(classifier).observe(batch)
        assert rows["height"].to_list() == rows["width"].to_list() == [4, 4, 4]
    assert Evidence().start(classifier).facts == {"local": False, "field_px": None}


def test_fields_of_tokens() -> None:
    """Before attention a token sees its patch, after it everything; its place is known in both."""
    found = fields(seeded(0, lambda: vit(global_pool="avg")), torch.rand(1, 3, SIDE, SIDE))
    before, after = found["patch_embed"], found["blocks.1"]
    assert (before.size_px, before.window(1, 3, (SIDE, SIDE))) == (8, (8, 24, 16, 32))
    assert (after.size_px, after.stride_px, after.start_px) == (None, 8, 0)
    assert after.window(1, 3, (SIDE, SIDE)) == (0, 0, SIDE, SIDE)


def test_a_trace_leaves_nothing_behind() -> None:
    network = seeded(0, lambda: levit("Levit"))
    with torch.no_grad():
        network(torch.rand(1, 3, 128, 128))
    graph = traced(network)
    for module in network.modules():
        kept = getattr(module, "attention_bias_cache", {})
        assert all(isinstance(value, Tensor) for value in kept.values())
    own, copied = network.state_dict(keep_vars=True), dict(graph.named_parameters())
    assert copied
    assert all(tensor is own[name] for name, tensor in copied.items())
    assert not any(isinstance(value, fx.Proxy) for module in network.modules() for value in vars(module).values())


def test_names_of_no_module_are_no_layers() -> None:
    """timm's names of the stages of HRNet, Twins and MViTv2."""
    network = seeded(0, lambda: model("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(8, 16, 40, 64)))
    network.feature_info[1]["module"] = "nowhere"  # type: ignore[index]
    classifier = classifier_of(lambda: network, 64)
    assert "nowhere" not in classifier.layers
    assert classifier.stages()


class Strided(nn.Module):
    """Its answer depends on how the tensor lies in memory, or it cannot be run at all."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.fails:
            return x.view(len(x), -1)[:, :5]
        return x.mean((2, 3)) + torch.tensor([0.0, 0, 0, 0, float(x.stride(1) == 1)])


@pytest.mark.parametrize("fails", [True, False])
def test_channels_last_is_left_where_it_changes_the_answer(fails: bool) -> None:
    network, images = seeded(0, lambda: Strided(fails)), pixels()
    classifier = Classifier(network, preprocessing=plain(SIDE), device="cpu")
    assert any(note.startswith("not channels-last") for note in classifier.notes)
    with torch.no_grad():
        wanted = network(classifier.normalize(images))
    assert torch.allclose(classifier.logits(images), wanted, atol=1e-5)
    usual = Classifier(nn.Sequential(*network.body, nn.AdaptiveAvgPool2d(1), nn.Flatten()), preprocessing=plain(SIDE))
    assert "channels-last" in usual.notes


class Attending(nn.Module):
    """Its softmax lies far from its output, which may get the place in memory that the softmax's had."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attend, self.head = nn.Linear(48, 5), nn.Softmax(1), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        x = self.attend(x) * x
        return self.head(x)


def test_a_softmax_inside_is_not_taken_for_the_last_module() -> None:
    network, images = seeded(0, Attending), pixels(2, 4)
    for _ in range(20):
        classifier = Classifier(network, preprocessing=plain(4), device="cpu")
        with torch.no_grad():
            wanted = network(classifier.normalize(images))
        assert torch.allclose(classifier.logits(images), wanted, atol=1e-6)
        assert not any("probabilities" in note for note in classifier.notes)
