"""Heatmaps against what can be worked out by hand; DeepLift's maps add up; the network is left as it was."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.attribution import KINDS, Attributions
from cuescope.methods.attribution.places import cell_sums, placed
from cuescope.methods.attribution.rescale import SplitReLU6, rescalable
from cuescope.methods.incremental.graph import UntraceableError
from cuescope.network.receptive import Extent, Field

TWO = ClassSpace("two", ("this", "that"))
HOW = Preprocessing((16, 16), 16, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), "toy")


def seeded(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return module.eval()


def classifier_of(module: nn.Module) -> Classifier:
    return Classifier(seeded(module), classes=TWO, preprocessing=HOW)


def pixels(seed: int = 1) -> Tensor:
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed))


def lost(classifier: Classifier, target: int) -> float:
    """The logit of the image less that of the mean pixel everywhere."""
    mean = torch.tensor(HOW.mean).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    return float((classifier.logits(pixels()[None]) - classifier.logits(mean))[0, target])


def test_maps_of_a_linear_network_are_its_weights() -> None:
    classifier = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)))
    weights = classifier.network[1].weight[1].view(3, 16, 16)  # type: ignore[index]
    maps = Attributions.of(classifier).maps(pixels(), 1, 4)
    normalized = classifier.normalize(pixels()[None])[0]
    assert torch.allclose(maps["saliency"], weights.abs().sum(0), atol=1e-6)  # type: ignore[arg-type]
    for kind in ("integrated gradients", "DeepLift"):
        assert torch.allclose(maps[kind], (weights * normalized).sum(0), atol=1e-5), kind  # type: ignore[arg-type]
    assert maps["Grad-CAM"] == "its last map is not a convolutional one"


def check_grad_cam(classifier: Classifier, small: Tensor) -> None:
    """Grad-CAM of class 1 is this map (h, w), stretched over the image."""
    wanted = F.interpolate(small[None, None], (16, 16), mode="bilinear")[0, 0]
    found = Attributions.of(classifier).maps(pixels(), 1, 4)["Grad-CAM"]
    assert wanted.max() > 0
    assert torch.allclose(found, wanted, atol=1e-6)  # type: ignore[arg-type]


def test_grad_cam_weighs_the_last_maps_by_their_mean_gradient() -> None:
    layers = [nn.Conv2d(3, 5, 3, 2), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)]
    classifier = classifier_of(nn.Sequential(*layers))
    network = classifier.network
    assert network is not None
    with torch.no_grad():
        seen = network[:2](classifier.normalize(pixels()[None]))[0]  # type: ignore[index]
        weighed = (network[4].weight[1, :, None, None] * seen).sum(0).relu() / seen[0].numel()  # type: ignore[index]
    check_grad_cam(classifier, weighed)


class Reusing(nn.Module):
    """The last map that only one call of a module gives is overwritten by a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.fc = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3), nn.Linear(5, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.last(self.relu(self.conv(x)))).mean((2, 3)))


def test_grad_cam_sees_the_map_before_it_is_overwritten() -> None:
    classifier = classifier_of(Reusing())
    network = seeded(Reusing())
    network.relu = nn.ReLU()
    seen = network.last(network.relu(network.conv(classifier.normalize(pixels()[None])))).detach().requires_grad_()  # type: ignore[operator]
    logit = network.fc(network.relu(seen).mean((2, 3)))[0, 1]  # type: ignore[operator]
    weights = torch.autograd.grad(logit, seen)[0].mean((2, 3), keepdim=True)
    check_grad_cam(classifier, (weights * seen).sum(1)[0].relu().detach())


class Everything(nn.Module):
    """One ReLU called three times, in place; functions, methods, overlapping pools and a ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.more, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(12, 2)
        self.relu, self.pool, self.six = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        y = self.more(self.relu(self.more(x)))
        y += 0.5 * F.relu(self.more(x) / 2, inplace=True)
        y = self.six(6 * self.more(y).add_(0.1)) + self.more(y / 4).relu_()
        y = torch.cat([y, x.sigmoid()], 1)
        return self.fc(self.relu(y - 0.1).mean((2, 3)))


class Pooled(Everything):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.pool(self.relu(self.conv(x)))] * 2, 1).mean((2, 3)))


@pytest.mark.parametrize("kind", [Everything, Pooled])
def test_deeplift_adds_up_to_the_logit(kind: type[nn.Module]) -> None:
    """Its maps are a decomposition, which captum's are not for a network as it stands. See the next test."""
    classifier = classifier_of(kind())
    for target in (0, 1):
        maps = Attributions.of(classifier).maps(pixels(), target, 64)
        wanted = lost(classifier, target)
        assert isinstance(maps["DeepLift"], Tensor), maps["DeepLift"]
        # A pool that meets ties in the flat baseline passes on the gradient, which is not all of the change.
        assert float(maps["DeepLift"].sum()) == pytest.approx(wanted, rel=1e-4 if kind is Everything else 0.2)
        assert isinstance(maps["integrated gradients"], Tensor)
        reach = float(maps["integrated gradients"].abs().sum())
        assert float(maps["integrated gradients"].sum()) == pytest.approx(wanted, abs=0.02 * reach)


