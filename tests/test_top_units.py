"""The images that excite each unit most: the right ones, at the right place, over any number of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

import cuescope
from cuescope.api.audit import audit
from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import GAP_PX
from cuescope.data.ops.tiles import contrast, sheet, tile
from cuescope.instruments.base import Misfit
from cuescope.instruments.top_units import TILE_PX, TopUnits
from cuescope.methods.strongest import strongest_of
from cuescope.world.images import WorldImages
from toys import COLORS, Images, MeanColor, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def colors() -> Classifier:
    """Units that are excited by red, green and blue, in patches of 2 px, and one that nothing excites."""
    conv = nn.Conv2d(3, 4, 2, 2)
    conv.weight.data.zero_()
    conv.bias.data.zero_()  # type: ignore[union-attr]
    for k in range(3):
        conv.weight.data[k, k] = 0.25
    body = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(body, classes=[*COLORS.names, "none"], preprocessing=plain(8), name="colors")


def spot(name: str, channel: int, level: int, at: tuple[int, int], label: int | None = None) -> Sample:
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    pixels[channel, at[0] : at[0] + 2, at[1] : at[1] + 2] = level
    return Sample(name, pixels, label=label, framing="stimulus")


def see(net: Classifier, samples: list[Sample]) -> Batch:
    return net.see(samples, [-1 if s.label is None else s.label for s in samples])


def unit(rows: pl.DataFrame, channel: int, layer: str = "1") -> list[dict[str, Any]]:
    return rows.filter((pl.col("channel") == channel) & (pl.col("layer") == layer)).to_dicts()


def test_each_unit_keeps_its_strongest_images_and_where_it_was() -> None:
    net = colors()
    samples = [spot("a", 0, 100, (2, 4), 0), spot("b", 0, 200, (6, 0), 0), spot("c", 1, 250, (0, 2), 1)]
    rows = TopUnits(layers=("1",), best=2).start(net).observe(see(net, samples))
    first, second = unit(rows, 0)[:2]
    assert (first["id"], second["id"]) == ("b", "a")
    assert first["value"] == pytest.approx(200 / 255)
    assert divmod(first["place"], first["columns"]) == (3, 0)
    assert divmod(second["place"], second["columns"]) == (1, 2)
    assert unit(rows, 1)[0]["id"] == "c"
    assert (first["class"], first["field_px"]) == (0, 2)


def strongest(tool: TopUnits, rows: pl.DataFrame, channel: int) -> list[str]:
    return [row["id"] for row in unit(strongest_of(tool.reduce(rows), tool.best), channel)]


def test_images_that_tie_for_a_place_have_none_and_chunks_do_not_matter() -> None:
    net, tool = colors(), TopUnits(layers=("1",), best=2)
    levels = {"first": 200, "second": 90, "third": 90, "fourth": 50}
    samples = [spot(name, 0, level, (0, 0), 0) for name, level in levels.items()]
    batch = see(net, samples)
    whole = tool.reduce(tool.start(net).observe(batch))
    assert strongest(tool, whole, 0) == ["first"]
    assert strongest(tool, tool.start(net).observe(batch.select([0, 1])), 0) == ["first", "second"]
    assert strongest(tool, whole, 1) == [], "an activation of 0 is none"
    parts = [tool.start(net).observe(batch.select([i])) for i in range(4)]
    kept = tool.reduce(pl.concat([tool.reduce(pl.concat(parts[:2])), *parts[2:]]))
    assert kept.equals(whole)


def test_an_image_without_a_label_counts_for_the_answer() -> None:
    net = colors()
    rows = TopUnits(layers=("1",)).start(net).observe(see(net, [spot("a", 2, 200, (0, 0))]))
    assert unit(rows, 2)[0]["class"] == 2


def test_purity_dead_units_and_chance() -> None:
    net, tool = colors(), TopUnits(layers=("1",), best=2)
    # Red's two strongest are of one class, green's of two, blue has but one image that excites it.
    lit = [(0, 200, 0), (0, 150, 0), (1, 200, 1), (1, 150, 0), (2, 100, 2), (2, 90, 2)]
    samples = [spot(f"{i}", channel, level, (0, 0), label) for i, (channel, level, label) in enumerate(lit)]
    finding = tool.conclude(tool.start(net).observe(see(net, samples)), ABOUT)
    assert (finding["one_class"].count, finding["one_class"].n) == (2, 3)
    assert finding["purity"].value == pytest.approx((1 + 0.5 + 1) / 3)
    assert (finding["dead"].count, finding["dead"].n) == (1, 4)
    assert 0.5 < (finding["purity"].chance or 0) < 1


def test_where_no_class_has_two_images_no_share_is_given() -> None:
    net = colors()
    samples = [spot(f"{k}", 0, 200 - k, (0, 0), k) for k in range(3)]
    finding = TopUnits(layers=("1",)).conclude(TopUnits(layers=("1",)).start(net).observe(see(net, samples)), ABOUT)
    assert finding["one_class"].value is None
    assert "no class has two images" in finding["one_class"].why


def test_the_figures_show_the_crop_that_the_unit_saw() -> None:
    net, tool = colors(), TopUnits(layers=("1",), best=1, channels=(0,))
    samples = [spot("a", 0, 200, (2, 4), 0)]
    batch = see(net, samples)
    rows = tool.start(net).observe(batch)
    assert tool.examples(rows) == ["a"]
    (panel,) = tool.illustrate(net, batch, rows)
    (figure,) = panel.figures
    assert figure.pixels is not None
    assert figure.pixels.shape[0] == TILE_PX
    assert figure.caption == "1, unit 0: no class twice"
    grid = 3 * TILE_PX + 2 * GAP_PX
    projection, crop = figure.pixels[:, :TILE_PX], figure.pixels[:, -grid : TILE_PX - grid]
    assert (crop == [200, 0, 0]).all()
    # The unit's filter is even and red: so is its projection, on the middle gray of the two other colors.
    assert (projection == [255, 128, 128]).all()


def test_the_crop_is_what_the_position_can_see() -> None:
    """Pixels outside of the crop do not move the unit, and all of the crop's can."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.MaxPool2d(3, 2), nn.Conv2d(4, 5, 3), nn.Flatten())
    net = Classifier(module, preprocessing=plain(32), classes=[str(i) for i in range(125)])
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    top, left, bottom, right = net.receptive_fields["2"].window(2, 3, (32, 32))
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., top:bottom, left:right] = 1
    before = net.features(x, ["2"])["2"][0, :, 2, 3]
    assert torch.equal(net.features(x * inside, ["2"])["2"][0, :, 2, 3], before)
    assert not torch.equal(net.features(x * (1 - inside), ["2"])["2"][0, :, 2, 3], before)


