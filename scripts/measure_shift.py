"""Two experiments on the built-in world: the photographer's bias, and blurs before subsampling (docs/shift.md).

    python scripts/measure_shift.py [bias] [blur] [--weights DIR] [--images 4000] [--seeds 3]

Networks that DIR lacks are trained first and kept there. One thread, so that the same machine gives the same numbers:
one to three minutes for a network, two to five for what is measured of one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope import Classifier, load, stats
from cuescope.instrument import About, Instrument
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.instruments.typicality import Typicality
from cuescope.jobs.train import train
from cuescope.world.images import CLASSES, WorldImages

BATCH = 32
SEED = 5
"""Of the images that are measured on, which no network has learned from."""
WINDOWS = ShiftStability(protocols=("crop",), scale_min=1.0, pairs=8)
"""The whole image enlarged from 64 to 72 px, and nine windows of 64 px that lie a pixel apart."""
FAR = ShiftStability(protocols=("crop",), scale_min=1.0, shift_px=4, pairs=2)
"""The same, and three windows four pixels apart: half of what the last layer has one position for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=["bias", "blur"])
    parser.add_argument("--weights", type=Path, default=Path("shift-weights"))
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.experiments:
        {"bias": bias, "blur": blur}[name](options)


def bias(options: argparse.Namespace) -> None:
    """Is a network less stable where objects lie off the middle, if it learned from centered images alone?"""
    print("\nP(top-1 change) under one pixel, to eight sides, by the place of the object")
    told(load("cuescope/world-congruent", device="cpu"), "learned from uniform places", options.images)
    seeds = [told(*photographer(seed, options), options.images) for seed in range(options.seeds)]
    show("  mean over seeds, uniform less centered", np.mean([u - c for c, u in seeds], 0), None)


def photographer(seed: int, options: argparse.Namespace) -> tuple[Classifier, str]:
    return network("world-photographer", seed, options.weights), f"learned from centered places, seed {seed}"


def told(classifier: Classifier, what: str, count: int) -> tuple[Any, Any]:
    """Print what typicality finds of a network on centered and uniform images; of each image its changes on both."""
    rows = {}
    for placement in ("centered", "uniform"):
        images = WorldImages("congruent", placement=placement, count=count, seed=SEED)
        rows[placement] = observed(Typicality(), classifier, images)
    centered, uniform = (rows[p]["change"].to_numpy() for p in ("centered", "uniform"))
    print(f"{classifier.name}: {what}")
    for placement, part in rows.items():
        right = part.filter(pl.col("right"))["change"]
        print(f"  {placement}: accuracy {part['right'].mean():.4f}, among right answers {right.mean():.4f}")
        show(f"  {placement}", part["change"].to_numpy(), None)
    show("  uniform less centered, the same images", uniform, centered)
    both = (rows["centered"]["right"] & rows["uniform"]["right"]).to_numpy()
    show("  so where both are right", uniform[both], centered[both])
    mixed = pl.concat([part.with_columns(pl.format("{}/{}", pl.lit(p), "id").alias("id")) for p, part in rows.items()])
    finding = Typicality().conclude(mixed, About(classifier.name, "centered and uniform", CLASSES.names, CLASSES.name))
    for name in ("change_typical", "change_untypical", "excess", "excess_right", "correlation"):
        measure = finding[name]
        print(f"  both together, {measure.label}: {measure.value} {measure.interval} n={measure.n} {measure.why}")
    return centered, uniform


def blur(options: argparse.Namespace) -> None:
    """Does a network change its mind less if it blurs before it subsamples, and is it right as often?"""
    print("\nBlurs of size 4 against none, both trained on alike")
    images = WorldImages("congruent", count=options.images, seed=SEED)
    for suffix in ("", "+blur4"):
        measured(load(f"cuescope/world-congruent{suffix}", device="cpu"), images)
    found: dict[str, list[dict[str, Any]]] = {"blur": [], "none": []}
    for seed in range(options.seeds):
        for key, size in (("blur", 4), ("none", 1)):
            found[key].append(measured(network("world-blur", seed, options.weights, filter_size=size), images))
        for name in found["blur"][seed]:
            show(f"  seed {seed}, blurred less not: {name}", found["blur"][seed][name], found["none"][seed][name])
    for name in found["blur"][0]:
        blurred, plain = (np.mean([one[name] for one in found[key]], 0) for key in ("blur", "none"))
        print(f"mean over seeds, {name}: blurred {blurred.mean():.4f}, not {plain.mean():.4f}")
        show("  blurred less not", blurred, plain)


def measured(classifier: Classifier, images: WorldImages) -> dict[str, Any]:
    """Of each image: how much it changes from window to window, and moved to its eight neighbors; whether right."""
    windows, far, moved = (observed(tool, classifier, images) for tool in (WINDOWS, FAR, Typicality()))
    found = {
        "P(top-1 change), windows": windows["change"],
        "MAC, windows": windows["mac"],
        "accuracy, windows": windows["right"],
        "P(top-1 change), windows 4 px apart": far["change"],
        "P(top-1 change), neighbors": moved["change"],
        "accuracy": moved["right"],
    }
    print(classifier.name)
    for name, values in found.items():
        show(f"  {name}", values.cast(pl.Float64).to_numpy(), None)
    return {name: values.cast(pl.Float64).to_numpy() for name, values in found.items()}


def network(recipe: str, seed: int, folder: Path, **settings: Any) -> Classifier:
    """A network of a recipe, from its file or trained now."""
    suffix = "".join(f"-{key}{value}" for key, value in settings.items())
    path = folder / f"{recipe}{suffix}-{seed}.safetensors"
    fits = f"world-congruent+blur{settings['filter_size']}" if settings else "world-congruent"
    model = f"cuescope/{fits}@{path}"
    if not path.is_file():
        model = train(recipe, path, settings=settings, seed=seed).model
    return load(model, device="cpu")


def observed(tool: Instrument, classifier: Classifier, images: WorldImages) -> pl.DataFrame:
    parts = []
    for start in range(0, len(images), BATCH):
        samples = [images.read(i) for i in range(start, min(start + BATCH, len(images)))]
        parts.append(tool.observe(classifier, classifier.see(samples, [sample.label or 0 for sample in samples])))
    return pl.concat(parts)


def show(what: str, values: Any, less: Any) -> None:
    """A mean, or the difference of two over the same images, with its 95 % interval over images."""
    value, interval, n = stats.paired_difference(values, np.zeros(len(values)) if less is None else less)
    low, high = interval or (value, value)
    print(f"{what}: {value:.5f} ({low:.5f} to {high:.5f}; {n} images)", flush=True)


if __name__ == "__main__":
    main()
