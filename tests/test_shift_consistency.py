"""Consistency of crops: known answers, and cutting with Pillow as the plain twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.shift import Window
from cuescope.instruments.shift_consistency import ShiftConsistency
from cuescope.runs.comparisons.paired import difference
from toys import COLORS, Constant, MeanColor, OnePixel, answers_shown, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name, {"places": 9})


def concluded(classifier: Classifier, samples: list[Sample], tool: ShiftConsistency | None = None) -> Conclusion:
    tool = tool or ShiftConsistency()
    labels = [-1 if sample.label is None else sample.label for sample in samples]
    return tool.conclude(tool.start(classifier).observe(classifier.see(samples, labels)), ABOUT)


def stripes(count: int, period: int = 8) -> list[Sample]:
    """Vertical stripes in several colors: a shift of a crop is a cyclic one if its side is a multiple of the period."""
    generator = torch.Generator().manual_seed(3)
    samples = []
    for i in range(count):
        row = torch.randint(0, 256, (3, 1, period), generator=generator, dtype=torch.uint8)
        samples.append(Sample(f"{i}", row.repeat(1, 73, 10)[..., :73].contiguous(), label=i % 3))
    return samples


class Brightest(nn.Module):
    """Which third of its columns is brightest? A shift moves the thirds."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.stack([part.mean((1, 2, 3)) for part in pixels.tensor_split(3, 3)], 1) * 30


@pytest.mark.parametrize("shape", [(400, 300), (260, 390), (70, 100)])
def test_crops_are_the_authors(shape: tuple[int, int]) -> None:
    """Resize 256, CenterCrop 256, and a cut, as the author's code has them."""
    pixels = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sample = Sample("photo", pixels)
    tool, classifier = ShiftConsistency(pairs=3), toy(MeanColor(), size=224)
    classifier.preprocessing = dataclasses.replace(plain(224), resize=256)
    offsets = tool.offsets("photo", 32)
    assert len(offsets) == 12
    assert all(0 <= o < 32 for o in offsets)
    crops = tool.crops(classifier, [sample], [offsets])
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    short = min(image.size)
    size = (256, int(256 * image.height / short)) if image.width == short else (int(256 * image.width / short), 256)
    large = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    top, left = (round((side - 256) / 2) for side in large.shape[:2])
    for i, (y, x) in enumerate(zip(offsets[::2], offsets[1::2], strict=True)):
        cut = large[top + y : top + y + 224, left + x : left + x + 224]
        assert torch.equal(crops[i], torch.from_numpy(cut.copy()).permute(2, 0, 1) / 255)


def test_the_middle_offset_is_the_evaluations_own_crop() -> None:
    classifier = toy(MeanColor(), size=224)
    how = classifier.preprocessing = dataclasses.replace(plain(224), resize=256)
    for shape in ((400, 300), (333, 500), (257, 301)):
        pixels = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        window = Window().pixels([Sample("a", pixels)], how)
        assert window.shape == (1, 3, 256, 256)
        assert torch.equal(window[:, :, 16:240, 16:240] / 255, classifier.prepare([Sample("a", pixels)]))


def test_windows_cover_every_input() -> None:
    photo = Sample("a", torch.full((3, 50, 90), 200, dtype=torch.uint8))
    stimulus = dataclasses.replace(photo, framing="stimulus")
    for how in (
        Preprocessing((224, 224), 235),
        Preprocessing((64, 64), 64),
        Preprocessing((96, 224), 256),
        Preprocessing((64, 128), (64, 128)),
        Preprocessing((64, 64), 64, keep_aspect=False),
    ):
        more = Window().offsets(how)
        for sample in (photo, stimulus):
            pixels = Window().pixels([sample], how)
            assert pixels.shape[2:] == (how.size[0] + more, how.size[1] + more)
            assert (pixels == 200).all(), "no black border"
            assert Window().is_small(sample, how)
    assert not Window().is_small(photo, Preprocessing((32, 32), 32))


