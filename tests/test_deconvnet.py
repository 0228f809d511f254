"""The strongest units of an image, and where their projections lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import cuescope
from cuescope.api.look import look
from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Batch, Box, Sample
from cuescope.data.ops.convert import GAP_PX
from cuescope.data.ops.objects import object_mask
from cuescope.data.ops.tiles import SIDE_PX
from cuescope.instruments.base import Misfit
from cuescope.instruments.deconvnet import Deconvnet
from cuescope.world.images import WorldImages
from toys import COLORS, plain

ABOUT = About("toy", "toys", COLORS.names)


def spots() -> Classifier:
    """Units for red, green and blue in patches of 2 px, and a second layer over all of them."""
    body = nn.Sequential(
        nn.Conv2d(3, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    for part in (body[0], body[2]):
        part.weight.data.zero_()
        part.bias.data.zero_()
        for k in range(3):
            part.weight.data[k, k] = 1.0
    return Classifier(body, classes=COLORS, preprocessing=plain(8), name="spots")


def red_spot(mask: bool = True) -> Sample:
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    pixels[0, 2:4, 4:6] = 255
    pixels[1, 6:8, 0:2] = 100
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[2:4, 4:6] = True
    return Sample("spot", pixels, 0, mask=where if mask else None, framing="stimulus")


def see(net: Classifier, *samples: Sample) -> Batch:
    return net.see(samples, [0] * len(samples))


def test_the_strongest_units_and_where_their_projections_lie() -> None:
    net, tool = spots(), Deconvnet(layers=("3",), units=2)
    rows = tool.start(net).observe(see(net, red_spot())).sort("rank")
    assert rows["channel"].to_list() == [0, 1]
    assert rows["value"].to_list() == pytest.approx([4.0, 4 * 100 / 255])
    # Red's projection is the red spot; green's is another, beside the object.
    assert rows["on_object"].to_list() == pytest.approx([1.0, 0.0])
    assert rows["object"].to_list() == pytest.approx([4 / 64] * 2)
    assert rows["focus"].to_list() == pytest.approx([1.0, 1.0])
    finding = tool.conclude(rows, ABOUT)
    assert finding["on_object"].value == pytest.approx(0.5)
    assert finding["on_object"].n == 1, "images, not units"
    assert finding["on_object"].chance == pytest.approx(4 / 64)
    # Turned by 180 degrees, the spot at rows 2 to 4 and columns 4 to 6 lies at rows 4 to 6 and columns 2 to 4.
    assert rows["turned"].to_list() == [0.0, 0.0]
    assert finding["above_share"].value == pytest.approx(0.5 - 4 / 64)
    assert finding["beyond_middle"].value == pytest.approx(0.5)


def test_where_no_object_is_known_the_energy_is_still_measured() -> None:
    net, tool = spots(), Deconvnet(layers=("3",), units=1)
    finding = tool.conclude(tool.start(net).observe(see(net, red_spot(mask=False))), ABOUT)
    assert finding["on_object"].value is None
    assert finding["focus"].value == pytest.approx(1)


def test_units_can_be_named() -> None:
    net, tool = spots(), Deconvnet(layers=("1",), channels=(2, 1, 77))
    rows = tool.start(net).observe(see(net, red_spot()))
    assert rows["channel"].to_list() == [2, 1]
    # Nothing is blue: a unit that is not excited has no projection.
    assert rows["focus"].null_count() == 1
    (panel,) = tool.illustrate(net, see(net, red_spot()), rows)
    assert panel.figures[0].insets[0].name == "1, unit 1"


def test_the_figure_holds_the_projections() -> None:
    net, tool = spots(), Deconvnet(layers=("1", "3"), units=1)
    batch = see(net, red_spot())
    (panel,) = tool.illustrate(net, batch, tool.start(net).observe(batch))
    (figure,) = panel.figures
    assert [inset.name for inset in figure.insets] == ["1, unit 0", "3, unit 0"]
    shown = figure.insets[0].pixels
    assert shown is not None
    # Each sees 2 px: the projection, of even red, and the crop, a red that is all there is.
    assert shown.shape == (SIDE_PX, 2 * SIDE_PX + GAP_PX, 3)
    assert (shown[:, :SIDE_PX] == [255, 128, 128]).all()
    assert (shown[:, -SIDE_PX:] == [255, 0, 0]).all()


def test_a_network_without_rules_is_refused_with_the_reason() -> None:
    vit = VisionTransformer(img_size=32, patch_size=8, num_classes=3, embed_dim=12, depth=2, num_heads=2)
    net = Classifier(vit, classes=COLORS, preprocessing=plain(32))
    with pytest.raises(Misfit, match=r"attention.*gelu|gelu.*attention"):
        Deconvnet(units=1).start(net)
    tool = Deconvnet(units=1, variant="gradient")
    batch = see(net, Sample("one", torch.full((3, 32, 32), 99, dtype=torch.uint8)))
    found = tool.conclude(tool.start(net).observe(batch), About("vit", "toys", net.classes.names))
    assert found["focus"].value is not None


def test_a_layer_without_rules_is_left_out_with_the_reason() -> None:
    body = nn.Sequential(nn.Conv2d(3, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.GELU())
    net = Classifier(nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten()), classes=COLORS, preprocessing=plain(8))
    tool = Deconvnet(layers=("0.1", "0.3"), units=1)
    observer = tool.start(net)
    rows = observer.observe(see(net, red_spot()))
    assert rows["layer"].unique().to_list() == ["0.1"]
    found = tool.conclude(rows, About("net", "toys", COLORS.names, facts=observer.facts))
    assert any("gelu" in caveat for caveat in found.caveats)


def test_look_draws_it_and_refuses_wrong_layers(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    path, sentence = look("deconvnet", "cuescope/world-shape", tmp_path / "teal.png", out=tmp_path / "out.png")
    with Image.open(path) as shown:
        assert shown.width > 600
    assert "of what excites it" in sentence
    with pytest.raises(CueError, match="unknown layer 'layer33'"):
        look("deconvnet", "cuescope/world-shape", tmp_path / "teal.png", settings={"layers": "layer33"})


def test_the_shape_model_looks_at_the_object() -> None:
    net, tool = cuescope.load("cuescope/world-shape"), Deconvnet(units=2)
    images = WorldImages("congruent", count=24, seed=5)
    samples = [images.read(i) for i in range(24)]
    finding = tool.conclude(tool.start(net).observe(net.see(samples)), About("shape", "world", net.classes.names))
    found = finding["on_object"]
    assert found.interval is not None
    assert found.interval[0] > (found.chance or 1)
    assert finding.verdict.names == ("focus", "object")


def test_the_object_is_where_the_classifier_sees_the_boxes_of_its_class() -> None:
    """Boxes of a wide photograph, which is center-cropped; what the crop cuts away is not seen."""
    how, pixels = plain(8), torch.zeros(3, 8, 24, dtype=torch.uint8)
    boxes = (Box(6, 2, 10, 4, "cat"), Box(14, 0, 24, 8, "dog"), Box(20, 0, 24, 8, "cat"))
    seen = object_mask(Sample("wide", pixels, boxes=boxes), how)
    assert seen is not None
    assert seen.nonzero().tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]
    assert object_mask(Sample("wide", pixels, boxes=boxes[2:]), how) is None
    assert object_mask(Sample("wide", pixels), how) is None


def test_beside_the_pictures_stand_those_of_random_weights() -> None:
    net, tool = cuescope.load("cuescope/world-shape"), Deconvnet(layers=("layer3.0",), units=1)
    batch = see(net, WorldImages("congruent", count=1).read(0))
    (panel,) = tool.illustrate(net, batch, tool.start(net).observe(batch))
    assert "that of random weights in 'layer3.0' is 0." in panel.figures[0].caption
    seen = tool.look(net, batch, tool.start(net).observe(batch))
    assert "that of random weights in 'layer3.0' is 0." in seen.sentence


def test_look_names_the_strongest_unit_of_the_last_layer_and_how_local_its_cause_is() -> None:
    net, tool = spots(), Deconvnet(layers=("1", "3"), units=1)
    batch = see(net, red_spot())
    seen = tool.look(net, batch, tool.start(net).observe(batch))
    assert "of '3' unit 0 is the strongest, and a tenth of the pixels holds 100%" in seen.sentence
    assert [inset.name for inset in seen.panels[0].figures[0].insets] == ["1, unit 0", "3, unit 0"]
