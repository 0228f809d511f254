"""Correlation of logits against plain loops, and where there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from cuescope.core import stats
from cuescope.core.findings import About
from cuescope.core.intervals import student
from cuescope.instruments.base import Misfit
from cuescope.instruments.logit_correlation import LogitCorrelation
from cuescope.methods.logit_correlations import correlations, intervals

CLASSES = tuple("abc")
ABOUT = (About("one", "toys", CLASSES, "three"), About("other", "toys", CLASSES, "three"))
IMAGENET = tuple(f"class {i}" for i in range(3))


def rows(logits: np.ndarray) -> pl.DataFrame:
    ids = [f"{i:03d}" for i in range(len(logits))]
    data = {"id": ids, "label": [None] * len(ids), "logits": logits.astype(np.float32).tolist()}
    return pl.DataFrame(data, schema=dict(LogitCorrelation.columns))


def made(n: int = 60, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 2, (n, k)).astype(np.float32) + np.arange(k)
    return x, x * 0.5 + generator.normal(0, 1, (n, k)).astype(np.float32) - np.arange(k)


@pytest.mark.parametrize("raw", [True, False])
def test_both_ways_against_plain_loops(raw: bool) -> None:
    x, y = made()
    conclusion = LogitCorrelation(raw=raw).compare(rows(x), rows(y), ABOUT)
    if not raw:
        x, y = (part - part.mean(1, keepdims=True) for part in (x, y))
    by_class = [np.corrcoef(x[:, c], y[:, c])[0, 1] for c in range(3)]
    assert conclusion["averaged"].value == pytest.approx(np.mean(by_class), abs=1e-5)
    assert conclusion["flattened"].value == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-5)
    assert conclusion["averaged"].n == 60
    table = next(p for p in conclusion.panels if p.kind == "table").data["rows"]
    assert [row[:2] for row in table] == [
        ["most alike", CLASSES[int(np.argmax(by_class))]],
        ["least alike", CLASSES[int(np.argmin(by_class))]],
    ]
    bars = next(p for p in conclusion.panels if p.kind == "bars").data
    assert sum(bars["values"]) == 3
    assert (bars["edges"][0], bars["edges"][-1]) == (-1.0, 1.0)


def test_the_same_and_the_opposite() -> None:
    x, _ = made()
    assert LogitCorrelation().compare(rows(x), rows(3 * x + 5), ABOUT)["averaged"].value == pytest.approx(1)
    assert LogitCorrelation().compare(rows(x), rows(-x), ABOUT)["averaged"].value == pytest.approx(-1)


def test_images_are_matched_by_name() -> None:
    x, y = made()
    straight = LogitCorrelation().compare(rows(x), rows(y), ABOUT)
    shuffled = rows(y).sample(fraction=1.0, shuffle=True, seed=1).vstack(rows(y).head(1).with_columns(id=pl.lit("new")))
    conclusion = LogitCorrelation().compare(rows(x), shuffled, ABOUT)
    assert conclusion["averaged"] == straight["averaged"]


def test_a_class_that_never_changes_is_left_out_and_counted() -> None:
    x, y = made()
    y[:, 1] = 1000.1
    conclusion = LogitCorrelation(raw=True).compare(rows(x), rows(y), ABOUT)
    assert np.isnan(correlations(x, y)).tolist() == [False, True, False]
    assert conclusion["averaged"].value == pytest.approx(np.mean([np.corrcoef(x[:, c], y[:, c])[0, 1] for c in (0, 2)]))
    assert any("1 of 3 classes have a logit that never changes" in text for text in conclusion.caveats)
    y[:] = 2.0
    conclusion = LogitCorrelation(raw=True).compare(rows(x), rows(y), ABOUT)
    assert conclusion["averaged"].value is None
    assert "no class has logits that change" in conclusion["averaged"].why
    assert conclusion.verdict.names == ("not_measured",)


def test_intervals_are_those_of_leaving_out_one_image() -> None:
    """Twin: leave out images one by one and correlate again. 300 classes take more than one block."""
    x, y = (part.astype(float) for part in made(20, 300))
    rest = [[k for k in range(20) if k != i] for i in range(20)]
    slow = [np.arctanh(correlations(x[keep], y[keep]).mean()) for keep in rest]
    flat = [np.arctanh(np.corrcoef(x[keep].ravel(), y[keep].ravel())[0, 1]) for keep in rest]
    for found, z, value in zip(
        intervals(x, y),
        (slow, flat),
        (correlations(x, y).mean(), np.corrcoef(x.ravel(), y.ravel())[0, 1]),
        strict=True,
    ):
        half = student(19) * np.sqrt(19 * np.var(z))
        assert found == pytest.approx(np.tanh(np.arctanh(value) + half * np.array([-1, 1])), abs=1e-6)


def test_of_one_class_the_interval_is_that_of_its_correlation() -> None:
    x, y = (part.astype(float) for part in made(30, 1))
    assert intervals(x, y)[0] == pytest.approx(stats.pearson(x[:, 0], y[:, 0])[1], abs=1e-6)


def test_other_classes_are_not_compared() -> None:
    x, y = made()
    for other in (About("o", "toys", tuple("abd"), "three"), About("o", "toys", CLASSES, "elsewhere")):
        with pytest.raises(Misfit, match="different classes"):
            LogitCorrelation().compare(rows(x), rows(y), (ABOUT[0], other))
    with pytest.raises(Misfit, match="different classes"):
        LogitCorrelation().compare(rows(x), rows(np.ones((60, 4))), ABOUT)


@pytest.mark.parametrize(
    ("one", "other", "space", "value"),
    [
        ("cuescope/bagnet33@w.pth", "torchvision/vgg16@v.pth", "imagenet-1k", 0.88),
        ("timm/vgg16.tv_in1k", "cuescope/bagnet9", "imagenet-1k", 0.70),
        ("cuescope/bagnet17", "torchvision/vgg16", "imagenet-1k", 0.79),
        ("cuescope/bagnet33", "torchvision/vgg16", "mine", None),
        ("cuescope/bagnet33", "torchvision/vgg16_bn", "imagenet-1k", None),
        ("cuescope/bagnet33", "timm/resnet50", "imagenet-1k", None),
        ("torchvision/squeezenet1_1", "torchvision/mobilenet_v2", "imagenet-1k", None),
    ],
)
def test_published_beside_those_networks_alone(one: str, other: str, space: str, value: float | None) -> None:
    about = (About(one, "toys", IMAGENET, space), About(other, "toys", IMAGENET, space))
    x, y = made()
    measure = LogitCorrelation(raw=True).compare(rows(x), rows(y), about)["averaged"]
    assert [p.value for p in measure.published] == ([value] if value else [])
    assert not LogitCorrelation().compare(rows(x), rows(y), about)["averaged"].published


def test_what_is_added_to_all_logits_of_an_image_changes_nothing() -> None:
    x, y = made()
    plain = LogitCorrelation().compare(rows(x), rows(y), ABOUT)
    brighter = x + np.random.default_rng(1).normal(0, 30, (60, 1))
    for other in (x + 5, brighter):
        found = LogitCorrelation().compare(rows(other), rows(y), ABOUT)
        for name in ("averaged", "flattened"):
            assert found[name].value == pytest.approx(plain[name].value, abs=1e-5)
    raw = LogitCorrelation(raw=True).compare(rows(brighter), rows(x), ABOUT)["averaged"].value
    assert raw is not None
    assert raw < 0.3, "raw logits do not even correlate with their own"
    assert LogitCorrelation().compare(rows(brighter), rows(x), ABOUT)["averaged"].value == pytest.approx(1)


def test_too_few_images() -> None:
    x, y = made(2)
    none = LogitCorrelation().empty
    conclusion = LogitCorrelation().compare(rows(x), rows(y), ABOUT)
    assert conclusion["averaged"].why == "fewer than three images"
    for first, second in ((none, rows(y)), (none, none)):
        conclusion = LogitCorrelation().compare(first, second, ABOUT)
        assert conclusion.sentence
        assert all(m.value is None for m in conclusion.measures)


def test_margin_by_hand() -> None:
    conclusion = LogitCorrelation().conclude(rows(np.array([[1.0, 4.0, 2.0], [0.0, 0.0, -3.0]])), ABOUT[0])
    assert conclusion["margin"].value == pytest.approx(1.0)
    assert conclusion["margin"].n == 2
    one = LogitCorrelation().conclude(rows(np.ones((2, 1))), ABOUT[0])
    assert one["margin"].why == "there is only one class"


def test_parameters_out_of_range() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LogitCorrelation(images=0)
