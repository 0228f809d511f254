"""Projections down to the pixels: against plain twins, captum, and networks that must be refused."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.methods.deconvnet import VARIANTS, Variant, project, why_not
from cuescope.methods.deconvnet.rules import unpool
from cuescope.models.zfnet import ZFNet
from toys import plain


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights from a generator of their own, large enough that something happens in every layer."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


def classifier(*layers: nn.Module, size: int = 16, **how: bool) -> Classifier:
    return Classifier(drawn(nn.Sequential(*layers)), preprocessing=plain(size), **how)


def images(count: int = 2, size: int = 16, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


HEAD = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def small(**relu: bool) -> Classifier:
    """Convolutions, rectifiers and overlapping pools, as in ZFNet."""
    first = (nn.Conv2d(3, 5, 3, stride=1), nn.ReLU(**relu), nn.MaxPool2d(3, 2, ceil_mode=True))
    return classifier(*first, nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(**relu), nn.MaxPool2d(3, 2, padding=1), *HEAD)


@torch.no_grad()
def test_a_linear_network_is_projected_by_its_transpose() -> None:
    net = classifier(nn.Conv2d(3, 5, 3, 2, padding=1), nn.AvgPool2d(2), nn.Conv2d(5, 4, 3, padding=1), nn.Flatten())
    x = images(1)
    module = net.module
    assert module is not None
    # The operator as a matrix, without its biases: one column a pixel.
    body = module[:3]  # type: ignore[index]
    zero = body(torch.zeros_like(x))
    columns = [(body(e.view_as(x)) - zero).flatten() for e in torch.eye(x.numel())]
    matrix = torch.stack(columns, 1)
    for channel, place in ((0, (0, 0)), (2, (1, 3)), (3, (3, 3))):
        found = project(net, x, "2", [channel], places=[place])
        unit = torch.zeros(1, 4, 4, 4)
        unit[0, channel, place[0], place[1]] = found.values[0]
        assert torch.allclose(found.maps[0].flatten(), matrix.T @ unit.flatten(), atol=1e-5)
        assert found.values[0] == pytest.approx(float(body(x)[0, channel, place[0], place[1]]), abs=1e-5)


def plain_unpool(signal: Tensor, switches: Tensor, shape: torch.Size) -> Tensor:
    """One value after another to where its switch points."""
    below = torch.zeros(shape)
    for b, c, i, j in torch.cartesian_prod(*map(torch.arange, signal.shape)).tolist():
        y, x = divmod(int(switches[b, c, i, j]), shape[-1])
        below[b, c, y, x] += signal[b, c, i, j]
    return below


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil"),
    [
        ((2, 2), (2, 2), (0, 0), (1, 1), False),
        ((3, 3), (2, 2), (0, 0), (1, 1), True),
        ((3, 3), (1, 1), (1, 1), (1, 1), False),
        ((3, 2), (2, 3), (1, 0), (2, 1), False),
        ((4, 4), (3, 3), (2, 2), (1, 1), True),
    ],
)
def test_unpooling_puts_each_value_where_its_maximum_was(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], ceil: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    # Few levels, so that maxima tie and windows share them.
    x = torch.randint(0, 4, (2, 3, 11, 13), generator=generator).float()
    pooled, switches = F.max_pool2d(x, kernel, stride, padding, dilation, ceil, return_indices=True)
    signal = torch.randn(pooled.shape, generator=generator)
    found = unpool(signal, switches, x.shape, kernel, stride, padding, dilation)
    assert torch.allclose(found, plain_unpool(signal, switches, x.shape), atol=1e-6)


def twin(module: nn.Sequential, x: Tensor, layer: int, channel: int) -> Tensor:
    """The paper's words, one layer after another: unpool by switches, rectify, transposed filters, no bias."""
    ups, switches = [x], {}
    for number, part in enumerate(module[: layer + 1]):
        if isinstance(part, nn.MaxPool2d):
            settings = (part.kernel_size, part.stride, part.padding, part.dilation, part.ceil_mode)
            up, switches[number] = F.max_pool2d(ups[-1], *settings, return_indices=True)
        else:
            up = part(ups[-1])
        ups.append(up)
    top = ups[-1][0, channel]
    down = torch.zeros_like(ups[-1])
    down[0, channel].view(-1)[top.argmax()] = top.max()
    for number in range(layer, -1, -1):
        part, shape = module[number], ups[number].shape
        if isinstance(part, nn.MaxPool2d):
            down = plain_unpool(down, switches[number], shape)
        elif isinstance(part, nn.ReLU):
            down = down.clamp(min=0)
        elif isinstance(part, nn.Conv2d):
            extra = [
                n - ((m - 1) * s - 2 * p + k)
                for n, m, s, p, k in zip(
                    shape[-2:], down.shape[-2:], part.stride, part.padding, part.kernel_size, strict=True
                )
            ]
            down = F.conv_transpose2d(down, part.weight, None, part.stride, part.padding, extra, part.groups)
    return down[0]


