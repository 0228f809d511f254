"""Interaction: equality for what adds up its parts, none for what multiplies them, and the grid of parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.occlude import Rectangle, cover, means
from cuescope.instruments.base import Misfit
from cuescope.instruments.interaction import Interaction, default_parts
from cuescope.instruments.registry import build
from cuescope.methods.part_losses import losses, masked_parts
from cuescope.world.images import WorldImages
from toys import plain, toy

TWO = ClassSpace("two", ("this", "that"))
ABOUT = About("toy", "toys", TWO.names, facts={"field_px": None})


class Patches(nn.Module):
    """The mean over patches of 5 px, 4 px apart, of what each says by itself: no linear function of its pixels."""

    receptive_field_px, stride_px = 5, 4

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.see = nn.Conv2d(3, 16, 5, 4)
        self.see.weight.data = torch.randn(self.see.weight.shape, generator=generator)
        self.say = nn.Conv2d(16, 2, 1)
        self.say.weight.data = torch.randn(self.say.weight.shape, generator=generator)

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return self.say(self.see(pixels).square().relu())

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Linear(nn.Module):
    """A weighted sum of all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 24 * 24, 2)
        self.fc.weight.data = torch.randn(self.fc.weight.shape, generator=torch.Generator().manual_seed(0))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.fc(pixels.flatten(1))


class FarTogether(nn.Module):
    """How rough the left upper corner is, times how rough the right lower one is: neither alone says anything."""

    def forward(self, pixels: Tensor) -> Tensor:
        one, other = (pixels[:, :, s, s].flatten(1).var(1) for s in (slice(0, 6), slice(12, 18)))
        return torch.stack([1e4 * (one - 0.08) * (other - 0.08), torch.full_like(one, -1e6)], 1)


def noise(count: int, size: int = 24, labels: bool = False) -> list[Sample]:
    generator = torch.Generator().manual_seed(5)
    made = [torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8) for _ in range(count)]
    return [Sample(f"{i}.png", pixels, i % 2 if labels else None) for i, pixels in enumerate(made)]


def look(classifier: Classifier, samples: list[Sample], tool: Interaction) -> pl.DataFrame:
    batch = classifier.see(samples, [-1 if s.label is None else s.label for s in samples])
    return tool.start(classifier).observe(batch)


def conclude(classifier: Classifier, samples: list[Sample], tool: Interaction) -> Conclusion:
    facts = tool.start(classifier).facts
    return tool.conclude(look(classifier, samples, tool), replace(ABOUT, facts=facts))


@pytest.mark.parametrize("module", [Patches, Linear])
@pytest.mark.parametrize("part_px", [4, 6])
def test_what_adds_up_its_parts_loses_their_sum(module: type[nn.Module], part_px: int) -> None:
    tool = Interaction(parts_px=(part_px,))
    rows = look(toy(module(), TWO, size=24), noise(12), tool)
    assert rows["together"].to_list() == pytest.approx(rows["alone"].to_list(), abs=1e-3)
    assert rows["together"].abs().max() > 0.1  # type: ignore[operator]
    conclusion = tool.conclude(rows, ABOUT)
    for name in ("correlation", "slope"):
        assert conclusion[name].value == pytest.approx(1.0, abs=1e-5)
    assert conclusion["residual"].value == pytest.approx(0.0, abs=1e-5)
    assert conclusion.verdict.names == ("additive",)
    assert not any("meet in one patch" in caveat for caveat in conclusion.caveats)


def test_masks_nearer_than_a_patch_meet_in_it() -> None:
    tool = Interaction(parts_px=(2, 6))
    classifier = toy(Patches(), TWO, size=24)
    rows = look(classifier, noise(12), tool)
    near = rows.filter(pl.col("part_px") == 2)
    assert (near["together"] - near["alone"]).abs().max() > 1e-2  # type: ignore[operator]
    conclusion = conclude(classifier, noise(12), tool)
    assert conclusion["correlation"].value == pytest.approx(1.0, abs=1e-5), "the largest parts come first"
    assert conclusion["correlation_2px"].value != pytest.approx(1.0, abs=1e-3)
    assert any("sees 5 px at a time: masks of 2 px" in caveat for caveat in conclusion.caveats)


