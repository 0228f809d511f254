"""Which of two classifiers is better: exact where it can be, corrected for all comparisons, and three outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats

import cuescope
from cuescope.core import stats
from cuescope.core.intervals import exact_test, sign_test, student_tails
from cuescope.runs.comparisons.paired import corrected, corrected_for, difference, said, verdicts
from toys import Images, MeanColor, colored, toy

BASE: dict[str, Any] = {"unit": "share", "better": "higher", "why": ""}


@pytest.mark.parametrize(("k", "n"), [(4, 4), (0, 0), (1, 1), (7, 20), (13, 20), (10, 20), (300, 700)])
def test_the_sign_test_equals_scipy(k: int, n: int) -> None:
    expected = scipy_stats.binomtest(k, n).pvalue if n else 1.0
    assert sign_test(k, n) == pytest.approx(expected)


@pytest.mark.parametrize(("k", "n", "others", "of"), [(8, 10, 1, 6), (0, 5, 300, 400), (3, 3, 3, 3), (9, 40, 70, 160)])
def test_the_exact_test_of_two_shares_equals_scipy(k: int, n: int, others: int, of: int) -> None:
    expected = scipy_stats.fisher_exact([[k, n - k], [others, of - others]]).pvalue
    assert exact_test(k, n, others, of) == pytest.approx(expected)


@pytest.mark.parametrize(("t", "degrees"), [(0.0, 4), (2.1, 4), (-1.3, 29), (3.5, 400), (12.0, 7)])
def test_tails_of_student_equal_scipy(t: float, degrees: int) -> None:
    assert student_tails(t, degrees) == pytest.approx(2 * scipy_stats.t.sf(abs(t), degrees), rel=1e-3, abs=1e-9)


def test_four_to_nothing_of_two_hundred_is_not_better() -> None:
    p = stats.paired_p([1] * 4 + [0] * 196, [0] * 200)
    assert p == pytest.approx(0.125)
    verdict = corrected([{**BASE, "value": 0.02, "interval": [0.0006, 0.04], "p": p}])[0]
    assert (verdict["said"], verdict["family"]) == ("alike", 1)
    many = stats.paired_p([1] * 40 + [0] * 160, [0] * 200)
    assert corrected([{**BASE, "value": 0.2, "interval": [0.15, 0.26], "p": many}])[0]["said"] == "a is better"


def test_an_interval_without_0_that_cannot_tell_says_why() -> None:
    alone = {**BASE, "value": 0.1, "interval": [0.01, 0.19], "p": 0.03}
    first, *_, last = corrected([alone, *[{**BASE, "value": 0.1, "interval": [-0.1, 0.3], "p": 0.4}] * 9])
    assert (first["said"], first["why"]) == ("cannot tell", "its interval leaves out 0, but its corrected p is 0.3")
    assert (last["said"], last["why"]) == ("cannot tell", "")
    assert corrected([alone])[0]["why"] == ""


def test_a_p_value_is_below_a_twentieth_where_the_interval_leaves_out_0() -> None:
    clusters = [np.repeat(np.arange(15), 2)]
    for seed in range(60):
        random = np.random.default_rng(seed)
        a, b = random.random(30), random.random(30) + (seed % 3) * 0.1
        for labels in ((), clusters):
            _, interval, _ = stats.paired_difference(a, b, clusters=labels)
            p = stats.paired_p(a, b, clusters=labels)
            assert interval is not None
            assert p is not None
            assert (p < 0.05) == (interval[0] > 0 or interval[1] < 0)


def test_p_values_of_no_difference_are_even() -> None:
    ps = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        common = random.random(40)
        ps.append(stats.paired_p(common + 0.1 * random.random(40), common + 0.1 * random.random(40)))
    assert 0.02 <= np.mean(np.array(ps) < 0.05) <= 0.08
    assert 0.4 <= np.mean(np.array(ps) < 0.5) <= 0.6


def test_a_difference_that_varies_with_nothing_is_told_apart_from_none() -> None:
    assert stats.paired_p([0.5] * 30, [0.5] * 30) == 1
    assert stats.paired_p([3.0] * 30, [3.0] * 30) is None
    assert stats.paired_p([1.0, 0.0], [0.0, 0.0]) is None


def test_holm_equals_the_steps_by_hand() -> None:
    ps = [0.01, 0.04, None, 0.03, 0.005]
    found = [v["p_holm"] for v in corrected([{"p": p} for p in ps])]
    assert found == [pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06), pytest.approx(0.02)]
    assert corrected([]) == []


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({**BASE, "value": 0.1, "interval": [0.06, 0.14], "p_holm": 0.01}, "a is better"),
        ({**BASE, "value": -0.1, "interval": [-0.14, -0.06], "p_holm": 0.01}, "b is better"),
        ({**BASE, "better": "lower", "value": 0.1, "interval": [0.06, 0.14], "p_holm": 0.01}, "b is better"),
        ({**BASE, "better": "", "value": -0.1, "interval": [-0.14, -0.06], "p_holm": 0.01}, "b is higher"),
        ({**BASE, "value": 0.1, "interval": [0.01, 0.19], "p_holm": 0.06}, "cannot tell"),
        ({**BASE, "value": 0.01, "interval": [-0.03, 0.04], "p_holm": 1.0}, "alike"),
        ({**BASE, "unit": "px", "value": 0.01, "interval": [-0.03, 0.04], "p_holm": 1.0}, "cannot tell"),
        ({**BASE, "value": 0.3, "interval": None, "p_holm": None}, "cannot tell"),
        ({**BASE, "value": 0.3, "interval": [0.2, 0.4]}, "cannot tell"),
    ],
)
def test_what_may_be_said(verdict: dict[str, Any], expected: str) -> None:
    assert said(verdict) == expected


def test_what_images_share_widens_a_difference() -> None:
    random, objects = np.random.default_rng(0), np.repeat(np.arange(20), 20)
    shared = random.random(20)[objects]
    ids = [str(i) for i in range(400)]
    a = pl.DataFrame({"id": ids, "right": random.random(400) < shared, "object": objects})
    b = pl.DataFrame({"id": ids, "right": random.random(400) < 1 - shared, "object": objects})
    widths = []
    for clusters in ((), ("object",)):
        _, interval, _ = difference(a, b, "right", clusters)
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[1] > 2 * widths[0]


def test_all_measures_of_all_pairs_are_one_family(tmp_path: Path) -> None:
    classifiers = [toy(MeanColor(), name=name) for name in ("a", "b", "c")]
    run = cuescope.audit(*classifiers, images=Images(colored(12)), only=["accuracy"], out=tmp_path / "run")
    found = verdicts([run])
    assert [(v["p"], v["p_holm"], v["family"], v["said"]) for v in found] == [(1.0, 1.0, 3, "cannot tell")] * 3
    assert corrected_for(found) == "Corrected for 3 comparisons (Holm)."
