"""Visual words: counted right, weighed right, and shown as the very patches they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About
from cuescope.data.images import Batch, Sample
from cuescope.instruments import registry
from cuescope.instruments.visual_words import VisualWords, _places
from cuescope.world.images import CLASSES, WorldImages
from toys import COLORS, MeanColor, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name, {"vocabulary": 5})
LOGITS = torch.tensor([[6.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
"""Of each word for red, green and blue: the word 3 speaks for none."""


class Words(torch.nn.Module):
    """Each patch of 4 x 4 px is one of five words: 0 red, 1 green, 2 blue, 3 black; 4 never occurs."""

    receptive_field_px = 4
    stride_px = 4
    vocabulary = 5

    def words(self, x: Tensor) -> Tensor:
        colors = x[:, :, ::4, ::4]
        return colors.argmax(1).where(colors.sum(1) > 0, 3)

    def patch_logits(self, x: Tensor) -> Tensor:
        return LOGITS[self.words(x)].permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch_logits(x).mean((2, 3))


def sample(name: str, words: list[int], label: int | None = 0) -> Sample:
    """16 patches; a word's channel is bright."""
    tiles = torch.zeros(3, 4, 4, dtype=torch.uint8)
    for place, word in enumerate(words):
        if word < 3:
            tiles[word, place // 4, place % 4] = 200 + place
    return Sample(name, tiles.repeat_interleave(4, 1).repeat_interleave(4, 2), label=label, framing="stimulus")


def classifier(module: torch.nn.Module | None = None) -> Classifier:
    return Classifier((module or Words()).eval(), classes=COLORS, preprocessing=plain(16), name="words")


SAMPLES = [
    sample("a", [0] * 8 + [1] * 4 + [3] * 4),
    sample("b", [0] * 2 + [2] * 14, label=2),
    sample("c", [3] * 16, label=None),
]


def seen() -> tuple[Classifier, Batch, pl.DataFrame]:
    one = classifier()
    batch = one.see(SAMPLES, [0, 2, -1])
    return one, batch, VisualWords(top=1).observe(one, batch)


def test_words_are_counted_and_weighed() -> None:
    a, b, c = seen()[2].iter_rows(named=True)
    assert (a["words"], a["counts"], a["speaks_for"]) == ([0, 1, 3], [8, 4, 4], [0, 1, None])
    # Red: 6 less the mean 2 of the three classes; green says 0 for red, less its mean 1; black says nothing.
    assert a["evidence"] == pytest.approx([4, -1, 0])
    assert a["sum"] == pytest.approx((8 * 4 - 4) / 16)
    assert a["entropy"] == pytest.approx(math.log(2) / 2 + math.log(4) / 2)
    assert (a["top_part"], a["even_part"]) == (pytest.approx(1), 1)
    assert (b["target"], b["evidence"]) == (2, pytest.approx([-2, 2]))
    assert (c["words"], c["entropy"], c["top_part"]) == ([3], pytest.approx(0), None)


def test_the_strongest_words_part() -> None:
    class Two(Words):
        """Green speaks for red, too."""

        def patch_logits(self, x: Tensor) -> Tensor:
            logits = LOGITS.clone()
            logits[1] = torch.tensor([3.0, 0.0, 0.0])
            return logits[self.words(x)].permute(0, 3, 1, 2)

    one = classifier(Two())
    batch = one.see(SAMPLES[:1], [0])
    # Red 8 patches of 4, green 4 patches of 2.
    rows = VisualWords(top=1).observe(one, batch)
    assert (rows["top_part"].item(), rows["even_part"].item()) == (pytest.approx(32 / 40), 0.5)
    assert VisualWords(top=2).observe(one, batch)["top_part"].item() == pytest.approx(1)


def test_the_finding() -> None:
    rows = seen()[2]
    conclusion = VisualWords(top=1).conclude(rows, ABOUT)
    used = conclusion["words_in_use"]
    assert (used.value, used.count, used.n) == (pytest.approx(0.8), 4, 5)
    assert conclusion["entropy"].value == pytest.approx(rows["entropy"].mean())
    assert conclusion["top_words"].n == 2
    assert conclusion.verdict.names == ("consists", "strongest", "occur")
    assert conclusion["top_words"].chance == pytest.approx(1)
    cells = conclusion.panels[0].data["rows"]
    assert [row[:3] for row in cells] == [
        ["red", 2, "word 0: +4.0 in 25.0% of patches"],
        ["blue", 1, "word 2: +2.0 in 87.5% of patches"],
    ]


def test_what_is_added_to_all_logits_of_a_patch_says_nothing() -> None:
    class Brighter(Words):
        def patch_logits(self, x: Tensor) -> Tensor:
            return super().patch_logits(x) + 3 + 5 * x[:, :, ::4, ::4].sum(1, keepdim=True)

    found = []
    for module in (Words(), Brighter()):
        one = classifier(module)
        rows = VisualWords(top=1).observe(one, one.see(SAMPLES, [0, 2, -1]))
        numbers = rows.explode("evidence").select("evidence", "sum", "top_part", "even_part")
        found.append(numbers.fill_null(-1).to_numpy())
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_words_of_one_image_are_told() -> None:
    one = classifier()
    rows = VisualWords().observe(one, one.see(SAMPLES[:1], [0]))
    conclusion = VisualWords().conclude(rows, ABOUT)
    assert conclusion["top_words"].value == pytest.approx(1)
    assert "1 image)" in conclusion.sentence


def test_a_network_that_does_not_tell_its_vocabulary() -> None:
    module = Words()
    module.vocabulary = None  # type: ignore[assignment]
    one = classifier(module)
    observer = VisualWords().start(one)
    about = replace(ABOUT, facts=observer.facts)
    conclusion = VisualWords().conclude(observer.observe(one.see(SAMPLES, [0, 2, -1])), about)
    assert conclusion["words_in_use"].value is None
    assert "does not say how many words" in conclusion["words_in_use"].why


def test_the_patches_shown_are_those_of_the_word() -> None:
    one, batch, rows = seen()
    (panel,) = VisualWords(shown=2).illustrate(one, batch, rows)
    assert [figure.caption.partition(":")[0] for figure in panel.figures] == ["word 0, for red", "word 2, for blue"]
    assert "10 patches in 2 of 3 images" in panel.figures[0].caption
    pixels = panel.figures[0].pixels
    assert pixels is not None
    assert pixels.shape == (48, 12 * 52, 3), "of any number of patches as wide"
    assert (pixels[:, 10 * 52 :] == 255).all()
    # One of each image, then the second of each; then what is left of the first image.
    bright = [200, 200, 201, 201, 202, 203, 204, 205, 206, 207]
    assert [int(pixels[0, 52 * k, 0]) for k in range(10)] == bright
    assert np.unique(pixels[:, :48, 0]).tolist() == [200]


def test_look_maps_what_each_word_says_and_the_strongest_words() -> None:
    one = classifier()
    batch = one.see(SAMPLES[:1], [0])
    rows = VisualWords().observe(one, batch)
    shown = VisualWords().look(one, batch, rows)
    row = rows.row(0, named=True)
    assert f"reads {len(row['words'])} different words" in shown.sentence
    assert "hold 100% of the evidence for red" in shown.sentence
    says, strongest = shown.panels[0].figures[0].maps
    words, evidence = one.words(batch.pixels)[0], dict(zip(row["words"], row["evidence"], strict=True))
    assert np.ravel(says.values) == pytest.approx([evidence[word] for word in words.flatten().tolist()], abs=1e-3)
    assert len(strongest.legend) == sum(value > 0 for value in row["evidence"])


def test_places_go_round_the_images() -> None:
    here = torch.zeros(3, 2, 2, dtype=torch.bool)
    here[0] = True
    here[2, 1, 1] = True
    assert _places(here, 3) == [(0, 0, 0), (2, 1, 1), (0, 0, 1)]


def test_examples_are_the_strongest_of_each_class() -> None:
    rows = pl.concat([seen()[2]] * 8).with_columns(
        id=pl.Series([f"{i:02d}" for i in range(24)]), sum=pl.Series([float(i) for i in range(24)])
    )
    chosen = VisualWords().examples(rows)
    assert len(chosen) == 12
    assert {"22", "19", "23"} <= set(chosen)
    assert "00" not in chosen


def test_others_are_told_why_it_does_not_apply() -> None:
    one = toy(MeanColor())
    assert "has no" in registry.unmet(VisualWords(), one, WorldImages(count=1))
    bagnet = cuescope.load("cuescope/world-bagnet", device="cpu")
    assert "no visual words" in registry.unmet(VisualWords(), bagnet, WorldImages(count=1))


@pytest.mark.parametrize("wrong", [{"images": 0}, {"top": 0}, {"shown": 0}])
def test_parameters_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        VisualWords(**wrong)


def test_on_the_world_words_add_up_to_the_answer() -> None:
    one = cuescope.load("cuescope/world-bow", device="cpu")
    samples = [WorldImages("congruent", count=64, seed=2).read(i) for i in range(64)]
    batch = one.see(samples, [s.label for s in samples])  # type: ignore[misc]
    rows = VisualWords().observe(one, batch)
    lead = batch.logits[torch.arange(64), batch.labels] - batch.logits.mean(1)
    assert rows["sum"].to_numpy() == pytest.approx(lead.numpy(), abs=1e-3)
    conclusion = VisualWords().conclude(
        rows, About("world-bow", "world", CLASSES.names, CLASSES.name, VisualWords().start(one).facts)
    )
    assert conclusion["words_in_use"].value == pytest.approx(1, abs=0.05)
    top = conclusion["top_words"]
    assert top.interval is not None
    # Of about 400 words in an image, ten hold far more than their share, but not nearly all.
    assert 0.2 < top.interval[0] < top.interval[1] < 0.6
    assert [row[0] for row in conclusion.panels[0].data["rows"]] == list(CLASSES.names)
