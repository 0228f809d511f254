"""Networks that no cyclic shift changes: exact where the recipe fits, refused with a reason where it does not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.data.readers import read_folder
from cuescope.models import aps
from cuescope.models.aps import PolyphaseSampling2d, adaptive_polyphase, change_under_shifts
from cuescope.models.circular import CircularPad2d, circular
from cuescope.models.seeding import seeded


def noise(size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=10),
    "squeezenet1_1": lambda: models.squeezenet1_1(num_classes=10),
    "alexnet": lambda: nn.Sequential(models.alexnet().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "timm mobilenetv3": lambda: timm.create_model("mobilenetv3_small_050"),
    "timm tf_efficientnet": lambda: timm.create_model("tf_efficientnet_b0"),
    "timm convnext": lambda: timm.create_model("convnext_atto"),
    "timm regnet": lambda: timm.create_model("regnety_002"),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_no_cyclic_shift_changes_a_logit(name: str) -> None:
    module, x = seeded(0, NETWORKS[name]).eval(), noise(64, 2)
    exact = adaptive_polyphase(module, example=x[:1])
    assert list(exact.state_dict()) == list(module.state_dict())
    assert not [n for n, p in exact.named_modules() if isinstance(p, nn.Conv2d) and p.stride != (1, 1)]
    plain, largest = exact(x), float(exact(x).abs().max())
    for shift in ((5, 0), (-9, 14), (31, 1)):
        # Each image by a shift of its own: phases are chosen by image.
        moved = torch.stack([x[0].roll(shift, (1, 2)), x[1].roll((shift[1], 3), (1, 2))])
        assert float((exact(moved) - plain).abs().max()) < 1e-5 * largest
    assert change_under_shifts(circular(module), x[:1]) > 1e-3, "circular padding alone is not enough"


@torch.no_grad()
def test_the_phase_of_the_largest_norm_is_kept_by_image() -> None:
    x = torch.rand(5, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    found = PolyphaseSampling2d()(x)
    for i in range(5):
        phases = [x[i, :, r::2, c::2] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))]
        assert torch.equal(found[i], max(phases, key=lambda phase: float(phase.square().sum())))
    assert torch.equal(PolyphaseSampling2d()(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 2, 2))
    with pytest.raises(CueError, match="7 x 8 positions"):
        PolyphaseSampling2d()(torch.rand(1, 1, 7, 8))


class Residual(nn.Module):
    """Two ways side by side, each with a stride, that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.short = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 2, 1), nn.Conv2d(6, 6, 1, 2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return (self.relu(self.conv(x)) + self.short(x)).relu().mean((2, 3))


@torch.no_grad()
def test_a_shortcut_keeps_the_phase_of_the_main_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = seeded(1, Residual), noise(16)
    exact = adaptive_polyphase(module, example=x)
    found = [part for part in exact.modules() if isinstance(part, PolyphaseSampling2d)]
    assert sorted(part.leads for part in found) == [False, True]
    assert found[0].choice is found[1].choice
    monkeypatch.setattr(aps, "_share_choices", lambda network, example: None)
    with pytest.raises(CueError, match="cyclic shifts still change Residual"):
        adaptive_polyphase(module, example=x)


@torch.no_grad()
def test_the_first_phase_is_the_old_network_away_from_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PolyphaseSampling2d, "forward", lambda _self, x: x[:, :, ::2, ::2])
    monkeypatch.setattr(aps, "change_under_shifts", lambda *_: 0.0)
    steps = (nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(4, 4, 7, 4, 2))
    module, x = seeded(0, lambda: nn.Sequential(*copy.deepcopy(steps))), noise(96)
    found, old = adaptive_polyphase(module, example=x)(x), module(x)
    assert found.shape[2:] == (6, 6)
    assert torch.allclose(found[:, :, 1:4, 1:4], old[:, :, 1:4, 1:4], atol=1e-5)


