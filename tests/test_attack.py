"""Attacks by gradients: never beyond the budget or the pixels there are, and the twin of another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.instruments import registry
from cuescope.instruments.attack import Attack
from cuescope.methods.attacks import KINDS, attacked
from toys import COLORS, Constant, toy


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def some(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 16, 16, generator=generator), torch.arange(count) % 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_stays_in_its_budget_and_raises_the_loss(kind) -> None:
    classifier, (pixels, labels) = toy(network(), COLORS), some()
    changed = attacked(classifier, pixels, labels, 4 / 255, kind)
    assert (changed - pixels).abs().max() <= 4 / 255 + 1e-6
    assert changed.min() >= 0
    assert changed.max() <= 1
    before, after = (nn.functional.cross_entropy(classifier.logits(x), labels) for x in (pixels, changed))
    assert after > before
    assert attacked(classifier, pixels, labels, 0.0, kind) is pixels


def test_many_steps_take_no_less_than_one() -> None:
    classifier, (pixels, labels) = toy(network(), COLORS), some(20)

    def loss(kind) -> torch.Tensor:
        seen = attacked(classifier, pixels, labels, 8 / 255, kind)
        return nn.functional.cross_entropy(classifier.logits(seen), labels, reduction="none")

    assert (loss("pgd") >= loss("fgsm") - 1e-4).float().mean() > 0.9


def test_one_step_is_the_sign_of_the_gradient() -> None:
    module, (pixels, labels) = network(), some()
    seen = pixels.clone().requires_grad_()
    nn.functional.cross_entropy(module(seen), labels).backward()
    assert seen.grad is not None
    plain = (pixels + 2 / 255 * seen.grad.sign()).clamp(0, 1)
    assert torch.allclose(attacked(toy(module, COLORS), pixels, labels, 2 / 255, "fgsm"), plain, atol=1e-6)


def test_an_answer_that_does_not_hang_on_pixels_cannot_be_attacked() -> None:
    class Still(Constant):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels) + 0 * pixels.mean((1, 2, 3))[:, None]

    pixels, _ = some(3)
    classifier = toy(Still(), COLORS)
    assert (attacked(classifier, pixels, torch.zeros(3, dtype=torch.long), 0.1) - pixels).abs().max() == 0


def test_images_without_a_label_count_for_nothing() -> None:
    tool, classifier = Attack(budgets=(0.0, 1.0)), toy(network(), COLORS)
    pixels = [Sample(str(i), torch.full((3, 16, 16), 90 + i, dtype=torch.uint8)) for i in range(3)]
    rows = tool.start(classifier).observe(classifier.see(pixels, [0, -1, 2]))
    assert rows["right"].null_count() == rows["pgd"].null_count() == 1
    assert [len(v) for v in rows["fgsm"] if v is not None] == [2, 2]


def test_the_verdict_is_of_one_255th_or_of_the_least_budget() -> None:
    assert Attack(budgets=(0.0, 0.5, 1.0, 3.0)).asked == 2
    assert Attack(budgets=(0.0, 0.5, 3.0)).asked == 1
    for wrong in ("2,1", "-1"):
        with pytest.raises(CueError, match="budgets"):
            registry.build("attack", {"budgets": wrong})


@pytest.mark.extra
def test_one_step_is_that_of_foolbox() -> None:
    foolbox = pytest.importorskip("foolbox")
    module, (pixels, labels) = network().eval(), some()
    twin = foolbox.PyTorchModel(module, bounds=(0, 1))
    for budget in (1 / 255, 8 / 255):
        _, changed, wrong = foolbox.attacks.FGSM()(twin, pixels, labels, epsilons=budget)
        mine = attacked(toy(module, ClassSpace("three", ("a", "b", "c"))), pixels, labels, budget, "fgsm")
        assert np.allclose(mine.numpy(), changed.numpy(), atol=1e-6)
        assert ((module(mine).argmax(1) != labels) == wrong).all()
