"""Linear classifiers of features: many at once, of several penalties and parts of the images, by a batched L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Loss = Literal["softmax", "svm"]
MEMORY = 7
"""Steps that L-BFGS remembers."""
TOLERANCES: dict[Loss, float] = {"softmax": 1e-4, "svm": 1e-3}
"""Of the largest entry of the gradient of the mean loss: scikit-learn's, and more for hinges, which are summed."""
MOST_STEPS = 150
MOST_HALVINGS = 25
ENOUGH = 1e-4
"""Share of the decrease that the slope promises which a step must bring (Armijo)."""
ROUNDING = 3e-7
"""Of a value in float32: by so much it may rise."""
HELD = 1 << 26
"""Numbers that the problems solved together may take: more are solved one group after another."""

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From points (b, P) of the problems of these numbers (b,) to their values (b,) and gradients (b, P)."""


class Readouts(NamedTuple):
    """B linear classifiers of D features into K classes: weights (B, D, K) and biases (B, K)."""

    weights: Tensor
    biases: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """(B, n, K) of features (n, D), or (B, n, D) of each its own."""
        return _scores(x, self.weights, self.biases)


def fit(x: Tensor, y: Tensor, counted: Tensor, penalties: Tensor, classes: int, loss: Loss = "softmax") -> Readouts:
    """The B linear classifiers of least mean loss over the images that count, plus half the penalty times the weights'
    squared length.

    `x` are features (n, D), or (B, n, D) of each its own; `y` the classes (n,) or (B, n), `counted` (B, n) is 1 for an
    image to learn from, else 0, `penalties` (B,). "softmax" is multinomial logistic regression; "svm" a linear machine
    of squared hinges, one against the rest. Biases are free. scikit-learn's LogisticRegression has the same optimum at
    C = 1 / (penalty x images), and so has LinearSVC, but for its penalty of the bias.

    >>> x, y = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> fit(x, y, torch.ones(1, 4), torch.tensor([0.1]), 2).scores(x)[0].argmax(1).tolist()
    [0, 0, 1, 1]
    """
    problems, width = len(penalties), x.shape[-1]
    each = max(x.shape[-2] * classes * 3, (width + 1) * classes * (2 * MEMORY + 6))
    groups = torch.arange(problems).split(max(1, HELD // each))
    found = [
        _fit(x if x.ndim == 2 else x[g], y if y.ndim == 1 else y[g], counted[g], penalties[g], classes, loss)
        for g in groups
    ]
    return Readouts(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def losses(scores: Tensor, y: Tensor, loss: Loss = "softmax") -> Tensor:
    """The loss of each image (B, n), of scores (B, n, K) and classes (n,) or (B, n)."""
    return _LOSSES[loss](scores, y.expand(scores.shape[:2]))[0]


def _fit(x: Tensor, y: Tensor, counted: Tensor, penalties: Tensor, classes: int, loss: Loss) -> Readouts:
    problems, width = len(penalties), x.shape[-1]
    share = counted.to(x.dtype) / counted.sum(1, keepdim=True)
    penalties = penalties.to(x.dtype)

    def slope(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        weights, biases = _parts(points, width, classes)
        own = x if x.ndim == 2 else x[which]
        labels = y.expand(problems, -1)[which]
        values, residuals = _LOSSES[loss](_scores(own, weights, biases), labels)
        residuals = residuals * share[which, :, None]
        penalty = penalties[which, None, None]
        total = (values * share[which]).sum(1) + (penalty * weights.square()).sum((1, 2)) / 2
        gradient = torch.einsum("nd,bnk->bdk" if own.ndim == 2 else "bnd,bnk->bdk", own, residuals) + penalty * weights
        return total, torch.cat([gradient.flatten(1), residuals.sum(1)], 1)

    found = minimize(slope, x.new_zeros(problems, (width + 1) * classes), TOLERANCES[loss])
    return Readouts(*_parts(found, width, classes))


def _parts(points: Tensor, width: int, classes: int) -> tuple[Tensor, Tensor]:
    return points[:, : width * classes].reshape(-1, width, classes), points[:, width * classes :]


def _scores(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    return torch.einsum("nd,bdk->bnk" if x.ndim == 2 else "bnd,bdk->bnk", x, weights) + biases[:, None]


def _softmax(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each image (B, n), and its slope in the scores (B, n, K)."""
    logs = scores.log_softmax(2)
    at = labels[..., None]
    slopes = logs.exp()
    slopes.scatter_add_(2, at, slopes.new_full((1, 1, 1), -1.0).expand(at.shape))
    return -logs.gather(2, at)[..., 0], slopes


