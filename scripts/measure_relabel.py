"""Training on crops with label maps or with one label an image, on the built-in world (docs/label_maps.md).

    python scripts/measure_relabel.py [--weights DIR] [--images 4000] [--seeds 5] [--steps 500]

Networks that DIR lacks are trained first and kept there. One thread, so that the same machine gives the same numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cuescope import Classifier, load
from cuescope.api.train import train
from cuescope.core import stats
from cuescope.world.images import CLASSES, WorldImages

BATCH = 64
SEED = 5
"""Of the images that are measured on, which no network has learned from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("relabel-weights"))
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    several = WorldImages("several", placement="uniform", count=options.images, seed=SEED)
    samples = [several.read(i) for i in range(len(several))]
    index = {name: i for i, name in enumerate(CLASSES.names)}
    shown = [{index[box.name] for box in sample.boxes} for sample in samples]
    chance = np.mean([len(classes) for classes in shown]) / len(CLASSES)
    print(f"{len(samples)} images of {np.mean([len(s) for s in shown]):.2f} classes; chance {1 / 16:.3f}, {chance:.3f}")
    annotator = options.weights / "world-annotator.safetensors"
    if not annotator.is_file():
        train("world-annotator", annotator)
    told("the annotator, at 64 px", load(f"cuescope/world-congruent@{annotator}", device="cpu"), samples, shown)
    differences: dict[str, list[Any]] = {"single-label accuracy": [], "multi-label accuracy": []}
    for seed in range(options.seeds):
        found = {
            targets: told(f"seed {seed}, {targets}", network(targets, seed, options), samples, shown)
            for targets in ("label", "maps")
        }
        for name, of_each in differences.items():
            of_each.append(found["maps"][name] - found["label"][name])
    for name, of_each in differences.items():
        seeds = np.array([one.mean() for one in of_each])
        mean, interval, _ = stats.paired_difference(np.mean(of_each, 0), np.zeros(len(samples)))
        print(f"{name}, maps less label: {mean:.4f}; over images {interval}", end="")
        print(f", over seeds {stats.mean('', seeds, 'difference', units='seeds').interval}")
        print(f"    of each seed: {', '.join(f'{one:+.4f}' for one in seeds)}")


def network(targets: str, seed: int, options: argparse.Namespace) -> Classifier:
    path = options.weights / f"world-relabel-{targets}-{options.steps}-{seed}.safetensors"
    if not path.is_file():
        settings = {
            "targets": targets,
            "steps": options.steps,
            "annotator": options.weights / "world-annotator.safetensors",
        }
        train("world-relabel", path, settings=settings, seed=seed)
    return load(f"cuescope/world-congruent@{path}", device="cpu")


def told(what: str, classifier: Classifier, samples: list[Any], shown: list[set[int]]) -> dict[str, Any]:
    """Of each image: whether the best class is that of the largest object, and whether it is that of any."""
    answers: list[int] = []
    for start in range(0, len(samples), BATCH):
        answers += classifier.see(samples[start : start + BATCH]).logits.argmax(1).tolist()
    found = {
        "single-label accuracy": np.array([a == s.label for a, s in zip(answers, samples, strict=True)], float),
        "multi-label accuracy": np.array([a in s for a, s in zip(answers, shown, strict=True)], float),
    }
    print(f"{what}: " + ", ".join(f"{name} {values.mean():.4f}" for name, values in found.items()), flush=True)
    return found


if __name__ == "__main__":
    main()
