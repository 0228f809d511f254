"""The same part of different objects: distances against a plain twin, layers, what is left out, and the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import IMAGENET, ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Box, Sample
from cuescope.data.ops.occlude import Rectangle, pixels_of
from cuescope.data.preprocessing import Preprocessing, locate
from cuescope.instruments import registry
from cuescope.instruments.base import Misfit
from cuescope.instruments.correspondence import Correspondence
from cuescope.methods.parts import masking
from cuescope.models.seeding import seeded
from cuescope.models.zfnet import ZFNet
from cuescope.runs.plan import why_not
from cuescope.world.images import WorldImages
from toys import Images, MeanColor, plain, toy

PETS = ClassSpace("pets", ("cat", "dog"))
ABOUT = About("toy", "toys", PETS.names, PETS.name)


def colors_of_a_place() -> nn.Module:
    """Its map is the image, so a mask takes from a place just its color; two classes."""
    net = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    net[0].weight.data = torch.eye(3)[:, :, None, None]
    return net


@pytest.fixture(scope="module")
def colors() -> Classifier:
    return Classifier(colors_of_a_place(), classes=PETS, preprocessing=plain(16), name="colors")


def painted(name: str, label: int | None, **parts: tuple[int, int, tuple[int, int, int]]) -> Sample:
    """Black, with parts of 4 x 4 px of one color each, given as (top, left, color)."""
    pixels, boxes = torch.zeros(3, 16, 16, dtype=torch.uint8), {}
    for part, (top, left, color) in parts.items():
        pixels[:, top : top + 4, left : left + 4] = torch.tensor(color, dtype=torch.uint8)[:, None, None]
        boxes[part] = Box(left, top, left + 4, top + 4, part)
    return Sample(name, pixels, label=label, parts=boxes, framing="stimulus")


def asked(tool: Correspondence, classifier: Classifier, samples: Sequence[Sample], about: About = ABOUT) -> Conclusion:
    labels = [-1 if s.label is None else s.label for s in samples]
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(samples, labels))
    return tool.conclude(rows, replace(about, facts=observer.facts))


RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def test_distances_can_be_counted_by_hand(colors: Classifier) -> None:
    samples = [
        painted("a", 1, nose=(0, 0, RED), tail=(12, 12, WHITE)),
        painted("b", 1, nose=(0, 0, WHITE), tail=(12, 8, WHITE)),
        painted("c", 1, nose=(8, 4, RED)),
    ]
    found = asked(Correspondence(fill="black", layers=("1", "3")), colors, samples)
    # Noses at the high layer: red falls in a and c, all three colors in b; tails: all three in both.
    assert found["part_high"].value == pytest.approx(((2 / 3 + 0 + 2 / 3) / 3 + 0) / 2)
    assert found["part_changed_high"].value == pytest.approx(((2 / 3 + 0 + 2 / 3) / 3 + 0) / 2)
    # At the low layer, of 3 * 16 * 16 units, a red nose takes 16 and what is white 48, at their own places.
    assert found["part_low"].value == pytest.approx(((32 + 32 + 64) / 3 + 96) / 2 / 768)
    assert found["part_high"].n == 3


def test_the_fast_path_equals_the_plain_one() -> None:
    net = seeded(
        3,
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)),
    )
    classifier = Classifier(net, classes=PETS, preprocessing=plain(16), name="net")
    random = np.random.default_rng(0)
    samples = []
    for i in range(7):
        spots = {
            part: (int(random.integers(12)), int(random.integers(12)), tuple(random.integers(0, 256, 3)))
            for part in ("ear", "eye", "paw")
        }
        if i == 2:
            del spots["eye"]
        samples.append(painted(f"{i}", i % 2, **spots))
    tool = Correspondence(draws=2, fill="gray")
    found = asked(tool, classifier, samples)
    wanted = twin(classifier, tool, samples)
    assert {key for key, values in wanted.items() if not values} == set()
    for name, values in wanted.items():
        # Parts of a class count alike, however many images show them.
        assert found[name].value == pytest.approx(np.mean([np.mean(pairs) for pairs in values.values()])), name


def twin(
    classifier: Classifier, tool: Correspondence, samples: Sequence[Sample]
) -> dict[str, dict[tuple[int | None, str], list[float]]]:
    """All distances by class and part, one unit after another."""
    layers = {"low": "1", "high": "3"}
    signs: dict[tuple[str, str, str, int, str], list[int]] = {}
    for sample in samples:
        pixels = classifier.prepare([sample])
        for square in masking.squares(sample, classifier.preprocessing, (), tool.draws, tool.seed):
            clean = pixels
            if square.kind == "shuffled":
                clean = masking.shuffled(pixels[0], square.place, tool.seed, square.part)[None]
            masked = pixels.clone()
            top, left, bottom, right = square.place
            masked[:, :, top:bottom, left:right] = 0.5
            for depth, layer in layers.items():
                lost = (
                    classifier.features(clean, [layer])[layer] - classifier.features(masked, [layer])[layer]
                ).flatten()
                signs[sample.id, square.part, square.kind, square.draw, depth] = [
                    0 if abs(v) < 1e-6 else (1 if v > 0 else -1) for v in lost.tolist()
                ]

    def distance(*keys: tuple[str, str, str, int, str]) -> tuple[float, float]:
        a, b = (signs[key] for key in keys)
        differing = sum(x != y for x, y in zip(a, b, strict=True))
        changed = sum(x != 0 or y != 0 for x, y in zip(a, b, strict=True))
        return differing / len(a), differing / changed if changed else float("nan")

    found: dict[str, dict[tuple[int | None, str], list[float]]] = {}
    for first, second in combinations(samples, 2):
        if first.label != second.label:
            continue
        for part in first.parts.keys() & second.parts.keys():
            for depth in layers:
                keys = [(s.id, part, "part", 0, depth) for s in (first, second)]
                same, same_changed = distance(*keys)  # type: ignore[arg-type]
                draws = [
                    distance(*((s.id, part, "random", k, depth) for s in (first, second))) for k in range(tool.draws)
                ]  # type: ignore[arg-type]
                of_random = float(np.mean([d for d, _ in draws]))
                others = []
                for other in {*first.parts, *second.parts} - {part}:
                    there = [other in s.parts for s in (first, second)]
                    if all(there):
                        one = distance(keys[0], (second.id, other, "part", 0, depth))[0]
                        two = distance((first.id, other, "part", 0, depth), keys[1])[0]
                        others.append((one + two) / 2)
                shuffled = [(s.id, part, "shuffled", 0, depth) for s in (first, second)]
                crossed = (distance(keys[0], shuffled[1])[0] + distance(shuffled[0], keys[1])[0]) / 2
                distances = {
                    f"shuffled_{depth}": crossed,
                    f"difference_shuffled_{depth}": same - crossed,
                    f"part_{depth}": same,
                    f"random_{depth}": of_random,
                    f"difference_{depth}": same - of_random,
                    f"other_part_{depth}": float(np.mean(others)) if others else float("nan"),
                    f"difference_other_part_{depth}": same - float(np.mean(others)) if others else float("nan"),
                    f"part_changed_{depth}": same_changed,
                    f"random_changed_{depth}": float(np.mean([d for _, d in draws])),
                }
                for name, value in distances.items():
                    if not np.isnan(value):
                        found.setdefault(name, {}).setdefault((first.label, part), []).append(value)
    return found


def test_units_that_no_mask_reaches_do_not_change_and_rounding_is_none(colors: Classifier) -> None:
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    places = [Rectangle(2, 3, 5, 9), Rectangle(0, 0, 16, 16)] * 9
    squares = [masking.Square("nose", "part", 0, place) for place in places]
    found = masking.signs(colors, pixels, squares, (0.0, 0.0, 0.0), ("0", "0:mean"))
    of_map = found["0"].reshape(18, 3, 16, 16)
    assert (of_map[0] == 1).sum() == 3 * 3 * 6
    assert (of_map[0, :, 2:5, 3:9] == 1).all()
    assert (of_map[1::2] == 1).all()
    assert found["0:mean"].tolist() == [[1, 1, 1]] * 18
    faint = pixels.clone()
    faint[:, 2:5, 3:9] = 1e-7
    assert not masking.signs(colors, faint, squares[:1], (0.0, 0.0, 0.0), ("0",))["0"].any()


def test_random_squares_have_the_size_of_the_part_and_stay_the_same(colors: Classifier) -> None:
    sample = painted("a", 0, nose=(3, 11, RED))
    found = list(masking.squares(sample, plain(16), (), 40, seed=1))
    assert found == list(masking.squares(sample, plain(16), (), 40, seed=1))
    assert found != list(masking.squares(sample, plain(16), (), 40, seed=2))
    assert found[0] == masking.Square("nose", "part", 0, Rectangle(3, 11, 7, 15))
    assert found[1] == masking.Square("nose", "shuffled", 0, Rectangle(3, 11, 7, 15))
    places = [square.place for square in found[2:]]
    assert {(p.bottom - p.top, p.right - p.left) for p in places} == {(4, 4)}
    assert {min(p.top for p in places), max(p.bottom for p in places)} == {0, 16}
    assert list(masking.squares(sample, plain(16), ("ear",), 3, seed=1)) == []


def test_a_part_that_the_crop_cuts_away_is_left_out() -> None:
    how = Preprocessing((32, 32), 40)
    boxes = {"gone": Box(0, 30, 10, 40), "half": Box(0, 30, 29, 40), "whole": Box(40, 20, 60, 40)}
    seen = masking.seen_parts(Sample("a", torch.zeros(3, 80, 120), parts=boxes), how)
    assert set(seen) == {"whole"}
    assert seen["whole"] == pixels_of(locate(boxes["whole"], (80, 120), how), 32, 32) == Rectangle(6, 6, 16, 16)


def test_classes_are_kept_apart_unless_asked(colors: Classifier) -> None:
    samples = [
        painted("a", 0, nose=(0, 0, RED)),
        painted("b", 1, nose=(0, 0, RED)),
        painted("c", None, nose=(0, 0, RED)),
    ]
    tool = Correspondence(fill="black")
    apart = asked(tool, colors, samples)
    assert apart["difference_high"].value is None
    assert "across_classes=yes" in apart["difference_high"].why
    together = asked(Correspondence(fill="black", across_classes=True), colors, samples)
    assert together["part_high"].value == 0
    assert together["part_high"].n == 3
    unlabeled = [painted(name, None, nose=(0, 0, RED)) for name in "ab"]
    assert asked(tool, colors, [*samples, *unlabeled])["part_high"].n == 3


def test_what_cannot_be_measured_says_why(colors: Classifier) -> None:
    nose = painted("a", 0, nose=(0, 0, RED))
    one = asked(Correspondence(), colors, [nose])
    assert all(m.value is None for m in one.measures)
    assert "one image has no pairs" in one["difference_high"].why
    none = asked(Correspondence(parts=("ear",)), colors, [nose, painted("b", 0, nose=(0, 0, RED))])
    assert none["difference_high"].why == "no image shows a part"
    lone = asked(Correspondence(fill="black"), colors, [nose, painted("b", 0, nose=(0, 0, RED))])
    assert lone["difference_high"].value is not None
    assert lone["difference_high"].interval is None
    assert lone["other_part_high"].why == "no two images show different parts"
    black = [painted(name, 0, nose=(0, 0, (0, 0, 0))) for name in "ab"]
    still = asked(Correspondence(fill="black"), colors, black)
    assert still["part_high"].value == 0
    assert still["part_changed_high"].why == "no unit changes"


def test_published_numbers_stand_beside_those_of_imagenets_classes(colors: Classifier) -> None:
    samples = [painted(name, 0, nose=(0, 0, RED), paw=(8, 8, RED)) for name in "ab"]
    about = About("toy", "toys", PETS.names, IMAGENET)
    network = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(768, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    network[0].weight.data = torch.eye(3)[:, :, None, None] - 0.5
    rectified = Classifier(network, classes=PETS, preprocessing=plain(16))
    found = asked(Correspondence(fill="black", layers=("1", "4")), rectified, samples, about)
    assert [(p.who, p.value) for p in found["part_low"].published] == [
        ("ZFNet, right eye", 0.067), ("ZFNet, left eye", 0.069), ("ZFNet, nose", 0.079)
    ]  # fmt: skip
    assert [p.value for p in found["random_high"].published] == [0.073]
    table = next(panel for panel in found.panels if panel.kind == "table").data
    rows = {(row[0], row[1]): row[-2:] for row in table["rows"]}
    assert rows["cat, nose", "low"] == [0.079, 0.107]
    assert rows["cat, paw", "low"] == ["", ""]
    assert not asked(Correspondence(fill="black", layers=("1", "4")), rectified, samples)["part_low"].published
    other = asked(Correspondence(fill="black"), colors, samples, about)
    assert not other["part_low"].published, "its high layer is a mean over places, not a rectified vector"


def test_layers_are_the_last_map_and_what_the_head_reads() -> None:
    how = Preprocessing((224, 224), 224)
    zfnet = seeded(0, lambda: ZFNet(classes=3, widths=(4, 4, 4, 4, 4), hidden=8))
    assert masking.chosen_layers(Classifier(zfnet, preprocessing=how), ()) == ("features", "classifier.dropout7")
    assert masking.chosen_layers(cuescope.load("cuescope/world-shape@random"), ()) == ("layer3", "layer3:mean")
    # As in SqueezeNet, the last map has a channel a class: it is the answer.
    squeezed = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert masking.chosen_layers(toy(squeezed, PETS), ()) == ("1", "1:mean")
    assert masking.chosen_layers(toy(squeezed, PETS), ("0", "1:mean")) == ("0", "1:mean")
    with pytest.raises(CueError, match="no layer that is a map"):
        masking.chosen_layers(toy(MeanColor()), ())


def test_a_wrong_layer_is_refused_before_the_first_batch() -> None:
    classifier = cuescope.load("cuescope/world-shape@random")
    with pytest.raises(Misfit, match=r"unknown layer 'layr3'; did you mean layer3"):
        registry.build("correspondence", {"layers": "layr3,layer3:mean"}).start(classifier)
    with pytest.raises(CueError, match="layers two"):
        registry.build("correspondence", {"layers": "layer3"})


def test_images_without_parts_say_how_to_give_them() -> None:
    images = Images([painted("a", 0)], PETS)
    assert why_not(Correspondence(), toy(colors_of_a_place(), PETS), images).endswith("give --parts FILE")


def test_it_shows_each_part_masked_in_several_images(colors: Classifier) -> None:
    samples = [painted(f"{i:02}", 1, nose=(0, 0, RED), tail=(8, i % 12, (255, 255 * (i % 2), 0))) for i in range(9)]
    tool = Correspondence(fill="black", draws=1)
    batch = colors.see(samples, [1] * 9)
    rows = tool.start(colors).observe(batch)
    chosen = tool.examples(rows)
    assert 5 <= len(chosen) <= 12
    keep = [i for i, s in enumerate(samples) if s.id in chosen]
    (panel,) = tool.illustrate(colors, batch.select(keep), rows.filter(pl.col("id").is_in(chosen)))
    captions = [figure.caption for figure in panel.figures]
    assert any(caption.startswith("dog, nose: distance 0.000, at random places") for caption in captions)
    pixels = panel.figures[captions.index(next(c for c in captions if "nose" in c))].pixels
    assert pixels is not None
    assert pixels.shape == (36, 5 * 20 - 4, 3)
    # Above, the red nose is hidden in each image; below, it is there where no random square covers it.
    assert not any(pixels[:4, left : left + 4].any() for left in range(0, 100, 20))
    assert any(pixels[20:24, left : left + 4].any() for left in range(0, 100, 20))


@pytest.fixture(scope="module")
def findings() -> dict[str, Conclusion]:
    """Of the world's images, whose objects lie anywhere: trained on shapes, untrained, and going by texture."""
    images, found = WorldImages("conflict", count=64), {}
    samples = [images.read(i) for i in range(64)]
    for name in ("world-shape", "world-shape@random", "world-bagnet"):
        classifier = cuescope.load(f"cuescope/{name}", device="cpu")
        about = About(name, images.name, classifier.classes.names, classifier.classes.name)
        found[name] = asked(Correspondence(draws=1), classifier, samples, about)
    return found


