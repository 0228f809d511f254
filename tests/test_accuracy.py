"""Accuracy and calibration by hand, and against scikit-learn's way of counting."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.accuracy import Accuracy, _ece
from toys import COLORS, Constant, MeanColor, colored, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def test_known_answers() -> None:
    samples = colored(12)
    labels = [s.label for s in samples]
    rows = Accuracy().observe(toy(MeanColor()), toy(MeanColor()).see(samples, labels))
    assert rows["top1"].all()
    constant = toy(Constant())
    finding = Accuracy().conclude(Accuracy().observe(constant, constant.see(samples, labels)), ABOUT)
    assert (finding["top1"].count, finding["top1"].n) == (4, 12)
    assert finding["top1"].interval == pytest.approx((0.138, 0.609), abs=1e-3)
    assert finding["top5"].value is None
    assert "3 classes" in finding["top5"].why
    confused = next(p for p in finding.panels if p.name == "confused").data["rows"]
    assert confused == [["green", "red", 4, 4], ["blue", "red", 4, 4]]


def test_rank_and_top5_against_topk() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 9, generator=generator)
    labels = torch.randint(0, 9, (40,), generator=generator)

    class Fixed(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return logits[pixels[:, 0, 0, 0].mul(255).round().long()]

    classes = ClassSpace("nine", tuple("abcdefghi"))
    samples = [Sample(str(i), torch.full((3, 4, 4), i, dtype=torch.uint8), framing="stimulus") for i in range(40)]
    classifier = toy(Fixed(), classes, size=4)
    rows = Accuracy().observe(classifier, classifier.see(samples, labels.tolist()))
    expected = (logits.topk(5, 1).indices == labels[:, None]).any(1)
    assert rows["top5"].to_list() == expected.tolist()
    assert rows["top1"].to_list() == (logits.argmax(1) == labels).tolist()


def test_unlabeled_images_do_not_count() -> None:
    samples = colored(6)
    classifier = toy(MeanColor())
    rows = Accuracy().observe(classifier, classifier.see(samples, [0, -1, 2, -1, 1, 2]))
    finding = Accuracy().conclude(rows, ABOUT)
    assert finding["top1"].n == 4
    assert any("2 images without a usable label" in c for c in finding.caveats)


def test_ece_by_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.01, 1, 300)
    right = (generator.random(300) < confidence**2).astype(float)
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.sum() / 300 * abs(right[inside].mean() - confidence[inside].mean())
    assert _ece(confidence, right, 15) == pytest.approx(total, abs=1e-12)


def test_honest_confidence_has_a_small_error_and_an_interval_around_it() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.2, 1, 2000)
    rows = pl.DataFrame(
        {
            "id": [str(i) for i in range(2000)],
            "label": np.zeros(2000, int),
            "predicted": np.zeros(2000, int),
            "confidence": confidence,
            "p_label": confidence,
            "rank": np.zeros(2000, int),
            "top1": generator.random(2000) < confidence,
            "top5": [True] * 2000,
        }
    )
    ece = Accuracy().conclude(rows, ABOUT)["ece"]
    assert ece.value is not None
    assert ece.interval is not None
    assert ece.value < 0.05
    assert ece.interval[0] <= ece.value <= ece.interval[1]


def test_parameters_out_of_range() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Accuracy(bins=0)
