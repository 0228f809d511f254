"""Planted classifiers for scramble: textures or shapes alone, guesses, and versions in another frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.scramble import MARGIN, Scramble
from toys import Constant, toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcdefgh"))
SIDE = 16


class Texture(nn.Module):
    """The class is how red the image is, wherever the red is."""

    def forward(self, pixels: Tensor) -> Tensor:
        return -(pixels[:, 0].mean((1, 2))[:, None] * 255 / 10 - torch.arange(8)).abs()


class Shape(nn.Module):
    """The class is how red the left half of the image is: where the red is matters."""

    def forward(self, pixels: Tensor) -> Tensor:
        red = pixels[:, 0, :, : pixels.shape[3] // 2].mean((1, 2)) - pixels[:, 0, :, pixels.shape[3] // 2 :].mean(
            (1, 2)
        )
        return -(red[:, None] * 255 / 20 - torch.arange(8)).abs()


class Hash(nn.Module):
    """The class is drawn from the pixels: it knows nothing."""

    def forward(self, pixels: Tensor) -> Tensor:
        value = (pixels * 255).double() @ torch.arange(1, pixels.shape[3] + 1, dtype=torch.float64).sqrt()
        return nn.functional.one_hot((value.sum((1, 2)) * 1000).long() % 8, 8).float()


def samples(count: int, side: int, version: int, labels: int = 8) -> list[Sample]:
    """The left half is as red as the label says; in the version the same red lies in both halves, dithered."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        label = i % labels
        pixels = torch.zeros(3, side, side, dtype=torch.uint8)
        pixels[0, :, : side // 2] = 20 * label
        pixels[2] = torch.randint(0, 256, (side, side), generator=generator, dtype=torch.uint8)
        scrambled = torch.zeros(3, version, version, dtype=torch.uint8)
        scrambled[0] = 10 * label
        scrambled[2] = torch.randint(0, 256, (version, version), generator=generator, dtype=torch.uint8)
        made.append(Sample(f"{i}.png", pixels, label, versions={"texturized": scrambled}, framing="stimulus"))
    return made


def conclude(module: nn.Module, images: list[Sample], size: int = SIDE) -> Conclusion:
    tool, classifier = Scramble(), toy(module, CLASSES, size=size)
    batch = classifier.see(images, [s.label for s in images])  # type: ignore[misc]
    return tool.conclude(tool.observe(classifier, batch), About("toy", "toys", CLASSES.names, CLASSES.name))


SHOWN = ("clean", "texturized", "lost", "kept")


@planted(
    "scramble",
    "truth",
    "reads how red an image is, wherever the red lies",
    "can do without shapes",
    holds=lambda said: said.verdict.names == ("without_shapes",) and said["kept"].value == 1,
    broken=breaks("cuescope.instruments.scramble.versions_of", lambda batch, kind: list(batch.samples[::-1])),
    shows=SHOWN,
)
def texture() -> Conclusion:
    return conclude(Texture(), samples(96, SIDE, SIDE))


@planted(
    "scramble",
    "truth",
    "reads how red one half of an image is against the other",
    "needs shapes",
    holds=lambda said: said.verdict.names == ("needs_shapes",) and said["clean"].value == 1,
    broken=breaks("cuescope.instruments.scramble.versions_of", lambda batch, kind: list(batch.samples)),
    shows=SHOWN,
)
def shape() -> Conclusion:
    return conclude(Shape(), samples(96, SIDE, SIDE))


@planted(
    "scramble",
    "absence",
    "draws its answer from a hash of the pixels",
    "cannot tell, not 'can do without shapes'",
    holds=lambda said: said.verdict.names == ("unrecognized",),
    broken=breaks("cuescope.instruments.scramble.agreement_by_chance", lambda labels, answers: 0.0),
    shows=SHOWN,
)
def guesses() -> Conclusion:
    return conclude(Hash(), samples(96, SIDE, SIDE))


@planted(
    "scramble",
    "absence",
    "always says the one label that three of four images have",
    "cannot tell, not 'can do without shapes'",
    holds=lambda said: said.verdict.names == ("unrecognized",) and said["clean"].value == 0.75,
    broken=breaks("cuescope.instruments.scramble.agreement_by_chance", lambda labels, answers: 1 / 8),
    shows=SHOWN,
)
def constant() -> Conclusion:
    return conclude(Constant(8), [replace(s, label=0 if i % 4 else 1) for i, s in enumerate(samples(128, SIDE, SIDE))])


class Border(nn.Module):
    """The class is how red the outermost pixels are: another crop shows others."""

    def forward(self, pixels: Tensor) -> Tensor:
        return -(pixels[:, 0, :, 0].mean(1)[:, None] * 255 / 20 - torch.arange(8)).abs()


@planted(
    "scramble",
    "absence",
    "sees 40 px of photographs whose versions of 28 px have nothing scrambled, and reads their border",
    "loses nothing",
    holds=lambda said: said["lost"].value == 0 and said["clean"].value == 1,
    broken=breaks("cuescope.methods.versions.in_frame", lambda sample, version: sample.pixels),
    shows=SHOWN,
)
def framed() -> Conclusion:
    """The maker cuts 28 px of the middle of a photograph of 32 px: a frame of another color is cut away."""
    made = []
    for i in range(64):
        whole = torch.zeros(3, 32, 32, dtype=torch.uint8)
        whole[0] = 20 * ((i + 3) % 8)
        whole[0, 2:30, 2:30] = 20 * (i % 8)
        made.append(Sample(f"{i}.png", whole, i % 8, versions={"texturized": whole[:, 2:30, 2:30].clone()}))
    return conclude(Border(), made, size=40)


def low(measure, other: float) -> float:
    return measure.interval[0] if measure.interval else other


def high(measure, other: float) -> float:
    return measure.interval[1] if measure.interval else other


def recognized(said: Conclusion) -> bool:
    return said["clean"].value is not None and low(said["clean"], 0) > said["clean"].chance


class Half(nn.Module):
    """Reads the left half where that is brighter, else how red it all is: scrambling takes some answers."""

    def forward(self, pixels: Tensor) -> Tensor:
        odd = pixels[:, 2].mean((1, 2), keepdim=False) * 255 % 1 < 0.3
        return torch.where(odd[:, None], Shape()(pixels), Texture()(pixels))


def unlabeled() -> Conclusion:
    tool = Scramble()
    return tool.conclude(tool.empty, About("toy", "toys", CLASSES.names))


sayable("scramble", "nothing", lambda said: said["clean"].value is None, unlabeled)
sayable("scramble", "unrecognized", lambda said: not recognized(said), guesses)


def lost(said: Conclusion) -> tuple[float, float]:
    """What is surely lost, and what is lost at most, as shares of the accuracy above chance."""
    beyond = said["clean"].value - said["clean"].chance
    return low(said["lost"], -1) / beyond, high(said["lost"], 1) / beyond


def some() -> Conclusion:
    return conclude(Half(), samples(96, SIDE, SIDE))


sayable(
    "scramble",
    "without_shapes",
    lambda said: recognized(said) and low(said["texturized"], 0) > said["texturized"].chance and lost(said)[1] < MARGIN,
    texture,
)
sayable("scramble", "needs_shapes", lambda said: recognized(said) and lost(said)[0] > 0.5, shape)
sayable(
    "scramble", "loses", lambda said: recognized(said) and 0 < lost(said)[0] <= 0.5 and lost(said)[1] >= MARGIN, some
)
sayable(
    "scramble",
    "cannot_tell",
    lambda said: recognized(said) and lost(said)[0] <= 0 and lost(said)[1] >= MARGIN,
    lambda: conclude(Half(), samples(14, SIDE, SIDE)),
)