def test_a_network_of_shapes_relates_parts_and_an_untrained_one_hardly(findings: dict[str, Conclusion]) -> None:
    trained, untrained = findings["world-shape"], findings["world-shape@random"]
    for name in ("difference_high", "difference_other_part_high", "difference_low", "difference_other_part_low"):
        interval = trained[name].interval
        assert interval is not None
        assert interval[1] < 0, name
    assert value(trained, "difference_high") < 2 * value(untrained, "difference_high")
    assert value(trained, "difference_other_part_high") < 4 * value(untrained, "difference_other_part_high")
    # At the low layer, which keeps places, the untrained one shows nothing.
    interval = untrained["difference_low"].interval
    assert interval is not None
    assert interval[1] > 0


def test_only_the_trained_network_is_said_to_relate_parts(findings: dict[str, Conclusion]) -> None:
    assert findings["world-shape"].verdict.names == ("relates",)
    assert findings["world-shape@random"].verdict.names != ("relates",)
    assert findings["world-bagnet"].verdict.names != ("relates",)


def test_a_network_of_textures_loses_them_with_any_part(findings: dict[str, Conclusion]) -> None:
    """It falls far below random places, which lie beside the object; not below another part."""
    texture, shape = findings["world-bagnet"], findings["world-shape"]
    assert value(texture, "difference_high") < -0.2
    assert value(texture, "difference_other_part_high") > 0.25 * value(shape, "difference_other_part_high")


