"""Shiftability: networks that no shift can touch, networks that alias, and the numbers written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import IMAGENET
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.shift import ShiftedCrop
from cuescope.data.readers import read_folder
from cuescope.instruments.base import Misfit
from cuescope.instruments.registry import build
from cuescope.instruments.shiftability import Shiftability
from cuescope.methods.shiftability import energies, seamless, subsampling, usual_layers
from cuescope.models.blurpool import BlurPool2d
from cuescope.models.seeding import seeded
from cuescope.world.images import WorldImages
from toys import plain

ABOUT = About("toy", "toys", ("a", "b", "c"), "letters")


def net(*steps: nn.Module) -> nn.Module:
    """A convolution, what follows it, and a head that averages."""
    first = nn.Conv2d(3, 6, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), *steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


class Every(nn.Module):
    """Keeps one position of every four: subsampling, and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::4, ::4]


def classifier(*steps: nn.Module, size: int = 32) -> Classifier:
    return Classifier(seeded(0, lambda: net(*steps)), preprocessing=plain(size), name="toy")


def noise_on_gray(count: int, size: int = 32) -> list[Sample]:
    """Noise in the middle of a gray image, so that nothing enters or leaves at the border."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(count):
        pixels = torch.full((3, size, size), 128, dtype=torch.uint8)
        patch = torch.randint(0, 256, (3, 8, 8), generator=generator, dtype=torch.uint8)
        pixels[:, 12:20, 12:20] = patch
        samples.append(Sample(f"{i:03d}", pixels, label=i % 3))
    return samples


def seen(toy: Classifier, samples: list[Sample]) -> Batch:
    return toy.see(samples, [-1 if s.label is None else s.label for s in samples])


def found(toy: Classifier, samples: list[Sample], **how: object) -> Conclusion:
    tool = Shiftability(**how)  # type: ignore[arg-type]
    observer = tool.start(toy)
    return tool.conclude(observer.observe(seen(toy, samples)), dataclasses.replace(ABOUT, facts=observer.facts))


def value(finding: Conclusion, name: str) -> float:
    number = finding[name].value
    assert number is not None
    return number


def test_what_is_computed_everywhere_is_not_touched_by_a_shift() -> None:
    finding = found(classifier(), noise_on_gray(12))
    assert value(finding, "energy_last") < 1e-9
    assert value(finding, "aliasing_1") < 1e-9
    assert finding.verdict.names[0] == "cannot_tell", "12 of 12 is not always"
    assert [row[1] for row in finding.panels[-1].data["rows"]] == [1]


def test_subsampling_aliases_and_a_blur_before_it_helps() -> None:
    samples = noise_on_gray(12)
    bare, blurred = found(classifier(Every()), samples), found(classifier(BlurPool2d(7, 4)), samples)
    for finding in (bare, blurred):
        assert value(finding, "energy_1") < 1e-9, "before it is subsampled"
        # Nothing enters at the border, and the gray that is padded is what was there.
        assert value(finding, "aliasing_2") == pytest.approx(value(finding, "energy_2"), rel=0.5)
    assert value(bare, "energy_2") > 0.1
    assert value(blurred, "energy_2") < value(bare, "energy_2") / 5
    assert bare["energy_last"].value == bare["energy_2"].value
    assert bare.verdict.names == ("from", "last", "subsampling")
    assert "Subsampling by 4" in bare.sentence


def noise_all_over(count: int = 12) -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    shape = (3, 32, 32)
    return [Sample(str(i), torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)) for i in range(count)]


def test_what_enters_at_the_border_and_what_is_padded_is_no_aliasing() -> None:
    """Noise all over a padded layer: a binomial blur lets nothing through that subsampling by 2 could fold."""
    blurred, bare = (found(classifier(step), noise_all_over()) for step in (BlurPool2d(7, 2), Every()))
    assert value(blurred, "energy_2") > 0.05
    assert value(blurred, "aliasing_2") < 1e-9
    assert value(bare, "aliasing_2") == pytest.approx(value(bare, "energy_2"), rel=0.3)


def test_the_control_is_the_same_network_rolled() -> None:
    """The plain twin: the layer with circular padding, written out, on rolled images."""
    toy, samples = classifier(nn.MaxPool2d(2)), noise_all_over(5)
    finding, network = found(toy, samples), toy.network
    assert isinstance(network, nn.Sequential)
    conv, pooled = network[0], np.zeros((5, 3, 6))
    assert isinstance(conv, nn.Conv2d)
    for i, sample in enumerate(samples):
        window = ShiftedCrop(1.0, 1.0).views([sample], toy.preprocessing, steps=4)[:1]
        window = seamless(window)
        for k in range(3):
            x = torch.nn.functional.pad(window.roll((-k, -k), (2, 3)), (1, 1, 1, 1), "circular")
            with torch.no_grad():
                maps = torch.nn.functional.conv2d(x, conv.weight, conv.bias).relu()
            pooled[i, k] = torch.nn.functional.max_pool2d(maps, 2).mean((2, 3))[0]
    steps, apart = energies(pooled)
    assert value(finding, "aliasing_2") == pytest.approx(steps.sum() / apart.sum(), rel=1e-3)


def test_equals_the_measures_written_out() -> None:
    """The plain twin: windows, maps, sums and distances one by one."""
    toy, samples = classifier(nn.MaxPool2d(2)), noise_on_gray(5)
    finding = found(toy, samples, pairs=2)
    network, vectors = toy.network, {}
    assert isinstance(network, nn.Sequential)
    for i, sample in enumerate(samples):
        windows = ShiftedCrop(1.0, 1.0).views([sample], toy.preprocessing, steps=2)
        for shift in range(3):
            with torch.no_grad():
                vectors[i, shift] = network[:3](windows[shift : shift + 1])[0].sum((1, 2)).double() / 16**2
    step = np.mean([float(((vectors[i, k + 1] - vectors[i, k]) ** 2).sum()) for i in range(5) for k in range(2)])
    apart = np.mean([float(((vectors[i, 0] - vectors[j, 0]) ** 2).sum()) for i in range(5) for j in range(5) if i != j])
    assert value(finding, "energy_2") == pytest.approx(step / apart, rel=1e-4)


def test_layers_and_their_factors() -> None:
    world = load("cuescope/world-congruent", device="cpu")
    assert usual_layers(world) == ["layer1", "layer2", "layer3"]
    assert [subsampling(world, name) for name in usual_layers(world)] == [2, 4, 8]
    nested = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert usual_layers(Classifier(nested, preprocessing=plain(32))) == ["0.1", "0.2"]
    vit = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=3)
    tokens = Classifier(vit, preprocessing=plain(64))
    assert usual_layers(tokens) == ["norm"]
    assert subsampling(tokens, "norm") == 16
    with pytest.raises(CueError, match="unknown layer 'layer9'") as error:
        subsampling(world, "layer9")
    assert "layer1" in error.value.do


def test_layers_can_be_chosen() -> None:
    toy = classifier(nn.MaxPool2d(2))
    observer = Shiftability(layers=("2", "0"), pairs=1).start(toy)
    assert observer.facts["layers"] == [
        {"name": "2", "factor": 2, "size": "16 x 16", "why": ""},
        {"name": "0", "factor": 1, "size": "32 x 32", "why": ""},
    ]
    rows = observer.observe(seen(toy, noise_on_gray(2)))
    assert rows["layer"].to_list() == ["2", "0"] * 2
    assert [len(pooled) for pooled in rows["pooled"]] == [2 * 6, 2 * 6] * 2
    assert [len(pooled) for pooled in rows["cyclic"]] == [2 * 6, 2 * 6] * 2
    with pytest.raises(CueError, match="unknown layer"):
        Shiftability(layers=("nine",)).start(toy)


def concluded(pooled: np.ndarray, labels: Sequence[int | None], space: str = "") -> Conclusion:
    """Of one layer "x" that subsamples by 2, from pooled features (n, V, C)."""
    tool = Shiftability(pairs=2)
    features = [one.ravel().tolist() for one in pooled]
    ids = [f"{i:03d}" for i in range(len(pooled))]
    rows = tool.table({"id": ids, "label": labels, "layer": ["x"] * len(pooled), "pooled": features})
    layer = {"name": "x", "factor": 2, "size": "4 x 4", "why": "no control"}
    return tool.conclude(rows, dataclasses.replace(ABOUT, space=space, facts={"layers": [layer]}))


def test_a_read_out_that_changes_and_one_that_does_not() -> None:
    labels: list[int | None] = [i % 2 for i in range(40)]
    still = np.array(labels, float)[:, None, None] * np.ones((1, 3, 2))
    moving = still.copy()
    moving[:20, 1] = 1 - moving[:20, 1]
    for pooled, change in ((still, 0.0), (moving, 0.5)):
        finding = concluded(pooled, labels)
        assert value(finding, "accuracy_x") == 1
        assert value(finding, "change_last") == change
        low, high = finding["change_x"].interval or (0, 0)
        assert low <= change <= high
        assert high > change
    assert "50.0%" in finding.sentence


def test_no_read_out_without_enough_labels_but_the_energy_is_measured() -> None:
    pooled = np.random.default_rng(0).normal(size=(12, 3, 2))
    for labels, why in (([None] * 12, "no image has a label"), (list(range(12)), "no two classes have 5")):
        finding = concluded(pooled, labels)
        assert finding["change_last"].value is None
        assert why in finding["change_last"].why
        assert any(why in caveat for caveat in finding.caveats)
        assert value(finding, "energy_last") > 0
        assert "read-out" not in finding.sentence


def test_of_imagenet_the_read_out_separates_animals_from_the_rest() -> None:
    labels: list[int | None] = [k if k % 2 else 500 + k for k in range(20)]
    animal = np.array([label is not None and label < 398 for label in labels], float)
    pooled = animal[:, None, None] * np.ones((1, 3, 2))
    finding = concluded(pooled, labels, IMAGENET)
    assert value(finding, "accuracy_x") == 1
    assert any("animals" in caveat for caveat in finding.caveats)


def test_a_network_without_maps_and_features_that_are_all_alike() -> None:
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16**2, 3)), preprocessing=plain(16))
    with pytest.raises(Misfit, match="no layer that is a map over the image"):
        Shiftability().start(flat)
    alike = concluded(np.ones((12, 3, 2)), [0, 1] * 6)
    assert "same for every image" in alike["energy_last"].why
    assert alike["aliasing_x"].why == "no control"
    one = concluded(np.random.default_rng(0).normal(size=(1, 3, 2)), [0])
    assert one["energy_x"].why == "fewer than two images"


def test_the_worlds_network_is_changed_less_where_it_blurs() -> None:
    images = WorldImages("congruent", count=24, seed=3)
    samples = [images.read(i) for i in range(24)]
    plain_one, blurred = (
        found(load(f"cuescope/world-congruent{suffix}", device="cpu"), samples) for suffix in ("", "+blur4")
    )
    assert value(plain_one, "energy_layer1") == pytest.approx(value(blurred, "energy_layer1")), "before any blur"
    for layer in ("layer2", "layer3"):
        assert value(blurred, f"energy_{layer}") < 0.8 * value(plain_one, f"energy_{layer}")
    assert [row["label"] for row in plain_one.panels[0].data["rows"]] == ["layer1 ÷2", "layer2 ÷4", "layer3 ÷8"]


def test_nothing_of_a_network_that_no_cyclic_shift_changes_comes_from_subsampling() -> None:
    images = WorldImages("congruent", count=8, seed=3)
    finding = found(load("cuescope/world-congruent+aps", device="cpu"), [images.read(i) for i in range(8)])
    for layer in ("layer1", "layer2", "layer3"):
        assert value(finding, f"energy_{layer}") > 0
        assert value(finding, f"aliasing_{layer}") < 1e-9


def test_parameters_in_range() -> None:
    for setting in ("images", "pairs"):
        with pytest.raises(CueError, match="at least 1"):
            build("shiftability", {setting: "0"})


@pytest.mark.real
def test_photographs_alias_ever_more_with_depth_and_less_with_blurs(data: Path) -> None:
    weights, photographs = data / "weights" / "squeezenet1_1.safetensors", read_folder(data / "imagenet-sample")
    samples = [photographs.read(i) for i in range(0, 500, 42)]
    bare, blurred = (
        found(load(f"torchvision/squeezenet1_1{suffix}@{weights}", device="cpu"), samples) for suffix in ("", "+blur4")
    )
    layers = ("features_1", "features_4", "features_7", "classifier_2")
    energy = [value(bare, f"energy_{layer}") for layer in layers]
    assert energy == sorted(energy)
    assert energy[-1] > 20 * energy[0]
    for layer in layers[1:]:
        assert value(blurred, f"energy_{layer}") < 0.6 * value(bare, f"energy_{layer}")
        assert value(blurred, f"aliasing_{layer}") < 0.6 * value(bare, f"aliasing_{layer}")
