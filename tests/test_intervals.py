"""Intervals hold the truth as often as they say: docs/intervals.md, some cells of it again."""

from __future__ import annotations

import math

import pytest

from cuescope.core import stats
from simulated import KINDS, Kind

OVER = {kind.shape for kind in KINDS if kind.note}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name}, {kind.shape}")
def test_intervals_hold_the_truth(kind: Kind) -> None:
    for n in (12, 40):
        held, known = kind.held(n, 100)
        assert held >= 0.88 or not known, f"{held:.3f} at {n}"


@pytest.mark.parametrize("n", [30, 50, 100, 200])
def test_rare_changes_that_go_one_way_are_covered(n: int) -> None:
    """Exact: how likely is each number of lost answers, and does its interval hold the truth?"""
    intervals = [stats.difference("", [1] * (n - k) + [0] * k, [1] * n).interval or (0.0, 0.0) for k in range(n // 4)]
    for p in (0.01, 0.02, 0.03, 0.04, 0.05):
        chances = (math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(len(intervals)))
        held = sum(c for c, (low, high) in zip(chances, intervals, strict=True) if low <= -p <= high)
        assert held >= 0.93, f"{held:.3f} where {p:.0%} are lost"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name}, {kind.shape}")
def test_intervals_hold_the_truth_as_often_as_they_say(kind: Kind) -> None:
    for n, least in ((5, 0.88), (10, 0.88), (20, 0.89), (30, 0.92), (50, 0.92), (100, 0.92), (200, 0.92)):
        held, known = kind.held(n, 2000, seed=1)
        if known > 0.05:
            assert held >= least, f"{held:.3f} at {n}"
            assert held <= 0.98 or n < 30 or kind.shape in OVER, f"{held:.3f} at {n}"
