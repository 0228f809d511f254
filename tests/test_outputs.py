"""What comes out of a model: where its logits are, and what else there may be in their place."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.network.outputs import NoLogitsError, log_odds, of_two, read
from toys import plain


class Linear(nn.Module):
    """Four logits of an image, linear in its colors."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-6, 6, 3 * classes).view(3, classes).roll(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.weight


class Through(nn.Module):
    """Those logits, and what a function makes of them."""

    def __init__(self, change, classes: int = 4) -> None:
        super().__init__()
        self.linear, self.change = Linear(classes), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.linear(x))


PIXELS = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * torch.rand(5, 3, 1, 1)


def small(model, **how) -> Classifier:
    return Classifier(model, preprocessing=plain(), device="cpu", **how)


def softmax_last() -> nn.Module:
    return nn.Sequential(Linear(), nn.Softmax(1))


@pytest.mark.parametrize(
    ("model", "note"),
    [
        (softmax_last(), "probabilities"),
        (Through(lambda y: y.softmax(1)), "probabilities"),
        (lambda x: Linear()(x).softmax(1), "probabilities"),
        (lambda x: Linear()(x).softmax(1).detach().numpy(), "probabilities"),
        (nn.Sequential(Linear(), nn.Sigmoid()), "sigmoid"),
        (Through(torch.sigmoid), "sigmoid"),
        (Through(lambda y: torch.sigmoid(y).clone()), "sigmoid"),
    ],
)
def test_probabilities_become_the_logits_that_they_were_made_of(model, note: str) -> None:
    classifier = small(model)
    wanted, found = Linear()(PIXELS).detach(), classifier.logits(PIXELS)
    sigmoid = note == "sigmoid"
    assert torch.allclose(found if sigmoid else found.softmax(1), wanted if sigmoid else wanted.softmax(1), atol=1e-5)
    assert sum(note in text for text in classifier.notes) == 1


def test_gradients_and_layers_see_the_logits_not_the_probabilities() -> None:
    bare, soft = small(Linear()), small(Through(lambda y: y.softmax(1)))
    x = PIXELS.clone().requires_grad_()
    wanted = torch.autograd.grad((bare.forward(x).log_softmax(1))[:, 1].sum(), x)[0]
    assert torch.allclose(torch.autograd.grad(soft.forward(x)[:, 1].sum(), x)[0], wanted, atol=1e-6)


def test_logits_between_0_and_1_are_left_alone() -> None:
    """Nothing but their values says that a sigmoid made them, and small logits have such values too."""
    classifier = small(Through(lambda y: 0.5 + 0.01 * y))
    assert torch.allclose(classifier.logits(PIXELS), 0.5 + 0.01 * Linear()(PIXELS))
    assert not [note for note in classifier.notes if "sigmoid" in note or "probabilities" in note]


@pytest.mark.parametrize("shape", [lambda y: y[:, :1], lambda y: y[:, 0]])
def test_one_logit_is_of_two_classes(shape) -> None:
    classifier = small(Through(shape), classes=["no", "yes"])
    wanted = Linear()(PIXELS)[:, 0]
    assert torch.allclose(classifier.logits(PIXELS)[:, 1], wanted)
    assert torch.equal(classifier.logits(PIXELS)[:, 0], torch.zeros(5))
    assert any("one output" in note for note in classifier.notes)


@pytest.mark.parametrize("black_box", [False, True])
def test_one_probability_is_that_of_the_second_class(black_box: bool) -> None:
    model = Through(lambda y: torch.sigmoid(y[:, :1]))
    classifier = small((lambda x: model(x).detach()) if black_box else model)
    assert torch.allclose(classifier.logits(PIXELS).softmax(1)[:, 1:], model(PIXELS).detach(), atol=1e-5)


Pair = namedtuple("Pair", "features logits")


@pytest.mark.parametrize(
    ("output", "place"),
    [
        (lambda y: {"aux": y + 1, "logits": y}, "logits"),
        (lambda y: SimpleNamespace(loss=None, logits=y), "logits"),
        (lambda y: Pair(y.repeat(1, 3), y), "logits"),
        (lambda y: (y,), 0),
        (lambda y: (y, None), 0),
        (lambda y: (y, y.sum(1)), 0),
        (lambda y: (y, y + 1), 0),
    ],
)
def test_logits_are_found_among_other_outputs(output, place) -> None:
    y = torch.randn(3, 4)
    reading = read(output(y), 3, None, lambda _: None)
    assert torch.equal(reading(output(y)), y)
    assert str(reading.place[-1]) == str(place)


def test_of_outputs_of_other_widths_the_named_classes_decide_or_nobody() -> None:
    def model(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :16], Linear()(x).detach()

    with pytest.raises(CueError, match="several outputs"):
        small(model)
    classifier = small(model, classes=list("abcd"))
    assert torch.allclose(classifier.logits(PIXELS), Linear()(PIXELS))
    assert any("is taken as the logits" in note for note in classifier.notes)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (torch.tensor([1, 0, 2]), "whole numbers"),
        (np.array([1, 0, 2]), "whole numbers"),
        (torch.zeros(3, 4, 8, 8), r"shape \(3, 4, 8, 8\)"),
        (torch.full((3, 2), float("nan")), "NaN"),
        (None, "NoneType"),
        ("cat", "str"),
    ],
)
def test_what_is_no_logits_is_refused(output, found: str) -> None:
    with pytest.raises(NoLogitsError, match=found):
        read(output, 3, None, lambda _: None)


def test_extreme_probabilities_stay_finite() -> None:
    assert log_odds(torch.tensor([0.0, 1.0])).isfinite().all()
    assert of_two(torch.tensor([2.0])).tolist() == [[0.0, 2.0]]


class Dropout(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


class BatchStatistics(Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return (y - y.mean(0)) * 5


class OneImage(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(1, *x.shape[1:]))


def test_answers_that_are_random_or_sway_with_their_neighbors_are_refused() -> None:
    with pytest.raises(CueError, match="differently each time"):
        small(Dropout())
    with pytest.raises(CueError, match="depends on the other images"):
        small(BatchStatistics())
    assert small(BatchStatistics(), batch_size=1).logits(PIXELS).abs().max() == 0


def test_a_network_for_one_image_gets_one_image_at_a_time() -> None:
    classifier = small(OneImage())
    assert torch.allclose(classifier.logits(PIXELS), Linear()(PIXELS))
    assert classifier.capabilities == {"logits"}


def test_weights_of_other_precision_and_gray_inputs_are_run_and_noted() -> None:
    half = small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).half())
    assert any("float16" in note for note in half.notes)
    gray = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = small(gray)
    luma = (PIXELS * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(classifier.logits(PIXELS), gray(luma), atol=1e-6)


def test_networks_without_weights_or_without_a_head_are_refused() -> None:
    with torch.device("meta"):
        nowhere = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(CueError, match="meta"):
        small(nowhere)

    class Headless(Linear):
        num_classes = 0

    with pytest.raises(CueError, match="no head"):
        small(Headless())
    assert len(small(Headless(), classes=list("abcd")).classes) == 4
