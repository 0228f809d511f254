"""The evidence map: exact, on the right place, and refused where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cuescope import instrument
from cuescope.classifier import Classifier
from cuescope.images import Sample
from cuescope.instrument import About
from cuescope.instruments.evidence import Evidence, _extent
from cuescope.world.images import WorldImages
from toys import COLORS, MeanColor, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


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
    row = Evidence().observe(patches, patches.see([spot()], [0])).row(0, named=True)
    expected = np.zeros((4, 4))
    expected[1, 2] = 1
    assert np.reshape(row["map"], (4, 4)) == pytest.approx(expected)
    assert row["logit"] == pytest.approx(1 / 16)
    assert row["gap"] < 1e-6
    assert row["hit"] is True
    assert row["top_part"] == pytest.approx(1.0)
    missed = Sample("miss", spot().pixels, label=0, mask=torch.zeros(16, 16, dtype=torch.bool), framing="stimulus")
    assert Evidence().observe(patches, patches.see([missed], [0]))["hit"].to_list() == [False]


def test_a_map_that_does_not_add_up_is_refused() -> None:
    module = Patches()
    module.wrong = 0.5
    patches = classifier(module)
    with pytest.raises(RuntimeError, match="not an evidence map"):
        Evidence().observe(patches, patches.see([spot()], [0]))


def test_the_map_lies_where_the_patches_are() -> None:
    told = {"field_px": 9, "stride_px": 8, "width": 3, "height": 3}
    x0, y0, x1, y1 = _extent(told, (25, 25))
    # The middles of the patches are at 4.5, 12.5 and 20.5 px: a cell of 8 px around each.
    assert (x0 * 25, x1 * 25, y0 * 25, y1 * 25) == pytest.approx((0.5, 24.5, 0.5, 24.5))


def test_others_are_told_why_it_does_not_apply() -> None:
    why = instrument.unmet(Evidence(), toy(MeanColor()), WorldImages(count=1))
    assert "toy has no patch logits" in why
