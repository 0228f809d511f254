"""Planted margins for attack: red less green, in 255ths, which a change of one 255th lowers by two."""

from __future__ import annotations

import torch
from torch import nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.attack import LOST, Attack
from cuescope.methods.attacks import attacked
from toys import toy
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("two", ("red", "green"))


class Redder(nn.Module):
    """Red where there is more red than green in the mean, else green."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 100 * pixels[:, :2].mean((2, 3))


class Guess(nn.Module):
    """An answer that has nothing to do with the label, though it depends on the image."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        wave = torch.sin(pixels[:, 2].mean((1, 2)) * 255 * 2.4)
        return torch.stack([wave, -wave], 1)


def of(narrow: float, n: int = 100, module: nn.Module | None = None, **how: object) -> Conclusion:
    """So many of the images have a margin of one 255th, the others one of three."""
    samples = []
    for i in range(n):
        pixels = torch.full((3, 4, 4), 100 + i % 50, dtype=torch.uint8)
        pixels[i % 2] += 1 if i < narrow * n else 3
        samples.append(Sample(f"{i:03d}", pixels, label=i % 2, framing="stimulus"))
    tool = Attack(**{"budgets": (0.0, 1.0, 2.0), **how})  # type: ignore[arg-type]
    classifier = toy(module or Redder(), CLASSES, size=4)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(samples, [s.label or 0 for s in samples])) if n else tool.empty
    return tool.conclude(rows, About("toy", "toys", CLASSES.names))


@planted(
    "attack",
    "truth",
    "has a margin of one 255th on eight of ten images, of three on the others",
    "right on all as they are, on 20 % at a budget of 1/255, on none at 2/255, by either attack",
    holds=lambda said: (
        said.verdict.names == ("breaks",)
        and (said["clean"].value, said["right"].value) == (1, 0.2)
        and said["fgsm_1"].value == said["pgd_1"].value == 0.2
        and said["fgsm_2"].value == said["pgd_2"].value == 0
        and said["fgsm_0"].value == said["pgd_0"].value == 1
    ),
    broken=breaks("cuescope.instruments.attack.attacked", lambda classifier, pixels, *how: pixels),
    shows=("clean", "right", "pgd_2"),
)
def narrow_margins() -> Conclusion:
    return of(0.8)


@planted(
    "attack",
    "absence",
    "has a margin of three 255ths on all images",
    "stands a change of one",
    holds=lambda said: said.verdict.names == ("stands",) and said["right"].value == 1,
    broken=breaks(
        "cuescope.instruments.attack.attacked",
        lambda classifier, pixels, labels, budget, *how: attacked(classifier, pixels, labels, 2 * budget, *how),
    ),
    shows=("clean", "right"),
)
def wide_margins() -> Conclusion:
    return of(0)


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-1.0, 2.0)


def right(said: Conclusion) -> bool:
    return said["right"].value is not None and span(said, "clean")[0] > (said["clean"].chance or 1)


sayable("attack", "nothing", lambda said: said["right"].value is None, lambda: of(1, budgets=(0.0,)))
sayable(
    "attack",
    "never_right",
    lambda said: said["right"].value is not None and not right(said),
    lambda: of(1, module=Guess()),
)
sayable("attack", "breaks", lambda said: right(said) and span(said, "lost")[0] > LOST, narrow_margins)
sayable("attack", "stands", lambda said: right(said) and span(said, "lost")[1] < LOST, wide_margins)
sayable(
    "attack",
    "unsure",
    lambda said: right(said) and span(said, "lost")[0] <= LOST <= span(said, "lost")[1],
    lambda: of(0.5, n=40),
)
