"""Changes of one pixel: known answers, and a plain twin of each of the four protocols."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.classes import IMAGENET
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.inpaint import inpaint
from cuescope.data.ops.shift import Embedding, ShiftedCrop
from cuescope.instruments.shift_stability import SUFFIX, ShiftStability
from toys import COLORS, Constant, Images, MeanColor, OnePixel, answers_shown, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)
SIZE, SHORT = 56, 25
"""An input of a quarter of 224 px, for which 100 px are 25."""


def boards(count: int) -> list[Sample]:
    """Checkerboards of 4 px: fine enough for a shift to matter."""
    board = (torch.arange(64)[:, None] + torch.arange(64)[None]) // 4 % 2 * 255
    return [Sample(f"{i}", board.byte().expand(3, 64, 64).contiguous()) for i in range(count)]


def concluded(classifier: Classifier, samples: list[Sample], tool: ShiftStability | None = None) -> Conclusion:
    tool = tool or ShiftStability()
    labels = [-1 if sample.label is None else sample.label for sample in samples]
    return tool.conclude(tool.observe(classifier, classifier.see(samples, labels)), ABOUT)


def resized(sample: Sample, width: int, height: int) -> np.ndarray[Any, Any]:
    image = Image.fromarray(sample.pixels.permute(1, 2, 0).numpy())
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def as_pixels(canvas: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(canvas.astype(np.float32)).permute(2, 0, 1) / 255


def test_crops_equal_a_plain_crop_resize_and_cut() -> None:
    samples = colored(5, size=37)
    crop = ShiftedCrop(seed=4)
    views = crop.views(samples, plain(16))
    for i, sample in enumerate(samples):
        top, left, side = crop.square(sample.id, 37, 37)
        image = Image.fromarray(sample.pixels.permute(1, 2, 0).numpy())
        square = image.crop((left, top, left + side, top + side))
        enlarged = np.asarray(square.resize((17, 17), Image.Resampling.BILINEAR))
        for k in (0, 1):
            expected = torch.from_numpy(enlarged[k : k + 16, k : k + 16].copy()).permute(2, 0, 1) / 255
            assert torch.equal(views[2 * i + k], expected)


def test_the_authors_eight_windows_of_234_pixels() -> None:
    (sample,) = colored(1, size=300)
    views = ShiftedCrop(1.0, 1.0, margin_px=10).views([sample], plain(224), steps=8)
    enlarged = resized(sample, 234, 234)
    assert len(views) == 9
    for c in range(9):
        assert torch.equal(views[c], as_pixels(enlarged[c : c + 224, c : c + 224]))


def test_a_square_can_move_by_pixels_of_the_file() -> None:
    samples = [*colored(4, size=37), Sample("tiny", torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2) * 9)]
    crop = ShiftedCrop(0.5, 1.0, seed=4, of="source")
    views = crop.views(samples, plain(16), steps=2)
    for i, sample in enumerate(samples):
        size = sample.pixels.shape[1]
        top, left, side = crop.square(sample.id, size, size, 2)
        wide = np.pad(sample.pixels.permute(1, 2, 0).numpy(), ((0, 2), (0, 2), (0, 0)), "edge")
        assert size == 2 or top + side + 2 <= size
        for k in range(3):
            square = Image.fromarray(wide[top + k : top + k + side, left + k : left + k + side])
            enlarged = np.asarray(square.resize((16, 16), Image.Resampling.BILINEAR))
            assert torch.equal(views[3 * i + k], as_pixels(enlarged))


def test_logits_that_are_scaled_down_are_no_better() -> None:
    """The same answers with another temperature: what has a better side is the same."""
    found = [concluded(toy(Eighth(share)), boards(30)) for share in (1.0, 0.125)]
    sharp, soft = found
    assert (soft["mac"].value or 0) < (sharp["mac"].value or 0) / 2
    ranked = [measure for measure in sharp.measures if measure.better]
    assert len(ranked) > 6
    assert not any(measure.name.startswith("mac") for measure in ranked)
    assert all(soft[measure.name].value == measure.value for measure in ranked)
    assert soft.verdict.names == sharp.verdict.names


class Eighth(OnePixel):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels) * self.share


def test_squares_fit_and_follow_the_seed() -> None:
    crop = ShiftedCrop()
    for i in range(200):
        top, left, side = crop.square(str(i), 30, 50)
        assert 1 <= side <= 30
        assert 0 <= top <= 30 - side
        assert 0 <= left <= 50 - side
    areas = [crop.square(str(i), 100, 100).side ** 2 / 1e4 for i in range(3000)]
    assert np.mean(areas) == pytest.approx(0.54, abs=0.02)
    assert crop.square("a", 90, 90) != ShiftedCrop(seed=1).square("a", 90, 90)


@pytest.mark.parametrize("canvas", ["black", "gray"])
def test_embedding_equals_a_plain_paste_on_a_canvas(canvas: Any) -> None:
    how = Preprocessing((SIZE, SIZE), SIZE, "bilinear", (0.5, 0.25, 0.75), (1, 1, 1))
    samples = [Sample(s.id, s.pixels[:, :30, :]) for s in colored(4, size=45)]
    embedding = Embedding(canvas=canvas, seed=2)
    views = embedding.views(samples, how)
    color = (0, 0, 0) if canvas == "black" else tuple(255 * m for m in how.mean)
    places = set()
    for i, sample in enumerate(samples):
        # The short side of 30 becomes 25, the long one 37.
        top, left = embedding.place(sample.id, how.size, (SHORT, 37))
        places.add((top, left))
        for k in (0, 1):
            expected = np.zeros((SIZE, SIZE, 3)) + color
            expected[top + k : top + k + SHORT, left + k : left + k + 37] = resized(sample, 37, SHORT)
            torch.testing.assert_close(views[2 * i + k], as_pixels(expected), atol=1e-7, rtol=0)
    assert len(places) > 2
    if canvas == "gray":
        assert abs((views[0, :, 0, 0] - torch.tensor(how.mean)).max()) < 1e-6, "normalized, the canvas is zero"


def test_growing_keeps_the_top_left_corner() -> None:
    (sample,) = colored(1, size=60)
    embedding = Embedding(shift_px=0, grow_px=1, seed=3)
    views = embedding.views([sample], plain(SIZE), steps=2)
    top, left = embedding.place(sample.id, (SIZE, SIZE), (SHORT + 2, SHORT + 2), 2)
    for k, side in enumerate((SHORT, SHORT + 1, SHORT + 2)):
        expected = np.zeros((SIZE, SIZE, 3))
        expected[top : top + side, left : left + side] = resized(sample, side, side)
        assert torch.equal(views[k], as_pixels(expected))


def painted(canvas: np.ndarray[Any, Any], known: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    """The plain way: blur the whole canvas round after round."""
    from scipy.signal import convolve2d  # takes seconds to import

    image, mask = canvas.astype(float), np.zeros(canvas.shape[:2])
    mask[known[0] : known[2], known[1] : known[3]] = 1
    row = np.array([[0.5, 0.5]])
    for _ in range(10):
        row = convolve2d(row, [[0.5, 0.5]])

    def blur(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return convolve2d(convolve2d(plane, row, "same"), row.T, "same")

    for _ in range(80):
        if (image.sum(2) == 0).sum() <= 200:
            break
        weight = blur(mask)
        means = np.stack([blur(image[..., c] * mask) / (weight + (weight == 0)) for c in range(3)], 2)
        image = mask[..., None] * image + (1 - mask[..., None]) * means
        mask = (image.sum(2) != 0).astype(float)
    return image


@pytest.mark.parametrize("black", [False, True])
def test_inpainting_equals_blurring_the_whole_canvas(black: bool) -> None:
    generator = np.random.default_rng(0)
    for known in ((30, 12, 55, 48), (0, 0, 25, 30), (60, 61, 80, 90)):
        canvas = np.zeros((80, 90, 3), np.float32)
        canvas[known[0] : known[2], known[1] : known[3]] = generator.integers(
            1, 256, (known[2] - known[0], known[3] - known[1], 3)
        )
        if black:
            canvas[known[0] + 3 : known[0] + 12, known[1] + 2 : known[1] + 20] = 0
            canvas[known[0], :] = 0
        found = inpaint(canvas, known)
        np.testing.assert_allclose(found, painted(canvas, known), atol=2e-3)
        assert (found.sum(2) == 0).sum() <= 200


def test_inpainted_views_are_painted_embeddings() -> None:
    (sample,) = colored(1, size=40)
    black = Embedding(seed=5).views([sample], plain(SIZE))
    views = Embedding(fill="blur", seed=5).views([sample], plain(SIZE))
    top, left = Embedding(seed=5).place(sample.id, (SIZE, SIZE), (SHORT, SHORT))
    for k in (0, 1):
        canvas = (black[k] * 255).permute(1, 2, 0).numpy()
        expected = painted(canvas, (top + k, left + k, top + k + SHORT, left + k + SHORT))
        torch.testing.assert_close(views[k], as_pixels(expected), atol=1e-5, rtol=0)


def test_an_all_black_image_stays_black() -> None:
    assert not inpaint(np.zeros((40, 40, 3), np.float32), (10, 10, 20, 20)).any()


def test_opencv_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(CueError, match="the package cv2"):
        concluded(toy(MeanColor()), colored(1), ShiftStability(fill="opencv"))


def test_opencv_where_it_is_installed() -> None:
    pytest.importorskip("cv2")
    canvas = np.zeros((40, 40, 3), np.float32)
    canvas[8:20, 8:20] = 50
    found = inpaint(canvas, (8, 8, 20, 20), "opencv")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 50, atol=8)
    canvas[8:20, 14:20] = 200
    found = inpaint(canvas, (8, 8, 20, 20), "opencv")
    np.testing.assert_array_equal(found[8:20, 8:20], canvas[8:20, 8:20])
    assert found[14, 2, 0] < found[14, 30, 0], "what is near goes on"


def test_an_embedded_image_needs_room() -> None:
    for tool in (ShiftStability(pairs=40), ShiftStability(protocols=("size",), embed_px=230)):
        with pytest.raises(CueError, match="an embedded image of"):
            concluded(toy(MeanColor(), size=SIZE), colored(1), tool)
    with pytest.raises(CueError, match="an embedded image of"):
        concluded(toy(MeanColor(), size=SIZE), colored(1), ShiftStability(protocols=("size",), embed_px=220, pairs=2))
    concluded(toy(MeanColor(), size=SIZE), colored(1), ShiftStability(protocols=("size",), embed_px=220))


def test_a_long_side_is_cut_to_fit() -> None:
    wide = Sample("wide", torch.full((3, 20, 400), 90, dtype=torch.uint8))
    views = Embedding().views([wide], plain(SIZE))
    lit = (views > 0).all(1)
    assert lit.sum((1, 2)).tolist() == [SHORT * (SIZE - 1)] * 2
    assert not lit[0, :, -1].any(), "a pixel is left for the shift"


def test_a_constant_classifier_never_changes_its_mind() -> None:
    found = concluded(toy(Constant()), colored(20))
    for suffix in SUFFIX.values():
        change = found[f"top1_change{suffix}"]
        assert change.value == 0
        assert change.interval is not None
        assert change.interval[1] > 0, "none of 20 is not never"
        assert found[f"mac{suffix}"].value == 0


def test_what_no_cyclic_shift_moves_scores_zero_on_the_canvas() -> None:
    # On a plain canvas a shift that cuts nothing off is a cyclic one, and the mean color does not see it.
    rows = ShiftStability().observe(toy(MeanColor(), size=SIZE), toy(MeanColor(), size=SIZE).see(colored(12)))
    assert not rows["changed_embed"].any()
    assert rows["mac_embed"].max() == pytest.approx(0, abs=1e-6)
    assert rows["mac_size"].min() > 1e-4, "a larger image on black has another mean"


def test_a_classifier_of_one_pixel_changes_its_mind() -> None:
    shaky, calm = concluded(toy(OnePixel()), boards(40)), concluded(toy(MeanColor()), boards(40))
    value = shaky["top1_change"].value
    assert value is not None
    assert value > 0.1
    assert calm["top1_change"].value == 0
    assert "By other protocols" in shaky.sentence


def test_mac_and_accuracy_are_of_the_first_answer() -> None:
    classifier, samples = toy(MeanColor()), colored(8, size=30)
    labels = [0] * 8
    rows = ShiftStability().observe(classifier, classifier.see(samples, labels))
    for protocol, suffix in SUFFIX.items():
        maker = ShiftStability().maker(protocol)  # type: ignore[arg-type]
        p = classifier.logits(maker.views(samples, plain(16))).double().softmax(1)
        for i in range(8):
            k = int(p[2 * i].argmax())
            assert rows[f"mac{suffix}"][i] == pytest.approx(abs(float(p[2 * i, k] - p[2 * i + 1, k])))
            assert rows[f"right{suffix}"][i] == (k == 0)
            assert rows[f"change_right{suffix}"][i] == (k == 0 and int(p[2 * i + 1].argmax()) != 0)


def test_several_pairs_are_averaged_over_each_image() -> None:
    classifier, samples = toy(OnePixel()), boards(12)
    tool = ShiftStability(pairs=5)
    rows = tool.observe(classifier, classifier.see(samples, [i % 2 for i in range(12)]))
    for protocol, suffix in SUFFIX.items():
        answers = classifier.logits(tool.maker(protocol).views(samples, plain(16), 5)).argmax(1).view(12, 6)  # type: ignore[arg-type]
        changes = (answers[:, 1:] != answers[:, :-1]).double().mean(1)
        assert rows[f"change{suffix}"].to_list() == pytest.approx(changes.tolist())
        assert rows[f"changed{suffix}"].to_list() == (changes > 0).tolist()
        right = answers[:, :-1] == torch.arange(12)[:, None] % 2
        assert rows[f"right{suffix}"].to_list() == pytest.approx(right.double().mean(1).tolist())
        both = (right & (answers[:, 1:] != answers[:, :-1])).double().mean(1)
        assert rows[f"change_right{suffix}"].to_list() == pytest.approx(both.tolist())
    found = tool.conclude(rows, ABOUT)
    assert found["top1_change"].value == pytest.approx(rows["change"].mean())
    assert found["top1_change"].n == 12
    assert found["top1_change"].count is None, "a share of pairs is no count of images"
    among = found["top1_change_right"].value
    assert among == pytest.approx(rows["change_right"].sum() / rows["right"].sum())
    assert "of the pairs of views of 12 images" in found.sentence


def test_many_images_go_through_in_parts() -> None:
    classifier, samples = toy(MeanColor()), colored(70)
    rows = ShiftStability().observe(classifier, classifier.see(samples))
    alone = pl.concat([ShiftStability().observe(classifier, classifier.see([s])) for s in samples[60:]])
    for name in ("first", "top", "second_inpaint"):
        assert rows[name].to_list()[60:] == alone[name].to_list()


def test_only_the_protocols_that_are_asked_for() -> None:
    tool = ShiftStability(protocols=("size", "embed"))
    classifier = toy(MeanColor())
    rows = tool.observe(classifier, classifier.see(colored(6)))
    assert rows.columns == ShiftStability().observe(classifier, classifier.see(colored(1))).columns
    found = tool.conclude(rows, ABOUT)
    assert found["top1_change"].value is None
    assert found["top1_change"].why == "this protocol was not asked for"
    assert found["top1_change_size"].value is not None
    assert found.verdict.names == ("cannot_tell", "others")
    assert "0.0%" in found.sentence
    assert [row["label"] for row in found.panels[0].data["rows"]] == [
        "shifted, plain canvas",
        "resized, plain canvas",
    ]
    for wrong in ({"protocols": ()}, {"protocols": ("crop", "crop")}, {"pairs": 0}, {"scale_min": 2.0}):
        with pytest.raises(ValueError, match="must"):
            ShiftStability(**wrong)  # type: ignore[arg-type]


def test_published_values_stand_only_beside_the_same_rule() -> None:
    classifier = toy(MeanColor())
    rows = ShiftStability().observe(classifier, classifier.see(colored(6)))
    about = dataclasses.replace(ABOUT, space=IMAGENET)
    found = ShiftStability().conclude(rows, about)
    assert [p.value for p in found["top1_change"].published] == [0.062, 0.061, 0.068]
    assert [p.value for p in found["mac_embed"].published] == [0.06, 0.086, 0.079]
    assert not found["top1_change_size"].published
    marks = {mark["who"]: mark["values"] for mark in found.panels[0].data["marks"]}
    assert marks["DenseNet-121 (Azulay & Weiss)"] == [0.068, None, 0.19, None, None]
    gray = ShiftStability(canvas="gray").conclude(rows, about)
    assert gray["top1_change"].published
    assert not gray["top1_change_embed"].published
    narrow = ShiftStability(scale_min=0.9, scale_max=0.95).conclude(rows, about)
    assert not narrow["top1_change"].published
    assert not narrow["mac"].published
    assert narrow["top1_change_embed"].published
    assert not found["top1_change_source"].published, "the authors' code moves a pixel of the input"
    assert not ShiftStability(shift_px=2).conclude(rows, about)["top1_change"].published
    assert not ShiftStability().conclude(rows, ABOUT)["top1_change"].published


def test_images_smaller_than_the_crop_are_told() -> None:
    tiny = [Sample(str(i), torch.full((3, 1, 1 + i), 90, dtype=torch.uint8)) for i in range(3)]
    found = concluded(toy(MeanColor()), tiny)
    assert "3 of 3 cropped squares were smaller than the input and enlarged." in found.caveats
    whole = concluded(toy(MeanColor()), colored(3, size=40), ShiftStability(scale_min=0.9))
    assert not any("enlarged" in caveat for caveat in whole.caveats)


def test_it_shows_the_pair_that_changed() -> None:
    classifier, samples = toy(OnePixel()), boards(10)
    rows = ShiftStability().observe(classifier, classifier.see(samples))
    chosen = ShiftStability().examples(rows)
    assert 0 < len(chosen) <= 4
    shown = rows.filter(pl.col("id").is_in(chosen))
    (panel,) = ShiftStability().illustrate(classifier, classifier.see([samples[int(i)] for i in chosen]), shown)
    assert len(panel.figures) == 2 * len(chosen)
    for a, b, before, after in answers_shown(classifier, panel):
        assert a != b
        assert before.startswith(a)
        assert b in after


def test_the_same_images_for_every_classifier() -> None:
    images = Images(colored(6))
    rows = [ShiftStability().observe(c, c.see(images.samples)) for c in (toy(MeanColor()), toy(Constant()))]
    assert rows[0].select("top", "left", "side").equals(rows[1].select("top", "left", "side"))
