"""The evidence map: exact, on the right place, and refused where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About
from cuescope.data.images import Box, Framing, Sample
from cuescope.data.preprocessing import Preprocessing
from cuescope.instruments import registry
from cuescope.instruments.evidence import Evidence
from cuescope.network.place import Place
from cuescope.network.receptive import Extent
from cuescope.world.images import WorldImages
from toys import COLORS, Constant, colored, plain, toy


def about(one: Classifier) -> About:
    return About("toy", "toys", COLORS.names, COLORS.name, Evidence().start(one).facts)


class Patches(torch.nn.Module):
    """Each patch of 4 x 4 px, 4 px apart, speaks for red, green and blue by its own mean."""

    receptive_field_px = 4
    stride_px = 4
    wrong = 0.0

    def patch_logits(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.patch_logits(pixels).mean((2, 3)) + self.wrong


def spot() -> Sample:
    """Red in one patch, known by a mask."""
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[0, 4:8, 8:12] = 255
    return Sample("spot", pixels, label=0, mask=pixels[0] > 0, framing="stimulus")


def classifier(module: torch.nn.Module) -> Classifier:
    return Classifier(module.eval(), classes=COLORS, preprocessing=plain(16), name="patches")


def test_the_map_is_the_patches_and_hits_the_object() -> None:
    patches = classifier(Patches())
    row = Evidence(raw=True).observe(patches, patches.see([spot()], [0])).row(0, named=True)
    expected = np.zeros((4, 4))
    expected[1, 2] = 1
    assert np.reshape(row["map"], (4, 4)) == pytest.approx(expected)
    assert row["logit"] == pytest.approx(1 / 16)
    against = Evidence().observe(patches, patches.see([spot()], [0])).row(0, named=True)
    assert np.reshape(against["map"], (4, 4)) == pytest.approx(expected * 2 / 3), "less the mean of the three classes"
    assert row["gap"] < 1e-6
    assert row["hit"] is True
    assert row["top_part"] == pytest.approx(1.0)
    assert (row["by_chance"], row["beyond_chance"]) == (1 / 16, 15 / 16)
    missed = replace(spot(), mask=spot().mask.roll(4, 1))  # type: ignore[union-attr]
    assert Evidence().observe(patches, patches.see([missed], [0]))["hit"].to_list() == [False]
    nowhere = replace(spot(), mask=torch.zeros(16, 16, dtype=torch.bool))
    assert Evidence().observe(patches, patches.see([nowhere], [0]))["hit"].to_list() == [None]


@pytest.mark.parametrize("framing", ["photograph", "stimulus"])
def test_boxes_lie_where_the_classifier_sees_them(framing: Framing) -> None:
    """A photograph of 20 x 32 px, of which the middle 16 x 16 px are seen, and as a stimulus squeezed into them."""
    pixels = torch.zeros(3, 20, 32, dtype=torch.uint8)
    pixels[0, 2:18, 24:32] = 255
    patches = Classifier(
        Patches(), classes=COLORS, preprocessing=Preprocessing((16, 16), 20, "nearest"), name="patches"
    )
    boxes = (Box(24, 2, 32, 18, "red"), Box(0, 0, 10, 20, "green"))
    photo = Sample("a.jpg", pixels, 0, boxes=boxes, framing=framing)
    row = Evidence().observe(patches, patches.see([photo], [0])).row(0, named=True)
    # All that the crop shows is black, the object is cut away; squeezed, it is a quarter of the width, three rows high.
    assert (row["hit"], row["by_chance"]) == ((True, 3 / 16) if framing == "stimulus" else (None, None))
    wide = replace(photo, boxes=(Box(16, 0, 32, 20, "red"), *boxes[1:]))
    row = Evidence().observe(patches, patches.see([wide], [0])).row(0, named=True)
    assert row["by_chance"] == pytest.approx(0.5), "the other class's box does not count"


def test_what_is_added_to_all_logits_changes_nothing() -> None:
    class Brighter(Patches):
        def patch_logits(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().patch_logits(pixels) + 3 + 5 * torch.nn.functional.avg_pool2d(pixels, 4).sum(1, keepdim=True)

    found = {}
    for raw in (False, True):
        for module in (Patches, Brighter):
            one = classifier(module())
            rows = Evidence(raw=raw).observe(one, one.see([spot(), *colored(3)], [0, 0, 1, 2]))
            found[raw, module] = rows["top_part"].to_list()
    assert found[False, Brighter] == pytest.approx(found[False, Patches], abs=1e-5)
    assert found[True, Brighter] != pytest.approx(found[True, Patches], abs=1e-2)


def test_a_map_that_does_not_add_up_is_refused() -> None:
    module = Patches()
    module.wrong = 0.5
    patches = classifier(module)
    with pytest.raises(RuntimeError, match="not an evidence map"):
        Evidence().observe(patches, patches.see([spot()], [0]))


def test_the_map_lies_where_the_patches_are() -> None:
    nine = Extent(start_px=0, stride_px=8, size_px=9)
    x0, y0, x1, y1 = Place.of_fields(nine, nine, shape=(3, 3), size=(25, 25)).extent
    # The middles of the patches are at 4.5, 12.5 and 20.5 px: a cell of 8 px around each.
    assert (x0 * 25, x1 * 25, y0 * 25, y1 * 25) == pytest.approx((0.5, 24.5, 0.5, 24.5))


def test_a_padded_network_is_not_called_local() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 5, padding=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    padded = classifier(net)
    rows = Evidence().observe(padded, padded.see([spot()], [0]))
    finding = Evidence().conclude(rows, about(padded))
    assert about(padded).facts == {"local": False, "field_px": 5}
    assert finding["identity_gap"].value == pytest.approx(0, abs=1e-5)
    assert finding["receptive_field"].value == 5
    assert finding.caveats[0].startswith("Not local: each position of this class activation map sees 5 x 5 pixels")
    assert finding.verdict.names[0] == "not_local"
    panel = next(iter(Evidence().illustrate(padded, padded.see([spot()], [0]), rows)))
    assert [m.name for m in panel.figures[0].maps] == ["class activation for red (logits)"]


def test_a_head_that_is_not_linear_has_no_identity() -> None:
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3), torch.nn.GELU())
    curved = classifier(net)
    finding = Evidence().conclude(Evidence().observe(curved, curved.see([spot()], [0])), about(curved))
    assert finding["identity_gap"].value is None
    assert "not linear" in finding["identity_gap"].why


def test_bagnets_also_show_the_display_heatmap() -> None:
    bagnet = cuescope.load("cuescope/world-bagnet")
    images = WorldImages(count=2)
    batch = bagnet.see([images.read(0), images.read(1)], [0, 1])
    tool = Evidence(display=1)
    panel = next(iter(tool.illustrate(bagnet, batch, tool.observe(bagnet, batch))))
    assert [len(f.maps) for f in panel.figures] == [2, 1]
    assert panel.figures[0].maps[0].name.startswith("evidence for ")
    assert np.shape(panel.figures[0].maps[1].values) == (64, 64)


def test_look_says_how_much_the_strongest_patches_hold_and_maps_them() -> None:
    patches = classifier(Patches())
    batch = patches.see([spot()])
    rows = Evidence().observe(patches, batch)
    seen = Evidence().look(patches, batch, rows)
    assert "by themselves; the strongest 10% of them hold" in seen.sentence
    assert f"{rows['top_part'][0]:.0%} of the evidence for {patches.classes.names[rows['target'][0]]}" in seen.sentence
    (layer,) = seen.panels[0].figures[0].maps
    assert np.ravel(layer.values) == pytest.approx(rows["map"][0].to_list(), abs=1e-4)


def test_the_evidence_of_the_worlds_bagnet_falls_on_the_object() -> None:
    bagnet, images = cuescope.load("cuescope/world-bagnet"), WorldImages("congruent", count=96, seed=5)
    samples = [images.read(i) for i in range(96)]
    rows = Evidence().observe(bagnet, bagnet.see(samples, [s.label or 0 for s in samples]))
    pointing = Evidence().conclude(rows, about(bagnet))["pointing_game"]
    assert pointing.interval is not None
    assert pointing.interval[0] >= 0.9


def test_others_are_told_why_it_does_not_apply() -> None:
    why = registry.unmet(Evidence(), toy(Constant()), WorldImages(count=1))
    assert "toy has no dense head" in why
