"""Agreement of errors by hand, against Cohen's kappa, and where there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.core import error_consistency
from cuescope.core.findings import About
from cuescope.core.intervals import over_classes, wilson
from cuescope.data.images import Batch, Sample
from cuescope.instruments.error_agreement import ErrorAgreement
from toys import Constant, toy

CLASSES = tuple("abcd")
ABOUT = (About("zoo/first@w", "toys", CLASSES, "four"), About("zoo/second", "toys", CLASSES, "four"))


def rows(right: list[bool | None], label: list[int] | None = None, **more: list[object]) -> pl.DataFrame:
    """One image a value, named by its place; wrong answers are one class further than the label."""
    labels = label or [0] * len(right)
    known = [None if r is None else k for r, k in zip(right, labels, strict=True)]
    data = {
        "id": [f"{i:02d}" for i in range(len(right))],
        "label": known,
        "predicted": [k if r else (k + 1) % 4 for r, k in zip(right, labels, strict=True)],
        "right": right,
        "right5": [None] * len(right),
    }
    return pl.DataFrame(data | more, schema=dict(ErrorAgreement.columns))


def panel(conclusion, name: str):
    return next(p for p in conclusion.panels if p.name == name)


FIRST = [True] * 5 + [True] * 2 + [False] * 1 + [False] * 2
SECOND = [True] * 5 + [False] * 2 + [True] * 1 + [False] * 2


def test_observed_by_hand() -> None:
    logits = torch.zeros(4, 12)
    logits[0, 7] = 1.0
    logits[1, :6] = torch.arange(6, 0, -1)
    logits[2, 3] = 1.0
    logits[3, :4] = 1.0
    samples = tuple(Sample(name, torch.zeros(3, 4, 4, dtype=torch.uint8)) for name in "wxyz")
    batch = Batch(samples, torch.zeros(4, 3, 4, 4), logits, torch.tensor([7, 5, -1, 4]))
    seen = ErrorAgreement().observe(toy(Constant()), batch)
    # Of "z" four logits are larger than the label's and seven equal it: it is fifth in one order of eight.
    assert seen.rows() == [
        ("w", 7, 7, True, 1.0),
        ("x", 5, 0, False, 0.0),
        ("y", None, 3, None, None),
        ("z", 4, 0, False, 0.125),
    ]
    few = ErrorAgreement().observe(toy(Constant()), Batch(samples, batch.pixels, logits[:, :8], batch.labels))
    assert few["right5"].to_list() == [None] * 4
    assert few["right"].to_list() == [True, False, None, False]


def test_kappa_and_agreement_by_hand() -> None:
    """p = .7 and q = .6: observed .7, expected .42 + .12 = .54, kappa .16 / .46."""
    conclusion = ErrorAgreement().compare(rows(FIRST), rows(SECOND), ABOUT)
    assert conclusion["observed"].value == pytest.approx(0.7)
    assert (conclusion["observed"].count, conclusion["observed"].n) == (7, 10)
    assert conclusion["expected"].value == pytest.approx(0.54)
    assert conclusion["kappa"].value == pytest.approx(0.16 / 0.46)
    four = panel(conclusion, "four").data
    assert four["columns"] == ["images", "second right", "second wrong"]
    assert four["rows"] == [["first right", 5, 2], ["first wrong", 1, 2]]


def test_kappa_is_cohens() -> None:
    """Cohen 1960 by the table of both: what lies on its diagonal, against what its margins would put there."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        n = int(generator.integers(5, 60))
        a, b = generator.random((2, n)) < generator.uniform(0.2, 0.8, (2, 1))
        if a.std() and b.std():
            table = np.histogram2d(a, b, bins=2)[0] / n
            observed, expected = np.trace(table), table.sum(0) @ table.sum(1)
            kappa = (observed - expected) / (1 - expected)
            assert error_consistency.kappa(a.tolist(), b.tolist()) == pytest.approx(kappa, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ([True] * 4, [True, False, True, True], "first is right on every image"),
        ([True, False], [False, False], "second is wrong on every image"),
        ([True], [True], "first is right on every image"),
    ],
)
def test_no_kappa_where_an_accuracy_fixes_it(first: list[bool], second: list[bool], why: str) -> None:
    conclusion = ErrorAgreement().compare(rows(first), rows(second), ABOUT)
    assert conclusion["kappa"].value is None
    assert conclusion["kappa"].interval is None
    assert why in conclusion["kappa"].why
    assert why in conclusion.sentence
    assert conclusion["observed"].value is not None


