"""L-BFGS within bounds for many small problems at once, each as if it were alone."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[Tensor, list[int]], tuple[Tensor, Tensor]]
"""(A, N) points of the problems numbered in the list -> their (A,) values and (A, N) gradients."""
DECREASE = 1e-4
"""The part of the decrease that the slope promises which a step must bring (Armijo)."""
TRIALS = 20
"""Lengths tried on one direction. Where none decreases the value, it cannot fall farther in this precision."""
CHUNK = 4096
"""Sums run over chunks of so many numbers, so that torch adds in the same order however many problems there are."""


class Minimum(NamedTuple):
    """`x` (B, N), the values (B,) at the start and at `x`, the steps and the evaluations (B,)."""

    x: Tensor
    start: Tensor
    end: Tensor
    steps: Tensor
    evaluations: Tensor


def minimize(function: Function, start: Tensor, low: Tensor, high: Tensor, *, steps: int, memory: int = 20) -> Minimum:
    """Where, within bounds, are these functions smallest, as far as so many steps of L-BFGS lead?

    `start`, `low` and `high` are (B, N); a bound may be (B, 1), and infinite. Each problem has its own history of
    `memory` steps, its own line search and its own end: one in a batch takes bit for bit the steps that it takes
    alone, if `function` does so. Coordinates at a bound that the gradient points out of are held there, and the
    rest is searched as if they did not exist (Bertsekas 1982's projected Newton, with L-BFGS for the Hessian). The
    values that a step accepts never rise.

    >>> def bowl(x, problems):
    ...     return ((x - 3) ** 2).sum(1), 2 * (x - 3)
    >>> minimize(bowl, torch.zeros(1, 2), torch.tensor([[-9.0, -9.0]]), torch.tensor([[9.0, 2.0]]), steps=9).x
    tensor([[3., 2.]])
    """
    x = start.clamp(low, high)
    low, high = low.expand_as(x), high.expand_as(x)
    count = len(x)
    value, gradient = function(x, list(range(count)))
    first, history = value.clone(), _History(memory)
    taken = torch.zeros(count, dtype=torch.long)
    evaluations = torch.ones(count, dtype=torch.long)
    going = torch.ones(count, dtype=torch.bool, device=x.device)
    for _ in range(steps):
        free = ~(((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)))
        slope = torch.where(free, gradient, 0)
        going &= slope.abs().amax(1) > 0
        if not going.any():
            break
        point = _Point(x, value, gradient)
        new, found = _search(function, point, history.direction(slope, free), (low, high), going, evaluations)
        going &= found & (new.x != x).any(1)
        history.add(new.x - x, new.gradient - gradient, going)
        x, value, gradient = new
        taken += going.cpu()
    return Minimum(x, first, value, taken, evaluations)


class _Point(NamedTuple):
    x: Tensor
    value: Tensor
    gradient: Tensor


def _search(
    function: Function,
    point: _Point,
    direction: Tensor,
    bounds: tuple[Tensor, Tensor],
    going: Tensor,
    evaluations: Tensor,
) -> tuple[_Point, Tensor]:
    """For each problem the first point on its bent path x + t d, t = 1 and shorter, with enough decrease, if any."""
    (x, value, gradient), (low, high) = point, bounds
    found, length = torch.zeros_like(going), torch.ones_like(value)
    new = _Point(x.clone(), value.clone(), gradient.clone())
    for _ in range(TRIALS):
        open_ = (going & ~found).nonzero()[:, 0]
        if not len(open_):
            break
        at = x[open_]
        trial = (at + length[open_, None] * direction[open_]).clamp(low[open_], high[open_])
        there, pull = function(trial, open_.tolist())
        evaluations[open_.cpu()] += 1
        promise = dot(gradient[open_], trial - at)
        good = there <= value[open_] + DECREASE * promise
        which = open_[good]
        new.x[which], new.value[which], new.gradient[which] = trial[good], there[good], pull[good]
        found[which] = True
        # To the minimum of the parabola through what is known, from a tenth to a half.
        length[open_] *= (-promise / (2 * (there - value[open_] - promise))).nan_to_num(0.1).clamp(0.1, 0.5)
    return new, found


class _History:
    """The last steps and changes of gradient, and the direction that they give (Nocedal 1980's two loops)."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor, valid: Tensor) -> None:
        self.pairs = [*self.pairs, (step, change, valid)][-self.memory :]

    def direction(self, slope: Tensor, free: Tensor) -> Tensor:
        """-H slope for each problem, over its free coordinates alone. Downhill always."""
        q = slope
        curved = []
        for step, change, valid in reversed(self.pairs):
            held = torch.where(free, change, 0)
            product, square = dot(step, held), dot(held, held)
            use = valid & (product > 1e-10 * square)
            rho = torch.where(use, 1 / product, 0)
            alpha = rho * dot(step, q)
            q = q - alpha[:, None] * held
            curved.append((step, held, rho, alpha, torch.where(use, product / square, 0)))
        size = torch.zeros_like(slope[:, 0])
        for *_, ratio in curved:
            size = torch.where(size > 0, size, ratio)
        # Nothing known yet: no coordinate moves by more than one on the first trial.
        q = q * torch.where(size > 0, size, 1 / slope.abs().amax(1).clamp(min=1e-30))[:, None]
        for step, held, rho, alpha, _ in reversed(curved):
            beta = rho * dot(held, q)
            q = q + torch.where(free, step, 0) * (alpha - beta)[:, None]
        uphill = (dot(q, slope) <= 0) | ~q.isfinite().all(1)
        plain = slope / slope.abs().amax(1, keepdim=True).clamp(min=1e-30)
        return -torch.where(uphill[:, None], plain, q)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, N) with (B, N): (B,), the same for a row whatever stands in the others."""
    product = a * b
    whole = product.shape[1] // CHUNK * CHUNK
    chunks = product[:, :whole].reshape(len(product), -1, CHUNK).sum(2)
    return torch.cat([chunks, product[:, whole:].sum(1, keepdim=True)], 1).sum(1)
