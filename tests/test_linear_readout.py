"""Read-outs: what they can learn, and that nothing of an image is known when it is answered."""

from __future__ import annotations

import numpy as np
import pytest

from cuescope.core.classes import IMAGENET
from cuescope.methods.linear_readout import FOLDS, held_out, targets_of


def test_what_can_be_told_is_told_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, 90)
    views = random.normal(size=(90, 2, 6))
    assert (held_out(views, classes)[:, 0] == classes).mean() < 0.6, "noise that was learned by heart"
    views[:, 0, :3] += 8 * np.eye(3)[classes]
    views[:, 1] = views[:, 0]
    views[:45, 1, :3] = 8 * np.eye(3)[(classes[:45] + 1) % 3]
    answers = held_out(views, classes)
    assert (answers[:, 0] == classes).all()
    assert (answers[:45, 1] == (classes[:45] + 1) % 3).all()
    assert (answers[45:, 1] == classes[45:]).all()


def test_equals_ridges_written_out() -> None:
    """The plain twin: for each part a ridge of the others, its penalty by leaving each image out in turn."""
    random = np.random.default_rng(1)
    classes = np.arange(40) % 2
    views = random.normal(size=(40, 1, 4)) + classes[:, None, None]
    part = np.empty(40, int)
    part[np.argsort(classes, kind="stable")] = np.arange(40) % FOLDS
    expected = np.empty(40, int)
    for fold in range(FOLDS):
        x, y = views[part != fold, 0], 2.0 * classes[part != fold] - 1
        mean, std = x.mean(0), x.std(0)
        x, best = (x - mean) / std, (np.inf, np.zeros(4), 0.0)
        for penalty in np.logspace(-1, 5, 13):
            inverse = np.linalg.inv(x.T @ x + penalty * np.eye(4))
            leverage = np.einsum("ni,ij,nj->n", x, inverse, x) + 1 / len(x)
            weights = inverse @ x.T @ (y - y.mean())
            error = ((y - y.mean() - x @ weights) / (1 - leverage)) ** 2
            best = min(best, (error.mean(), weights, y.mean()), key=lambda option: option[0])
        score = (views[part == fold, 0] - mean) / std @ best[1] + best[2]
        expected[part == fold] = score > 0
    assert held_out(views, classes)[:, 0].tolist() == expected.tolist()


def test_too_few_images_of_a_class_are_an_error() -> None:
    with pytest.raises(ValueError, match="two classes of 5"):
        held_out(np.zeros((12, 1, 2)), np.array([0] * 8 + [1] * 4))
    with pytest.raises(ValueError, match="two classes of 5"):
        held_out(np.zeros((12, 1, 2)), np.zeros(12, int))


def test_targets() -> None:
    many = targets_of([7] * 6 + [None] + [2] * 5 + [3] * 4)
    assert many.images.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert set(many.classes) == {7, 2}
    assert not many.why
    assert not many.note
    assert targets_of([None, None]).why == targets_of([]).why == "no image has a label"
    single = [*range(0, 390, 60), *range(400, 1000, 100)]
    assert targets_of(single).why == "no two classes have 5 labeled images each"
    animals = targets_of(single, IMAGENET)
    assert animals.classes.tolist() == [1] * 7 + [0] * 6
    assert "animals" in animals.note
    assert targets_of(single[:9], IMAGENET).why, "only two of them are no animals"


def test_the_first_classes_of_imagenet_are_the_animals() -> None:
    from cuescope.core.classes import imagenet_1k

    names = imagenet_1k().names
    assert (names[0], names[397], names[398]) == ("tench", "puffer", "abacus")
