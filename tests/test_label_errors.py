"""Confident learning beside known joints and rates, its twin by plain loops, and the types that are suspected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from cuescope.core.classes import IMAGENET, ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.instruments.label_errors import KEPT, LabelErrors
from cuescope.methods.confident_learning import Logits, Probabilities, calibrated, expected, learn
from cuescope.methods.label_error_types import TYPES, odds_away, synonyms_of, types_of
from toys import OnePixel, colored, toy

Array = np.ndarray[Any, Any]


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def gaussians(separation: float, n: int = 4000, seed: int = 0) -> tuple[Array, Array]:
    """Labels and exact log posteriors of four classes, on the corners of a square, with unit variance."""
    random = np.random.default_rng(seed)
    means = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * separation
    labels = random.integers(0, 4, n)
    points = means[labels] + random.normal(size=(n, 2))
    return labels, -((points[:, None] - means) ** 2).sum(2) / 2


def flipped(labels: Array, share: float, classes: int = 4, seed: int = 1) -> Array:
    random = np.random.default_rng(seed)
    return np.where(
        random.random(len(labels)) < share, (labels + random.integers(1, classes, len(labels))) % classes, labels
    )


def plain_learn(p: Array, labels: Array) -> tuple[Array, list[int]]:
    """The joint and the flags, image by image and pair by pair."""
    n, classes = p.shape
    counts = [sum(labels == k) for k in range(classes)]
    thresholds = [max(p[labels == k, k].mean(), 2e-6) if counts[k] else 2.0 for k in range(classes)]
    joint = np.zeros((classes, classes))
    for i in range(n):
        passing = [k for k in range(classes) if p[i, k] >= thresholds[k] - 1e-6]
        if passing:
            joint[labels[i], passing[0] if len(passing) == 1 else int(p[i].argmax())] += 1
    for k in range(classes):
        if counts[k]:
            joint[k, k] = max(joint[k, k], 1)
            joint[k] *= counts[k] / joint[k].sum()
    flags, best = [-1] * n, [-math.inf] * n
    for j in range(classes):
        whole = np.floor(joint[j] + 1e-9)
        order = sorted(range(classes), key=lambda k: (whole[k] - joint[j, k], -k))
        for k in order[: round(joint[j].sum() - whole.sum())]:
            whole[k] += 1
        for k in range(classes):
            margins = sorted((p[i, j] - p[i, k], i) for i in range(n) if labels[i] == j)
            for margin, i in margins[: int(whole[k])] if j != k and counts[j] > 1 else []:
                if -margin > best[i]:
                    flags[i], best[i] = k, -margin
    return joint / n, flags


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_it_is_that_of_plain_loops(share: float) -> None:
    labels, logits = gaussians(1.2, 150)
    labels, p = flipped(labels, share), softmax(logits)
    found = learn(Probabilities.of(p), labels)
    joint, flags = plain_learn(p, labels)
    dense = np.zeros((4, 4))
    dense[found.given, found.true] = found.joint
    assert dense == pytest.approx(joint)
    assert found.flagged.tolist() == flags
    assert found.noise == pytest.approx(joint.sum() - joint.trace())
    assert dense.sum(1) == pytest.approx(np.bincount(labels, minlength=4) / 150)


def test_the_joint_of_flips_that_depend_on_the_class() -> None:
    """20 % of class 0 are labeled 1, and 5 % of class 1 are labeled 0."""
    random, wanted = np.random.default_rng(0), np.array([[0.4040, 0.0278], [0.1020, 0.4662]])
    times = (10_000 * wanted).round().astype(int).ravel()
    labels, true = (np.repeat(which, times) for which in ([0, 0, 1, 1], [0, 1, 0, 1]))
    p = softmax(8 * np.eye(2)[true] + random.normal(size=(10_000, 2)))
    found = learn(Probabilities.of(p), labels)
    dense = np.zeros((2, 2))
    dense[found.given, found.true] = found.joint
    assert dense == pytest.approx(wanted, abs=5e-4)


@pytest.mark.parametrize(
    ("separation", "accuracy", "floor", "noise", "recall", "precision"),
    [
        (2.807, 0.995, 0.0003, 0.100, 0.98, 0.99),
        (1.824, 0.933, 0.012, 0.116, 0.94, 0.80),
        (1.404, 0.846, 0.059, 0.171, 0.92, 0.55),
    ],
)
def test_overlapping_classes_are_flagged_without_any_error(
    separation: float, accuracy: float, floor: float, noise: float, recall: float, precision: float
) -> None:
    """The known rates of four Gaussian classes with exact posteriors, without noise and with 10 % uniform flips."""
    seen = []
    for seed in range(3):
        labels, logits = gaussians(separation, seed=seed)
        p = Probabilities.of(softmax(logits))
        noisy = flipped(labels, 0.1)
        wrong, found = noisy != labels, learn(p, noisy)
        flagged = found.flagged >= 0
        share = (learn(p, labels).flagged >= 0).mean()
        seen.append(
            [(logits.argmax(1) == labels).mean(), share, found.noise, flagged[wrong].mean(), wrong[flagged].mean()]
        )
        assert share == pytest.approx(expected(p).mean(), abs=0.008), "what is expected is what is seen"
    assert np.mean(seen, 0) == pytest.approx([accuracy, floor, noise, recall, precision], abs=0.015, rel=0.05)


def test_scaled_logits_are_calibrated_back() -> None:
    labels, logits = gaussians(1.6)
    noisy = flipped(labels, 0.1)
    found = [calibrated(Logits.of(logits * size, 4), noisy) for size in (1, 8, 0.125)]
    assert [temperature / size for (temperature, _), size in zip(found, (1, 8, 0.125), strict=True)] == pytest.approx(
        [found[0][0]] * 3, rel=1e-6
    )
    assert found[0][0] == pytest.approx(1, abs=0.1)
    assert found[0][1] == pytest.approx(0.1 * 4 / 3, abs=0.03)


def test_of_many_classes_the_largest_logits_are_enough() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 60, 900)
    logits = random.normal(size=(900, 60)) + 5 * np.eye(60)[labels]
    noisy = flipped(labels, 0.1, 60)
    kept, whole = Logits.of(logits, 20), Logits.of(logits, 60)
    p = softmax(logits)
    every = np.stack([kept.at(1.0).of_class(np.full(900, k)) for k in range(60)], 1)
    assert every.sum(1) == pytest.approx(1)
    assert np.take_along_axis(every, kept.classes, 1) == pytest.approx(np.take_along_axis(p, kept.classes, 1))
    few, all_ = learn(kept.at(1.0), noisy), learn(whole.at(1.0), noisy)
    assert (few.flagged == all_.flagged).mean() > 0.98
    assert few.noise == pytest.approx(all_.noise, abs=0.005)
    drawn = kept.at(1.0).drawn(np.random.default_rng(1))
    assert (drawn == labels).mean() == pytest.approx(p[np.arange(900), labels].mean(), abs=0.03)


def test_a_class_without_labels_is_never_the_one() -> None:
    found = learn(Probabilities.of(np.array([[0.5, 0.3, 0.2]] * 6)), np.array([0, 0, 0, 1, 1, 1]))
    assert found.thresholds.tolist() == [0.5, 0.3, 2.0]
    assert 2 not in found.true


def test_types_of_flagged_labels() -> None:
    """One image of each type: a known synonym, another object elsewhere, two that are as likely, a plain error."""
    labels = np.array([0, 0, 0, 0, *[0] * 20, *[1] * 20, *[2] * 20])
    p = np.zeros((64, 3))
    p[4:] = 0.02 + 0.94 * np.eye(3)[labels[4:]]
    p[0], p[1], p[2], p[3] = (0.05, 0.05, 0.9), (0.05, 0.9, 0.05), (0.1, 0.47, 0.43), (0.02, 0.96, 0.02)
    probabilities = Probabilities.of(p)
    learned = learn(probabilities, labels)._replace(flagged=np.array([2, 1, 1, 1, *[-1] * 60]))
    away = np.full((64, 3), np.nan)
    away[1] = (0.2, 0.99, 0.1)
    types = types_of(probabilities, labels, learned, away, synonyms_of("0>2"))
    assert [TYPES[i] for i in types[:4]] == ["synonyms", "several_objects", "ambiguous", "plain_error"]
    assert set(types[4:]) == {-1}


def test_two_classes_that_mean_the_same_are_found() -> None:
    """Their labels are by chance; a third class is told well, and ten labels of it are plainly wrong."""
    random = np.random.default_rng(0)
    labels = np.array([0] * 200 + [1] * 200 + [2] * 200)
    logits = random.normal(size=(600, 3)) + 6 * np.eye(3)[np.where(labels == 2, 2, 0)]
    logits[:400, 1] = logits[:400, 0] + random.normal(size=400)
    labels[590:] = 0
    p = Probabilities.of(softmax(logits))
    learned = learn(p, labels)
    types = types_of(p, labels, learned, np.full((600, 3), np.nan), ())
    assert {TYPES[i] for i in types[:400] if i >= 0} == {"synonyms"}
    assert sum(TYPES[i] == "plain_error" for i in types[590:]) >= 7


def test_another_object_is_one_away_from_the_answer() -> None:
    maps = torch.zeros(1, 3, 6, 6)
    maps[0, 0, 0, 0], maps[0, 1, 1, 1], maps[0, 2, 5, 5] = 9, 8, 7
    odds = odds_away(maps, torch.tensor([[0, 1, 2]]))
    near, far = math.log(1 / 2), 7 - math.log(2)
    assert odds[0].tolist() == pytest.approx([near, near, far], abs=1e-6)


def test_synonyms_are_pairs_of_indices() -> None:
    assert synonyms_of("") == frozenset()
    assert synonyms_of("1=2=3") == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
    for wrong in ("1", "a>b", "1>2>3"):
        with pytest.raises(CueError, match="pairs of class indices"):
            LabelErrors(synonyms=wrong)
    for wrong in ({"least_images": 1}, {"listed": -1}, {"shown": 13}):
        with pytest.raises(ValueError, match="must be"):
            LabelErrors(**wrong)


def asked(labels: Array, logits: Array, tool: LabelErrors | None = None, space: str = "letters") -> Conclusion:
    tool, classes = tool or LabelErrors(), logits.shape[1]
    values, at = torch.from_numpy(logits).double().topk(min(KEPT, classes), 1)
    given = {"id": [f"{i:04d}" for i in range(len(labels))], "label": labels, "predicted": logits.argmax(1)}
    given |= {"margin": logits[np.arange(len(labels)), labels] - logits.max(1), "rest": [-math.inf] * len(labels)}
    given |= {"classes": at.tolist(), "values": (values - values[:, :1]).tolist()}
    return tool.conclude(tool.table(given), About("toy", "toys", tuple(map(str, range(classes))), space))


def test_the_numbers_and_the_list() -> None:
    labels, logits = gaussians(2.8, 400)
    noisy = flipped(labels, 0.1)
    found = asked(noisy, logits, LabelErrors(listed=5))
    wrong = np.flatnonzero(noisy != labels)
    assert found["flagged"].count == pytest.approx(len(wrong), abs=3)
    assert found["excess"].value == pytest.approx(found["flagged"].value - found["expected"].value)
    assert found["noise"].value == pytest.approx(len(wrong) / 400, abs=0.01)
    assert sum(found[kind].count for kind in TYPES) == found["flagged"].count
    assert found["plain_error"].value > 0.8
    (panel,) = found.panels
    assert len(panel.data["rows"]) == 5
    for labeled, own, said, other, kind, name in panel.data["rows"]:
        assert int(name) in wrong
        assert (labeled, said) == (str(noisy[int(name)]), str(labels[int(name)]))
        assert own < 0.1 < 0.8 < other
        assert kind == "plain error"
    assert "The first 5 of" in panel.caption
    assert any("trained on these images" in caveat for caveat in found.caveats)


def test_classes_with_few_images_are_left_out() -> None:
    labels, logits = gaussians(2.8, 90)
    labels[labels == 3] = 0
    labels[:4] = 3
    found = asked(labels, logits)
    assert found["flagged"].n == 86
    assert "4 images of classes with fewer than 5 are left out." in found.caveats
    none = asked(labels[:4], logits[:4])
    assert none["flagged"].why == "no class has 5 labeled images"
    assert none.verdict.names == ("nothing",)


def test_imagenets_synonyms_are_for_imagenet_alone() -> None:
    assert not any("Vasudevan" in caveat for caveat in asked(*gaussians(2.8, 90)).caveats)
    assert any("Vasudevan" in caveat for caveat in asked(*gaussians(2.8, 90), space=IMAGENET).caveats)


class Patches(nn.Module):
    """Three classes by the color of each place, averaged: it has a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1, bias=False)
        self.body.weight.data = 9 * torch.eye(3).view(3, 3, 1, 1)
        self.pool, self.flat, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False)
        self.fc.weight.data = torch.eye(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.fc(self.flat(self.pool(self.body(pixels))))


def test_only_contradicted_labels_are_looked_at_part_by_part() -> None:
    classifier, tool = toy(Patches()), LabelErrors()
    samples = colored(3)
    observer = tool.start(classifier)
    assert observer.facts == {"parts": True}
    batch = classifier.see(samples, [0, 0, -1])
    rows = observer.observe(batch)
    assert rows["away"].is_null().to_list() == [True, False, True]
    assert rows["label"].to_list() == [0, 0, None]
    values, logits = rows["values"].to_list()[1], batch.logits[1].double()
    assert values == pytest.approx(sorted((logits - logits.max()).tolist(), reverse=True))
    assert rows["margin"][1] == pytest.approx(float(logits[0] - logits.max()))
    assert tool.examples(rows) == ["0001.png"]
    (panel,) = tool.illustrate(classifier, batch, rows)
    assert panel.figures[0].caption == "labeled red; it says green"
    assert tool.start(toy(OnePixel())).facts == {"parts": False}


def test_a_thousand_classes_keep_few_logits() -> None:
    space = ClassSpace("many", tuple(map(str, range(100))))

    class Wide(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3)) @ torch.linspace(-9, 9, 300).view(3, 100)

    classifier = toy(Wide(), space)
    batch = classifier.see(colored(2), [0, 1])
    rows = LabelErrors().start(classifier).observe(batch)
    kept, logits = rows["classes"].to_list()[0], batch.logits[0].double()
    assert len(kept) == KEPT
    total = (logits - logits.max()).exp().sum()
    stored = np.exp(rows["values"].to_list()[0]).sum() + (100 - KEPT) * math.exp(rows["rest"][0])
    assert stored == pytest.approx(float(total))
    assert rows.schema == pl.Schema(LabelErrors.columns)


@pytest.mark.extra
@pytest.mark.parametrize("classes", [3, 7, 16])
def test_it_flags_what_cleanlab_flags(classes: int) -> None:
    """Counts are rounded so that rows keep their sums: which of equal remainders goes up is each one's own choice."""
    pytest.importorskip("cleanlab")
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues

    random, n = np.random.default_rng(classes), 600
    true = random.integers(0, classes, n)
    labels = np.where(random.random(n) < 0.15, random.integers(0, classes, n), true)
    logits = random.normal(0, 1, (n, classes))
    logits[np.arange(n), true] += 2.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = learn(Probabilities.of(p), labels)
    joint = np.zeros((classes, classes))
    joint[found.given, found.true] = found.joint
    assert np.allclose(joint, estimate_joint(labels, p), atol=1 / n)
    theirs = find_label_issues(
        labels, p, filter_by="prune_by_noise_rate", n_jobs=1, min_examples_per_class=1, verbose=False
    )
    mine = found.flagged >= 0
    assert (mine & theirs).sum() > 0.9 * (mine | theirs).sum() > 40
