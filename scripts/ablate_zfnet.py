"""Which layers does ZFNet need where it may learn without them? Train its variants on the built-in world.

    python scripts/ablate_zfnet.py [zfnet zfnet-without-7 ...] [--page docs/ablation.md]

The variants of table 3 of Zeiler and Fergus 2014, an eighth as wide, on 64 px images whose shape alone tells the class:
the same images, order and number of steps for each. Prints the table and writes it into the page. About a minute a
variant on one core; one thread, so that the same machine gives the same numbers each time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cuescope.core import stats
from cuescope.models.seeding import seeded
from cuescope.models.zfnet import HIDDEN, SMALL, VARIANTS, WIDTHS, ZFNet
from cuescope.training.loop import normalized, train
from cuescope.training.settings import Settings
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.models import MEAN, STD

NARROWER = 8
IMAGES, STEPS, TESTED = 4000, 900, 2000
SETTINGS = Settings(
    steps=STEPS,
    batch=32,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_steps=100,
    weight_decay=0.01,
    mean=MEAN,
    std=STD,
)
"""Not the paper's own training, by which so small a network does not leave chance in minutes."""
# Far from the small seeds that images are audited with.
TRAINING_SEED = 1_000_003
PAGE = Path(__file__).resolve().parents[1] / "docs" / "ablation.md"
BEGIN, END = "<!-- measured by scripts/ablate_zfnet.py -->", "<!-- end -->"


class Row(NamedTuple):
    """A line of table 3: what is changed, and the paper's errors in percent: training, validation top-1, top-5."""

    told: str
    krizhevsky: str = ""
    """Of the network of Krizhevsky et al. 2012 with that change."""
    ours: str = ""
    """Of the paper's own network with it."""


ROWS = {
    "zfnet": Row("as it is", "35.1 / 40.5 / 18.1", "33.1 / 38.4 / 16.5"),
    "zfnet-without-3-4": Row("without layers 3, 4", "41.8 / 45.4 / 22.1"),
    "zfnet-without-7": Row("without layer 7", "27.4* / 40.0 / 18.4"),
    "zfnet-without-6-7": Row("without layers 6, 7", "27.4* / 44.8 / 22.4"),
    "zfnet-without-3-4-6-7": Row("without layers 3, 4, 6, 7", "71.1 / 71.3 / 50.1"),
    "zfnet-fc2048": Row("layers 6, 7: 2048 units", "40.3 / 41.7 / 18.8", "38.2 / 40.2 / 17.6"),
    "zfnet-fc8192": Row("layers 6, 7: 8192 units", "26.8 / 40.0 / 18.1", "22.0 / 38.8 / 17.0"),
    "zfnet-512-1024-512": Row("layers 3, 4, 5: 512, 1024, 512 maps", "", "18.8 / 37.5 / 16.0"),
    "zfnet-512-1024-512-fc8192": Row("both of these", "", "10.0 / 38.3 / 16.9"),
}


class Errors(NamedTuple):
    """Images wrongly answered, of how many."""

    wrong: int
    of: int

    def __str__(self) -> str:
        low, high = stats.wilson(self.wrong, self.of)
        return f"{self.wrong / self.of:.1%} ({low:.1%} to {high:.1%})"


def small(name: str, seed: int = 0) -> ZFNet:
    """A variant for the world's images, all its layers an eighth as wide."""
    how = VARIANTS[name]
    widths = [width // NARROWER for width in how.get("widths", WIDTHS)]
    hidden, without = how.get("hidden", HIDDEN) // NARROWER, how.get("without", ())

    def make() -> ZFNet:
        network = ZFNet(len(CLASSES), widths=widths, hidden=hidden, without=without, first=SMALL, size_px=64)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return network

    return seeded(seed, make)


def batches(images: Tensor, labels: Tensor, settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images over and over, each time in another order."""
    generator = torch.Generator().manual_seed(settings.seed)
    while True:
        for some in torch.randperm(len(images), generator=generator).split(settings.batch):
            yield images[some], labels[some]


@torch.no_grad()
def errors(network: ZFNet, images: Tensor, labels: Tensor) -> Errors:
    said = torch.cat([network(normalized(part, SETTINGS)).argmax(1) for part in images.split(250)])
    return Errors(int((said != labels).sum()), len(labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(ROWS))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    learned = WorldImages("crossed", seed=TRAINING_SEED).render(range(IMAGES))
    fresh = WorldImages("crossed", seed=0).render(range(TESTED))
    lines = [
        "| variant | parameters | training error | held-out error | paper, net of 2012 | paper, its own net |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines))
    for name in options.variants:
        start, network = time.perf_counter(), small(name)
        train(network, batches(*learned, SETTINGS), SETTINGS)
        parameters = sum(p.numel() for p in network.parameters())
        cells = [
            ROWS[name].told,
            f"{parameters:,}",
            errors(network, *learned),
            errors(network, *fresh),
            *ROWS[name][1:],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(lines[-1], f" {time.perf_counter() - start:.0f} s", flush=True)
    if options.page.is_file():
        before, _, rest = options.page.read_text().partition(BEGIN)
        after = rest.partition(END)[2] if END in rest else rest
        options.page.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))


if __name__ == "__main__":
    main()