def test_interval_is_about_the_plain_bootstraps() -> None:
    """Twin: draw images one by one and count again."""
    generator = np.random.default_rng(3)
    a = generator.random(200) < 0.6
    b = np.where(generator.random(200) < 0.5, a, generator.random(200) < 0.6)
    slow, expected = [], []
    for _ in range(2000):
        draw = generator.integers(0, 200, 200)
        slow.append(error_consistency.kappa(a[draw].tolist(), b[draw].tolist()))
        p, q = a[draw].mean(), b[draw].mean()
        expected.append(p * q + (1 - p) * (1 - q))
    around, chance = error_consistency.kappa_intervals(a.tolist(), b.tolist())
    assert around == pytest.approx(tuple(np.percentile(np.array(slow, float), [2.5, 97.5])), abs=0.025)
    assert chance == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=0.01)
    few = [True] * 4 + [False] * 9
    assert error_consistency.kappa_intervals(few, few)[0] is None
    assert error_consistency.kappa_intervals([True], [True]) == (None, None)


def test_images_are_matched_by_name_and_unlabeled_ones_left_out() -> None:
    second = rows([*SECOND, True, None]).reverse()
    conclusion = ErrorAgreement().compare(rows([*FIRST, None, True]), second, ABOUT)
    assert conclusion["kappa"].n == 10
    assert conclusion["kappa"].value == pytest.approx(0.16 / 0.46)
    assert any("2 images without a usable label" in text for text in conclusion.caveats)


def test_same_wrong_answer() -> None:
    conclusion = ErrorAgreement().compare(rows(FIRST), rows(SECOND, predicted=[0] * 8 + [1, 2]), ABOUT)
    assert (conclusion["same_mistake"].count, conclusion["same_mistake"].n) == (1, 2)
    other = About("zoo/second", "toys", tuple("efgh"), "others")
    assert (
        "different classes"
        in ErrorAgreement().compare(rows(FIRST), rows(SECOND), (ABOUT[0], other))["same_mistake"].why
    )


def test_accuracy_per_class_by_hand() -> None:
    """Class 3 has one image and no accuracy of its own; the three others correlate perfectly negatively."""
    label = [0, 0, 1, 1, 2, 2, 3]
    one = rows([True, True, True, False, False, False, True], label)
    other = rows([False, False, True, False, True, True, True], label)
    conclusion = ErrorAgreement().compare(one, other, ABOUT)
    measure = conclusion["class_top1"]
    assert measure.value == pytest.approx(-1)
    assert measure.n == 3
    assert "10 classes or fewer" in conclusion["class_top5"].why
    data = panel(conclusion, "per_class").data
    assert [(p["x"], p["y"], p["label"], p["n"]) for p in data["points"]] == [
        (1.0, 0.0, "a", 2),
        (0.5, 0.5, "b", 2),
        (0.0, 1.0, "c", 2),
    ]
    assert data["x"] == "first: top-1 accuracy"
    assert data["diagonal"]
    assert any("1 of 4 classes have fewer than 2 images" in text for text in conclusion.caveats)