def test_what_multiplies_far_parts_does_not_add_them_up() -> None:
    tool = Interaction(parts_px=(6,))
    conclusion = conclude(toy(FarTogether(), TWO, size=24), noise(40), tool)
    correlation = conclusion["correlation"]
    assert correlation.value is not None
    assert correlation.interval is not None
    assert correlation.interval[1] < 0.9
    assert correlation.n == 40
    assert all(conclusion[name].headline for name in ("residual", "slope", "correlation"))
    assert conclusion.verdict.names == ("together",)


def test_losses_are_those_of_whole_passes() -> None:
    """The slow twin: each part masked in an image of its own, by its own mean."""
    classifier = load("cuescope/world-shape")
    world = WorldImages("congruent", count=2, seed=1)
    batch = classifier.see([world.read(0), world.read(1)])
    parts = masked_parts(64, 64, 9)
    assert len(parts) == 16
    pixels, masked = batch.pixels[1], batch.pixels[1].clone()
    alone = 0.0
    for part, paint in zip(parts, means(pixels, parts), strict=True):
        alone += float(batch.logits[1, 3] - classifier.logits(cover(pixels, [part], paint))[0, 3])
        masked[:, part.top : part.bottom, part.left : part.right] = paint[:, None, None]
    together = float(batch.logits[1, 3] - classifier.logits(masked[None])[0, 3])
    assert losses(classifier, batch, 1, parts, 3, raw=True) == pytest.approx((together, alone), abs=1e-4)
    assert abs(together - alone) > 0.1
    others = batch.logits[1].mean() - classifier.logits(masked[None])[0].mean()
    assert losses(classifier, batch, 1, parts, 3)[0] == pytest.approx(together - float(others), abs=1e-4)


def test_the_grid_takes_every_second_part_of_every_second_row() -> None:
    for size, part_px, wanted in ((224, 8, 196), (224, 16, 49), (224, 24, 25), (224, 32, 16), (10, 4, 1), (12, 4, 4)):
        parts = masked_parts(size, size, part_px)
        assert len(parts) == wanted
        assert all(part.top % (2 * part_px) == part.left % (2 * part_px) == 0 for part in parts)
        assert all(max(part.bottom, part.right) <= size for part in parts)
    assert masked_parts(4, 12, 4) == [Rectangle(0, 0, 4, 4), Rectangle(0, 8, 4, 12)]
    assert default_parts(16) == (2,), "parts of one pixel are their own mean"


def test_parts_that_leave_nothing_to_add_up_are_told() -> None:
    tool = Interaction(parts_px=(6, 12, 30))
    conclusion = conclude(toy(Linear(), TWO, size=24), noise(5), tool)
    assert conclusion["correlation"].value == pytest.approx(1.0, abs=1e-5)
    for name in ("correlation_12px", "correlation_30px"):
        assert conclusion[name].value is None
        assert "fewer than two parts" in conclusion[name].why
    only = Interaction(parts_px=(30,))
    alone = conclude(toy(Linear(), TWO, size=24), noise(5), only)
    assert "fewer than two parts" in alone["residual"].why
    assert alone.verdict.names == ("nothing",)


def test_the_label_is_followed_where_there_is_one() -> None:
    tool = Interaction(parts_px=(6,), logit="label")
    classifier = toy(Linear(), TWO, size=24)
    rows = look(classifier, noise(6, labels=True), tool)
    assert rows["target"].to_list() == [0, 1, 0, 1, 0, 1]
    mixed = pl.concat([rows, look(classifier, noise(2), tool)])
    conclusion = tool.conclude(mixed, ABOUT)
    assert conclusion["correlation"].n == 6
    assert any("2 images without a label" in caveat for caveat in conclusion.caveats)
    none = conclude(classifier, noise(4), tool)
    assert none["correlation"].why == "no image has a label to follow"


def test_rounding_is_no_loss() -> None:
    tool = Interaction(parts_px=(6,))
    rows = tool.table({"id": list("abcdef"), "part_px": [6] * 6, "parts": [4] * 6, "target": [0] * 6})
    lost = {"together": [1.0, 2.0, 3e-5, -3e-5, 0.0, 4.0], "alone": [1.0, 2.00001, -3e-5, 3e-5, 1e-6, 2.0]}
    rows = rows.with_columns(rounding=pl.lit(4e-5), **{key: pl.Series(values) for key, values in lost.items()})
    conclusion = tool.conclude(rows, ABOUT)
    assert conclusion["residual"].n == 3, "three images lose more than rounding"
    assert conclusion["residual"].value == pytest.approx(2 / 7, abs=1e-4)
    assert conclusion["slope"].value == pytest.approx((1 + 4 + 8) / (1 + 4 + 4), abs=1e-4)


