"""Training on congruent and stylized images of the built-in world, against congruent ones alone (docs/stylized.md).

    python scripts/measure_stylized.py [--weights DIR] [--seeds 2] [--steps 1500]

Networks that DIR lacks are trained first and kept there. One thread, so that the same machine gives the same numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cuescope import Classifier, load
from cuescope.api.train import train
from cuescope.core import stats
from cuescope.world.images import Variant, WorldImages

COUNT, BATCH, SEED = 2400, 96, 5
"""Images of each kind, from a seed that no network has learned from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("stylized-weights"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        found = {share: told(network(share, seed, options), share, seed) for share in (0.0, 0.75)}
        alone, beside = found[0.0], found[0.75]
        for name in alone:
            both = ~np.isnan(alone[name]) & ~np.isnan(beside[name])
            value, interval, n = stats.paired_difference(beside[name][both], alone[name][both])
            print(f"  seed {seed}, with less without, {name}: {value:.4f} {interval} n={n}", flush=True)


def network(share: float, seed: int, options: argparse.Namespace) -> Classifier:
    path = options.weights / f"world-stylized-{share}-{options.steps}-{seed}.safetensors"
    if not path.is_file():
        train("world-stylized", path, settings={"share": share, "steps": options.steps}, seed=seed)
    return load(f"cuescope/world-congruent@{path}", device="cpu")


def told(classifier: Classifier, share: float, seed: int) -> dict[str, np.ndarray]:
    """Of each image: whether it is right; of conflict images whether it goes by shape, NaN where by neither cue."""
    found = {}
    for variant in ("congruent", "shape-only", "texture-only"):
        answers, samples = answered(classifier, variant)
        found[f"accuracy, {variant}"] = np.array([a == s.label for a, s in zip(answers, samples, strict=True)], float)
    answers, samples = answered(classifier, "conflict")
    names = [classifier.classes.names[a] for a in answers]
    cues = [(s.cues["shape"], s.cues["texture"]) for s in samples]
    by = [1.0 if n == c[0] else 0.0 if n == c[1] else np.nan for n, c in zip(names, cues, strict=True)]
    found["shape bias"] = np.array(by)
    print(f"seed {seed}, share {share}: ", end="")
    print(", ".join(f"{name} {np.nanmean(values):.4f}" for name, values in found.items()), end="; ")
    shape, both = int(np.nansum(found["shape bias"])), int((~np.isnan(found["shape bias"])).sum())
    print(f"shape bias of {both}: {stats.wilson(shape, both)}", flush=True)
    return found


def answered(classifier: Classifier, variant: Variant) -> tuple[list[int], list]:
    images = WorldImages(variant, count=COUNT, seed=SEED)
    samples = [images.read(i) for i in range(COUNT)]
    parts = [classifier.see(samples[k : k + BATCH]).logits.argmax(1) for k in range(0, COUNT, BATCH)]
    return torch.cat(parts).tolist(), samples


if __name__ == "__main__":
    main()
