"""Modules that take their images in odd ways, switch modes in odd ways, or can be read only without gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Preprocessing
from cuescope.classifier.sources import load
from test_module_inputs import HOW, NORMALIZED, PIXELS, classifier, images_last, whole
from test_outputs import Linear, small

WEIGHTS = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def luma(x: Tensor) -> Tensor:
    return (x * WEIGHTS).sum(1, keepdim=True)


class Gray(nn.Module):
    """Logits of one channel, from what a function makes of the input."""

    def __init__(self, taken: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.taken = nn.Conv2d(1, 4, 3), taken

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.taken(x)).relu().mean((2, 3))


@pytest.mark.parametrize("black_box", [False, True])
@pytest.mark.parametrize(
    ("taken", "given"),
    [
        (lambda x: x, luma(NORMALIZED)),
        (images_last, luma(NORMALIZED)),
        (whole, luma(PIXELS).mul(255).round() / 255),
    ],
)
def test_one_channel_is_given_to_what_takes_no_colors(
    taken: Callable[[Tensor], Tensor], given: Tensor, black_box: bool
) -> None:
    net = Gray(taken).eval().requires_grad_(False)
    found = classifier((lambda x: net(x)) if black_box else net)
    assert torch.allclose(found.logits(PIXELS), Gray()(given), atol=1e-5)
    assert sum("takes one channel" in note for note in found.assumed) == 1


def test_a_module_that_makes_gray_of_colors_by_itself_gets_colors() -> None:
    net = Gray(lambda x: x[:, :1])
    found = classifier(net)
    assert torch.allclose(found.logits(PIXELS), Gray()(NORMALIZED[:, :1]), atol=1e-5)
    assert not any("one channel" in note for note in found.assumed)


def test_the_luma_of_blue_green_red() -> None:
    how = Preprocessing((16, 16), 16, channels="BGR")
    assert torch.allclose(classifier(Gray(), how).logits(PIXELS), Gray()(luma(NORMALIZED)), atol=1e-5)
    assert HOW.channels == "RGB"


class Quiet(Linear):
    def train(self, mode: bool = True) -> Any:
        super().train(mode)


class Trains(Linear):
    """Its `train` is its training, which wants data."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def train(self, data: Any, epochs: int) -> Any:  # type: ignore[override]
        raise AssertionError("not to be called")

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(super().forward(x))


@pytest.mark.parametrize("kind", [Quiet, Trains])
def test_a_train_of_ones_own_does_not_matter(kind: Callable[[], nn.Module]) -> None:
    assert torch.allclose(small(kind()).logits(PIXELS), Linear()(PIXELS))


def test_a_function_that_gives_numpy_of_a_network_with_gradients() -> None:
    net = Linear()
    assert torch.allclose(small(lambda x: net(x).numpy()).logits(PIXELS), net(PIXELS))
    net.requires_grad_(True)
    assert net(PIXELS).requires_grad


class Means(nn.Module):
    """Logits of any channels, so that wrong ones would go through."""

    def __init__(self, taken: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.taken = taken

    def forward(self, x: Tensor) -> Tensor:
        x = self.taken(x)
        return torch.stack([x[..., :8].mean((1, 2, 3)), x[..., 8:].mean((1, 2, 3)), x[:, :, :4].mean((1, 2, 3))], 1) * 3


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize(
    ("example", "taken", "given"),
    [
        (torch.zeros(2, 1, 16, 16), lambda x: x, luma(NORMALIZED)),
        (torch.zeros(2, 16, 16, 3), images_last, NORMALIZED),
        (torch.zeros(2, 16, 16, 1), images_last, luma(NORMALIZED)),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), lambda x: x / 255, PIXELS),
        (torch.zeros(2, 16, 16, 3, dtype=torch.uint8), lambda x: images_last(x) / 255, PIXELS),
        (torch.zeros(2, 3, 16, 16), lambda x: x, NORMALIZED),
    ],
)
def test_an_exported_program_is_given_what_it_takes(
    example: Tensor, taken: Callable[[Tensor], Tensor], given: Tensor, as_object: bool, tmp_path: Path
) -> None:
    program = torch.export.export(Means(taken).eval(), (example,))
    torch.export.save(program, tmp_path / "net.pt2")
    model: Any = program if as_object else tmp_path / "net.pt2"
    found = load(model, device="cpu")
    assert found.preprocessing.size == (16, 16)
    assert torch.allclose(found.logits(PIXELS), Means(lambda x: x)(given), atol=1e-5)
    usual = example.shape[1] == 3 and example.is_floating_point()
    assert any("it is given" in note for note in found.assumed) == (not usual)