def test_coarse_logits_are_refused() -> None:
    classifier = Classifier(Linear(), classes=TWO, preprocessing=plain(24), precision="bfloat16")
    with pytest.raises(Misfit, match="rounding of bfloat16"):
        Interaction().start(classifier)


def test_two_images_have_no_correlation() -> None:
    tool = Interaction(parts_px=(6,))
    conclusion = conclude(toy(Linear(), TWO, size=24), noise(2), tool)
    assert conclusion["correlation"].value is None
    assert "at least three" in conclusion["correlation"].why


def test_of_the_largest_parts_alone_the_headline_is_the_same() -> None:
    classifier, images = load("cuescope/world-shape"), WorldImages(count=6)
    batch = classifier.see([images.read(i) for i in range(6)])
    said = []
    for tool in (Interaction(), Interaction(sizes="largest")):
        rows = tool.start(classifier).observe(batch)
        assert rows["part_px"].unique().sort().to_list() == ([2, 5, 7, 9] if tool.sizes == "all" else [9])
        said.append(tool.conclude(rows, ABOUT))
    assert said[0].verdict == said[1].verdict
    assert said[0].measures[0].interval == said[1].measures[0].interval
    assert [panel.name for panel in said[1].panels] == ["losses"]


def test_part_sizes_from_the_command_line() -> None:
    assert build("interaction", {"parts_px": "8, 16"}) == Interaction(parts_px=(8, 16))
    assert build("interaction", {"parts_px": [8, 16]}) == build("interaction", {"parts_px": "8,16,"})  # type: ignore[dict-item]
    assert build("interaction", {"parts_px": 8}) == Interaction(parts_px=(8,))
    assert build("interaction", {"parts_px": ""}) == Interaction()
    with pytest.raises(CueError, match=r"interaction\.parts_px = 'x'"):
        build("interaction", {"parts_px": "8,x"})
    with pytest.raises(CueError, match="at least 2"):
        build("interaction", {"parts_px": "1"})


def test_the_bag_of_patches_adds_up_and_the_shape_model_does_not() -> None:
    """The world's models; the paper's largest parts at 64 px."""
    tool, found = Interaction(parts_px=(9,)), {}
    world = WorldImages("congruent", count=20, seed=3)
    samples = [world.read(i) for i in range(20)]
    for name in ("world-bagnet", "world-shape"):
        classifier = load(f"cuescope/{name}")
        found[name] = conclude(classifier, samples, tool)["correlation"]
    assert found["world-bagnet"].value == pytest.approx(1.0, abs=1e-4)
    bag, shape = found["world-bagnet"].interval, found["world-shape"].interval
    assert bag is not None
    assert shape is not None
    assert bag[0] > shape[1]


@pytest.mark.real
def test_real_networks_do_not_just_add_up(data: Path) -> None:
    from cuescope.data.readers import read_folder

    images = read_folder(data / "imagenet-sample")
    classifier = load(f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}")
    tool = Interaction(parts_px=(24, 32))
    samples = [images.read(i) for i in range(0, len(images), len(images) // 16)][:16]
    conclusion = conclude(classifier, samples, tool)
    value = conclusion["correlation"].value
    assert value is not None
    assert 0.2 < value < 0.99


def test_look_shows_the_masked_image_of_each_size_and_what_its_logit_loses() -> None:
    classifier = toy(Linear(), TWO, size=24)
    (sample,) = noise(1)
    batch, tool = classifier.see([sample]), Interaction(parts_px=(4, 6))
    row = tool.start(classifier).observe(batch).row(1, named=True)
    seen = tool.look(classifier, batch, tool.start(classifier).observe(batch))
    assert f"masking 4 parts of 6 px takes {row['together']:.2f} from the logit" in seen.sentence
    assert f"one by one they take {row['alone']:.2f} in sum" in seen.sentence
    (figure,) = seen.panels[0].figures
    assert [inset.name.partition(":")[0] for inset in figure.insets] == ["9 parts of 4 px", "4 parts of 6 px"]
    pixels = figure.insets[1].pixels
    assert pixels is not None
    assert figure.pixels is not None
    changed = (pixels != figure.pixels).any(2)
    assert changed[:6, :6].all()
    assert not changed[6:12].any()
