"""What is left without a cue: by hand, in the paper's frame and by its decision, and on the world's models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cuescope.classifier.sources import load
from cuescope.core.alignment import align
from cuescope.core.classes import IMAGENET, imagenet_1k
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.suppression import Change
from cuescope.data.readers import read_folder
from cuescope.instruments.base import Misfit
from cuescope.instruments.cue_suppression import CueSuppression
from cuescope.methods.suppressed import CONTROLS, CUES, Suppression
from cuescope.world.images import WorldImages
from toys import COLORS, Constant, MeanColor, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)
TOOL = CueSuppression(levels="named")


def rows(label: list[int], predicted: list[int], right: dict[str, list[int]], **more: Any) -> pl.DataFrame:
    """Rows of as many images; conditions that are not named leave all as it is."""
    clean = [p == k for p, k in zip(predicted, label, strict=True)]
    named = [*CUES, *CONTROLS]
    after = [[bool(right.get(name, clean)[i]) for name in named] for i in range(len(label))]
    lost = {f"lost_{cue}": [float(c) - a[k] for c, a in zip(clean, after, strict=True)] for k, cue in enumerate(CUES)}
    given = {"id": [f"{i}" for i in range(len(label))], "label": label, "predicted": predicted, "clean": clean}
    seen = {"texture_left": [0.4 + 0.001 * i for i in range(len(label))], "chroma": [0.2] * len(label)}
    return TOOL.table({**given, "right": after, **lost, **seen, **more})


def conclude(known: pl.DataFrame, about: About = ABOUT) -> Conclusion:
    return TOOL.conclude(known, about)


def test_ratios_and_losses_by_hand() -> None:
    label = [0, 1, 2] * 40
    predicted = label[:96] + [(k + 1) % 3 for k in label[96:]]
    texture = [1] * 48 + [0] * 48 + [1] * 6 + [0] * 18
    found = conclude(rows(label, predicted, {"texture": texture}))
    assert (found["clean"].count, found["clean"].n) == (96, 120)
    assert found["kept_texture"].value == pytest.approx(27 / 48)
    assert found["lost_texture"].value == pytest.approx(21 / 60)
    # The answers are spread over the classes as the labels are: chance is 1/3.
    assert found["clean"].chance == pytest.approx(1 / 3, abs=0.01)
    assert found["left_texture"].value == pytest.approx((27 / 60 - 1 / 3) / (48 / 60 - 1 / 3), abs=0.02)
    assert found["kept_color"].value == 1
    assert found.verdict.names == ("relies", "does_without")
    assert found.verdict.said == "yes"


def test_intervals_reckon_with_one_more_image_either_way() -> None:
    label = [0, 1, 2] * 20
    kept = conclude(rows(label, label, {}))["kept_color"]
    assert kept.value == 1
    assert kept.interval is not None
    assert kept.interval[0] < 0.98, "that none of 60 changed does not say that none of a hundred will"
    few = conclude(rows(label[:4], label[:4], {}))["kept_color"]
    assert few.interval is None
    assert "at least 5 images" in few.why


def test_above_one_and_below_zero_are_not_cut() -> None:
    label = [0, 1, 2] * 10
    predicted = label[:15] + [(k + 1) % 3 for k in label[15:]]
    found = conclude(rows(label, predicted, {"global_shape": [1] * 20 + [0] * 10, "texture": [0] * 30}))
    assert found["kept_global_shape"].value == pytest.approx(20 / 15)
    assert found["lost_global_shape"].value == pytest.approx(-1 / 6)
    assert (found["left_texture"].value or 0) < 0


def test_without_more_than_chance_nothing_is_kept() -> None:
    found = conclude(rows([0] * 20 + [1] * 10, [0] * 30, {"texture": [0] * 30}))
    assert found["clean"].value == found["clean"].chance == pytest.approx(2 / 3)
    assert found["kept_texture"].value is None
    assert "not above chance" in found["kept_texture"].why
    assert found.verdict.names == ("unknown",)


def test_two_images_tell_nothing() -> None:
    found = conclude(rows([0, 1], [0, 1], {}))
    assert found.verdict.said == "cannot tell"
    assert "2 images" in found.sentence


def test_published_values_stand_beside_the_same_condition_of_imagenet_only() -> None:
    known = rows([0, 1, 2] * 4, [0, 1, 2] * 4, {})
    about = replace(ABOUT, classes=imagenet_1k().names, space=IMAGENET)
    shown = conclude(known, about)
    assert {p.who: p.value for p in shown["kept_local_shape"].published}["ResNet-50"] == 0.276
    assert not conclude(known)["kept_local_shape"].published
    full = CueSuppression(levels="named", rule="full").conclude(known, about)
    assert not full["kept_global_shape"].published
    assert full["kept_texture"].published
    strong = CueSuppression(levels="named", sigma_color=400).conclude(known, about)
    assert not strong["kept_texture"].published


def test_views_are_as_many_as_is_said() -> None:
    counts = {levels: len(Suppression(levels=levels).changes) for levels in ("named", "some", "all")}  # type: ignore[arg-type]
    assert counts == {"named": 10, "some": 15, "all": 39}
    assert Suppression(window_px=14, sigma_color=99).named["texture"] == Change("bilateral", 14, 99)


def test_color_goes_from_a_classifier_of_color_and_no_place_does() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(30):
        pixels = torch.randint(0, 60, (3, 24, 24), generator=generator, dtype=torch.uint8)
        pixels[i % 3] += 120
        samples.append(Sample(f"{i}.png", pixels, framing="stimulus"))
    classifier = toy(MeanColor(), size=24)
    seen = TOOL.observe(classifier, classifier.see(samples, [i % 3 for i in range(30)]))
    found = conclude(seen)
    assert found["kept_color"].value == pytest.approx(1 / 3)
    assert [found[f"kept_{cue}"].value for cue in CUES[:3]] == [1, 1, 1]
    assert found["colored"].value == 1
    assert not TOOL.observe(classifier, classifier.see(samples, [-1] * 30)).height


def test_the_squash_frame_is_the_whole_image_at_the_input_size() -> None:
    pixels = torch.zeros(3, 24, 72, dtype=torch.uint8)
    pixels[0, :, :24], pixels[1, :, 48:] = 250, 200
    samples, classifier = [Sample("a.png", pixels)], toy(MeanColor(), size=24)
    batch = classifier.see(samples, [0])
    how = Suppression(frame="squash")
    assert how.framed(classifier, batch)[0].float().mean((1, 2)).tolist() == pytest.approx([83, 67, 0], abs=2)
    assert Suppression().framed(classifier, batch).float().max() == 0
    right = how.answers(classifier, batch)
    assert right is not None
    assert right.clean.all(), "the clean answer is of the same frame"


def test_the_papers_decision_is_a_sum_above_a_half() -> None:
    how, labels = Suppression(decision="sixteen", levels="named"), [281, 153, 404, 0]
    logits = torch.full((4, 1000), -20.0)
    logits[0, [281, 282]] = torch.tensor([1.0, 1.2])  # Cats, of two classes.
    logits[1, [153, 7]] = torch.tensor([1.0, 1.5])  # A dog, less than half.
    logits[2, 404] = 3.0

    class Fixed(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return logits[(pixels[:, 0, 12, 12] * 255).round().long() // 50]

    classifier = toy(Fixed(), imagenet_1k(), size=24)
    samples = [Sample(f"{i}", torch.full((3, 24, 24), 50 * i + 20, dtype=torch.uint8)) for i in range(4)]
    found = how.answers(classifier, classifier.see(samples, labels))
    assert found is not None
    assert found.id == ["0", "1", "2"], "an image of none of the 16 categories is left out"
    assert found.clean.tolist() == [True, False, True]


def test_small_inputs_and_other_classes_do_not_fit() -> None:
    with pytest.raises(Misfit, match="10 px is too small for 6 tiles"):
        TOOL.start(toy(MeanColor(), size=10))
    with pytest.raises(Misfit, match="classes of ImageNet"):
        CueSuppression(levels="named", decision="sixteen").start(toy(Constant(), size=24))
    with pytest.raises(ValueError, match="at least 1"):
        CueSuppression(window_px=0)


def on_the_world(name: str, count: int = 96, **settings: Any) -> Conclusion:
    images, classifier = WorldImages("congruent", count=count), load(f"cuescope/{name}")
    tool = CueSuppression(levels="named", **settings)
    samples = [images.read(i) for i in range(count)]
    seen = tool.observe(classifier, classifier.see(samples, [s.label or 0 for s in samples]))
    return tool.conclude(seen, About(name, images.name, classifier.classes.names, classifier.classes.name))


def test_the_worlds_shape_model_loses_its_shapes_and_nothing_else() -> None:
    found = on_the_world("world-shape", 288)
    kept = {cue: found[f"kept_{cue}"].value for cue in CUES}
    assert kept["texture"] == pytest.approx(1, abs=0.02)
    assert kept["color"] == pytest.approx(1, abs=0.02)
    assert kept["global_shape"] == pytest.approx(0.2, abs=0.1)
    assert kept["local_shape"] == pytest.approx(1 / 16, abs=0.05)
    assert found.verdict.names == ("does_without", "all", "relies")
    assert found.verdict.said == "no", "the headline question is whether it is worse without texture"
    assert found["cuts_local_shape"].below(0.26)


def test_the_worlds_bagnet_loses_its_textures_and_no_global_shape() -> None:
    found, strong = on_the_world("world-bagnet", 96), on_the_world("world-bagnet", 64, window_px=10, sigma_color=400)
    assert found["kept_global_shape"].value == pytest.approx(0.95, abs=0.05)
    assert found["kept_texture"].value == pytest.approx(0.82, abs=0.08)
    assert strong["kept_texture"].value == pytest.approx(0.4, abs=0.1)
    assert "relies" in found.verdict.names
    # Tiles of 10 px cut the textures that it sees 9 px of: that is no shape.
    assert (found["kept_local_shape"].value or 1) < 0.6
    assert "cuts" in found.verdict.names
    shape = on_the_world("world-shape", window_px=10, sigma_color=400)
    assert (shape["kept_texture"].value or 0) > 0.93


@pytest.mark.real
@pytest.mark.slow
def test_mobilenet_keeps_what_was_computed_for_the_protocols(data: Path) -> None:
    images = read_folder(data / "imagenet-sample")
    classifier = load(f"torchvision/mobilenet_v2@{data}/weights/mobilenet_v2.safetensors")
    assert images.classes is not None
    place = align(images.classes, classifier.classes)
    tool = CueSuppression(levels="named", frame="squash")
    parts = []
    for start in range(0, len(images), 50):
        samples = [images.read(i) for i in range(start, start + 50)]
        parts.append(tool.observe(classifier, classifier.see(samples, [place[s.label or 0] for s in samples])))
    found = tool.conclude(pl.concat(parts), About("net", "photographs", classifier.classes.names, IMAGENET))
    assert found["clean"].value == pytest.approx(0.786, abs=0.005)
    figures = {"global_shape": 0.794, "local_shape": 0.308, "texture": 0.593, "color": 0.784, "channels": 0.817}
    assert {key: found[f"kept_{key}"].value for key in figures} == pytest.approx(figures, abs=0.04)
