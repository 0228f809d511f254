"""Linear read-outs of features: the same optimum as scikit-learn, and nothing of an image in what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor

from cuescope.core import stats
from cuescope.methods import linear_probe
from cuescope.methods.linear_probe import fit
from cuescope.methods.probing import FOLDS, Labeled, Probed, parts_of, standardized, told_of, widened

N, D, K = 120, 8, 4


def clouds(n: int = N, d: int = D, noise: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of K classes, in float64."""
    random, y = np.random.default_rng(seed), np.arange(n) % K
    x = random.normal(size=(K, d))[y] + noise * random.normal(size=(n, d))
    return torch.from_numpy((x - x.mean(0)) / x.std(0)), torch.from_numpy(y)


@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1.0])
def test_softmax_has_the_optimum_of_scikit_learn(penalty: float) -> None:
    x, y = clouds()
    mine = fit(x, y, torch.ones(1, N), torch.tensor([penalty]), K)
    twin = LogisticRegression(C=1 / (penalty * N), tol=1e-8, max_iter=2000).fit(x.numpy(), y.numpy())
    assert mine.weights[0].numpy() == pytest.approx(twin.coef_, abs=0.01 * np.abs(twin.coef_).max())
    assert mine.scores(x)[0].softmax(0).T.numpy() == pytest.approx(twin.predict_proba(x.numpy()), abs=0.01)


def test_hinges_have_the_optimum_of_scikit_learn() -> None:
    x, y = clouds()
    mine = fit(x, y, torch.ones(1, N), torch.tensor([0.01]), K, "svm")
    # A large scale of the intercept leaves it free, as ours is.
    twin = LinearSVC(C=1 / (0.01 * N), tol=1e-8, max_iter=10**5, intercept_scaling=100).fit(x.numpy(), y.numpy())
    assert mine.weights[0].numpy() == pytest.approx(twin.coef_, abs=0.01 * np.abs(twin.coef_).max())


def test_problems_solved_together_are_those_solved_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds()
    counted = torch.rand(3, N, generator=torch.Generator().manual_seed(0)) < 0.7
    penalties = torch.tensor([1e-3, 1e-1, 1.0])
    together = fit(x, y, counted, penalties, K)
    own = fit(x.expand(3, -1, -1), y.expand(3, -1), counted, penalties, K)
    monkeypatch.setattr(linear_probe, "HELD", 1)
    alone = fit(x, y, counted, penalties, K)
    few = fit(x[counted[0]], y[counted[0]], torch.ones(1, int(counted[0].sum())), penalties[:1], K)
    for other in (own, alone):
        assert torch.allclose(together.weights, other.weights, atol=2e-2)
    assert torch.allclose(together.weights[0], few.weights[0], atol=2e-2), "images that do not count change nothing"


def test_the_fewest_numbers_tell_the_same() -> None:
    x, y = clouds(40, 200)
    few = standardized(x.numpy())
    assert few.shape == (40, 40)
    whole = ((x - x.mean(0)) / x.std(0, correction=0)).float()
    assert torch.allclose(few @ few.T, whole @ whole.T, atol=1e-2)
    counted, penalty = torch.ones(1, 40), torch.tensor([0.1])
    assert torch.allclose(
        fit(few, y, counted, penalty, K).scores(few), fit(whole, y, counted, penalty, K).scores(whole), atol=0.05
    )


def test_a_feature_that_never_changes_is_no_number_by_zero() -> None:
    x, y = clouds()
    told = told_of(standardized(np.concatenate([np.full((N, 1), 3.0), x.numpy()], 1)), y.numpy(), kept=K)
    assert told.logits is not None
    assert np.isfinite(told.logits.values).all()


def test_parts_are_alike_and_the_same_every_time() -> None:
    classes = np.arange(53) % 3
    parts = parts_of(classes)
    assert (parts == parts_of(classes)).all()
    counts = np.array([[((parts == f) & (classes == k)).sum() for k in range(3)] for f in range(FOLDS)])
    assert counts.max() - counts.min() <= 1


def test_nothing_of_an_image_is_in_what_is_said_of_it() -> None:
    # A feature for each image alone: whoever has seen the label knows it, nobody else does.
    told = told_of(standardized(np.eye(60)), np.arange(60) % 2)
    assert (told.answers == np.arange(60) % 2).mean() < 0.7
    x, y = clouds(200, noise=0.1)
    labels = y.numpy().copy()
    labels[::10] = (labels[::10] + 1) % K
    answers = told_of(standardized(x.numpy()), labels).answers
    assert (answers == y.numpy()).mean() > 0.97, "wrong labels do not stick"


def test_which_images_can_be_learned_from() -> None:
    found = Labeled.of([5, None, 9, 9, 5, 7], least=2)
    assert (found.images.tolist(), found.classes.tolist(), found.labels.tolist()) == (
        [0, 2, 3, 4],
        [0, 1, 1, 0],
        [5, 9],
    )
    assert found.chance == 0.5
    assert Labeled.of([3, 3, 3, 3, 3]).why
    assert Labeled.of([None]).why == "no image has a label"


def test_an_interval_is_longer_where_answers_go_together_and_never_shorter() -> None:
    groups, together = np.repeat(np.arange(20), 10), np.repeat(np.arange(20) % 2, 10)
    plain, everything = stats.share("a", together), stats.share("a", np.ones(200))
    low, high = widened(plain, together, groups).interval or (1, 0)
    old = plain.interval or (0, 0)
    assert (high - low) / (old[1] - old[0]) == pytest.approx(np.sqrt(10 * 20 / 19), rel=0.01)
    assert widened(plain, together, np.arange(200)).interval == pytest.approx(old, rel=0.01)
    assert widened(everything, np.ones(200), groups) == everything


@pytest.mark.slow
def test_the_interval_of_features_of_nothing_holds_chance_as_often_as_it_says() -> None:
    held = {"plain": 0, "displayed": 0}
    for seed in range(100):
        random, labels = np.random.default_rng(seed), Labeled.of((np.arange(400) % 4).tolist())
        read = Probed.of([standardized(random.normal(size=(400, 6)))], labels)["softmax"]
        plain = stats.share("accuracy", read.right)
        for name, found in (("plain", plain), ("displayed", widened(plain, read.right, read.groups))):
            low, high = found.interval or (1, 0)
            held[name] += low <= 0.25 <= high
    assert held["displayed"] >= 90
    assert held["displayed"] > held["plain"]
