"""The strongest patches of each class: the right ones, in the right row, over any number of images."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.core.stats import wilson
from cuescope.data.images import Batch, Sample
from cuescope.instruments.top_patches import TopPatches
from cuescope.world.images import WorldImages
from toys import COLORS, colored, plain

ABOUT = About("toy", "toys", COLORS.names, COLORS.name, {"local": True, "field_px": 4})


class Patches(torch.nn.Module):
    """Each patch of 4 x 4 px, 4 px apart, speaks for red, green and blue by its own mean."""

    receptive_field_px = 4
    stride_px = 4

    def patch_logits(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.patch_logits(pixels).mean((2, 3))


@pytest.fixture(scope="module")
def patches() -> Classifier:
    return Classifier(Patches(), classes=COLORS, preprocessing=plain(16), name="patches")


def spot(name: str, label: int, channel: int, level: int, at: tuple[int, int] = (4, 8)) -> Sample:
    """One patch of one color, at a known place."""
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[channel, at[0] : at[0] + 4, at[1] : at[1] + 4] = level
    return Sample(name, pixels, label=label, framing="stimulus")


def see(patches: Classifier, samples: list[Sample]) -> Batch:
    return patches.see(samples, [s.label if s.label is not None else -1 for s in samples])


def test_rows_are_of_the_class_and_of_all_others(patches: Classifier) -> None:
    samples = [spot("a", 0, 0, 200), spot("b", 0, 0, 100), spot("c", 1, 0, 255, at=(12, 0)), spot("d", 1, 1, 50)]
    tool = TopPatches(patches=2)
    rows = tool.reduce(tool.start(patches).observe(see(patches, samples)))
    red = rows.filter(pl.col("class") == 0)
    assert red.filter("own")["id"].to_list() == ["a", "b"]
    assert red.filter(~pl.col("own"))["id"].to_list() == ["c", "d"]
    best = red.filter(~pl.col("own")).row(0, named=True)
    assert best["value"] == pytest.approx(2 / 3), "1 less the mean of the three classes"
    raw = TopPatches(raw=True).start(patches).observe(see(patches, samples))
    assert raw.filter(pl.col("class") == 0)["value"].max() == pytest.approx(1.0)
    counts = rows.filter(pl.col("own").is_null())
    assert counts.select("class", "images", "labeled").rows() == [(0, 2, 2), (1, 2, 2)]
    # The middle of the patch from (12, 0) px.
    assert (best["x"], best["y"]) == pytest.approx((2 / 16, 14 / 16))


def test_equal_patches_go_to_the_first_image_and_its_first_position(patches: Classifier) -> None:
    samples = [spot(name, 0, 0, 90) for name in ("first", "second", "third")]
    tool = TopPatches(patches=2)
    batch = see(patches, samples)
    own = tool.start(patches).observe(batch).filter((pl.col("class") == 0) & pl.col("own"))
    assert own["id"].to_list() == ["first", "second"]
    parts = [tool.start(patches).observe(batch.select([i])) for i in range(3)]
    kept = tool.reduce(pl.concat([tool.reduce(pl.concat(parts[:2])), parts[2]]))
    assert kept.filter((pl.col("class") == 0) & pl.col("own"))["id"].to_list() == ["first", "second"]
    # Green is nowhere: all positions are equal, so it is the first one.
    green = kept.filter((pl.col("class") == 1) & ~pl.col("own")).row(0, named=True)
    assert (green["x"], green["y"]) == pytest.approx((2 / 16, 2 / 16))


def test_an_image_may_give_more_than_one_patch(patches: Classifier) -> None:
    both = spot("both", 0, 0, 200)
    both.pixels[0, 12:16, 12:16] = 150
    samples = [both, spot("one", 0, 0, 120)]
    several = TopPatches(patches=3, one_per_image=False)
    one = TopPatches(patches=3)
    found = {
        tool.one_per_image: tool.start(patches)
        .observe(see(patches, samples))
        .filter((pl.col("class") == 0) & pl.col("own"))
        for tool in (several, one)
    }
    assert found[False]["id"].to_list() == ["both", "both", "one"]
    assert found[True]["id"].to_list() == ["both", "one"]


def test_chunks_in_any_split_give_what_one_table_gives() -> None:
    bagnet = cuescope.load("cuescope/world-bagnet")
    images = WorldImages("congruent", count=24, seed=4)
    samples = [images.read(i) for i in range(24)]
    tool = TopPatches(patches=3)
    whole = tool.reduce(tool.start(bagnet).observe(see(bagnet, samples)))
    kept = tool.start(bagnet).observe(see(bagnet, samples[:5]))
    for start in (5, 6, 17):
        stop = {5: 6, 6: 17, 17: 24}[start]
        kept = tool.reduce(pl.concat([kept, tool.start(bagnet).observe(see(bagnet, samples[start:stop]))]))
    keys = ["class", "own", "id"]
    assert kept.select(keys).equals(whole.select(keys))
    assert kept["value"].drop_nulls().to_list() == pytest.approx(whole["value"].drop_nulls().to_list(), abs=1e-4)
    assert kept.height <= 16 * (2 * 3 + 1)
    assert kept["images"].sum() == 24


def test_a_class_with_few_images_is_told(patches: Classifier) -> None:
    tool = TopPatches()
    samples = [spot("a", 0, 0, 200), spot("b", 1, 1, 100)]
    rows = tool.start(patches).observe(see(patches, samples))
    conclusion = tool.conclude(rows, ABOUT)
    assert any("fewer than 7 images" in caveat for caveat in conclusion.caveats)
    panel = next(iter(tool.illustrate(patches, see(patches, samples), rows)))
    assert panel.figures[0].caption == "red, 1 image of it, 4 x 4 px each"


def test_no_class_with_both_rows_is_no_share(patches: Classifier) -> None:
    rows = TopPatches().start(patches).observe(see(patches, [spot("a", 0, 0, 200)]))
    measure = TopPatches().conclude(rows, ABOUT)["misled"]
    assert measure.value is None
    assert "no class" in measure.why


def test_the_strongest_patch_of_all_may_be_another_classes(patches: Classifier) -> None:
    samples = [spot("a", 0, 0, 100), spot("b", 1, 0, 200), spot("c", 1, 1, 90)]
    conclusion = TopPatches().conclude(TopPatches().start(patches).observe(see(patches, samples)), ABOUT)
    # Red is strongest in an image called green; green is not.
    misled = conclusion["misled"]
    assert (misled.count, misled.n) == (1, 2)
    # Of three images red has one and green two: by chance another image is the strongest in 2/3 and 1/3.
    assert misled.chance == pytest.approx(0.5)


def test_equally_strong_patches_mislead_no_class(patches: Classifier) -> None:
    samples = [spot("a", 0, 0, 100), spot("b", 1, 0, 100)]
    conclusion = TopPatches().conclude(TopPatches().start(patches).observe(see(patches, samples)), ABOUT)
    assert conclusion["misled"].count == 0


def test_what_is_added_to_all_logits_of_a_patch_changes_no_rank() -> None:
    class Brighter(Patches):
        def patch_logits(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().patch_logits(pixels) + 3 + 9 * torch.nn.functional.avg_pool2d(pixels, 4).sum(1, keepdim=True)

    found = {}
    for module in (Patches, Brighter):
        for raw in (False, True):
            one = Classifier(module(), classes=COLORS, preprocessing=plain(16), name="patches")
            rows = TopPatches(raw=raw).start(one).observe(see(one, colored(12)))
            found[module, raw] = rows.drop_nulls("own").select("id", "class", "own", "x", "y")
    assert found[Brighter, False].equals(found[Patches, False])
    assert not found[Brighter, True].equals(found[Patches, True])


def test_images_without_a_label_are_told(patches: Classifier) -> None:
    samples = [spot("a", 0, 0, 200), replace(spot("b", 0, 1, 100), label=None)]
    rows = TopPatches().start(patches).observe(see(patches, samples))
    assert any("1 image without a label" in caveat for caveat in TopPatches().conclude(rows, ABOUT).caveats)


def test_a_class_that_is_not_there_is_told(patches: Classifier) -> None:
    with pytest.raises(CueError, match="classes=3, but patches has the classes 0 to 2"):
        TopPatches(classes=(1, 3)).start(patches)


def test_patches_are_shown_as_the_network_sees_them(patches: Classifier) -> None:
    tool = TopPatches(patches=2, shown=1)
    samples = [spot("a", 0, 0, 255), spot("b", 1, 1, 255, at=(0, 0))]
    rows = tool.reduce(tool.start(patches).observe(see(patches, samples)))
    assert tool.examples(rows) == ["a", "b"]
    figure = next(iter(tool.illustrate(patches, see(patches, samples), rows))).figures[0]
    assert figure.pixels is not None
    assert (figure.pixels[:72, :72] == [255, 0, 0]).all()


def test_top_patches_of_the_worlds_bagnet_show_the_texture() -> None:
    """With cues in conflict, what speaks most for a class comes from images with its texture, not with its shape."""
    bagnet = cuescope.load("cuescope/world-bagnet")
    images = WorldImages("conflict", count=192, seed=11)
    tool = TopPatches(one_per_image=True)
    kept = None
    cues = {}
    for start in range(0, 192, 96):
        samples = [images.read(i) for i in range(start, start + 96)]
        cues |= {s.id: s.cues for s in samples}
        rows = tool.start(bagnet).observe(see(bagnet, samples))
        kept = tool.reduce(rows if kept is None else pl.concat([kept, rows]))
    assert kept is not None
    best = kept.drop_nulls("own").sort("value", descending=True).group_by("class").head(7)
    names = bagnet.classes.names
    shown = [(cues[row["id"]], names[row["class"]]) for row in best.iter_rows(named=True)]
    texture, shape = (sum(cue[kind] == name for cue, name in shown) for kind in ("texture", "shape"))
    # Chance is 1 in 16. The rest are patches of very high contrast, whose logits are large for several classes.
    assert wilson(texture, len(shown))[0] > 0.5
    assert wilson(shape, len(shown))[1] < 0.2