def test_watched_layers_need_no_pass_of_their_own() -> None:
    net, tool = colors(), TopUnits(layers=("1", "0"))
    passes = []
    batch = see(net, [spot("a", 0, 200, (0, 0), 0)])
    watched = net.see(batch.samples, [0], tool.start(net).watch)
    tool.start(net).observe(watched)  # finds the receptive fields
    assert net.network is not None
    handle = net.network.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        a, b = tool.start(net).observe(watched), tool.start(net).observe(batch)
    finally:
        handle.remove()
    assert a.equals(b)
    assert len(passes) == 1, "the batch that was not watched"
    assert torch.equal(watched.logits, batch.logits)
    assert set(watched.select([0]).watched) == set(watched.watched)


def test_a_network_without_rules_still_has_its_images() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net, tool = Classifier(body, classes=["a", "b", "c", "d"], preprocessing=plain(8)), TopUnits(layers=("1",), shown=1)
    batch = see(net, [spot("a", 0, 200, (2, 4), 0)])
    (panel,) = tool.illustrate(net, batch, tool.start(net).observe(batch))
    assert "gelu" in panel.caption


def test_a_network_without_maps_has_the_units_of_its_last_layer_and_one_without_layers_is_refused() -> None:
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), classes=COLORS, preprocessing=plain(8))
    rows = TopUnits().start(flat).observe(see(flat, [spot("a", 0, 200, (0, 0), 0)]))
    assert set(rows["layer"]) == {"", "1"}
    with pytest.raises(Misfit, match="no layers"):
        TopUnits().start(toy(MeanColor()))


def test_bad_layers_are_refused_before_the_first_batch(tmp_path: Path) -> None:
    images = Images([spot("a", 0, 200, (0, 0), 0)])
    wrong: Mapping[str, Any] = {"top_units.layers": "2x"}
    with pytest.raises(CueError, match="unknown layer '2x'"):
        audit(colors(), images=images, only=["top_units"], settings=wrong, out=tmp_path / "run")
    assert not list((tmp_path / "run" / "cells").glob("*/rows/*"))
    with pytest.raises(ValueError, match="at least 1"):
        TopUnits(best=0)


def test_tiles_keep_their_aspect_and_contrast_its_zero() -> None:
    wide = tile(torch.zeros(3, 4, 8), 16)
    assert wide.shape == (3, 16, 16)
    assert (wide[:, :4] == 1).all()
    assert (wide[:, 4:12] == 0).all()
    assert contrast(torch.zeros(3, 4, 4)).unique().tolist() == [0.5]
    spike = torch.zeros(3, 20, 20)
    spike[0, 0, 0], spike[1, 5:, :] = 100.0, 1.0
    assert contrast(spike)[1, 10, 10] == 1, "a single spike does not gray out the rest"
    assert sheet([[torch.zeros(3, 8, 8)] * 4], columns=3).shape == (20, 32, 3)


def test_units_of_the_shape_models_last_layer_are_of_one_class() -> None:
    """And those of an untrained network are not."""
    images, found = WorldImages("congruent", count=240, seed=4), {}
    samples = [images.read(i) for i in range(240)]
    for name in ("cuescope/world-shape", "cuescope/world-shape@random"):
        net, tool = cuescope.load(name), TopUnits(best=6)
        observer = tool.start(net)
        batch = net.see(samples, [s.label or 0 for s in samples], observer.watch)
        found[name] = tool.conclude(observer.observe(batch), About(name, "world", net.classes.names))
    good, bad = found.values()
    assert (good["one_class"].value or 0) > 0.8
    assert good["purity"].interval is not None
    assert bad["purity"].interval is not None
    assert good["purity"].interval[0] > 0.9
    assert bad["one_class"].value == 0
    assert bad["purity"].interval[1] < 0.5, "images of a class look alike: more than chance, and far from the trained"
