"""Few images of each class: which are learned from, which are told, and what the draws vary by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cuescope.core.findings import About
from cuescope.instruments.few_shot import FewShot
from cuescope.methods import few_shot
from cuescope.methods.few_shot import accuracy, told, usable
from cuescope.methods.linear_probe import fit
from cuescope.methods.probing import PENALTIES, standardized


def seen(monkeypatch: pytest.MonkeyPatch, x: torch.Tensor, classes: np.ndarray, count: int) -> list[set[float]]:
    """The images that a draw learns from, by the first of their features."""
    asked: list[set[float]] = []
    read = few_shot._read

    def noting(own: torch.Tensor, y: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.extend({round(v, 3) for v in one[:, 0].tolist()} for one in own)
        return read(own, y, count)

    monkeypatch.setattr(few_shot, "_read", noting)
    told(x, classes, count, draws=3)
    monkeypatch.undo()
    return asked


def test_a_draw_of_more_holds_those_of_fewer_and_tells_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.arange(30) % 3
    x = torch.arange(30.0)[:, None]
    two, five = (seen(monkeypatch, x, classes, n) for n in (2, 5))
    right = told(x, classes, 5, draws=3)
    for draw in range(3):
        assert two[draw] < five[draw]
        assert len(five[draw]) == 15
        assert np.isnan(right[draw, [int(i) for i in five[draw]]]).all(), "what was learned from is not told"
        assert np.isfinite(right[draw]).sum() == 15
    assert five[0] != five[1]


def test_at_most_so_many_of_a_class_are_told() -> None:
    right = told(torch.zeros(200, 1), np.arange(200) % 2, 1, draws=2)
    assert np.isfinite(right).sum(1).tolist() == [100, 100]


def test_the_smallest_class_ends_the_curve() -> None:
    assert usable(np.array([0] * 9 + [1] * 6), (1, 5, 6, 10)) == [1, 5]


@pytest.mark.parametrize("width", [3, 40])
def test_fewer_numbers_give_the_weights_of_all(width: int) -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 5)
    x = standardized(random.normal(size=(4, width))[classes] + random.normal(size=(20, width)))[None]
    few, back = few_shot._few(x)
    assert (few.shape[2], back is None) == (min(x.shape[2], 20), x.shape[2] <= 20)
    problem = torch.from_numpy(classes)[None], torch.ones(1, 20), torch.tensor([0.1]), 4
    whole, made = fit(x, *problem), fit(few, *problem)
    weights = made.weights if back is None else made.weights @ back.transpose(1, 2)
    assert torch.allclose(weights, whole.weights, atol=1e-2)


def test_penalties_that_do_alike_leave_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    fit = few_shot.fit
    monkeypatch.setattr(few_shot, "fit", lambda *a: asked.append(a[3]) or fit(*a))
    x = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]])
    few_shot._read(x[None], torch.tensor([[0, 0, 1, 1]]), 2)
    assert asked[-1].tolist() == [max(PENALTIES)]


def test_an_interval_holds_the_spread_of_the_draws() -> None:
    classes = np.arange(400) % 2
    same, draws = np.ones((4, 400)), np.ones((4, 400))
    same[:, :100] = 0
    draws[0], draws[1, :] = 0, 1
    one, other = accuracy("a", same, classes), accuracy("a", draws, classes)
    assert (one.value, other.value) == pytest.approx((0.75, 0.75))
    assert one.interval is not None
    assert other.interval is not None
    assert other.interval[0] < 0.1 < 0.65 < one.interval[0]


def test_classes_count_alike() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    right = np.ones((2, 100))
    right[:, classes == 1] = 0
    assert accuracy("a", right, classes).value == pytest.approx(0.5)


def test_what_was_published_stands_beside_where_the_images_are_those() -> None:
    tool = FewShot(counts=(5, 15, 30), draws=2, control=False, beside="caltech101")
    labels = np.arange(80) % 2
    rows = tool.table(
        {"id": [str(i) for i in range(80)], "label": labels, "features": labels[:, None].astype(np.float32)}
    )
    facts = {"layers": [{"name": "last", "depth": 1.0, "features": 1, "kept": 1}]}
    facts |= {"pace": {"ms": 1.0, "parameters": None, "device": "cpu"}}
    said = tool.conclude(rows, About("net", "images", ("a", "b"), facts=facts))
    assert [p.value for p in said["accuracy"].published] == [0.865, 0.465, 0.814, 0.843]
    assert len(said["at_15"].published) == 3
    assert said["at_5"].published == ()
    marks = next(panel for panel in said.panels if panel.name == "by_count").data["marks"]
    assert marks[0]["y"] == [0.838, 0.865]
    assert [mark["who"] for mark in marks if len(mark["x"]) == 1] == ["Bo et al. 2013"]
