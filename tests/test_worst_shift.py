"""The worst of many shifts: known answers, shifts by parts of a pixel written out, and rings that nest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops import grids
from cuescope.data.ops.shift import larger
from cuescope.instruments.registry import build
from cuescope.instruments.worst_shift import WorstShift
from cuescope.models.aps import adaptive_polyphase
from cuescope.models.seeding import seeded
from toys import COLORS, Constant, MeanColor, OnePixel, answers_shown, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def concluded(module: nn.Module, samples: list[Sample], tool: WorstShift | None = None) -> Conclusion:
    tool, classifier = tool or WorstShift(cyclic=True), toy(module)
    labels = [-1 if sample.label is None else sample.label for sample in samples]
    return tool.conclude(tool.start(classifier).observe(classifier.see(samples, labels)), ABOUT)


def test_whole_cyclic_shifts_are_rolls_and_fractions_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in ((8, 6), (7, 9), (224, 10)):
        x = torch.rand(2, 3, height, width, generator=generator)
        assert torch.equal(grids.cyclic(x, (2, -1)), x.roll((-2, 1), (2, 3)))
        # The same arithmetic for a whole shift, which `cyclic` rolls.
        nearly = grids.cyclic(x, (2 + 1e-9, -1 - 1e-9))
        torch.testing.assert_close(nearly, x.roll((-2, 1), (2, 3)), atol=2e-6, rtol=0)
    odd = torch.rand(1, 1, 9, 15, generator=generator)
    for u in (2, 3, 4):
        moved = odd
        for _ in range(u):
            moved = grids.cyclic(moved, (1 / u, 2 / u))
        torch.testing.assert_close(moved, odd.roll((-1, -2), (2, 3)), atol=2e-6, rtol=0)


def test_fractional_shifts_are_the_authors_interpolation_written_out() -> None:
    """Zeros between the samples, an ideal low pass, a roll, and every u-th sample (Michaeli et al. 2023)."""
    x = torch.rand(1, 2, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for u, down, right in ((2, 1, 1), (3, 1, 2), (4, 3, 1)):
        wide = torch.zeros(1, 2, 12 * u, 16 * u, dtype=torch.float64)
        wide[..., ::u, ::u] = x
        passes = [torch.fft.fftfreq(n * u, 1 / (n * u)).abs() for n in (12, 16)]
        rows, columns = (
            (k < n / 2).double() + 0.5 * (k == n / 2).double() for k, n in zip(passes, (12, 16), strict=True)
        )
        smooth = torch.fft.ifft2(torch.fft.fft2(wide) * rows[:, None] * columns).real * u**2
        expected = smooth.roll((-down, -right), (2, 3))[..., ::u, ::u]
        torch.testing.assert_close(grids.cyclic(x, (down / u, right / u)), expected, atol=1e-9, rtol=0)


def test_the_grids_of_shifts() -> None:
    assert sorted(grids.ring(1) + grids.ring(2) + [(0, 0)]) == [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    assert len(grids.half_ring(1)) == 4
    assert len(grids.half_ring(2)) == 12
    assert {max(abs(y), abs(x)) for y, x in grids.half_ring(2)} == {1.5}
    assert len(set(grids.FRACTIONS)) == 13
    assert all(0 < part < 1 for shift in grids.FRACTIONS for part in shift)


def test_windows_lie_about_the_middle_one() -> None:
    pixels = torch.randint(0, 256, (3, 30, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    how = dataclasses.replace(plain(16), resize=30)
    wide = larger([Sample("a", pixels)], how, 4)
    assert wide.shape == (1, 3, 20, 20)
    assert torch.equal(grids.windows(wide, how.size, 2, (0, 0))[0], pixels[:, 7:23, 12:28])
    assert torch.equal(grids.windows(wide, how.size, 2, (-2, 1))[0], pixels[:, 5:21, 13:29])


class Bright(nn.Module):
    """Class 1 where the pixel one row down and two columns to the right of the middle is bright, else class 0."""

    def forward(self, pixels: Tensor) -> Tensor:
        p = pixels[:, :, 9, 10].mean(1)
        return torch.stack([1 - p, p, torch.zeros_like(p)], 1) * 8


def test_the_nearest_shift_that_changes_the_answer_is_found() -> None:
    """A dot in one place of black images: the shift that brings it to the pixel that counts is known."""
    samples = []
    for i, (row, column) in enumerate([(9, 10), (9, 11), (7, 10), (12, 10), (2, 2)]):
        pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
        pixels[:, row, column] = 255
        samples.append(Sample(f"{i}", pixels, label=0))
    classifier, tool = toy(Bright()), WorstShift(reach_px=2, cyclic=True)
    rows = tool.start(classifier).observe(classifier.see(samples, [0] * 5))
    assert rows["level_cyclic"].to_list() == [1, 1, 2, None, None], "the dot itself leaves, or another comes"
    assert rows["changed_cyclic"].to_list() == [True, True, True, False, False]
    assert rows["robust_cyclic"].to_list() == [False, False, False, True, True]
    said = tool.conclude(rows, ABOUT)
    assert said["changed_cyclic"].value == pytest.approx(0.6)
    assert said["robust_cyclic"].value == pytest.approx(0.4)
    curves = next(panel for panel in said.panels if panel.name == "reach").data["series"]
    whole = next(curve for curve in curves if curve["name"] == "cyclic, whole pixels")
    assert whole["y"] == pytest.approx([0.4, 0.6])


def test_equals_each_shift_asked_alone() -> None:
    board = (torch.arange(20)[:, None] + torch.arange(20)[None]) // 3 % 2 * 255
    samples = [Sample(str(i), (board.roll(i, 1)).byte().expand(3, 20, 20).contiguous(), label=i % 2) for i in range(6)]
    classifier, tool = toy(OnePixel()), WorstShift(reach_px=1, cyclic=True)
    batch = classifier.see(samples, [i % 2 for i in range(6)])
    rows = tool.start(classifier).observe(batch)
    shifts = {"cyclic": grids.ring(1), "half": grids.half_ring(1), "fraction": grids.FRACTIONS}
    base = batch.logits.argmax(1)
    for kind, grid in shifts.items():
        answers = torch.stack([classifier.logits(grids.cyclic(batch.pixels, shift)).argmax(1) for shift in grid])
        assert rows[f"changed_{kind}"].to_list() == (answers != base).any(0).tolist()
        right = (answers == batch.labels).all(0) & (base == batch.labels)
        assert rows[f"robust_{kind}"].to_list() == right.tolist()
    wide = larger(samples, classifier.preprocessing, 2) / 255
    answers = torch.stack(
        [classifier.logits(wide[..., 1 + y : 17 + y, 1 + x : 17 + x]).argmax(1) for y, x in [(0, 0), *grids.ring(1)]]
    )
    assert rows["changed_window"].to_list() == (answers[1:] != answers[0]).any(0).tolist()


def test_what_no_cyclic_shift_moves() -> None:
    mean = concluded(MeanColor(), colored(30))
    for kind in ("cyclic", "half", "fraction"):
        assert mean[f"changed_{kind}"].value == 0
        assert mean[f"robust_{kind}"].value == mean["accuracy"].value == 1
    net = seeded(0, lambda: nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    exact = concluded(adaptive_polyphase(net, example=torch.rand(1, 3, 16, 16)), colored(30))
    assert exact["changed_cyclic"].value == 0, "whole shifts are what it is made for"


def test_a_constant_classifier_is_not_called_stable() -> None:
    said = concluded(Constant(), colored(240))
    assert said.verdict.names == ("blind", "cyclic")
    unlabeled = concluded(MeanColor(), [dataclasses.replace(s, label=None) for s in colored(240)])
    assert unlabeled.verdict.names == ("blind", "cyclic")
    assert unlabeled["robust_window"].why == "no image has a label"


def mapped() -> nn.Module:
    """Eight numbers are the embedding, and the logits are read off them."""
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(8, 3))


def test_the_embedding_is_compared_with_those_of_other_images() -> None:
    """The plain twin: cosines one by one."""
    classifier, tool, samples = toy(seeded(3, mapped)), WorstShift(), colored(5)
    observer = tool.start(classifier)
    assert observer.facts == {"embedding": "what 3 reads", "why": ""}
    rows = observer.observe(classifier.see(samples))
    network, wide = classifier.network, larger(samples, classifier.preprocessing, 2) / 255
    assert isinstance(network, nn.Sequential)

    def embedded(y: int, x: int) -> np.ndarray:
        with torch.no_grad():
            return network[:3](wide[..., 1 + y : 17 + y, 1 + x : 17 + x]).double().numpy()

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    own, lost = embedded(0, 0), []
    for i in range(5):
        least = min(cosine(own[i], embedded(y, x)[i]) for y, x in grids.ring(1))
        assert rows["cosine"][i] == pytest.approx(least, abs=1e-6)
        lost.append(max(cosine(own[i], own[j]) for j in range(5) if j != i) > least)
    said = tool.conclude(rows, dataclasses.replace(ABOUT, facts=observer.facts))
    assert said["embedding_lost"].value == pytest.approx(np.mean(lost))
    assert said["embedding_cosine"].value == pytest.approx(rows["cosine"].mean())
    assert said.verdict.names[-1] == "embedding"
    blind = tool.start(toy(MeanColor()))
    assert "no linear layer" in blind.facts["why"]


def test_it_shows_the_window_with_another_answer() -> None:
    board = (torch.arange(20)[:, None] + torch.arange(20)[None]) // 2 % 2 * 255
    samples = [Sample(str(i), board.byte().expand(3, 20, 20).contiguous()) for i in range(6)]
    classifier, tool = toy(OnePixel()), WorstShift()
    rows = tool.start(classifier).observe(classifier.see(samples))
    chosen = tool.examples(rows)
    assert len(chosen) == 4
    batch = classifier.see([samples[int(i)] for i in chosen])
    (panel,) = tool.illustrate(classifier, batch, tool.rows_to_show(rows, chosen))
    assert len(panel.figures) == 8
    for first, second, before, after in answers_shown(classifier, panel):
        assert first != second
        assert before.startswith(first)
        assert after.endswith(second)


def test_cyclic_shifts_are_asked_for() -> None:
    """By default nine passes an image, and nothing is said of the others."""
    said = concluded(MeanColor(), colored(30), WorstShift())
    every = concluded(MeanColor(), colored(30))
    assert [m for m in every.measures if m.name in [n.name for n in said.measures]] == list(said.measures)
    assert {m.name for m in said.measures if "_" in m.name} == {
        *("changed_window", "robust_window", "embedding_lost", "embedding_cosine")
    }
    assert "cyclic" not in said.verdict.names


def test_parameters_in_range() -> None:
    for setting in ("images", "reach_px"):
        with pytest.raises(CueError, match="at least 1"):
            build("worst_shift", {setting: "0"})
