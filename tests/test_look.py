"""What `look` draws and says of one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cuescope.api.look import look
from cuescope.core.errors import CueError
from cuescope.core.findings import Look
from cuescope.data.images import Sample
from cuescope.instruments.accuracy import Accuracy
from cuescope.instruments.base import Instrument
from cuescope.instruments.cue_suppression import CueSuppression
from cuescope.instruments.shift_consistency import ShiftConsistency
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.instruments.typicality import _framed
from cuescope.instruments.worst_shift import WorstShift
from test_shift_map import Corner
from toys import Constant, MeanColor, toy


def of(tool: Instrument, module: torch.nn.Module, pixels: torch.Tensor, size: int = 48, label: int = -1) -> Look:
    classifier = toy(module, size=size)
    batch = classifier.see([Sample("a.png", pixels)], [label])
    return tool.look(classifier, batch, tool.start(classifier).observe(batch))


def green(side: int = 64) -> torch.Tensor:
    """Green by far, and no other color in gray."""
    pixels = torch.full((3, side, side), 40, dtype=torch.uint8)
    pixels[1] = 200
    return pixels


def test_without_color_a_network_of_color_says_something_else() -> None:
    seen = of(CueSuppression(), MeanColor(), green())
    assert [frame.caption for frame in seen.frames] == [
        "as it is",
        *(f"without {cue}" for cue in ("global shape", "local shape", "texture", "color")),
    ]
    assert [frame.rank for frame in seen.frames] == [0, 0, 0, 0, 1]
    assert np.ptp(seen.frames[4].pixels.astype(int), axis=2).max() <= 1, "gray"
    assert "without color: red" in seen.sentence
    assert seen.sentence.endswith("the answer stays without global shape, local shape and texture.")


def test_a_window_that_moves_by_a_pixel_and_one_that_changes_nothing() -> None:
    pixels = torch.zeros(3, 66, 66, dtype=torch.uint8)
    pixels[:, 1, 0] = 255
    seen = of(WorstShift(), Corner(), pixels, size=64)
    first, second = seen.frames
    assert (first.answer, second.answer) == ("red", "green")
    assert second.caption == "moved 1 px left"
    assert (second.pixels[0, 0] == 255).all()
    assert "with the window moved 1 px left it says green" in seen.sentence
    (only,) = of(WorstShift(), Constant(), green()).frames
    assert (only.pixels == green()[:, 8:56, 8:56].permute(1, 2, 0).numpy()).all()


def test_pairs_of_a_constant_network_do_not_change() -> None:
    for tool in (ShiftStability(), ShiftConsistency()):
        seen = of(tool, Constant(), green())
        first, second = seen.frames
        assert (first.answer, first.probability) == (second.answer, second.probability)
        assert "not change" in seen.sentence or "both crops" in seen.sentence


def test_a_flip_is_shown_before_what_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
    seen = of(ShiftStability(), Corner(), pixels, size=64)
    pairs = list(zip(seen.frames[::2], seen.frames[1::2], strict=True))
    assert all(before.answer != after.answer for before, after in pairs)
    assert f"{pairs[0][0].answer} (" in seen.sentence


def test_the_label_has_its_place_among_the_answers() -> None:
    seen = of(Accuracy(), MeanColor(), green(), label=0)
    assert "it is red" in seen.sentence
    assert "ranks 2nd" in seen.sentence
    bars = seen.panels[1].data["rows"]
    assert bars[0]["label"] == "green"
    assert sum(row["value"] for row in bars) == pytest.approx(1)
    assert "label" not in of(Accuracy(), MeanColor(), green()).sentence


def test_what_needs_a_set_is_refused_before_the_model_is_asked(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(CueError, match="shape_bias has nothing to show of one image") as error:
        look("shape_bias", "no/such/model", tmp_path / "a.png")
    assert error.value.do.endswith("cuescope audit MODEL --images DIR --only shape_bias")
    assert "accuracy" in error.value.wanted
    assert "layer_cues" not in error.value.wanted


def test_a_box_is_framed_where_it_lies() -> None:
    row = {"x": 0.5, "y": 0.25, "width": 0.5, "height": 0.5}
    drawn = _framed(np.full((40, 40, 3), 128, np.uint8), row)
    assert (drawn[0, 10:30] == 0).all()
    assert (drawn[1, 11:29] == 255).all()
    assert (drawn[19, 10:30] == 0).all()
    assert (drawn[4:16, 14:26] == 128).all()
    assert (drawn[20:] == 128).all()