@pytest.mark.filterwarnings("ignore")
def test_captum_alone_does_not_add_up() -> None:
    """Why networks are made ready: if this passes one day, `rescale` may go."""
    from captum.attr import DeepLift

    classifier = classifier_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(784, 2)))
    x = classifier.normalize(pixels()[None])
    found = DeepLift(classifier.network).attribute(x, target=0)
    assert float(found.sum()) != pytest.approx(lost(classifier, 0), rel=0.05)
    ready = Attributions.of(classifier).maps(pixels(), 0, 4)["DeepLift"]
    assert float(ready.sum()) == pytest.approx(lost(classifier, 0), rel=1e-4)  # type: ignore[union-attr]


def test_the_graph_gives_the_networks_logits() -> None:
    for kind in (Everything, Pooled):
        module = seeded(kind())
        wanted = module(pixels()[None])
        assert torch.allclose(rescalable(module)(pixels()[None]), wanted, atol=1e-5)
    x = torch.linspace(-3, 9, 25)
    assert torch.allclose(SplitReLU6()(x), F.relu6(x))


class Acts(nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), act, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


def square(x: Tensor) -> Tensor:
    return operator.mul(x, x)


def inverse(x: Tensor) -> Tensor:
    return 1 / (x + 9)


def branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def halved(x: Tensor) -> Tensor:
    return 0.5 * x / 2


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (nn.GELU(), "DeepLift has no rule for GELU"),
        (F.silu, "DeepLift has no rule for silu"),
        (square, "DeepLift has no rule for mul"),
        (inverse, "DeepLift has no rule for truediv"),
        (branch, "torch.fx cannot trace it"),
    ],
)
def test_what_deeplift_has_no_rule_for_is_told(act: Any, why: str) -> None:
    maps = Attributions.of(classifier_of(Acts(act))).maps(pixels(), 0, 4)
    assert isinstance(maps["DeepLift"], str)
    assert why in maps["DeepLift"]
    assert all(isinstance(maps[kind], Tensor) for kind in KINDS if kind != "DeepLift")


def test_scales_are_linear() -> None:
    assert rescalable(Acts(halved).eval())(pixels()[None]).shape == (1, 2)
    with pytest.raises(UntraceableError, match="mul"):
        rescalable(Acts(square).eval())


def test_nothing_is_left_on_the_network() -> None:
    classifier = classifier_of(Everything())
    network = classifier.network
    assert network is not None

    def trace() -> list[Any]:
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in network.modules()]
        state = [sorted(vars(m)) for m in network.modules()], [getattr(m, "inplace", None) for m in network.modules()]
        return [hooks, state, [(p.requires_grad, p.grad, p.data_ptr()) for p in network.parameters()]]

    before, rng = trace(), torch.random.get_rng_state()
    logits = classifier.logits(pixels()[None])
    with torch.no_grad():
        heatmaps = Attributions.of(classifier)
        first = heatmaps.maps(pixels(), 0, 4)
    again = heatmaps.maps(pixels(), 0, 4)
    assert trace() == before
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert torch.equal(classifier.logits(pixels()[None]), logits)
    assert tuple(first) == KINDS
    for kind in KINDS:
        assert torch.equal(first[kind], again[kind])  # type: ignore[arg-type]
        assert not first[kind].requires_grad  # type: ignore[union-attr]


def test_a_black_box_has_no_gradients() -> None:
    box = Classifier(lambda x: x.mean((2, 3))[:, :2], classes=TWO, preprocessing=HOW)
    with pytest.raises(CueError, match="black box without gradients"):
        Attributions.of(box)


def test_patches_are_placed_where_they_see() -> None:
    """The slow twin: for each pixel, the two nearest middles of patches along each axis."""
    evidence = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    nine = Field(Extent(0, 8, 9), Extent(0, 8, 9))
    found = placed(evidence, nine, (25, 33), (50, 33))

    def between(values: list[float], at: float) -> float:
        at = min(max(at, 0.0), len(values) - 1)
        low = min(int(at), len(values) - 2)
        return values[low] + (at - low) * (values[low + 1] - values[low])

    for y, x in ((0, 0), (8, 4), (9, 5), (25, 20), (49, 32), (31, 12)):
        rows = [between(row.tolist(), (x + 0.5 - 4.5) / 8) for row in evidence]
        assert float(found[y, x]) == pytest.approx(between(rows, ((y + 0.5) / 2 - 4.5) / 8), abs=1e-5)
    # The middle of the second patch, 12.5 px from the top, is that of pixel 12 in an image of the same size.
    assert torch.allclose(placed(evidence, nine, (25, 33), (25, 33))[12, 4], evidence[1, 0])
    # With padding, the middle of the first is that of pixel 0; without a place, positions are spread evenly.
    padded = Field(Extent(-4, 8, 9), Extent(0, 8, 9))
    assert torch.allclose(placed(evidence, padded, (25, 33), (25, 33))[0, 4], evidence[0, 0])
    spread = placed(evidence, Field(None, None), (24, 32), (24, 32))
    assert torch.allclose(spread, F.interpolate(evidence[None, None], (24, 32), mode="bilinear")[0, 0], atol=1e-6)


def test_sums_inside_cells() -> None:
    heat = torch.arange(35.0).view(5, 7)
    sums = cell_sums(heat, 2)
    assert sums.shape == (2, 3)
    assert float(sums[1, 2]) == float(heat[2:4, 4:6].sum())
