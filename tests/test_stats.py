"""Intervals against scipy and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from cuescope.core import error_consistency, stats
from cuescope.methods.parts.pairs import sign_distances


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (297, 500), (1, 1), (3, 7)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no share"):
        stats.wilson(0, 0)


def test_bootstrap_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(3, 2, 200)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert stats.bootstrap_mean(values, seed=3) == pytest.approx((expected.low, expected.high), abs=0.06)


def test_bootstrap_is_the_same_for_the_same_seed_whatever_the_block() -> None:
    values = np.random.default_rng(0).random(5000)
    assert stats.bootstrap_mean(values, seed=5) == stats.bootstrap_mean(values, seed=5)
    assert stats.bootstrap_mean(values, seed=5) != stats.bootstrap_mean(values, seed=6)


def test_bootstrap_of_one_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least two"):
        stats.bootstrap_mean([1.0])


def test_paired_difference_is_narrower_than_unpaired() -> None:
    generator = np.random.default_rng(0)
    common = generator.normal(0, 5, 400)
    a, b = common + 0.5 + generator.normal(0, 0.1, 400), common
    value, interval, n = stats.paired_difference(a, b)
    assert n == 400
    assert interval is not None
    assert interval[0] < 0.5 < interval[1]
    assert value == pytest.approx(0.5, abs=0.05)
    assert interval[1] - interval[0] < 0.05


def test_paired_difference_leaves_out_what_does_not_count() -> None:
    value, _, n = stats.paired_difference([1, np.nan, 0, 1], [np.nan, 0, 0, 1])
    assert (value, n) == (pytest.approx(2 / 3 - 1 / 3), 4)


def test_ratio_without_a_safe_denominator_has_no_interval() -> None:
    assert stats.bootstrap_ratio([1, 0], [1, 0]) is None
    low, high = stats.bootstrap_ratio([1, 0, 1, 1] * 20, [1] * 80) or (0, 0)
    assert low < 0.75 < high


def test_kappa_by_hand() -> None:
    a = [True, True, True, False]
    b = [True, True, False, False]
    # observed .75; expected .75 * .5 + .25 * .5 = .5
    assert error_consistency.kappa(a, b) == pytest.approx(0.5)
    assert error_consistency.kappa([True] * 4, b) is None
    assert error_consistency.kappa([], []) is None


def test_pearson_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(3, 2, 80)
    b = 1e-3 * (a + generator.normal(0, 1.5, 80))
    expected = scipy_stats.pearsonr(a, b)
    value, interval, why = stats.pearson(a, b)
    assert value == pytest.approx(expected.statistic, abs=1e-12)
    drawn = scipy_stats.bootstrap(
        (a, b),
        lambda x, y: scipy_stats.pearsonr(x, y).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert interval == pytest.approx((drawn.low, drawn.high), abs=0.02)
    assert why == ""
    assert stats.pearson(a, -b)[0] == pytest.approx(-expected.statistic)


def test_pearson_of_what_has_none() -> None:
    assert stats.pearson([1, 2], [1, 2]) == (None, None, "a correlation needs at least three pairs, not 2")
    for a, b in (([1, 2, 3], [5, 5, 5]), ([1e9] * 3, [1, 2, 3]), ([0, 0, 0], [0, 0, 0])):
        value, interval, why = stats.pearson(a, b)
        assert (value, interval) == (None, None)
        assert "always the same" in why
    value, interval, why = stats.pearson([1, 2, 3], [1, 2, 4])
    assert value == pytest.approx(np.corrcoef([1, 2, 3], [1, 2, 4])[0, 1])
    assert interval is None, "one resample in nine holds one pair three times"
    assert why == "too few different pairs for an interval"


def test_sign_distances_equal_the_plain_count() -> None:
    signs = np.random.default_rng(0).integers(-1, 2, (6, 37))
    signs[4:] = 0
    fallen, risen = np.packbits(signs > 0, axis=1), np.packbits(signs < 0, axis=1)
    of_all, of_changed = sign_distances(fallen, risen, 37)
    for i, a in enumerate(signs):
        for j, b in enumerate(signs):
            differing, changed = (a != b).sum(), ((a != 0) | (b != 0)).sum()
            assert of_all[i, j] == pytest.approx(differing / 37)
            assert of_changed[i, j] == pytest.approx(differing / changed if changed else np.nan, nan_ok=True)


def test_things_are_drawn_within_their_stratum() -> None:
    strata = np.array([2, 0, 2, 1, 2, 0])
    drawn = counts(strata, seed=1, resamples=500)
    for stratum, size in ((0, 2), (1, 1), (2, 3)):
        assert (drawn[:, strata == stratum].sum(1) == size).all()
    assert drawn.mean(0) == pytest.approx(np.ones(6), abs=0.1)
    assert (drawn == counts(strata, seed=1, resamples=500)).all()
    assert (drawn != counts(strata, seed=2, resamples=500)).any()
    assert counts([], resamples=3).shape == (3, 0)


def counts(strata: Sequence[int] | np.ndarray, seed: int = 0, resamples: int = 2000) -> np.ndarray:
    return np.concatenate(list(stats.Draws(strata, seed, resamples)))


def test_draws_are_the_same_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = np.array([2, 0, 2, 1, 2, 0])
    whole, values = counts(strata, seed=3, resamples=50), np.arange(36.0).reshape(6, 6) % 5
    mean = stats.pair_mean([(np.arange(6), values + values.T)], stats.Draws([0] * 6, 1))
    monkeypatch.setattr(stats, "BLOCK", 6 * 7)
    blocks = list(stats.Draws(strata, seed=3, resamples=50))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    assert (np.concatenate(blocks) == whole).all()
    assert stats.pair_mean([(np.arange(6), values + values.T)], stats.Draws([0] * 6, 1)) == mean


def test_the_interval_of_a_pair_mean_equals_resampling_by_hand() -> None:
    generator = np.random.default_rng(0)
    groups = []
    for members in (np.arange(5), np.array([1, 5, 6])):
        values = generator.random((len(members), len(members)))
        values = values + values.T
        if len(members) == 5:
            values[0, 3] = values[3, 0] = np.nan
        groups.append((members, values))
    drawn = stats.Draws([0] * 7, seed=4, resamples=200)
    means = []
    for times in np.concatenate(list(drawn)).astype(int):
        found = []
        for members, values in groups:
            copies = [k for k, m in enumerate(members) for _ in range(times[m])]
            every = [values[a, b] for x, a in enumerate(copies) for b in copies[:x] if a != b]
            every = [v for v in every if not np.isnan(v)]
            found += [np.mean(every)] if every else []
        means += [np.mean(found)] if found else []
    value, interval, pairs = stats.pair_mean(groups, drawn)
    both = [[v[i, j] for i in range(len(v)) for j in range(i) if not np.isnan(v[i, j])] for _, v in groups]
    assert value == pytest.approx(np.mean([np.mean(each) for each in both]))
    assert pairs == sum(map(len, both)) == 12
    assert interval == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_a_pair_mean_without_pairs_or_with_few() -> None:
    drawn = stats.Draws([0, 0, 0])
    assert stats.pair_mean([], drawn) == (None, None, 0)
    assert stats.pair_mean([(np.arange(3), np.full((3, 3), np.nan))], drawn) == (None, None, 0)
    # One resample in nine holds one thing three times.
    assert stats.pair_mean([(np.arange(3), np.ones((3, 3)))], drawn) == (1.0, None, 3)


def test_the_interval_of_a_pair_mean_covers_the_truth() -> None:
    """Distances of things on a line: of 200 samples of 12, at least nine in ten intervals hold the true mean."""
    hits = 0
    for trial in range(200):
        x = np.random.default_rng(trial).random(12)
        _, interval, _ = stats.pair_mean(
            [(np.arange(12), np.abs(x[:, None] - x))], stats.Draws([0] * 12, resamples=300)
        )
        assert interval is not None
        hits += interval[0] <= 1 / 3 <= interval[1]
    assert hits >= 180


def test_a_mean_of_shares_that_never_differ_keeps_an_interval() -> None:
    assert stats.mean_of_shares([0.0] * 40) == stats.wilson(0, 40)
    assert stats.mean_of_shares([1.0] * 40) == stats.wilson(40, 40)
    varied = [0.0, 0.5, 1.0, 0.25] * 10
    assert stats.mean_of_shares(varied) == stats.bootstrap_mean(varied)
    assert stats.mean_of_shares([0.3] * 5) == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="no share"):
        stats.mean_of_shares([])


def test_the_difference_of_independent_shares_is_newcombes() -> None:
    """The first examples of table II of Newcombe 1998, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    for (a, m), (b, n), expected in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
    ):
        found = stats.independent_difference(a / m, stats.wilson(a, m), b / n, stats.wilson(b, n))
        assert found == pytest.approx(expected, abs=1e-4)


def test_measures_of_shares_and_means() -> None:
    right = [True, False, True, True]
    counted, averaged = stats.share("top1", right, headline=True), stats.mean("top1", right)
    assert (counted.value, counted.count, counted.n, counted.headline) == (0.75, 3, 4, True)
    assert counted.interval == stats.wilson(3, 4)
    assert stats.share("top1", 3, 4, headline=True) == counted
    assert (averaged.value, averaged.count, averaged.interval) == (0.75, None, stats.bootstrap_mean(right))
    assert stats.mean("one", [0.5]).interval is None
    for nothing in (stats.share("top1", [], why="no label"), stats.mean("top1", [], why="no label")):
        assert (nothing.value, nothing.n, nothing.why) == (None, 0, "no label")
