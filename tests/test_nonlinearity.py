"""What nonlinearities make of blurred maps: Fourier series known by heart, linear functions, and what is hooked."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.ops.spectrum import low_passed, share_beyond
from cuescope.instruments.base import Misfit
from cuescope.instruments.nonlinearity import Nonlinearity
from cuescope.instruments.registry import build
from cuescope.methods.nonlinearities import nonlinearities, shares
from cuescope.models.antialias import antialias
from toys import Constant, plain, toy

ABOUT = About("toy", "toys", ("a", "b", "c"), "letters")
SIDE = 20


def wave(periods: int, phase: float = 0.3, side: int = SIDE) -> Sample:
    """A gray wave across the columns: so many periods a side, from 28 to 228."""
    row = 128 + 100 * torch.cos(2 * math.pi * periods * torch.arange(side) / side + phase)
    return Sample(f"{periods}", row.round().to(torch.uint8).expand(3, side, side).contiguous(), label=0)


class Centered(nn.Module):
    """Puts the mean of the waves at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 128 / 255


def network(*steps: nn.Module) -> Classifier:
    module = nn.Sequential(Centered(), *steps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(module.eval(), preprocessing=plain(SIDE), name="toy")


def found(classifier: Classifier, samples: list[Sample], **how: int) -> Conclusion:
    tool = Nonlinearity(**how)
    observer = tool.start(classifier)
    return tool.conclude(observer.observe(classifier.see(samples)), dataclasses.replace(ABOUT, facts=observer.facts))


def series(first: int, limit: float, side: int = SIDE) -> float:
    """The share of the energy of a half-wave rectified cosine whose harmonics, folded, lie beyond the limit."""
    total = 1 / 4 - 1 / math.pi**2
    beyond = 0.0
    for n in range(1, 200):
        amplitude = 0.5 if n == 1 else 2 * math.cos(math.pi * n / 2) / (math.pi * (1 - n**2)) if n % 2 == 0 else 0.0
        at = (n * first / side) % 1
        beyond += amplitude**2 / 2 * (min(at, 1 - at) > limit)
    return beyond / total


@pytest.mark.parametrize("periods", [1, 3, 4])
def test_a_relu_makes_the_harmonics_of_a_wave(periods: int) -> None:
    # Harmonics that fold onto each other add up by amplitude: over many phases, by energy.
    said = found(network(nn.ReLU()), [wave(periods, phase) for phase in np.linspace(0, 2 * math.pi, 40, False)])
    assert said["made_1"].value == pytest.approx(series(periods, 0.25), abs=0.01)
    assert said["before"].value == pytest.approx(0, abs=1e-3)
    if periods == 4:
        assert said["made_1"].value == pytest.approx(0.15, abs=0.01), "as the docstring says"


def test_a_linear_function_makes_nothing_and_what_is_too_fine_is_blurred_before() -> None:
    assert found(network(nn.LeakyReLU(1.0)), [wave(3)])["made_1"].value == pytest.approx(0, abs=1e-9)
    fine = found(network(nn.ReLU()), [wave(8)])
    assert fine["before"].value == pytest.approx(1, abs=1e-2)
    assert fine["made"].value is None or fine["made"].value < 0.5, "of the wave itself nothing is left"


def test_equals_the_steps_written_out() -> None:
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.fft2(x.double())
    high = (torch.fft.fftfreq(12).abs() > 0.25)[:, None] | (torch.fft.fftfreq(10).abs() > 0.25)
    low = torch.fft.ifft2(spectrum * ~high).real
    torch.testing.assert_close(low_passed(x, 2).double(), low, atol=1e-5, rtol=0)
    energy = torch.fft.fft2(low.relu()).abs().square()
    energy[..., 0, 0] = 0
    expected = (energy * high).sum((1, 2, 3)) / energy.sum((1, 2, 3))
    torch.testing.assert_close(share_beyond(low.relu().float(), 2).double(), expected, atol=1e-6, rtol=0)
    assert share_beyond(torch.full((1, 2, 8, 8), 3.0), 2).isnan().all()
    white = torch.randn(1, 32, 96, 96, generator=torch.Generator().manual_seed(1))
    assert float(share_beyond(white, 2)) == pytest.approx(1 - 49**2 / 96**2, abs=0.01)


def test_layers_are_seen_at_their_first_call_and_left_as_they_are() -> None:
    classifier = load("torchvision/mobilenet_v2@random", device="cpu", preprocessing=plain(64))
    names = nonlinearities(classifier)
    assert len(names) == 35 - 8, "maps of 2 x 2 positions hold no frequencies"
    assert names[0] == "features.0.2"
    pixels = torch.rand(2, 3, 64, 64)
    before = classifier.logits(pixels)
    seen = shares(classifier, pixels, names, 2)
    assert list(seen) == names
    assert torch.equal(classifier.logits(pixels), before)
    first = classifier.features(pixels, ["features.0.2"])["features.0.2"]
    torch.testing.assert_close(seen["features.0.2"].after, share_beyond(first, 2))


def test_of_a_network_with_blurs_the_function_before_the_blur_counts() -> None:
    steps = (nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(*steps).eval()
    classifier = Classifier(antialias(net, 4, example=torch.rand(1, 3, 16, 16)), preprocessing=plain(16), name="toy")
    assert nonlinearities(classifier) == ["1", "3"]
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        slow = torch.nn.functional.conv2d(net[:2](x), net[2].weight, net[2].bias, 1, 1).relu()
    found = shares(classifier, x, ["1", "3"], 2)["3"].after
    torch.testing.assert_close(found, share_beyond(slow, 2), atol=1e-5, rtol=0)


def test_max_pools_count_and_attention_does_not() -> None:
    classifier = network(nn.MaxPool2d(3, 2), nn.Softmax(1), nn.Hardswish())
    assert nonlinearities(classifier) == ["1", "3"]
    assert (found(classifier, [wave(3)])["made_1"].value or 0) > 0.01
    vit = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=3)
    for flat in (Classifier(vit, preprocessing=plain(64)), toy(Constant())):
        with pytest.raises(Misfit, match="no activation or max pool"):
            Nonlinearity().start(flat)


def test_means_are_over_layers_and_intervals_over_images() -> None:
    said = found(network(nn.ReLU(), nn.ReLU()), [dataclasses.replace(wave(k), id=str(k)) for k in (1, 2, 3, 4, 5)])
    each = [said[f"made_{k}"].value for k in (1, 2)]
    assert said["made"].value == pytest.approx(np.mean(each))
    assert said["made"].n == 5
    assert said["made"].interval is not None
    table = next(panel for panel in said.panels if panel.name == "layers")
    assert [row[0] for row in table.data["rows"]] == ["1", "2"]


def test_flat_images_have_no_value() -> None:
    flat = [Sample("a", torch.full((3, SIDE, SIDE), 90, dtype=torch.uint8))]
    said = found(network(nn.ReLU()), flat)
    assert said["made"].value is None
    assert said.verdict.names == ("nothing",)


def test_parameters_in_range() -> None:
    for setting, value in (("images", "0"), ("factor", "1")):
        with pytest.raises(CueError, match="at least"):
            build("nonlinearity", {setting: value})
