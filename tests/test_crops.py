"""Logits of overlapping crops: whole passes over every crop are the plain twin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.data.preprocessing import Preprocessing
from cuescope.methods.incremental import crops
from cuescope.methods.incremental.crops import Border, crop_logits
from cuescope.models.blurpool import MaxBlurPool2d
from cuescope.network.receptive.spans import Span

SIDE = 32


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.conv(x))


class Branches(nn.Module):
    """As in SqueezeNet: one branch sees farther than the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.near(x), self.far(x)], 1)


class Gate(nn.Module):
    """Squeeze and excitation: each position depends on the whole map."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Places(nn.Module):
    """A learned number for each place of a map: no shift is the same to it."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 6, SIDE, SIDE))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.place


class Twist(nn.Module):
    """Its code asks for values of the image, which no graph can tell."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image if float(image.mean()) > 0.1 else -image for image in x])


def head(width: int = 12) -> list[nn.Module]:
    return [nn.Conv2d(width, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]


NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "without padding": lambda: [nn.Conv2d(3, 12, 3, 2), nn.ReLU(), *head()],
    "padded, stride 4": lambda: [
        nn.Conv2d(3, 12, 5, 2, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Residual(12),
        *head(),
    ],
    "branches and ceil_mode": lambda: [
        nn.Conv2d(3, 6, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Branches(6),
        *head(),
    ],
    "depthwise with batch norm": lambda: [
        nn.Conv2d(3, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        nn.Conv2d(12, 12, 3, 1, 1, groups=12),
        *head(),
    ],
    "reflected at the border": lambda: [
        nn.Conv2d(3, 12, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.ReflectionPad2d(1),
        nn.Conv2d(12, 12, 3, 2),
        *head(),
    ],
    "anti-aliased": lambda: [
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        MaxBlurPool2d(nn.MaxPool2d(3, 2, 1), 3),
        *head(),
    ],
    "a gate after the first layers": lambda: [nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), Gate(), *head()],
    "uneven kernels": lambda: [nn.Conv2d(3, 12, (5, 3), (2, 1), (2, 0)), nn.ReLU(), *head()],
}


def classifier(layers: list[nn.Module], size: tuple[int, int] = (SIDE, SIDE)) -> Classifier:
    network = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    how = Preprocessing(size, size, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Classifier(network, preprocessing=how)


def window(height: int, width: int, seed: int = 1) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def every_pass(toy: Classifier, image: Tensor, tops: range, lefts: range, size: tuple[int, int]) -> Tensor:
    """Each crop alone."""
    return torch.stack(
        [torch.stack([toy.logits(image[None, :, t : t + size[0], x : x + size[1]])[0] for x in lefts]) for t in tops]
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("tops", "lefts"), [(range(9), range(9)), (range(0, 12, 3), range(2, 11))])
def test_shared_layers_change_nothing(name: str, tops: range, lefts: range) -> None:
    toy, image = classifier(NETWORKS[name]()), window(SIDE + 12, SIDE + 11)
    found = crop_logits(toy, image, tops, lefts, (SIDE, SIDE))
    assert not found.why_plain
    wanted = every_pass(toy, image, tops, lefts, (SIDE, SIDE))
    assert wanted.std((0, 1)).min() > 1e-2, "the crops differ"
    torch.testing.assert_close(found.logits, wanted, rtol=1e-5, atol=1e-4)
    again = window(SIDE + 12, SIDE + 11, seed=2)
    other = crop_logits(toy, again, tops, lefts, (SIDE, SIDE))
    torch.testing.assert_close(other.logits, every_pass(toy, again, tops, lefts, (SIDE, SIDE)), rtol=1e-5, atol=1e-4)


def test_crops_need_not_be_square() -> None:
    toy = classifier(NETWORKS["padded, stride 4"](), (24, 40))
    image = window(30, 47)
    found = crop_logits(toy, image, range(6), range(7), (24, 40))
    assert not found.why_plain
    wanted = every_pass(toy, image, range(6), range(7), (24, 40))
    torch.testing.assert_close(found.logits, wanted, rtol=1e-5, atol=1e-4)


def test_the_first_layers_see_fewer_pixels() -> None:
    toy = classifier(NETWORKS["padded, stride 4"]())
    seen: list[int] = []
    crop_logits(toy, window(48, 48), range(16), range(16), (SIDE, SIDE))
    (way,) = toy._known.values()
    assert isinstance(way, crops.Way)
    first, tops = way.first, tuple(range(16))
    real = first.forward

    def counted(x: Tensor) -> Tensor:
        seen.append(x[:, 0].numel())
        return real(x)

    first.forward = counted  # type: ignore[method-assign]
    every = crops.Crops(tops, tops, (SIDE, SIDE))
    crops._shared(toy, way, window(48, 48), every)
    assert sum(seen) < 0.75 * 256 * SIDE * SIDE
    predicted = crops._share(way.rows, way.columns, every)
    assert sum(seen) / (256 * SIDE * SIDE) == pytest.approx(predicted, rel=0.02)


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        (lambda: [nn.Conv2d(3, 6, 3, padding=1), Places(), *head(6)], ""),
        (lambda: [Places(), *head(6)], "cannot be run on larger images"),
        (lambda: [Gate(), nn.Conv2d(3, 12, 3, padding=1), *head()], "nothing to share"),
        (lambda: [Twist(), *NETWORKS["without padding"]()], "torch.fx"),
    ],
)
def test_what_cannot_be_shared_is_told_and_right_all_the_same(layers: Callable[[], list[nn.Module]], why: str) -> None:
    toy = classifier(layers()) if why != "cannot be run on larger images" else placed()
    image = window(SIDE + 5, SIDE + 5)
    found = crop_logits(toy, image, range(5), range(5), (SIDE, SIDE))
    assert why in found.why_plain
    wanted = every_pass(toy, image, range(5), range(5), (SIDE, SIDE))
    torch.testing.assert_close(found.logits, wanted, rtol=1e-5, atol=1e-4)


def placed() -> Classifier:
    """The places are learned after a layer that could be shared, and the most work lies after them."""
    return classifier([nn.Conv2d(3, 6, 1), Places(), Residual(6), Residual(6), Residual(6), *head(6)])


def test_a_black_box_is_asked_about_every_crop() -> None:
    box = Classifier(lambda x: x.mean((2, 3)), classes=["r", "g", "b"], preprocessing=Preprocessing((8, 8), 8))
    found = crop_logits(box, window(10, 10), range(2), range(3), (8, 8))
    assert found.why_plain == "it is a black box"
    assert found.logits.shape == (2, 3, 3)


def test_a_wrong_way_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Border.of
    monkeypatch.setattr(
        Border, "of", lambda span, length, count: real(Span(span.axis, 0, span.stride, 1), length, count)
    )
    toy = classifier(NETWORKS["padded, stride 4"]())
    found = crop_logits(toy, window(40, 40), range(8), range(8), (SIDE, SIDE))
    assert "give something else on larger images" in found.why_plain


def test_the_same_in_bfloat16() -> None:
    network = nn.Sequential(*NETWORKS["padded, stride 4"]()).eval()
    how = Preprocessing((SIDE, SIDE), SIDE)
    plain = Classifier(network, preprocessing=how)
    low = Classifier(network, preprocessing=how, precision="bfloat16")
    image = window(40, 40)
    found = crop_logits(low, image, range(8), range(8), (SIDE, SIDE))
    assert not found.why_plain
    wanted = every_pass(plain, image, range(8), range(8), (SIDE, SIDE))
    torch.testing.assert_close(found.logits, wanted, rtol=0, atol=float(0.05 * wanted.abs().max()))
