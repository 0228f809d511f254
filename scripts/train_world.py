"""Train the models of the built-in world again and write the weights that the package ships.

    python scripts/train_world.py [world-congruent world-shape world-bagnet world-bow] [--out DIR]

One thread, so that the same machine writes the same bytes each time; one to five minutes a model.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import safetensors.torch
import torch

from cuescope.training.recipes import find
from cuescope.world.models import load_world, names, packed, unpacked, weights_file
from cuescope.world.strategy import strategy


def show(done: int, total: int, what: str) -> None:
    if not done % 640:
        print(f"  {what}: {done} of {total} images" if total else f"  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=names())
    parser.add_argument("--out", type=Path, default=weights_file(names()[0]).parent)
    parser.add_argument("--measure-only", action="store_true", help="measure the weights that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        if options.measure_only:
            module = load_world(name)
        else:
            start = time.perf_counter()
            recipe = find(name)
            module = recipe.fit(recipe.settings, None, show).network
            print(f"{name}: trained in {time.perf_counter() - start:.0f} s")
            options.out.mkdir(parents=True, exist_ok=True)
            weights = packed(module)
            # No metadata: safetensors writes several entries in random order, and the bytes should repeat.
            (options.out / f"{name}.safetensors").write_bytes(safetensors.torch.save(weights))
            module.load_state_dict(unpacked(weights))
        found = strategy(module)
        print(f"{name}: shape bias {found.shape_bias}; {found}")


if __name__ == "__main__":
    main()
