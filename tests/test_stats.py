"""Intervals against scipy and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from cuescope.core import draws, error_consistency, intervals, stats
from cuescope.methods.parts.pairs import sign_distances


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (297, 500), (3, 7), (4, 60)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(1, 8), (2, 30), (3, 60)])
def test_few_hits_have_the_lower_limit_of_poisson(k: int, n: int) -> None:
    wilsons = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    low, high = stats.wilson(k, n)
    assert low == pytest.approx(scipy_stats.chi2.ppf(0.05, 2 * k) / 2 / n, rel=1e-3)
    assert low < wilsons.low
    assert high == pytest.approx(wilsons.high)
    assert stats.wilson(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_no_hit_has_the_lower_end_0_and_nothing_but_hits_the_upper_end_1() -> None:
    for n in range(1, 200):
        assert stats.wilson(0, n)[0] == 0
        assert stats.wilson(n, n)[1] == 1


@pytest.mark.parametrize("degrees", [1, 2, 4, 11, 29, 500, 9999, 20_000])
def test_the_quantile_of_student_equals_scipy(degrees: int) -> None:
    assert intervals.student(degrees) == pytest.approx(scipy_stats.t.ppf(0.975, degrees), rel=1e-4)


def test_wilson_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no share"):
        stats.wilson(0, 0)


def test_the_bootstrap_agrees_with_scipys() -> None:
    values = np.random.default_rng(1).normal(3, 2, 200)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    found = draws.bootstrap_of_means(values[:, None], lambda means: means[:, 0], seed=3)
    assert found == pytest.approx((expected.low, expected.high), abs=0.06)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(0).random((5000, 1))
    once, again, other = (draws.bootstrap_of_means(values, lambda means: means[:, 0], seed) for seed in (5, 5, 6))
    assert once == again != other


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
    fisher = expected.confidence_interval()
    assert interval == pytest.approx((fisher.low, fisher.high), abs=0.02)
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
    assert interval is None
    assert why == "an interval needs at least 5 images, not 3"
    assert stats.pearson([1, 1, 1, 1, 1, 2], [1, 2, 3, 4, 5, 6])[1] is None, "it rests on one pair"
    rounding = 1e6 + 1e-6 * np.random.default_rng(0).normal(size=50)
    assert stats.pearson(rounding, np.arange(50.0))[0] is None, "rounding is no variation"


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
    return np.concatenate(list(draws.Draws(strata, seed, resamples)))


def test_draws_are_the_same_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = np.array([2, 0, 2, 1, 2, 0])
    whole = counts(strata, seed=3, resamples=50)
    monkeypatch.setattr(draws, "BLOCK", 6 * 7)
    blocks = list(draws.Draws(strata, seed=3, resamples=50))
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    assert (np.concatenate(blocks) == whole).all()


def test_the_variance_of_a_pair_mean_equals_leaving_things_out_by_hand() -> None:
    generator = np.random.default_rng(0)
    groups, strata = [], np.array([0, 0, 0, 1, 1, 1, 1])
    for members in (np.arange(5), np.array([1, 5, 6])):
        values = generator.random((len(members), len(members)))
        values = values + values.T
        if len(members) == 5:
            values[0, 3] = values[3, 0] = np.nan
        groups.append((members, values))

    def mean_without(thing: int) -> float:
        found = []
        for members, values in groups:
            kept = [k for k, m in enumerate(members) if m != thing]
            every = [values[i, j] for x, i in enumerate(kept) for j in kept[:x] if not np.isnan(values[i, j])]
            found += [np.mean(every)] if every else []
        return float(np.mean(found))

    value, interval, pairs = stats.pair_mean(groups, draws.Draws(strata))
    assert value == pytest.approx(mean_without(-1))
    assert pairs == 12
    without = np.array([mean_without(thing) for thing in range(7)])
    parts = np.concatenate([own.mean() - own for own in (without[:3], without[3:])])
    variance = (parts[:3] ** 2).sum() * 2 / 3 + (parts[3:] ** 2).sum() * 3 / 4
    skewness = (parts**3).mean() / (parts**2).mean() ** 1.5
    assert interval == pytest.approx(by_hall(value, variance**0.5, skewness, 6))


def by_hall(value: float, spread: float, skewness: float, units: int) -> tuple[float, float]:
    """Where t + bend t^2/3 + bend^2 t^3/27 + bend/6 is a quantile of Student's (Hall 1992), by bisection."""
    bend, ends = skewness / units**0.5, []
    for quantile in (scipy_stats.t.ppf(0.975, units - 1), scipy_stats.t.ppf(0.025, units - 1)):
        low, high = -1e3, 1e3
        for _ in range(100):
            t = (low + high) / 2
            below = t + bend * t**2 / 3 + bend**2 * t**3 / 27 + bend / 6 < quantile
            low, high = (t, high) if below else (low, t)
        ends.append(value - spread * low)
    return ends[0], ends[1]


def test_a_pair_mean_without_pairs_or_with_few() -> None:
    drawn = draws.Draws([0, 0, 0])
    assert stats.pair_mean([], drawn) == (None, None, 0)
    assert stats.pair_mean([(np.arange(3), np.full((3, 3), np.nan))], drawn) == (None, None, 0)
    assert stats.pair_mean([(np.arange(3), np.ones((3, 3)))], drawn) == (1.0, None, 3)
    same = np.ones((9, 9))
    assert stats.pair_mean([(np.arange(9), same)], draws.Draws([0] * 9)) == (1.0, None, 36), "nothing differs"


def test_a_mean_of_shares_that_never_differ_keeps_an_interval() -> None:
    assert stats.mean_share("", [0.0] * 40).interval == stats.wilson(0, 40)
    assert stats.mean_share("", [1.0] * 40).interval == stats.wilson(40, 40)
    assert stats.mean_share("", []).value is None


