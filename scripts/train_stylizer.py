"""Train the embedded stylizer again and write the weights that the package ships.

    python scripts/train_stylizer.py [--steps 2500] [--out FILE]

One thread, so that the same machine writes the same bytes each time; some ten minutes. Nothing but drawn images goes
into the weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from cuescope.models.seeding import seeded
from cuescope.models.wct import WCT, packed, weights_file
from cuescope.training.surfaces import SETTINGS, train_surfaces


def show(done: int, total: int, what: str) -> None:
    if done % 800 == 0 or done == total:
        print(f"  {what}: {done} of {total} images", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=SETTINGS.steps)
    parser.add_argument("--out", type=Path, default=weights_file())
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    network = seeded(SETTINGS.seed, WCT)
    network.surfaces = train_surfaces(show, dataclasses.replace(SETTINGS, steps=options.steps))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(packed(network))
    print(f"{options.out}: {options.out.stat().st_size} bytes, trained in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
