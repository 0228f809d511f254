"""Classifiers whose strategy is known, and image sets made in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import Panel
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.network.executor import probes

COLORS = ClassSpace("colors", ("red", "green", "blue"))


def plain(size: int = 16) -> Preprocessing:
    """No normalization, so a test can do the arithmetic in its head."""
    return Preprocessing((size, size), size, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "toy")


class MeanColor(nn.Module):
    """The mean of each channel, times ten: it sees color and nothing else, and no cyclic shift moves it."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 10 * pixels.mean((2, 3))


class Constant(nn.Module):
    """Always the same answer."""

    def __init__(self, classes: int = 3, answer: int = 0) -> None:
        super().__init__()
        self.classes, self.answer = classes, answer

    def forward(self, pixels: Tensor) -> Tensor:
        logits = torch.zeros(len(pixels), self.classes, device=pixels.device)
        logits[:, self.answer] = 4.0
        return logits


class Blind(nn.Module):
    """Mean color that takes some share of the images, by their brightness, for red."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, pixels: Tensor) -> Tensor:
        logits = MeanColor()(pixels)
        bright = (pixels.mean((1, 2, 3)) * 1e4 % 1) < self.share
        logits[bright, 0] = 20.0
        return logits


class OnePixel(nn.Module):
    """Class 0 where the middle pixel is bright, else class 1: one pixel of shift can change its mind."""

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, pixels: Tensor) -> Tensor:
        middle = pixels[:, :, pixels.shape[2] // 2, pixels.shape[3] // 2].mean(1)
        return torch.stack([middle, 1 - middle, torch.zeros_like(middle)], 1) * self.scale


class Broken(nn.Module):
    """Raises, as a user's model may: for images but for those that a network is tried on."""

    def forward(self, pixels: Tensor) -> Tensor:
        if not tried_on(pixels):
            raise RuntimeError("this model is broken")
        return pixels.mean((2, 3))


def tried_on(pixels: Tensor) -> bool:
    """Whether these are the images that a network is tried on, before it is used."""
    first = probes(plain(pixels.shape[2])).to(pixels)
    return len(pixels) <= 2 and torch.allclose(pixels, first[: len(pixels)])


def toy(module: nn.Module, classes: ClassSpace = COLORS, name: str = "toy", size: int = 16) -> Classifier:
    return Classifier(module.eval(), classes=classes, preprocessing=plain(size), name=name)


def boards_or_colors(count: int, kind: str, width: int = 1) -> list[Sample]:
    """Boards of diagonal stripes so many pixels wide, or one color of three each, which no shift changes."""
    board = (torch.arange(24)[:, None] + torch.arange(24)[None]) // width % 2 * 255
    found = []
    for i in range(count):
        pixels = board.byte().expand(3, 24, 24).clone()
        if kind == "colors":
            pixels = torch.zeros_like(pixels)
            pixels[i % 3] = 200
        found.append(Sample(f"{i}", pixels, label=i % 3))
    return found


def answers_shown(classifier: Classifier, panel: Panel) -> list[tuple[str, str, str, str]]:
    """Of each two figures of a panel what the classifier answers to what they show, and their captions."""
    found = []
    for first, second in zip(panel.figures[::2], panel.figures[1::2], strict=True):
        assert first.pixels is not None
        assert second.pixels is not None
        both = torch.from_numpy(np.stack([first.pixels, second.pixels])).permute(0, 3, 1, 2) / 255
        a, b = (classifier.classes.names[k] for k in classifier.logits(both).argmax(1).tolist())
        found.append((a, b, first.caption, second.caption))
    return found


class Images(ImageSet):
    """Samples held in memory; an index in `bad` cannot be read."""

    def __init__(self, samples: Sequence[Sample], classes: ClassSpace | None = COLORS, bad: Sequence[int] = ()) -> None:
        self.samples, self.bad, self.reads = list(samples), set(bad), 0
        self.name, self.classes = "toys", classes
        knows = {"label"} if classes else set()
        if samples and samples[0].cues:
            knows |= set(samples[0].cues)
        if samples and samples[0].mask is not None:
            knows |= {"mask"}
        self.knows = frozenset(knows)

    def __len__(self) -> int:
        return len(self.samples)

    def id(self, index: int) -> str:
        return self.samples[index].id

    def read(self, index: int) -> Sample:
        self.reads += 1
        if index in self.bad:
            raise UnreadableError("the file is truncated")
        return self.samples[index]

    @property
    def digest(self) -> str:
        return f"toys-{len(self.samples)}-{sorted(self.bad)}"


def colored(count: int, size: int = 20, seed: int = 0) -> list[Sample]:
    """Noisy images that are mostly red, green or blue in turn, labeled so."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(count):
        pixels = torch.randint(0, 120, (3, size, size), generator=generator, dtype=torch.uint8)
        pixels[i % 3] += 100
        samples.append(Sample(f"{i:04d}.png", pixels, label=i % 3))
    return samples