@pytest.mark.parametrize("layer", range(6))
def test_the_deconvnet_is_the_papers_layer_by_layer(layer: int) -> None:
    net, x = small(), images(1)
    assert isinstance(net.module, nn.Sequential)
    for channel in (0, 2, 4):
        found = project(net, x, str(layer), [channel]).maps[0]
        assert torch.allclose(found, twin(net.module, x, layer, channel), atol=1e-5)
        assert found.abs().max() > 0


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backpropagation_and_gradient_are_captums(inplace: bool) -> None:
    from captum import attr

    net, x = small(inplace=inplace), images(3)
    targets = [0, 2, 1]
    plain_net = small().module
    assert isinstance(plain_net, nn.Sequential)
    assert isinstance(net.module, nn.Sequential)
    for module in (plain_net, net.module):
        module[8].bias.data.fill_(5.0)
    net = Classifier(net.module, preprocessing=plain(16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted: dict[Variant, Tensor] = {
            "guided": attr.GuidedBackprop(plain_net).attribute(x.clone().requires_grad_(), target=targets),
            "deconvnet": attr.Deconvolution(plain_net).attribute(x.clone().requires_grad_(), target=targets),
            "gradient": attr.Saliency(plain_net).attribute(x.clone().requires_grad_(), target=targets, abs=False),
        }
    for variant in VARIANTS:
        found = project(net, x, "8", targets, variant=variant)
        # captum starts from 1, the paper from the unit's activation, here a positive one.
        scale = found.values[:, None, None, None] if variant == "deconvnet" else 1
        assert found.values.min() > 0
        assert (found.maps - wanted[variant] * scale).abs().max() < 1e-5
    assert not torch.allclose(wanted["guided"], wanted["gradient"])


class Residual(nn.Module):
    """A block with one rectifier module used again and again, in place, at last on a view whose result nobody takes."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.out, self.functional = nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), functional

    def rectify(self, x: Tensor) -> Tensor:
        return torch.relu(x) if self.functional else self.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectify(self.stem(x))
        x = self.b(self.rectify(self.a(x))) - x
        if self.functional:
            x = torch.cat([F.relu(x[:, :2]), x[:, 2:]], 1)
        else:
            x[:, :2].relu_()
        return self.out(x).mean((2, 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_reused_and_in_place_rectifiers_count_as_often_as_they_run(variant: Variant) -> None:
    x = images(2)
    maps = []
    for functional in (False, True):
        net = Classifier(drawn(Residual(functional)), preprocessing=plain(16))
        maps.append(project(net, x, "out", [1, 3], variant=variant).maps)
    assert torch.equal(*maps)
    assert maps[0].abs().max() > 0


def test_at_a_sum_the_signal_goes_down_both_branches() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.out = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.one(x)) + F.relu(self.two(x))).mean((2, 3))

    module = drawn(Sum())
    x, spot = images(1), (5, 6)
    net = Classifier(module, preprocessing=plain(16))
    found = project(net, x, "out", [2], places=[spot])
    signal = torch.zeros(1, 4, 16, 16)
    signal[0, 2, spot[0], spot[1]] = found.values[0]
    parts = F.conv_transpose2d(signal, module.one.weight) + F.conv_transpose2d(signal, module.two.weight, padding=1)
    assert torch.allclose(found.maps, parts, atol=1e-5)


def test_local_response_normalization_is_passed() -> None:
    body = (nn.Conv2d(3, 5, 3), nn.LocalResponseNorm(5, 1.0, 0.75, 2.0), nn.ReLU())
    net, bare = classifier(*body, *HEAD[:2]), classifier(body[0], nn.Identity(), nn.ReLU(), *HEAD[:2])
    x = images(1)
    found, other = project(net, x, "2", [1]), project(bare, x, "2", [1])
    at = (int(found.rows[0]), int(found.columns[0]))
    other = project(bare, x, "2", [1], places=[at])
    assert found.values[0] < other.values[0]
    assert torch.allclose(found.maps / found.values[0], other.maps / other.values[0], atol=1e-5)
    # Its true gradient is another matter.
    gradients = [project(n, x, "2", [1], places=[at], variant="gradient").maps for n in (net, bare)]
    assert not torch.allclose(*gradients, atol=1e-3)


def test_other_normalizations_are_passed_but_for_their_scale() -> None:
    norm = nn.GroupNorm(1, 5)
    net, bare = classifier(nn.Conv2d(3, 5, 3), norm, *HEAD[:2]), classifier(nn.Conv2d(3, 5, 3), *HEAD[:2])
    x = images(1)
    found, other = project(net, x, "1", [3], places=[(4, 4)]), project(bare, x, "0", [3], places=[(4, 4)])
    assert torch.allclose(found.maps / found.values[0], other.maps / other.values[0] * norm.weight[3], atol=1e-5)


def test_a_folded_batch_norm_changes_nothing() -> None:
    body = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *HEAD)
    torch.manual_seed(0)
    module = drawn(nn.Sequential(*body))
    module[1].running_var.fill_(0.3)
    folded, plain_net = (Classifier(module, preprocessing=plain(16), fold=f) for f in (True, False))
    for variant in VARIANTS:
        a, b = (project(net, images(2), "2", [0, 5], variant=variant).maps for net in (folded, plain_net))
        assert torch.allclose(a, b, atol=1e-5)


def test_the_ceiling_of_a_relu6_is_that_of_its_gradient() -> None:
    net = classifier(nn.Conv2d(3, 6, 3), nn.ReLU6(), *HEAD)
    high = images(1) * 100
    guided = project(net, high, "1", [0], variant="guided")
    assert float(guided.values[0]) == 6
    assert guided.maps.abs().max() == 0
    assert project(net, high, "1", [0], variant="deconvnet").maps.abs().max() > 0


def test_batches_do_not_matter() -> None:
    net, x = small(), images(11)
    channels = [i % 6 for i in range(11)]
    whole = project(net, x, "4", channels)
    for i in (0, 7, 10):
        one = project(net, x[i : i + 1], "4", channels[i : i + 1])
        assert torch.allclose(one.maps[0], whole.maps[i], atol=1e-6)
        assert (one.rows[0], one.columns[0]) == (whole.rows[i], whole.columns[i])
    assert project(net, x[:0], "4", []).maps.shape == (0, 3, 16, 16)


def test_a_fully_connected_layer_has_units_too() -> None:
    module = ZFNet(classes=4, widths=(4, 6, 8, 8, 6), hidden=16)
    net = Classifier(drawn(module), preprocessing=plain(224))
    assert "classifier.relu7" in net.vectors
    found = project(net, images(1, 224), "classifier.relu7", [3])
    assert found.maps.shape == (1, 3, 224, 224)
    assert (int(found.rows[0]), int(found.columns[0])) == (0, 0)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.out(x * x.mean((2, 3), keepdim=True)).mean((2, 3))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(1))


@pytest.mark.parametrize(
    ("module", "layer", "names"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 6, 1), *HEAD), "2", "gelu"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Conv2d(4, 6, 1), *HEAD), "2", "leakyrelu"),
        (Gated(), "out", "a product of two maps"),
        (Attending(), "head", "attention|softmax|bmm"),
    ],
)
@pytest.mark.parametrize("variant", ["deconvnet", "guided"])
def test_where_there_is_no_rule_nothing_is_shown(module: nn.Module, layer: str, names: str, variant: Variant) -> None:
    net = Classifier(drawn(module), preprocessing=plain(16))
    with pytest.raises(CueError, match=names):
        project(net, images(1), layer, [0], variant=variant)
    assert variant in why_not(net, layer, variant)
    assert why_not(net, layer, "gradient") == ""
    assert project(net, images(1), layer, [0], variant="gradient").maps.abs().max() > 0


def test_below_what_has_no_rule_there_is_a_projection() -> None:
    net = classifier(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.GELU(), *HEAD)
    assert why_not(net, "2") == ""
    assert "gelu" in why_not(net, "3")


def test_bad_layers_and_channels_are_told() -> None:
    net = small()
    with pytest.raises(CueError, match="unknown layer '11'"):
        project(net, images(1), "11", [0])
    with pytest.raises(CueError, match="no channel 7"):
        project(net, images(1), "1", [7])
    with pytest.raises(ValueError, match="as many"):
        project(net, images(2), "1", [0])
    box = Classifier(lambda x: x.mean((2, 3)), preprocessing=plain(16), classes=["a", "b", "c"])
    assert "black box" in why_not(box, "1")


def test_no_trace_is_left() -> None:
    net = small()
    module = net.network
    assert module is not None
    before = [p.clone() for p in module.parameters()]
    with torch.inference_mode():
        project(net, images(1), "4", [0])
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks for m in module.modules())
