"""Planted networks for shiftability: one that subsamples, one that is computed everywhere, one that is padded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.shiftability import MARGIN, Shiftability
from cuescope.models.blurpool import BlurPool2d
from cuescope.models.seeding import seeded
from toys import plain
from truth.table import breaks, planted, sayable


class Every(nn.Module):
    """Keeps one position of every two on each axis: subsampling, and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


def network(*steps: nn.Module) -> Classifier:
    """A padded convolution, what follows it, and a head that averages."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    module = seeded(0, lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *steps, *head))
    return Classifier(module, preprocessing=plain(16), name="toy")


def images(count: int, kind: str) -> list[Sample]:
    """Noise, "white" or "1/f"; or "flat", a patch on all but gray, so that little enters or leaves at the border."""
    random, samples = torch.Generator().manual_seed(0), []
    for i in range(count):
        pixels = torch.randint(0, 256, (3, 20, 20), generator=random, dtype=torch.uint8)
        if kind == "1/f":
            at = torch.fft.fftfreq(20)
            spectrum = torch.fft.fft2(pixels.float()) / (at[:, None] ** 2 + at**2).sqrt().clamp_min(0.05)
            field = torch.fft.ifft2(spectrum).real
            pixels = (128 + 40 * (field - field.mean()) / field.std()).clamp(0, 255).to(torch.uint8)
        if kind == "flat":
            pixels, patch = 126 + pixels // 64, pixels[:, 7:13, 7:13]
            pixels[:, 7:13, 7:13] = patch
        samples.append(Sample(f"{i:03d}", pixels, label=i % 2))
    return samples


def conclude(classifier: Classifier, count: int = 24, kind: str = "white") -> Conclusion:
    tool = Shiftability()
    observer, samples = tool.start(classifier), images(count, kind)
    rows = observer.observe(classifier.see(samples, [sample.label or 0 for sample in samples]))
    return tool.conclude(rows, About("toy", "toys", ("a", "b"), "letters", observer.facts))


def value(said: Conclusion, name: str) -> float:
    found = said[name].value
    return math.nan if found is None else found


@planted(
    "shiftability",
    "truth",
    "keeps every second position of a layer",
    "from there on a pixel matters, and as much under cyclic shifts: it is subsampling",
    holds=lambda said: (
        said.verdict.names[:3] == ("from", "last", "subsampling")
        and value(said, "aliasing_2") > value(said, "energy_2") / 2
    ),
    broken=breaks("cuescope.instruments.shiftability.subsampling", lambda *_: 1),
    shows=("energy_2", "aliasing_2"),
)
def subsamples() -> Conclusion:
    return conclude(network(Every()))


@planted(
    "shiftability",
    "absence",
    "a padded layer that blurs white noise before it subsamples: what changes enters at its border and at its padding",
    "the pixel matters, but nothing of it comes from subsampling",
    holds=lambda said: value(said, "energy_2") > MARGIN and value(said, "aliasing_2") < 1e-6,
    broken=breaks("cuescope.models.circular._wrap", lambda part, slowed: None),
    shows=("energy_2", "aliasing_2"),
)
def padded() -> Conclusion:
    return conclude(network(BlurPool2d(7, 2)))


@planted(
    "shiftability",
    "absence",
    "the same of 1/f noise, as photographs are",
    "nothing of what changes comes from subsampling",
    holds=lambda said: value(said, "energy_2") > 1e-4 and value(said, "aliasing_2") < 1e-6,
    broken=breaks("cuescope.models.circular._wrap", lambda part, slowed: None),
    shows=("energy_2", "aliasing_2"),
)
def padded_photographs() -> Conclusion:
    return conclude(network(BlurPool2d(7, 2)), kind="1/f")


@planted(
    "shiftability",
    "absence",
    "computes every position, and little enters at the border",
    "in no layer does a pixel matter",
    holds=lambda said: said.verdict.names[0] == "never",
    broken=breaks("cuescope.instruments.shiftability.MARGIN", -1.0),
    shows=("energy_1",),
)
def dense() -> Conclusion:
    return conclude(network(), 60, "flat")


def energies(said: Conclusion) -> list:
    return [m for m in said.measures if m.name.startswith("energy_") and m.name != "energy_last"]


def above(said: Conclusion) -> bool:
    return any(m.interval is not None and m.interval[0] > MARGIN for m in energies(said))


def all_below(said: Conclusion) -> bool:
    return all(m.interval is not None and m.interval[1] < MARGIN for m in energies(said))


def of_last(said: Conclusion, what: str) -> bool:
    last = energies(said)[-1].name.removeprefix("energy")
    return said[f"{what}{last}"].value is not None


sayable("shiftability", "nothing", lambda said: said["energy_last"].value is None, lambda: conclude(network(), 0))
sayable("shiftability", "from", above, subsamples)
sayable("shiftability", "never", lambda said: bool(energies(said)) and all_below(said), dense)
sayable(
    "shiftability",
    "cannot_tell",
    lambda said: said["energy_last"].value is not None and not above(said) and not all_below(said),
    lambda: conclude(network(BlurPool2d(7, 2)), 2),
)
sayable("shiftability", "last", lambda said: of_last(said, "energy"), subsamples)
sayable("shiftability", "subsampling", lambda said: of_last(said, "aliasing"), subsamples)
sayable("shiftability", "read_out", lambda said: of_last(said, "change"), subsamples)
