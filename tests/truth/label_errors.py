"""Planted data for label_errors: wrong labels, none among classes that overlap, and a classifier that knows nothing."""

from __future__ import annotations

import numpy as np
import torch

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.label_errors import MARGIN, LabelErrors
from cuescope.methods.confident_learning import learn
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("corners", ("a", "b", "c", "d"))
CORNERS = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])


class Posterior(torch.nn.Module):
    """The exact log probabilities of four Gaussians about the corners of a square, of the point (red, green)."""

    def __init__(self, apart: float, size: float = 1.0) -> None:
        super().__init__()
        self.means, self.size = apart * CORNERS, size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        points = (pixels[:, :2].mean((2, 3)) * 255 - 128) / 25
        return -self.size * (points[:, None] - self.means).square().sum(2) / 2


class Hash(torch.nn.Module):
    """A sure answer that depends on the last digits of the pixels alone."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        code = (pixels[:, :2].sum((1, 2, 3)) * 255).round().long() * 7919 % 101 % 4
        return 6 * torch.nn.functional.one_hot(code, 4).float()


def conclude(module: torch.nn.Module, apart: float, n: int, wrong: float = 0.0) -> Conclusion:
    """The instrument's answer about n images of four classes so far apart, so many of them labeled as another one."""
    random = np.random.default_rng(5)
    classes = random.integers(0, 4, n)
    points = apart * CORNERS.numpy()[classes] + random.normal(size=(n, 2))
    labels = np.where(random.random(n) < wrong, (classes + random.integers(1, 4, n)) % 4, classes).tolist()
    pixels = torch.zeros(n, 3, 2, 2, dtype=torch.uint8)
    pixels[:, :2] = torch.from_numpy((points * 25 + 128).round().clip(0, 255)).to(torch.uint8)[:, :, None, None]
    classifier, tool = toy(module, CLASSES, size=2), LabelErrors()
    samples = [Sample(f"{i:04d}", pixels[i], labels[i], framing="stimulus") for i in range(n)]
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(samples, labels))
    return tool.conclude(rows, About("toy", "toys", CLASSES.names, CLASSES.name, observer.facts))


@planted(
    "label_errors",
    "truth",
    "knows the classes; one label of ten is another one",
    "about 10 % are contradicted, more than expected",
    holds=lambda said: said.verdict.names == ("more", "types") and 0.06 < said["excess"].value < 0.14,
    broken=breaks("cuescope.methods.flagged_labels.expected", lambda p: np.ones(40)),
    shows=("flagged", "expected"),
)
def one_of_ten() -> Conclusion:
    return conclude(Posterior(2.8), 2.8, 300, 0.1)


@planted(
    "label_errors",
    "absence",
    "knows the probabilities of classes that overlap (16 % cannot be told); no label is wrong",
    "no label errors are reported",
    holds=lambda said: said.verdict.said != "yes" and said["flagged"].value > 0.02,
    broken=breaks("cuescope.methods.flagged_labels.expected", lambda p: np.zeros(40)),
    shows=("flagged", "expected"),
)
def overlap() -> Conclusion:
    return conclude(Posterior(1.4), 1.4, 500)


@planted(
    "label_errors",
    "absence",
    "the same classifier and data, logits times 8: far too sure of itself",
    "no label errors are reported: temperature is calibrated away",
    holds=lambda said: said.verdict.said != "yes" and said["flagged"].value > 0.02,
    broken=breaks("cuescope.instruments.label_errors.calibrated", lambda logits, labels: (1.0, 0.0)),
    shows=("flagged", "expected"),
)
def too_sure() -> Conclusion:
    return conclude(Posterior(1.4, 8.0), 1.4, 500)


@planted(
    "label_errors",
    "absence",
    "is sure of a class that a hash of the pixels names; no label is wrong",
    "it knows nothing of the labels, so what it contradicts says nothing",
    holds=lambda said: said.verdict.names == ("chance",) and said["flagged"].value > 0.2,
    broken=breaks("cuescope.core.findings.Measure.above", lambda measure, bound: True),
    shows=("flagged", "agreement"),
)
def hashed() -> Conclusion:
    return conclude(Hash(), 1.4, 200)


@planted(
    "label_errors",
    "truth",
    "knows classes that are far apart; no label is wrong",
    "contradicts no more than expected",
    holds=lambda said: said.verdict.names == ("expected",),
    broken=breaks(
        "cuescope.methods.flagged_labels.learn",
        lambda p, labels: learn(p, labels)._replace(flagged=np.zeros(len(labels), int)),
    ),
    shows=("flagged", "expected"),
)
def all_right() -> Conclusion:
    return conclude(Posterior(2.8), 2.8, 200)


def beyond(said: Conclusion, name: str) -> bool:
    return said[f"flagged{name}"].value > said[f"expected{name}"].interval[1]


def knows(said: Conclusion) -> bool:
    return said["agreement"].interval[0] > said["agreement"].chance


def more(said: Conclusion) -> bool:
    return knows(said) and all(beyond(said, name) for name in ("_half", "", "_double"))


def none(said: Conclusion) -> bool:
    low, high = said["expected"].interval
    return not beyond(said, "") and max(high - said["flagged"].value, said["flagged"].value - low) <= MARGIN


NAME = "label_errors"
sayable(NAME, "nothing", lambda said: said["flagged"].value is None, lambda: conclude(Posterior(2.8), 2.8, 3))
sayable(NAME, "chance", lambda said: not knows(said), hashed)
sayable(NAME, "more", more, one_of_ten)
sayable(NAME, "types", more, one_of_ten)
sayable(NAME, "expected", lambda said: knows(said) and none(said), all_right)
sayable(
    NAME,
    "if_sure",
    lambda said: knows(said) and beyond(said, "") and not more(said),
    lambda: conclude(Posterior(1.8), 1.8, 300, 0.05),
)
sayable(NAME, "cannot_tell", lambda said: knows(said) and not beyond(said, "") and not none(said), overlap)