@torch.no_grad()
def test_circular_padding_is_that_of_a_map_continued_by_itself() -> None:
    x = torch.rand(1, 2, 3, 4)
    wide = CircularPad2d((5, 1), (2, 9))(x)
    assert torch.equal(wide, x.repeat(1, 1, 6, 6)[:, :, 1:11, 3:17])
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    assert torch.allclose(circular(conv)(x), conv(x), atol=1e-6)
    padded = circular(nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), nn.MaxPool2d(3, 1, 1)))
    assert torch.equal(circular(padded)(x.repeat(1, 1, 2, 1)), padded(x.repeat(1, 1, 2, 1))), "once is enough"


def test_it_can_be_copied_and_pickled_and_leaves_the_original() -> None:
    module = seeded(0, NETWORKS["mobilenet_v2"]).eval()
    before = copy.deepcopy(module.state_dict())
    exact, x = adaptive_polyphase(module, example=noise(64)), noise(64, 2)
    with torch.no_grad():
        wanted = exact(x)
        for same in (copy.deepcopy(exact), pickle.loads(pickle.dumps(exact))):
            assert torch.equal(same(x), wanted)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(isinstance(part, PolyphaseSampling2d | CircularPad2d) for part in module.modules())


class InCode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv(x), 2).mean((2, 3))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten()), "shifts still change Sequential"),
        (lambda: timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64), "patches of 16 px"),
        (InCode, "its max pool is no module of its own"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "stride is 3"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "nothing to antialias"),
    ],
)
def test_where_it_cannot_be_done_the_reason_is_said(make: Any, why: str) -> None:
    with pytest.raises(CueError, match=why):
        adaptive_polyphase(make().eval(), example=noise(64))


def test_sides_that_are_not_divisible_are_refused() -> None:
    with pytest.raises(CueError, match="positions, which cannot be split"):
        adaptive_polyphase(seeded(0, NETWORKS["mobilenet_v2"]).eval(), example=noise(72))


def test_a_name_can_ask_for_it() -> None:
    classifier = load("cuescope/world-congruent+aps@random", device="cpu")
    assert classifier.name == "cuescope/world-congruent+aps@random"
    assert any("adaptive polyphase sampling in" in note for note in classifier.notes)
    x = noise(64).sigmoid()
    assert torch.allclose(classifier.logits(x), classifier.logits(x.roll((3, 5), (2, 3))), atol=1e-5)
    with pytest.raises(CueError, match=r"ends with '\+ap'") as caught:
        load("cuescope/world-congruent+ap@random", device="cpu")
    assert caught.value.do == "did you mean +aps?"


@pytest.mark.real
def test_the_shipped_mobilenet_is_exact_and_less_right(data: Path) -> None:
    """PROTOCOLS 15d on all 500: circular padding and APS .742, consistency 1.000, logits within 1.9e-6."""
    photographs, weights = read_folder(data / "imagenet-sample"), data / "weights" / "mobilenet_v2.safetensors"
    samples = [photographs.read(i) for i in range(0, 500, 25)]
    labels = torch.tensor([sample.label for sample in samples])
    random = torch.Generator().manual_seed(0)
    shifts = torch.randint(-32, 32, (len(samples), 2), generator=random).tolist()
    accuracy, same = {}, {}
    for suffix in ("", "+aps"):
        classifier = load(f"torchvision/mobilenet_v2{suffix}@{weights}", device="cpu")
        pixels = classifier.prepare(samples)
        logits = classifier.logits(pixels)
        moved = classifier.logits(torch.stack([x.roll(s, (1, 2)) for x, s in zip(pixels, shifts, strict=True)]))
        accuracy[suffix] = float((logits.argmax(1) == labels).float().mean())
        same[suffix] = float((logits.argmax(1) == moved.argmax(1)).float().mean())
    assert float((logits - moved).abs().max()) < 1e-5
    assert same["+aps"] == 1 > same[""]
    assert 0.5 < accuracy["+aps"] <= accuracy[""]