def test_top5_is_drawn_where_it_is_known() -> None:
    label = [0, 0, 1, 1, 2, 2]
    one = rows([True] * 3 + [False] * 3, label, right5=[1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    other = rows([True] * 2 + [False] * 4, label, right5=[1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    conclusion = ErrorAgreement().compare(one, other, ABOUT)
    expected = np.corrcoef([0.5, 1, 0], [1, 1, 0.5])[0, 1]
    assert conclusion["class_top5"].value == pytest.approx(expected)
    assert [p["x"] for p in panel(conclusion, "per_class").data["points"]] == [0.5, 1.0, 0.0]
    assert panel(conclusion, "per_class").data["y"] == "second: top-5 accuracy"


def test_one_image_a_class_gives_no_accuracy_per_class() -> None:
    label = [0, 1, 2, 3]
    conclusion = ErrorAgreement().compare(
        rows([True, True, False, False], label), rows([True, False] * 2, label), ABOUT
    )
    for name in ("class_top1", "class_top5"):
        assert conclusion[name].value is None
        assert "fewer than three classes have 2 labeled images" in conclusion[name].why
    assert [p.name for p in conclusion.panels] == ["four"]
    assert any("No class has 2 labeled images" in text for text in conclusion.caveats)
    assert conclusion["kappa"].value == pytest.approx(0.0)


def test_one_classifier_by_hand() -> None:
    label = [0] * 4 + [1] * 2 + [2]
    conclusion = ErrorAgreement().conclude(rows([True, True, True, False, False, False, True], label), ABOUT[0])
    assert conclusion["class_mean"].value == pytest.approx((0.75 + 0 + 1) / 3)
    assert conclusion["class_mean"].n == 3
    assert (conclusion["never_right"].count, conclusion["never_right"].n) == (1, 2)
    assert panel(conclusion, "hardest").data["rows"] == [["b", 0, 2], ["a", 3, 4]]
    assert panel(conclusion, "class_accuracy").data["values"] == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert conclusion.verdict.names == ("mean", "never")
    assert "1 is never right" in conclusion.sentence


def test_with_one_image_a_class_the_mean_is_the_accuracy() -> None:
    conclusion = ErrorAgreement().conclude(rows([True, True, False, True], [0, 1, 2, 3]), ABOUT[0])
    assert conclusion["class_mean"].value == 0.75
    assert conclusion["class_mean"].interval is None
    assert "at least 5 images, not 4" in conclusion["class_mean"].why
    assert conclusion["never_right"].value is None
    assert not conclusion.panels


def test_a_class_mean_varies_by_images_within_classes() -> None:
    """With one image a class nearly Wilson's; classes that differ much do not widen it."""
    one = over_classes(np.array([1.0] * 60 + [0.0] * 40), np.ones(100))[0]
    low, high = wilson(60, 100)
    assert one is not None
    assert one[1] - one[0] == pytest.approx(high - low, rel=0.25)
    apart = over_classes(np.array([0.0, 50.0] * 5), np.full(10, 50.0))[0]
    assert apart is not None
    assert 0 < apart[1] - apart[0] < 0.05


def test_the_class_mean_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    for images in (1, 2, 10):
        rates, held = random.beta(3, 1, 50), 0
        for _ in range(300):
            interval, _ = over_classes(random.binomial(images, rates).astype(float), np.full(50, float(images)))
            assert interval is not None
            held += interval[0] <= rates.mean() <= interval[1]
        assert held >= 0.92 * 300


def test_few_errors_do_not_tell() -> None:
    """Identical errors on 2 of 200: kappa is 1, and nothing is said of it but that."""
    right: list[bool | None] = [False] * 2 + [True] * 198
    conclusion = ErrorAgreement().compare(rows(right), rows(right), ABOUT)
    assert conclusion["kappa"].value == 1
    assert conclusion["kappa"].interval is None
    assert conclusion.verdict.names == ("few",)
    assert "2 errors" in conclusion.sentence


@pytest.mark.parametrize(
    ("p", "q", "cells"), [(0.9, 0.9, (0.81, 0.09, 0.09, 0.01)), (0.9, 0.9, (0.891, 0.009, 0.009, 0.091))]
)
def test_the_interval_of_kappa_covers_the_truth(p: float, q: float, cells: tuple[float, ...]) -> None:
    """Where errors are few and the bootstrap holds it in 66 and 81 % of samples of 100."""
    random, chance = np.random.default_rng(0), p * q + (1 - p) * (1 - q)
    truth, held, all_of = (cells[0] + cells[3] - chance) / (1 - chance), 0, 0
    for _ in range(300):
        drawn = random.choice(4, 100, p=cells)
        interval, _ = error_consistency.kappa_intervals((drawn < 2).tolist(), (drawn % 2 == 0).tolist())
        if interval:
            held, all_of = held + (interval[0] <= truth <= interval[1]), all_of + 1
    assert held / all_of >= 0.92


def test_two_of_the_same_name_are_told_apart() -> None:
    about = (About("zoo/net@a", "toys", CLASSES, "four"), About("zoo/net@b", "toys", CLASSES, "four"))
    columns = panel(ErrorAgreement().compare(rows(FIRST), rows(SECOND), about), "four").data["columns"]
    assert columns == ["images", "zoo/net@b right", "zoo/net@b wrong"]


def test_nothing_in_common() -> None:
    other = rows(SECOND).with_columns(pl.col("id") + "x")
    none = ErrorAgreement().empty
    for first, second in ((rows(FIRST), other), (none, rows(SECOND)), (none, none)):
        conclusion = ErrorAgreement().compare(first, second, ABOUT)
        assert all(m.value is None and m.why for m in conclusion.measures)
        assert "no image has a label that both know" in conclusion.sentence


def test_parameters_out_of_range() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ErrorAgreement(class_images=0)
