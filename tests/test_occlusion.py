"""Occlusion: the maps of classifiers whose strategy is known, and the arithmetic of the measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Box, Sample
from cuescope.data.ops.occlude import Grid, Occlude, Rectangle, cover, means
from cuescope.instruments.occlusion import Occlusion
from cuescope.instruments.registry import build
from cuescope.methods.occlusion import concentration, pointing, unseen
from toys import COLORS, Constant, MeanColor, plain, toy

ABOUT = About("toy", "toys", COLORS.names)
TWO = ClassSpace("two", ("spot", "nothing"))


class Spot(nn.Module):
    """Sees nothing but how bright the 4 x 4 pixels at (8, 4) are."""

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:, :, 8:12, 4:8].mean((1, 2, 3))
        return torch.stack([20 * seen - 10, torch.zeros_like(seen)], 1)


def spotted(mask: Tensor | None = None, label: int | None = 0, boxes: tuple[Box, ...] = ()) -> Sample:
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[:, 8:12, 4:8] = 255
    return Sample("spot.png", pixels, label, boxes=boxes, mask=mask)


def look(sample: Sample, **settings: Any) -> pl.DataFrame:
    tool = Occlusion(size_share=0.25, stride_share=0.125, fill="black", **settings)
    classifier = toy(Spot(), TWO)
    return tool.start(classifier).observe(classifier.see([sample], [-1 if sample.label is None else sample.label]))


def test_the_map_falls_where_the_spot_is_hidden_and_nowhere_else() -> None:
    row = look(spotted()).row(0, named=True)
    grid = Grid(tuple(row["tops"]), tuple(row["lefts"]), row["height"], row["width"])
    assert row["tops"] == row["lefts"] == [0, 2, 4, 6, 8, 10, 12]
    p_clean = 1 / (1 + torch.tensor(-10.0).exp().item())
    assert row["p_clean"] == pytest.approx(p_clean, abs=1e-6)
    for p, (top, left, bottom, right) in zip(row["p"], grid.rectangles, strict=True):
        hidden = max(0, min(bottom, 12) - max(top, 8)) * max(0, min(right, 8) - max(left, 4)) / 16
        wanted = torch.sigmoid(torch.tensor(20 * (1 - hidden) - 10)).item()
        assert p == pytest.approx(wanted, abs=1e-5)
    assert (row["worst_top"], row["worst_left"]) == (8, 4)
    assert row["largest_drop"] == pytest.approx(2 * p_clean - 1, abs=1e-5)
    assert row["flips"] == pytest.approx(sum(a == 1 for a in row["answers"]) / 49)
    assert row["flips"] == pytest.approx(1 / 49), "half of the spot is enough, and ties stay with the first class"


def test_without_a_label_the_answer_is_followed() -> None:
    labeled, unlabeled = look(spotted(label=1)).row(0, named=True), look(spotted(label=None)).row(0, named=True)
    assert (labeled["label"], labeled["tracked"]) == (1, 1)
    assert (unlabeled["label"], unlabeled["tracked"], unlabeled["predicted"]) == (None, 0, 0)
    assert labeled["largest_drop"] == pytest.approx(0, abs=1e-6), "hiding never lowers P(nothing)"


@pytest.mark.parametrize("place", ["mask", "box"])
def test_the_pointing_game(place: str) -> None:
    def sample(top: int, left: int) -> Sample:
        if place == "box":
            return spotted(boxes=(Box(left, top, left + 4, top + 4),))
        mask = torch.zeros(16, 16, dtype=torch.bool)
        mask[top : top + 4, left : left + 4] = True
        return spotted(mask=mask)

    on, off = look(sample(8, 4)).row(0, named=True), look(sample(0, 0)).row(0, named=True)
    assert (on["hit"], off["hit"], on["hit_turned"], off["hit_turned"]) == (1, 0, 0, 0)
    centers = [(t + 2, x + 2) for t in on["tops"] for x in on["lefts"]]
    wanted = sum(8 <= y < 12 and 4 <= x < 8 for y, x in centers) / 49
    assert on["hit_by_chance"] == pytest.approx(wanted)
    assert look(spotted()).row(0, named=True)["hit"] is None, "no one knows where the object is"
    assert look(spotted(mask=torch.ones(16, 16, dtype=torch.bool), label=None)).row(0, named=True)["hit"] is None


def test_photographs_with_boxes_have_a_pointing_game(tmp_path: Path) -> None:
    """Wide photographs of a spot, in folders of its class, with the boxes of ILSVRC: as `--boxes` has them."""
    from PIL import Image

    from cuescope.api.audit import audit

    boxes = tmp_path / "boxes"
    boxes.mkdir()
    for label in TWO.names:
        (tmp_path / "images" / label).mkdir(parents=True)
    for i in range(6):
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[8:12, 12:16] = 255 - i
        Image.fromarray(pixels).save(tmp_path / "images" / "spot" / f"{i}.png")
        corners = "<xmin>13</xmin><ymin>9</ymin><xmax>16</xmax><ymax>12</ymax>"
        xml = f"<annotation><size><width>32</width><height>16</height></size><object><name>spot</name><bndbox>{corners}"
        (boxes / f"{i}.xml").write_text(f"{xml}</bndbox></object></annotation>")
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(tmp_path / "images" / "nothing" / "none.png")
    settings = {"occlusion.size_share": 0.25, "occlusion.stride_share": 0.125, "occlusion.fill": "black"}
    given = {"images": tmp_path / "images", "boxes": boxes, "only": ["occlusion"], "settings": settings}
    finding = audit(toy(Spot(), TWO), out=tmp_path / "run", **given).finding("occlusion")
    assert (finding["pointing_game"].value, finding["pointing_game"].n) == (1, 6)
    assert finding.verdict.names == ("flips", "object")


def test_a_mask_goes_where_the_classifier_sees_the_object() -> None:
    """A wide photograph is center-cropped; the mask with it."""
    pixels, mask = torch.zeros(3, 16, 32, dtype=torch.uint8), torch.zeros(16, 32, dtype=torch.bool)
    pixels[:, 8:12, 12:16] = 255
    mask[8:12, 12:16] = True
    row = look(Sample("wide.png", pixels, 0, mask=mask)).row(0, named=True)
    assert (row["worst_top"], row["worst_left"], row["hit"]) == (8, 4, 1)


def test_a_constant_answer_depends_on_nothing() -> None:
    classifier = toy(Constant())
    tool = Occlusion(size_share=0.25)
    sample = Sample("a", torch.full((3, 16, 16), 9, dtype=torch.uint8))
    finding = tool.conclude(tool.start(classifier).observe(classifier.see([sample])), ABOUT)
    assert finding["label_flips"].value == 0
    assert finding["largest_drop"].value == 0
    assert finding["concentration"].value is None
    assert finding["concentration"].why == "hiding never lowers P(class)"
    assert finding["pointing_game"].value is None
    assert finding.verdict.names == ("never",)
    assert "1 image;" in finding.sentence


def test_mean_color_depends_on_everything_alike() -> None:
    classifier = toy(MeanColor())
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[0] = 255
    tool = Occlusion(size_share=0.25, stride_share=0.25, fill="gray")
    rows = tool.start(classifier).observe(classifier.see([Sample("red", pixels)], [0]))
    assert tool.conclude(rows, ABOUT)["concentration"].value == pytest.approx(0.1, abs=1e-4)


def test_places_that_tie_count_by_their_share_and_a_place_that_changes_nothing_is_none() -> None:
    grid, place = Grid((0, 2), (0, 2), 2, 2), torch.zeros(4, 4, dtype=torch.bool)
    place[1, 1] = True
    assert pointing(place, grid, np.array([0.1, 0.1, 0.5, 0.4]), 0.9) == {
        "hit": 0.5, "hit_turned": 0.0, "hit_by_chance": 0.25
    }  # fmt: skip
    assert pointing(place, grid, np.array([0.9, 0.95, 0.9, 0.9]), 0.9) == {}


def test_what_has_the_color_of_the_square_is_not_hidden() -> None:
    grid = Grid((0, 2), (0, 2), 2, 2)
    pixels = torch.full((3, 4, 4), 0.5)
    pixels[0, :2, :2] = 1.0
    assert unseen(pixels, grid, (0.5, 0.5, 0.5)) == 0.75


def rows_of(*changes: dict[str, Any]) -> pl.DataFrame:
    start = look(spotted(mask=torch.ones(16, 16, dtype=torch.bool)))
    return pl.concat([start.with_columns(**{k: pl.lit(v) for k, v in c.items()}).cast(start.schema) for c in changes])


def test_measures_are_means_over_images_with_intervals() -> None:
    rows = rows_of(
        {"id": "a", "flips": 0.1, "largest_drop": 0.5, "hit": 1.0, "hit_turned": 0.0, "hit_by_chance": 0.2},
        {"id": "b", "flips": 0.3, "largest_drop": 0.7, "hit": 0.0, "hit_turned": 0.0, "hit_by_chance": 0.4},
    )
    finding = Occlusion().conclude(rows, ABOUT)
    assert finding["label_flips"].value == pytest.approx(0.2)
    assert finding["label_flips"].interval is None, "two images are too few"
    assert finding["largest_drop"].value == pytest.approx(0.6)
    pointing = finding["pointing_game"]
    assert (pointing.value, pointing.n, pointing.chance) == (0.5, 2, pytest.approx(0.3))
    assert finding["above_chance"].value == pytest.approx(0.2)
    assert finding["beyond_middle"].value == pytest.approx(0.5)
    assert finding.verdict.names[0] == "flips"
    assert not any("without" in caveat for caveat in finding.caveats)
    unlabeled = Occlusion().conclude(rows_of({"label": None}), ABOUT)
    assert any("1 image without" in caveat for caveat in unlabeled.caveats)


@pytest.mark.parametrize(
    ("falls", "wanted"),
    [([1.0] * 20, 0.1), ([2.0] + [0.0] * 19, 1.0), ([1.0] * 4 + [0.0] * 16, 0.5), ([3.0, -5.0] + [0.0] * 3, 0.5)],
)
def test_concentration(falls: list[float], wanted: float) -> None:
    """In the last case a tenth of five places is half a place, which counts by half."""
    import numpy as np

    assert concentration(np.array(falls)) == pytest.approx(wanted)


def test_illustrations_show_the_worst_first() -> None:
    tool = Occlusion(size_share=0.25, stride_share=0.25, fill="black")
    classifier = toy(Spot(), TWO)
    dark = Sample("dark.png", torch.zeros(3, 16, 16, dtype=torch.uint8), 1)
    batch = classifier.see([dark, spotted()], [1, 0])
    rows = tool.start(classifier).observe(batch)
    assert tool.examples(rows) == ["spot.png", "dark.png"]
    (panel,) = tool.illustrate(classifier, batch, rows)
    first = panel.figures[0]
    assert first.caption == "spot: P 1.00 unhidden, 0.00 at worst"
    assert first.pixels is not None
    assert first.pixels.shape == (16, 16, 3)
    fall, changes = first.maps
    assert (fall.kind, fall.low, fall.high) == ("heat", 0.0, pytest.approx(1.0, abs=1e-3))
    where, none = (2, 1), [None] * 4
    assert fall.values[2][1] == pytest.approx(1.0, abs=1e-3)
    assert [value for at, value in np.ndenumerate(np.array(fall.values)) if at != where] == [None] * 15
    assert (changes.kind, changes.legend) == ("labels", ("nothing",))
    assert changes.values == [none, none, [None, 0, None, None], none]
    assert "1 of 16 places" in changes.name
    assert panel.figures[1].maps[0].values == [none] * 4
    assert len(panel.figures[1].maps) == 1


def test_look_says_how_many_places_change_the_answer_and_to_what() -> None:
    tool = Occlusion(size_share=0.25, stride_share=0.25, fill="black")
    classifier = toy(Spot(), TWO)
    batch = classifier.see([spotted()])
    seen = tool.look(classifier, batch, tool.start(classifier).observe(batch))
    assert "1 of 16 places change that, mostly to nothing; P(spot) falls from 1.00 to 0.00" in seen.sentence
    (panel,) = seen.panels
    assert [m.kind for m in panel.figures[0].maps] == ["heat", "labels"]
    dark = classifier.see([Sample("dark.png", torch.zeros(3, 16, 16, dtype=torch.uint8))])
    seen = tool.look(classifier, dark, tool.start(classifier).observe(dark))
    assert "still does" in seen.sentence
    assert "stays at" in seen.sentence
    assert [m.kind for m in seen.panels[0].figures[0].maps] == ["heat"]


@pytest.mark.parametrize("setting", [{"size_share": 0}, {"size_share": 1.5}, {"stride_share": 0}, {"images": 0}])
def test_parameters_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(CueError, match="size_share"):
        build("occlusion", setting)


def test_grid_covers_everything_with_whole_squares() -> None:
    for size, side, stride in [(224, 50, 10), (64, 14, 4), (7, 3, 2), (5, 9, 2), (6, 6, 6), (9, 2, 5)]:
        grid = Occlude(side, stride, (0, 0, 0)).grid(size, size + 1)
        assert (grid.height, grid.width) == (min(side, size), min(side, size + 1))
        assert grid.tops[0] == 0
        assert grid.tops[-1] + grid.height == size
        assert grid.lefts[-1] + grid.width == size + 1
        assert all(b - a <= stride for a, b in zip(grid.tops, grid.tops[1:], strict=False))


def test_a_square_below_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Occlude(0, 1, (0, 0, 0))


def test_cover_leaves_the_image_and_the_rest_of_each_copy() -> None:
    pixels = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    covered = cover(pixels, [Rectangle(1, 2, 3, 5)], (0.1, 0.2, 0.3))[0]
    assert torch.equal(pixels, before)
    assert covered[:, 1:3, 2:5].amax((1, 2)).tolist() == pytest.approx([0.1, 0.2, 0.3])
    covered[:, 1:3, 2:5] = pixels[:, 1:3, 2:5]
    assert torch.equal(covered, pixels)


def test_cover_with_a_color_for_each_and_the_mean_inside() -> None:
    pixels = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    rectangles = [Rectangle(0, 0, 2, 3), Rectangle(3, 1, 6, 2)]
    paints = means(pixels, rectangles)
    assert torch.allclose(paints[1], pixels[:, 3:6, 1:2].mean((1, 2)))
    covered = cover(pixels, rectangles, paints)
    assert torch.allclose(covered[0, :, 0:2, 0:3], paints[0, :, None, None].expand(3, 2, 3))
    assert torch.equal(covered[1, :, 0:2, 0:3], pixels[:, 0:2, 0:3])
    assert torch.allclose(covered[1, :, 3:6, 1:2], paints[1, :, None, None].expand(3, 3, 1))


@pytest.mark.real
def test_a_real_network_looks_at_the_thing(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_folder

    weights = data / "weights" / "squeezenet1_1.safetensors"
    classifier = load(f"torchvision/squeezenet1_1@{weights}")
    images = read_folder(data / "imagenet-sample")
    samples = [images.read(i) for i in (0, len(images) // 2)]
    tool = Occlusion(stride_share=0.2)
    rows = tool.start(classifier).observe(classifier.see(samples))
    assert rows["largest_drop"].min() > 0.02  # type: ignore[operator]
    assert all(len(p) == len(t) * len(x) for p, t, x in rows.select("p", "tops", "lefts").iter_rows())


def test_the_strongest_map_is_followed_under_the_square() -> None:
    """Figure 7 b and c: the sum of the map at each place, against one pass for each, and what excites it."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    for parameter in body.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    classifier = Classifier(body, classes=["a", "b", "c", "d"], preprocessing=plain(16))
    tool = Occlusion(size_share=0.25, stride_share=0.25, fill="black", followed=1)
    batch = classifier.see([spotted(), Sample("dark.png", torch.zeros(3, 16, 16, dtype=torch.uint8), 1)], [0, 1])
    rows = tool.start(classifier).observe(batch)
    (panel,) = tool.illustrate(classifier, batch, rows)
    followed, other = panel.figures
    assert other.maps[0].name.startswith(f"fall of P({'a' if 'a:' in other.caption else 'b'}) from 0.")
    assert len(followed.insets) == 1
    first = batch.ids.index(tool.examples(rows)[0])
    maps = classifier.features(batch.pixels, ["1"])["1"]
    channel = int(maps[first].amax((1, 2)).argmax())
    assert followed.maps[0].name == f"fall of map {channel} of 1, as a share of its sum"
    whole = float(maps[first, channel].sum())
    for (i, j), value in np.ndenumerate(np.array(followed.maps[0].values)):
        hidden = batch.pixels[first : first + 1].clone()
        hidden[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = 0
        fall = 1 - float(classifier.features(hidden, ["1"])["1"][0, channel].sum()) / whole
        assert value == (pytest.approx(fall, rel=1e-4) if fall >= 0.05 else None)


def test_what_excites_a_map_elsewhere_is_of_all_images_that_were_looked_at() -> None:
    """Eight images, of which four are shown: the map is strongest in the two whose answer depends on it least."""
    body = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    body[0].weight.data.fill_(1 / 3)
    head = nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[5.0], [0.0]])
    classifier = Classifier(nn.Sequential(body, head), classes=["a", "b"], preprocessing=plain(16))
    samples = []
    for i in range(8):
        pixels = torch.full((3, 16, 16), 250 if i > 5 else 0, dtype=torch.uint8)
        pixels[:, :4, :4] = 255 if i > 5 else 100 + i
        samples.append(Sample(f"{i}", pixels, framing="stimulus"))
    tool = Occlusion(size_share=0.25, stride_share=0.25, fill="black", followed=1)
    rows = tool.start(classifier).observe(classifier.see(samples))
    chosen = tool.examples(rows)
    assert len(chosen) <= 12
    assert {"6", "7"} <= set(chosen[4:])
    batch = classifier.see([s for s in samples if s.id in chosen])
    (panel,) = tool.illustrate(classifier, batch, rows.filter(pl.col("id").is_in(chosen)))
    assert len(panel.figures) == 4
    assert panel.figures[0].insets


def test_a_black_box_has_no_map_to_follow() -> None:
    box = Classifier(lambda x: x.mean((2, 3)), classes=["a", "b", "c"], preprocessing=plain(16))
    batch, tool = box.see([spotted()], [0]), Occlusion(size_share=0.5, stride_share=0.5)
    (panel,) = tool.illustrate(box, batch, tool.start(box).observe(batch))
    assert panel.figures[0].maps[0].name.startswith("fall of P(")
    assert not panel.figures[0].insets
