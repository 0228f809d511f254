"""Planted networks for ablation: each layer is worth a known amount, and one network that needs nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.core.findings import About, Conclusion, Measure
from cuescope.core.verdicts import Verdict
from cuescope.data.images import Sample
from cuescope.instruments.ablation import ALIKE, Ablation
from cuescope.instruments.base import Misfit, Rows
from cuescope.methods.layer_losses import LayerLosses
from toys import COLORS, toy
from truth.table import breaks, planted, sayable


class Layers(nn.Module):
    """Says the main color. `idle` does nothing, `turn` turns the colors round, which the end turns back."""

    def __init__(self, names: str = "idle turn", fixed: bool = False) -> None:
        super().__init__()
        self.names, self.fixed = names.split(), fixed
        for name in self.names:
            convolution = nn.Conv2d(3, 3, 1, bias=False)
            convolution.weight.data = torch.eye(3).roll(int(name == "turn"), 0)[:, :, None, None]
            self.add_module(name, convolution)

    def forward(self, pixels: Tensor) -> Tensor:
        for name in self.names:
            pixels = getattr(self, name)(pixels)
        means = pixels.mean((2, 3)).roll(-1 if "turn" in self.names else 0, 1)
        return means * 0 + torch.tensor([0.0, 1.0, 0.0]) if self.fixed else means


def observed(images: int, module: nn.Module) -> tuple[Rows, About]:
    """Rows of so many images that are red, green and blue in turn."""
    classifier, observer = toy(module, size=2), Ablation().start(toy(module, size=2))
    colors = 255 * torch.eye(3, dtype=torch.uint8)
    samples = [Sample(f"{i:03}", colors[i % 3, :, None, None].expand(3, 2, 2), i % 3) for i in range(images)]
    about = About("toy", "toys", COLORS.names, facts=observer.facts)
    seen = classifier.see(samples, [i % 3 for i in range(images)])
    return observer.observe(seen) if images else Ablation().empty, about


def conclude(images: int = 63, **network: Any) -> Conclusion:
    return Ablation().conclude(*observed(images, Layers(**network)))


def compare(images: int = 63, second: str = "turn idle", asked: str = "turn idle") -> Conclusion:
    """Two networks of two layers: the first needs the one that it calls turn, the second has these."""
    rows, about = observed(images, Layers("turn idle"))
    others, _ = observed(images, Layers(second))
    other = replace(about, classifier="other", facts={**about.facts, "layers": asked.split()})
    try:
        return Ablation().compare(rows, others, (about, other))
    except Misfit as reason:
        return Conclusion(
            (Measure("falls_more", None, why=str(reason)),), verdict=Verdict("does not apply", str(reason))
        )


@planted(
    "ablation",
    "truth",
    "one layer turns the colors round, one does nothing",
    "needs the first, can do without the second",
    holds=lambda said: "It needs turn. It can do without any one of idle" in said.sentence,
    broken=breaks("cuescope.instruments.ablation.left_out", lambda network, cut: nullcontext()),
    shows=("accuracy", "largest_fall", "smallest_fall"),
)
def needs_one_of_two() -> Conclusion:
    return conclude()


@planted(
    "ablation",
    "absence",
    "always gives the same answer, with its layers and without",
    "its layers' worth cannot be told, not 'it can do without them'",
    holds=lambda said: said.verdict.names == ("chance",),
    broken=lambda patch: patch.setattr(LayerLosses, "above_chance", True),
    shows=("accuracy", "smallest_fall"),
)
def one_answer() -> Conclusion:
    return conclude(fixed=True)


@planted(
    "ablation",
    "absence",
    "one of two layers does nothing, on 9 images",
    "cannot tell from 9 images whether it can do without it",
    holds=lambda said: said.verdict.names == ("average", "needs", "unsure"),
    broken=breaks(
        "cuescope.core.stats.difference",
        lambda name, a, b, **more: Measure(name, (d := float((a - b).mean())), "difference", len(a), (d, d), **more),
    ),
    shows=("largest_fall", "smallest_fall"),
)
def nine_images() -> Conclusion:
    return conclude(9)


@planted(
    "ablation",
    "absence",
    "two networks with other layers, one of which loses more",
    "they cannot be compared",
    holds=lambda said: said.verdict.said == "does not apply",
    broken=breaks("cuescope.instruments.ablation.Misfit", UserWarning),
    shows=("falls_more",),
)
def other_layers() -> Conclusion:
    return compare(asked="conv1 conv2")


def falls(said: Conclusion) -> list[tuple[float, float]]:
    """The interval of the fall without each layer; all there is where there is none."""
    rows = next((panel for panel in said.panels if panel.name == "falls"), None)
    rows = rows.data["rows"] if rows else []
    return [(-1.0, 1.0) if row["low"] is None else (row["low"], row["high"]) for row in rows]


def sure(said: Conclusion) -> bool:
    """Better than one of three colors."""
    interval = said["accuracy"].interval
    return interval is not None and interval[0] > 1 / 3


def pair(said: Conclusion) -> tuple[float, float]:
    return said["falls_more"].interval or (-1.0, 1.0)


LOSS = Ablation().loss
sayable("ablation", "nothing", lambda said: said["answers_kept"].value is None, lambda: conclude(0))
sayable("ablation", "chance", lambda said: not sure(said), one_answer)
sayable("ablation", "average", sure, needs_one_of_two)
sayable(
    "ablation",
    "needs",
    lambda said: sure(said) and any(low > 0 and high >= LOSS for low, high in falls(said)),
    needs_one_of_two,
)
sayable("ablation", "spares", lambda said: sure(said) and any(high < LOSS for _, high in falls(said)), needs_one_of_two)
sayable(
    "ablation",
    "unsure",
    lambda said: sure(said) and any(low <= 0 and high >= LOSS for low, high in falls(said)),
    nine_images,
)
sayable("ablation", "more", lambda said: pair(said)[0] > 0 or pair(said)[1] < 0, lambda: compare(second="idle idle2"))
sayable("ablation", "alike", lambda said: -ALIKE <= pair(said)[0] <= pair(said)[1] <= ALIKE, lambda: compare(300))
sayable("ablation", "compare_unsure", lambda said: pair(said)[0] <= 0 <= pair(said)[1], lambda: compare(9))