def value(finding: Conclusion, name: str) -> float:
    found = finding[name].value
    assert found is not None
    return found


def test_the_parts_that_it_relates_most_come_first(colors: Classifier) -> None:
    hues = [RED, GREEN, (0, 0, 255)]
    samples = [painted(f"{i}", 1, ear=(8, 8, hues[i]), nose=(0, 0, RED), tail=(12, 12, hues[i % 2])) for i in range(3)]
    found = asked(Correspondence(fill="black"), colors, samples)
    table = next(panel for panel in found.panels if panel.kind == "table").data
    assert [row[0] for row in table["rows"]] == ["dog, nose"] * 2 + ["dog, tail"] * 2 + ["dog, ear"] * 2


def test_rows_are_small() -> None:
    classifier = cuescope.load("cuescope/world-shape@random", device="cpu")
    images = WorldImages(count=1)
    sample: Sample = images.read(0)
    rows = Correspondence(draws=2).start(classifier).observe(classifier.see([sample], [0]))
    assert rows.height == len(sample.parts) * 4 * 2
    units = rows["units"].to_list()
    assert not any(
        a & b for row in rows.iter_rows(named=True) for a, b in zip(row["fallen"], row["risen"], strict=True)
    )
    assert [len(b) for b in rows["fallen"]] == [-(-u // 8) for u in units] == [len(b) for b in rows["risen"]]
