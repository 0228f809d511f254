"""Changes of an image, none larger than a budget, that raise the loss: one step of the gradient's sign, and many."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier

Kind = Literal["fgsm", "pgd"]
KINDS: tuple[Kind, ...] = ("fgsm", "pgd")
STEP = 2.5
"""Length of the steps of PGD together, in budgets: it can cross the ball (Madry et al. 2018, their code's 2.5)."""


def attacked(
    classifier: Classifier, pixels: Tensor, labels: Tensor, budget: float, kind: Kind = "pgd", steps: int = 20
) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], each pixel changed by at most `budget`, so that the labels (B,) get unlikely.

    "fgsm" is one step of the sign of the gradient of the cross entropy (Goodfellow et al. 2015); "pgd" so many smaller
    ones, each brought back into the budget, from the image itself (Madry et al. 2018 start at random), of which the
    one with the largest loss is kept. A budget of 0 gives the image.

    >>> from torch import nn
    >>> net = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    >>> seen = torch.full((1, 3, 224, 224), 0.5)
    >>> attacked(net, seen, torch.tensor([0]), 0.1, "fgsm")[0, :, 0, 0].mul(10).round().tolist()
    [4.0, 6.0, 6.0]
    """
    if not budget or not len(pixels):
        return pixels
    labels = labels.to(pixels.device)
    low, high = (pixels - budget).clamp_min(0), (pixels + budget).clamp_max(1)
    now, best = pixels, pixels
    losses, signs = _slopes(classifier, now, labels)
    if kind == "fgsm":
        return torch.minimum(torch.maximum(now + budget * signs, low), high)
    for _ in range(steps):
        now = torch.minimum(torch.maximum(now + STEP * budget / steps * signs, low), high)
        reached, signs = _slopes(classifier, now, labels)
        better = reached > losses
        best = torch.where(better[:, None, None, None], now, best)
        losses = torch.where(better, reached, losses)
    return best


def _slopes(classifier: Classifier, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The cross entropy of each image (B,), and the signs of its gradient (B, 3, H, W)."""
    with torch.enable_grad():
        seen = pixels.detach().requires_grad_()
        losses = F.cross_entropy(classifier.forward(seen), labels, reduction="none")
        (slopes,) = torch.autograd.grad(losses.sum(), seen)
    return losses.detach(), slopes.sign()
