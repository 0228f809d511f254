"""Linear classifiers of features: many at once, of several penalties and parts of the images, by a batched L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cuescope.core.matrix import Matrix

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
HELD = 1 << 24
"""Numbers that the problems solved together may take: more are solved one group after another."""
SHOWN = 1 << 21
"""Numbers of features, or of scores, that are held at once: more images are looked at one part after another."""

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From points (b, P) of the problems of these numbers (b,) to their values (b,) and gradients (b, P)."""
Features = Tensor | Matrix


class Readouts(NamedTuple):
    """B linear classifiers of D features into K classes: weights (B, K, D) and biases (B, K)."""

    weights: Tensor
    biases: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """(B, K, n) of features (n, D), or (B, n, D) of each its own."""
        return _scores(x, self.weights, self.biases)


def fit(x: Features, y: Tensor, counted: Tensor, penalties: Tensor, classes: int, loss: Loss = "softmax") -> Readouts:
    """The B linear classifiers of least mean loss over the images that count, plus half the penalty times the weights'
    squared length.

    `x` are features (n, D), or (B, n, D) of each its own; `y` the classes (n,) or (B, n), `counted` (B, n) is 1 for an
    image to learn from, else 0, `penalties` (B,). "softmax" is multinomial logistic regression; "svm" a linear machine
    of squared hinges, one against the rest. Biases are free. scikit-learn's LogisticRegression has the same optimum at
    C = 1 / (penalty x images), and so has LinearSVC, but for its penalty of the bias.

    >>> x, y = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> fit(x, y, torch.ones(1, 4), torch.tensor([0.1]), 2).scores(x)[0].argmax(0).tolist()
    [0, 0, 1, 1]
    """
    own = isinstance(x, Tensor) and x.ndim == 3
    groups = torch.arange(len(penalties)).split(max(1, HELD // ((x.shape[-1] + 1) * classes * (2 * MEMORY + 6))))
    found = [
        _fit(x[g] if own else x, y if y.ndim == 1 else y[g], counted[g], penalties[g], classes, loss)  # type: ignore[index]
        for g in groups
    ]
    return Readouts(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def losses(scores: Tensor, y: Tensor, loss: Loss = "softmax") -> Tensor:
    """The loss of each image (B, n), of scores (B, K, n) and classes (n,) or (B, n)."""
    return _LOSSES[loss](scores, y.expand(len(scores), -1))[0]


def parts(x: Features, scores: int) -> Iterator[tuple[slice, Tensor]]:
    """The images in so small parts that their features, and so many scores of each, can be held."""
    most = max(64, SHOWN // max(scores, x.shape[-1]))
    if isinstance(x, Matrix):
        for where, rows in x.parts(most):
            yield where, torch.from_numpy(np.ascontiguousarray(rows, np.float32))
        return
    for start in range(0, x.shape[-2], most):
        yield slice(start, start + most), x[..., start : start + most, :]


def _fit(x: Features, y: Tensor, counted: Tensor, penalties: Tensor, classes: int, loss: Loss) -> Readouts:
    problems, width = len(penalties), x.shape[-1]
    if (
        problems == 1
        and loss == "softmax"
        and isinstance(x, Tensor)
        and x.ndim == y.ndim + 1 == 2
        and x.numel() < SHOWN
    ):
        some = counted[0].bool()
        if classes > 2 and len(y[some].unique()) == classes:
            return _by_scikit_learn(x[some], y[some], float(penalties[0]))
    kind = x.dtype if isinstance(x, Tensor) else torch.float32
    each, penalties = 1 / counted.sum(1).to(kind), penalties.to(kind)
    y = y.expand(problems, -1)

    def slope(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        weights, biases = _parts(points, width, classes)
        every = len(which) == problems
        penalty = penalties[which, None, None]
        gradient, turned = penalty * weights, torch.zeros_like(biases)
        total = (penalty * weights.square()).sum((1, 2)) / 2
        for where, some in parts(x, len(which) * classes):
            own = some if some.ndim == 2 or every else some[which]
            share = counted[which, where] * each[which, None]
            values, residuals = _LOSSES[loss](_scores(own, weights, biases), y[which, where])
            residuals *= share[:, None]
            total += (values * share).sum(1)
            turned += residuals.sum(2)
            gradient += (residuals.flatten(0, 1) @ own).view_as(weights) if own.ndim == 2 else residuals @ own
        return total, torch.cat([gradient.flatten(1), turned], 1)

    found = minimize(slope, torch.zeros(problems, (width + 1) * classes, dtype=kind), TOLERANCES[loss])
    return Readouts(*_parts(found, width, classes))


def _by_scikit_learn(x: Tensor, y: Tensor, penalty: float) -> Readouts:
    """A small problem that stands alone is solved faster without the overhead of many."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(action="ignore"):
        made = LogisticRegression(C=1 / (penalty * len(x)), max_iter=MOST_STEPS).fit(x.numpy(), y.numpy())
    return Readouts(*(torch.from_numpy(of)[None].to(x.dtype) for of in (made.coef_, made.intercept_)))


def _parts(points: Tensor, width: int, classes: int) -> tuple[Tensor, Tensor]:
    return points[:, : width * classes].reshape(-1, classes, width), points[:, width * classes :]


def _scores(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    # Classes before images: so each product is one of few long rows, and the softmax of columns is one of whole rows.
    if x.ndim == 3:
        return torch.baddbmm(biases[:, :, None], weights, x.transpose(1, 2))
    return torch.addmm(biases.reshape(-1, 1), weights.flatten(0, 1), x.T).view(*biases.shape, len(x))


def _softmax(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each image (B, n), and its slope in the scores (B, K, n)."""
    logs = scores.log_softmax(1)
    at = labels[:, None]
    values = -logs.gather(1, at)[:, 0]
    slopes = logs.exp_()
    slopes.scatter_add_(1, at, slopes.new_full((1, 1, 1), -1.0).expand(at.shape))
    return values, slopes


def _hinges(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Squared hinges, summed over the classes."""
    signs = torch.full_like(scores, -1.0).scatter_(1, labels[:, None], 1.0)
    lacking = (1 - signs * scores).clamp_min(0)
    return lacking.square().sum(1), -2 * signs * lacking


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
    memory = _Memory.new(start)
    for _ in range(most):
        going = gradients.abs().amax(1) > tolerance
        if not going.all():
            found[which] = points
            if not going.any():
                return found
            which, points, values, gradients = (kept[going] for kept in (which, points, values, gradients))
            memory = memory.of(going)
        ways = memory.ways(gradients)
        points, values, gradients, step, turn = _walk(slope, which, points, values, gradients, ways)
        memory.learn(step, turn)
        stuck = step.abs().amax(1) == 0
        gradients = torch.where(stuck[:, None], torch.zeros_like(gradients), gradients)
    found[which] = points
    return found


@dataclass
class _Memory:
    """What the last steps of B problems, and the turns of the gradient along them, taught of the curvature.

    In the compact form of Byrd, Nocedal and Schnabel 1994 (theorem 2.2). Steps and turns are written in turn to
    `MEMORY` places, and products with the last turn are kept: so each direction reads all of them twice only.
    """

    kept: Tensor
    """(B, 2 x MEMORY, P): the steps, then the turns."""
    crossed: Tensor
    """(B, MEMORY, MEMORY): of each step with each turn; below the diagonal, in order of time, they say nothing."""
    among: Tensor
    """(B, MEMORY, MEMORY): of turns with turns."""
    turn: Tensor
    """(B, P): the last."""
    learned: int = 0

    @classmethod
    def new(cls, start: Tensor) -> _Memory:
        kept, square = (len(start), 2 * MEMORY, start.shape[1]), (len(start), MEMORY, MEMORY)
        crossed, among = (start.new_zeros(square, dtype=torch.float64) for _ in range(2))
        return cls(start.new_zeros(kept), crossed, among, torch.zeros_like(start))

    def of(self, going: Tensor) -> _Memory:
        """That of some problems."""
        tensors = (self.kept, self.crossed, self.among, self.turn)
        return _Memory(*(tensor[going] for tensor in tensors), learned=self.learned)

    def learn(self, step: Tensor, turn: Tensor) -> None:
        """A step that taught nothing of the curvature changes nothing."""
        useful = ((step * turn).sum(1) > 0)[:, None]
        self.turn, place = turn * useful, self.learned % MEMORY
        self.kept[:, place], self.kept[:, MEMORY + place] = step * useful, self.turn
        self.learned += 1

    def ways(self, gradients: Tensor) -> Tensor:
        """Where to go from here (B, P)."""
        if not self.learned:
            return -gradients / gradients.abs().sum(1, keepdim=True).clamp_min(1.0)
        last = (self.learned - 1) % MEMORY
        with_gradient, with_turn = (torch.stack([gradients, self.turn], 1) @ self.kept.mT).double().unbind(1)
        self.crossed[:, :, last] = with_turn[:, :MEMORY]
        self.among[:, last] = self.among[:, :, last] = with_turn[:, MEMORY:]
        order = torch.arange(self.learned - min(self.learned, MEMORY), self.learned) % MEMORY
        crossed, among = (of[:, order][:, :, order] for of in (self.crossed, self.among))
        curved = crossed.diagonal(dim1=1, dim2=2)
        scale = curved[:, -1, None, None] / among[:, -1:, -1:].clamp_min(1e-30)
        scale = torch.where(scale > 0, scale, 1.0)
        upper = crossed.triu() + torch.diag_embed((curved == 0).double())
        along = torch.linalg.solve_triangular(upper, with_gradient[:, order, None], upper=True)
        right = curved[:, :, None] * along + scale * (among @ along - with_gradient[:, MEMORY + order, None])
        weight = torch.linalg.solve_triangular(upper.mT, right, upper=False)
        parts = gradients.new_zeros(len(gradients), 1, 2 * MEMORY)
        parts[:, 0, order], parts[:, 0, MEMORY + order] = weight[:, :, 0].to(parts), (-scale * along)[:, :, 0].to(parts)
        way = torch.baddbmm((scale[:, 0].to(parts) * gradients)[:, None], parts, self.kept)[:, 0]
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
