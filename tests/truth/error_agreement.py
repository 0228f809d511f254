"""Planted classifiers for error_agreement: the same errors, opposite ones, independent ones, and too few."""

from __future__ import annotations

import numpy as np
import torch

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.error_agreement import MARGIN, ErrorAgreement
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("letters", tuple("abcd"))
ABOUT = tuple(About(name, "toys", CLASSES.names, CLASSES.name) for name in ("zoo/first", "zoo/second"))


class Reads(torch.nn.Module):
    """Right, class 0, where one channel is bright, else wrong."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        right = pixels[:, self.channel].mean((1, 2))
        return torch.stack([right, 1 - right, *torch.zeros(2, len(right))], 1)


def compare(*cells: int) -> Conclusion:
    """Two classifiers on so many images that both are right on, the first, the second, and none."""
    tool, bright = ErrorAgreement(), ((255, 255), (255, 0), (0, 255), (0, 0))
    pixels = [both for both, n in zip(bright, cells, strict=True) for _ in range(n)]
    samples = []
    for i, (one, other) in enumerate(pixels):
        image = torch.tensor([one, other, 0], dtype=torch.uint8)[:, None, None]
        samples.append(Sample(str(i), image, framing="stimulus"))
    rows = []
    for channel in range(2):
        classifier = toy(Reads(channel), CLASSES, size=1)
        seen = classifier.see(samples, [0] * len(samples)) if samples else None
        rows.append(tool.observe(classifier, seen) if seen else tool.empty)
    return tool.compare(rows[0], rows[1], (ABOUT[0], ABOUT[1]))


def conclude(*right: int, of: int = 8) -> Conclusion:
    """One classifier that is right on so many images of each class."""
    tool, answers = ErrorAgreement(), np.concatenate([np.arange(of) < k for k in right]) if right else np.empty(0, bool)
    labels = np.repeat(np.arange(len(right)), of)
    data = {"id": [str(i) for i in range(len(labels))], "label": labels, "predicted": labels, "right": answers}
    return tool.conclude(tool.table(data), ABOUT[0])


def interval(said: Conclusion) -> tuple[float, float]:
    return said["kappa"].interval or (-9.0, 9.0)


@planted(
    "error_agreement",
    "truth",
    "err on the same 20 of 100 images",
    "the same images, kappa 1",
    holds=lambda said: said.verdict.names == ("same",) and said["kappa"].value == 1 and interval(said)[0] < 0.95,
    broken=breaks("cuescope.instruments.error_agreement.kappa_intervals", lambda a, b: ((-1.0, 1.0), (0.0, 1.0))),
    shows=("kappa", "observed", "expected"),
)
def same_errors() -> Conclusion:
    return compare(80, 0, 0, 20)


@planted(
    "error_agreement",
    "absence",
    "err on the same 2 of 200 images, and on no others",
    "cannot tell from 2 errors, whatever kappa is",
    holds=lambda said: said.verdict.said == "cannot tell" and "2 errors" in said.sentence,
    broken=breaks("cuescope.core.error_consistency.UNITS", 1),
    shows=("kappa", "observed"),
)
def two_errors() -> Conclusion:
    return compare(198, 0, 0, 2)


@planted(
    "error_agreement",
    "absence",
    "err independently, on a half of 1,600 images each",
    "as often as by chance",
    holds=lambda said: said.verdict.names == ("by_chance",) and said["kappa"].value == 0,
    broken=breaks("cuescope.instruments.error_agreement.kappa_intervals", lambda a, b: ((0.1, 0.2), (0.0, 1.0))),
    shows=("kappa", "observed", "expected"),
)
def independent() -> Conclusion:
    return compare(400, 400, 400, 400)


@planted(
    "error_agreement",
    "absence",
    "err independently, on a half of 20 images each",
    "cannot tell from 20 images, not 'as often as by chance'",
    holds=lambda said: said.verdict.said == "cannot tell",
    broken=breaks("cuescope.instruments.error_agreement.MARGIN", 9.0),
    shows=("kappa",),
)
def independent_on_few() -> Conclusion:
    return compare(5, 5, 5, 5)


sayable("error_agreement", "no_labels", lambda said: said["class_mean"].value is None, conclude)
sayable("error_agreement", "mean", lambda said: said["class_mean"].value is not None, lambda: conclude(8, 4, 2))
sayable("error_agreement", "never", lambda said: (said["never_right"].count or 0) > 0, lambda: conclude(8, 4, 0))
sayable("error_agreement", "each", lambda said: said["never_right"].count == 0, lambda: conclude(8, 4, 2))
sayable("error_agreement", "nothing", lambda said: said["observed"].n == 0, lambda: compare(0, 0, 0, 0))
sayable(
    "error_agreement",
    "no_kappa",
    lambda said: said["observed"].n > 0 and said["kappa"].value is None,
    lambda: compare(9, 3, 0, 0),
)
sayable(
    "error_agreement",
    "few",
    lambda said: said["kappa"].value is not None and said["kappa"].interval is None,
    two_errors,
)
sayable("error_agreement", "same", lambda said: interval(said)[0] > 0, same_errors)
sayable("error_agreement", "different", lambda said: interval(said)[1] < 0, lambda: compare(5, 40, 40, 5))
sayable(
    "error_agreement",
    "by_chance",
    lambda said: -MARGIN <= interval(said)[0] <= 0 <= interval(said)[1] <= MARGIN,
    independent,
)
sayable(
    "error_agreement",
    "unclear",
    lambda said: interval(said)[0] <= 0 <= interval(said)[1] and max(-interval(said)[0], interval(said)[1]) > MARGIN,
    independent_on_few,
)