def _hinges(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Squared hinges, summed over the classes."""
    signs = torch.full_like(scores, -1.0).scatter_(2, labels[..., None], 1.0)
    lacking = (1 - signs * scores).clamp_min(0)
    return lacking.square().sum(2), -2 * signs * lacking


_LOSSES = {"softmax": _softmax, "svm": _hinges}


def minimize(slope: Slope, start: Tensor, tolerance: float = 1e-4, most: int = MOST_STEPS) -> Tensor:
    """Where are these B smooth functions least? (B, P), from `start`, by L-BFGS with steps that are halved (Armijo).

    Each goes on until no entry of its gradient is above `tolerance`, or it can go no further, or for `most` steps.

    >>> at = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> bowls = lambda p, which: ((p - at[which]).square().sum(1), 2 * (p - at[which]))
    >>> minimize(bowls, torch.zeros(2, 2)).round(decimals=3).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    found, which = start.clone(), torch.arange(len(start))
    points = start.clone()
    values, gradients = slope(points, which)
    steps: list[Tensor] = []
    turns: list[Tensor] = []
    for _ in range(most):
        going = gradients.abs().amax(1) > tolerance
        found[which] = points
        if not going.any():
            break
        if not going.all():
            which, points, values, gradients = (kept[going] for kept in (which, points, values, gradients))
            steps, turns = [s[going] for s in steps], [t[going] for t in turns]
        ways = _ways(gradients, steps, turns)
        points, values, gradients, step, turn = _walk(slope, which, points, values, gradients, ways)
        steps, turns = [*steps, step][-MEMORY:], [*turns, turn][-MEMORY:]
        stuck = step.abs().amax(1) == 0
        gradients = torch.where(stuck[:, None], torch.zeros_like(gradients), gradients)
    found[which] = points
    return found


def _ways(gradients: Tensor, steps: list[Tensor], turns: list[Tensor]) -> Tensor:
    """Where to go from here, by what the last steps taught of the curvature."""
    if not steps:
        return -gradients / gradients.abs().sum(1, keepdim=True).clamp_min(1.0)
    way, kept = gradients.clone(), []
    for step, turn in zip(reversed(steps), reversed(turns), strict=True):
        curved = (step * turn).sum(1, keepdim=True)
        # A step that taught nothing, or that did not move, changes nothing.
        weight = torch.where(curved > 0, (step * way).sum(1, keepdim=True) / curved.clamp_min(1e-30), 0.0)
        way -= weight * turn
        kept.append((step, turn, curved, weight))
    last = turns[-1].square().sum(1, keepdim=True)
    scale = (steps[-1] * turns[-1]).sum(1, keepdim=True) / last.clamp_min(1e-30)
    way *= torch.where(scale > 0, scale, 1.0)
    for step, turn, curved, weight in reversed(kept):
        back = torch.where(curved > 0, (turn * way).sum(1, keepdim=True) / curved.clamp_min(1e-30), 0.0)
        way += (weight - back) * step
    down = (way * gradients).sum(1, keepdim=True) > 0
    return -torch.where(down, way, gradients)


def _walk(
    slope: Slope, which: Tensor, points: Tensor, values: Tensor, gradients: Tensor, ways: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """New points, values and gradients, and by how much points and gradients changed; none where no step helps."""
    promised = (ways * gradients).sum(1)
    new, new_values, new_gradients = points.clone(), values.clone(), gradients.clone()
    left, length = torch.arange(len(which)), points.new_ones(len(which))
    for _ in range(MOST_HALVINGS):
        tried = points[left] + length[left, None] * ways[left]
        at, slopes = slope(tried, which[left])
        fine = at <= values[left] + ENOUGH * length[left] * promised[left] + ROUNDING * values[left].abs()
        done = left[fine]
        new[done], new_values[done], new_gradients[done] = tried[fine], at[fine], slopes[fine]
        left = left[~fine]
        if not len(left):
            break
        length[left] /= 2
    return new, new_values, new_gradients, new - points, new_gradients - gradients