def test_what_no_cyclic_shift_moves_is_always_consistent() -> None:
    calm = concluded(toy(MeanColor(), size=64), stripes(12), ShiftConsistency(pairs=4))
    assert calm["consistency"].value == 1
    moved = concluded(toy(Brightest(), size=64), stripes(12), ShiftConsistency(pairs=4))
    assert moved["consistency"].value is not None
    assert moved["consistency"].value < 0.9, "the stripes are not the same everywhere"


def test_a_constant_classifier_is_always_consistent() -> None:
    found = concluded(toy(Constant()), colored(20))
    consistency = found["consistency"]
    assert (consistency.value, consistency.n, consistency.count) == (1, 20, 20)
    assert consistency.interval is not None
    assert consistency.interval[0] < 1, "20 of 20 is not always"
    assert found["accuracy"].value == pytest.approx(7 / 20)
    assert found["both_right"].value == pytest.approx(7 / 20)
    assert found["consistency_right"].n == 7


def boards(count: int) -> list[Sample]:
    board = (torch.arange(70)[:, None] + torch.arange(70)[None]) // 3 % 2 * 255
    return [Sample(f"{i}", board.byte().expand(3, 70, 70).contiguous(), label=i % 2) for i in range(count)]


def test_each_number_of_the_rows() -> None:
    tool, classifier, samples = ShiftConsistency(pairs=3), toy(OnePixel(), size=64), boards(30)
    batch = classifier.see(samples, [s.label or 0 for s in samples])
    rows = tool.start(classifier).observe(batch)
    for i, row in enumerate(rows.iter_rows(named=True)):
        p = classifier.logits(tool.crops(classifier, [samples[i]], [row["offsets"]])).double().softmax(1)
        answers = p.argmax(1).tolist()
        assert row["offsets"] == tool.offsets(str(i), 9)
        assert row["answers"] == answers
        assert row["p"] == pytest.approx(p.max(1).values.tolist())
        pairs = list(zip(answers[::2], answers[1::2], strict=True))
        assert row["same"] == [a == b for a, b in pairs]
        assert row["agree"] == pytest.approx(np.mean(row["same"]))
        assert row["both_right"] == pytest.approx(np.mean([a == b == i % 2 for a, b in pairs]))
        right = int(batch.logits[i].argmax()) == i % 2
        assert row["right"] == right
        assert row["agree_right"] == (row["agree"] if right else None)
    found = tool.conclude(rows, ABOUT)
    assert 0.3 < (found["consistency"].value or 0) < 0.8
    assert found["consistency"].count is None, "a share of pairs is no count of images"
    among = rows.filter(pl.col("right"))
    assert found["consistency_right"].value == pytest.approx(among["agree"].mean())
    assert found["consistency_right"].n == among.height


def test_one_pair_counts_images() -> None:
    found = concluded(toy(OnePixel(), size=64), boards(30))
    consistency = found["consistency"]
    assert consistency.count == round((consistency.value or 0) * 30)
    assert found.sentence.startswith("Two crops of the same image, up to 8 px apart, get the same answer in")
    assert "where it is right about the image" in found.sentence


def test_images_have_offsets_of_their_own() -> None:
    tool = ShiftConsistency()
    assert tool.offsets("a", 32) != tool.offsets("b", 32)
    assert tool.offsets("a", 32) != ShiftConsistency(seed=1).offsets("a", 32)
    drawn = np.array([tool.offsets(str(i), 32) for i in range(2000)])
    assert (drawn.min(), drawn.max()) == (0, 31)
    assert abs(drawn.mean() - 15.5) < 0.5