def test_the_difference_of_independent_shares_is_newcombes() -> None:
    """The first examples of table II of Newcombe 1998, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    for (a, m), (b, n), expected in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
    ):
        wilsons = [scipy_stats.binomtest(k, of).proportion_ci(method="wilson") for k, of in ((a, m), (b, n))]
        first, second = ((each.low, each.high) for each in wilsons)
        found = stats.independent_difference(a / m, first, b / n, second)
        assert found == pytest.approx(expected, abs=1e-4)
    assert stats.independent_difference(0.5, None, 0.5, (0.4, 0.6)) is None


def test_measures_of_shares_and_means() -> None:
    right = [True, False, True, True, True]
    counted, averaged = stats.share("top1", right, headline=True), stats.mean("top1", right)
    assert (counted.value, counted.count, counted.n, counted.headline) == (0.8, 4, 5, True)
    assert counted.interval == stats.wilson(4, 5)
    assert stats.share("top1", 4, 5, headline=True) == counted
    assert (averaged.value, averaged.count, averaged.interval) == (0.8, None, stats.wilson(4, 5))
    for nothing in (stats.share("top1", [], why="no label"), stats.mean("top1", [], why="no label")):
        assert (nothing.value, nothing.n, nothing.why) == (None, 0, "no label")


def test_under_five_independent_units_there_is_no_interval_and_it_is_said() -> None:
    few, objects = [0.0, 1.0, 0.5], ["cat"] * 4 + ["dog"] * 4 + ["car"] * 4
    for measure in (
        stats.share("", [1, 0, 1]),
        stats.mean("", few),
        stats.mean("", few, ""),
        stats.ratio("", few, [1.0, 1.0, 1.0]),
        stats.difference("", few, [0.0, 0.0, 0.0]),
        stats.correlation("", few, [1.0, 3.0, 0.0]),
    ):
        assert measure.value is not None
        assert measure.interval is None
        assert measure.why == "an interval needs at least 5 images, not 3"
    clustered = stats.share("", [1, 0] * 6, clusters=[objects], units="objects")
    assert (clustered.n, clustered.interval) == (12, None)
    assert clustered.why == "an interval needs at least 5 objects, not 3"


def test_what_varies_little_has_no_interval_of_no_width() -> None:
    stable = stats.share("", [0] * 96, clusters=[np.repeat(np.arange(12), 8)])
    assert stable.interval is not None
    assert stable.interval[1] > 0.2
    ends = [stats.mean_share("", [0.0] * (100 - k) + [0.125] * k).interval for k in (0, 1)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0][1] == pytest.approx(ends[1][1], rel=0.1)
    same = stats.difference("", [1] * 100, [1] * 100)
    assert same.interval is not None
    assert same.interval[0] < -0.01 < 0.01 < same.interval[1]
    unlimited = stats.mean("", [3.0] * 8, "px")
    assert unlimited.interval is None
    assert "the same for all 8 images" in unlimited.why


def test_skewness_moves_an_interval_as_hall_says() -> None:
    values = np.random.default_rng(0).exponential(1, 40)
    measure = stats.mean("", values, "")
    skewness = float(scipy_stats.skew(values))
    assert measure.interval == pytest.approx(by_hall(values.mean(), values.std(ddof=1) / 40**0.5, skewness, 40))


def test_labels_that_hold_one_image_each_change_nothing_and_clusters_widen() -> None:
    random = np.random.default_rng(0)
    objects, textures = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    right = (random.normal(0, 1, 20)[objects] + random.normal(0, 1, 10)[textures] + random.normal(0, 1, 200) > 0) * 1.0
    widths = []
    for clusters in ([np.arange(200)], [objects], [objects, textures]):
        interval = stats.mean_share("", right, clusters=clusters).interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    low, high = stats.wilson(int(right.sum()), 200)
    assert widths[0] == pytest.approx(high - low, rel=0.02)
    assert widths[0] < widths[1] < widths[2]


def test_two_way_variance_is_that_of_cameron_gelbach_and_miller() -> None:
    """A mean of numbers: the sums of residuals over objects and over textures, less those of single images."""
    random = np.random.default_rng(1)
    objects, textures = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    values = random.normal(0, 1, 12)[objects] + random.normal(0, 1, 8)[textures] + random.normal(0, 1, 96)
    rest, variance = values - values.mean(), 0.0
    for labels, sign in ((objects, 1), (textures, 1), (np.arange(96), -1)):
        sums, n = np.bincount(labels, rest), labels.max() + 1
        variance += sign * (sums**2).sum() / 96**2 * n / (n - 1)
    interval = stats.mean("", values, "", clusters=[objects, textures]).interval
    half = scipy_stats.t.ppf(0.975, 7) * variance**0.5
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-4)


def test_what_clusters_share_widens_the_interval_of_what_cannot_be_left_out() -> None:
    """The place of the largest of three means, over images that come in copies: as uncertain as without the copies."""
    random = np.random.default_rng(0)
    values = random.standard_normal((24, 3)) + np.array([0.0, 0.1, 0.2])

    def largest(means: np.ndarray) -> np.ndarray:
        return means.argmax(-1).astype(float)

    copies, source = np.repeat(values, 20, axis=0), np.repeat(np.arange(24), 20)
    wide = draws.bootstrap_of_means(copies, largest, clusters=[source])
    assert wide == draws.bootstrap_of_means(values, largest, clusters=[np.arange(24)])
    narrow = draws.bootstrap_of_means(copies, largest)
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    assert draws.bootstrap_of_means(copies, largest, clusters=[source % 4]) is None, "four clusters are too few"
