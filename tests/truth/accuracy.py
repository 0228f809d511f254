"""Planted classifiers for accuracy: honest, too sure, not sure enough, and one whose logits are all equal."""

from __future__ import annotations

import numpy as np
import torch

from cuescope.core import stats
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.accuracy import CHANCE, OFF, SPREAD, Accuracy
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcdefghijklmnop"))


class Confident(torch.nn.Module):
    """Says class 0 with the confidence that the image's first two numbers hold, the rest is even over the others."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        numbers = (pixels[:, :2, 0, 0] * 255).round()
        confidence = ((numbers[:, 0] * 256 + numbers[:, 1]) / 65535).double()
        logits = torch.log((1 - confidence) / 15)[:, None].repeat(1, 16)
        logits[:, 0] = torch.log(confidence)
        return logits.float()


def conclude(said: np.ndarray, right: np.ndarray) -> Conclusion:
    """The instrument's answer about images on which the classifier is so confident, and right or not."""
    tool, classifier, samples = Accuracy(), toy(Confident(), CLASSES, size=1), []
    for i, number in enumerate((said * 65535).round().astype(int).tolist()):
        pixels = torch.tensor([number // 256, number % 256, 0], dtype=torch.uint8)[:, None, None]
        samples.append(Sample(str(i), pixels, framing="stimulus"))
    labels = np.where(right, 0, 1 + np.arange(len(said)) % 15).tolist()
    rows = tool.observe(classifier, classifier.see(samples, labels)) if samples else tool.empty
    return tool.conclude(rows, About("toy", "toys", CLASSES.names, CLASSES.name))


def honest(n: int, seed: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and answers that are right as often as these say."""
    random = np.random.default_rng(seed)
    said = random.uniform(low, high, n)
    return said, random.random(n) < said


def off(said: Conclusion, name: str) -> bool:
    return name in said.verdict.names


@planted(
    "accuracy",
    "truth",
    "is right on 70 % and says 90 %",
    "surer than it is right",
    holds=lambda said: off(said, "surer") and abs(said["gap"].value - 0.2) < 0.01,
    broken=breaks("cuescope.instruments.accuracy.stats.difference", lambda name, a, b, **k: stats.mean(name, b, **k)),
    shows=("top1", "gap"),
)
def says_ninety() -> Conclusion:
    return conclude(np.full(140, 0.9), np.arange(140) % 10 < 7)


@planted(
    "accuracy",
    "truth",
    "is right on 95 % and says 60 %",
    "less sure than it could be",
    holds=lambda said: off(said, "less_sure") and abs(said["gap"].value + 0.35) < 0.01,
    broken=breaks("cuescope.instruments.accuracy.stats.difference", lambda name, a, b, **k: stats.mean(name, b, **k)),
    shows=("top1", "gap"),
)
def says_sixty() -> Conclusion:
    return conclude(np.full(140, 0.6), np.arange(140) % 20 < 19)


@planted(
    "accuracy",
    "absence",
    "is right as often as it says, on 100 images",
    "neither surer nor less sure, though its plain calibration error is far from 0",
    holds=lambda said: not {"surer", "less_sure", "uneven"} & set(said.verdict.names),
    broken=breaks("cuescope.core.intervals.student", lambda degrees: 0.01),
    shows=("gap", "squared"),
)
def says_the_truth() -> Conclusion:
    return conclude(*honest(100, 1, 0.3, 1))


@planted(
    "accuracy",
    "truth",
    "is right as often as it says, 97 %, on 400 images",
    "its confidence fits",
    holds=lambda said: off(said, "fits"),
    broken=breaks("cuescope.instruments.accuracy.OFF", 0.001),
    shows=("gap", "rms", "smece", "ece"),
)
def says_the_truth_on_many() -> Conclusion:
    return conclude(np.full(400, 0.97), np.arange(400) % 100 < 97)


@planted(
    "accuracy",
    "absence",
    "has equal logits for all 16 classes",
    "right on 1 of 16, and among the first five on 5 of 16: ties have their expected rank",
    holds=lambda said: (said["top1"].value, said["top5"].value) == (1 / 16, 5 / 16) and not off(said, "right"),
    broken=breaks("cuescope.core.ranks.Ranks.among_first", lambda ranks, k: ranks.greater < k),
    shows=("top1", "top5"),
)
def all_equal() -> Conclusion:
    return conclude(np.full(32, 1 / 16), np.arange(32) % 16 == 0)


def uneven() -> Conclusion:
    said = np.repeat([0.5, 0.95], 100)
    return conclude(said, np.concatenate([np.arange(100) % 20 < 15, np.arange(100) % 20 < 14]))


def of_label_0(share: float, n: int) -> Conclusion:
    return conclude(np.full(n, 0.5), np.arange(n) < round(n * share))


def between(said: Conclusion, name: str, low: float, high: float) -> bool:
    interval = said[name].interval
    return interval is not None and low < interval[0] and interval[1] < high


def fits(said: Conclusion) -> bool:
    return between(said, "gap", -OFF, OFF) and between(said, "rms", -1, SPREAD)


FAR = 9.0
sayable("accuracy", "no_labels", lambda said: said["top1"].n == 0, lambda: conclude(np.empty(0), np.empty(0, bool)))
sayable("accuracy", "right", lambda said: between(said, "top1", 1 / 16, FAR), says_ninety)
sayable(
    "accuracy",
    "by_chance",
    lambda said: between(said, "top1", -1, 1 / 16 + CHANCE) and not between(said, "top1", 1 / 16, FAR),
    lambda: of_label_0(1 / 16, 256),
)
sayable(
    "accuracy",
    "unclear",
    lambda said: not between(said, "top1", 1 / 16, FAR) and not between(said, "top1", -1, 1 / 16 + CHANCE),
    all_equal,
)
sayable("accuracy", "fits", fits, says_the_truth_on_many)
sayable("accuracy", "surer", lambda said: between(said, "gap", 0, FAR) and not fits(said), says_ninety)
sayable("accuracy", "less_sure", lambda said: between(said, "gap", -FAR, 0) and not fits(said), says_sixty)
sayable(
    "accuracy",
    "uneven",
    lambda said: (
        not between(said, "gap", 0, FAR)
        and not between(said, "gap", -FAR, 0)
        and between(said, "squared", 0, FAR)
        and said["ece_by_chance"].value < 0.05
    ),
    uneven,
)
sayable(
    "accuracy",
    "unsure",
    lambda said: (
        not fits(said)
        and not between(said, "gap", 0, FAR)
        and not between(said, "gap", -FAR, 0)
        and not (between(said, "squared", 0, FAR) and (said["ece_by_chance"].value or 1.0) < 0.05)
    ),
    says_the_truth,
)