def test_images_without_labels() -> None:
    samples = [dataclasses.replace(s, label=None) for s in colored(6)]
    found = concluded(toy(MeanColor()), samples)
    assert found["consistency"].value is not None
    for name in ("consistency_right", "both_right", "accuracy"):
        assert found[name].value is None
        assert found[name].why == "no image has a label"
    assert found.verdict.names == ("cannot_tell",)
    assert "where it is right" not in found.sentence
    wrong = concluded(toy(Constant(answer=1)), [dataclasses.replace(s, label=0) for s in colored(6)])
    assert wrong["consistency_right"].why == "it gets no image right"


def test_small_images_are_told() -> None:
    tiny = [Sample(str(i), torch.full((3, 10, 9 + i), 90, dtype=torch.uint8)) for i in range(3)]
    found = concluded(toy(MeanColor()), tiny)
    assert "3 of 3 images were smaller than the window of the crops and enlarged." in found.caveats
    assert not any("enlarged" in caveat for caveat in concluded(toy(MeanColor()), colored(3, size=40)).caveats)


def test_published_values_stand_only_beside_the_same_rule() -> None:
    classifier = toy(MeanColor())
    rows = ShiftConsistency().start(classifier).observe(classifier.see(colored(6), [0] * 6))
    about = dataclasses.replace(ABOUT, space=IMAGENET)
    found = ShiftConsistency().conclude(rows, about)
    published = {p.who: p.value for p in found["consistency"].published}
    assert published["MobileNetV2"] == 0.8650
    assert published["ResNet-50"] == 0.8920
    assert {p.who: p.value for p in found["accuracy"].published}["AlexNet"] == 0.5655
    assert not ShiftConsistency(range_px=8).conclude(rows, about)["consistency"].published
    assert not ShiftConsistency().conclude(rows, ABOUT)["consistency"].published


def test_two_classifiers_are_compared_on_the_same_crops() -> None:
    samples = boards(40)
    shaky, calm = toy(OnePixel(), size=64), toy(Constant(), size=64)
    tool = ShiftConsistency()
    a, b = (tool.start(c).observe(c.see(samples, [s.label or 0 for s in samples])) for c in (shaky, calm))
    assert a["offsets"].to_list() == b["offsets"].to_list()
    value, interval, n = difference(b, a, "agree")
    assert n == 40
    assert interval is not None
    assert 0 < interval[0] < value


def test_the_plot_by_distance_counts_every_pair() -> None:
    tool, classifier = ShiftConsistency(pairs=4), toy(OnePixel(), size=64)
    samples = boards(40)
    rows = tool.start(classifier).observe(classifier.see(samples, [s.label or 0 for s in samples]))
    panels = {panel.name: panel for panel in tool.conclude(rows, ABOUT).panels}
    (curve,) = panels["distance"].data["series"]
    assert len(curve["x"]) == 8
    assert curve["x"] == sorted(curve["x"])
    assert np.mean(curve["y"]) == pytest.approx(rows["agree"].mean())
    for low, y, high in zip(curve["low"], curve["y"], curve["high"], strict=True):
        assert low <= y <= high
    bars = panels["groups"].data["rows"]
    assert [bar["n"] for bar in bars] == [40, int(rows["right"].sum()), 40 - int(rows["right"].sum())]


def test_it_shows_crops_that_differ() -> None:
    tool, classifier, samples = ShiftConsistency(pairs=2), toy(OnePixel(), size=64), boards(12)
    rows = tool.start(classifier).observe(classifier.see(samples))
    chosen = tool.examples(rows)
    assert 0 < len(chosen) <= 4
    shown = rows.filter(pl.col("id").is_in(chosen))
    (panel,) = tool.illustrate(classifier, classifier.see([samples[int(i)] for i in chosen]), shown)
    assert len(panel.figures) == 2 * len(chosen)
    for a, b, before, after in answers_shown(classifier, panel):
        assert a != b
        assert before.startswith(a)
        assert after.startswith(b)


def test_impossible_parameters() -> None:
    for wrong in ({"pairs": 0}, {"range_px": 1}):
        with pytest.raises(ValueError, match="must be at least"):
            ShiftConsistency(**wrong)
