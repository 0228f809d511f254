"""Two experiments on the built-in world: the photographer's bias, and blurs before subsampling (docs/shift.md).

    python scripts/measure_shift.py [bias] [blur] [--weights DIR] [--images 4000] [--seeds 3]

Networks that DIR lacks are trained first and kept there. One thread, so that the same machine gives the same numbers:
one to three minutes for a network, two to ten for what is measured of one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope import Classifier, load
from cuescope.api.train import train
from cuescope.core import stats
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.data.ops.neighbors import neighbors
from cuescope.instruments.base import Instrument
from cuescope.instruments.shift_stability import ShiftStability
from cuescope.instruments.typicality import Typicality
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.scenes import Placement

BATCH = 32
SEED = 5
"""Of the images that are measured on, which no network has learned from."""
WINDOWS = ShiftStability(protocols=("crop",), scale_min=1.0, pairs=8)
"""The whole image enlarged from 64 to 72 px, and nine windows of 64 px that lie a pixel apart."""
ENLARGED = 2000
"""Images that are looked at so: no network has learned from enlarged ones, and all are wrong about many."""


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
    samples = {placement: drawn(options.images, placement) for placement in ("centered", "uniform")}
    told(load("cuescope/world-congruent", device="cpu"), "learned from uniform places", samples)
    seeds = [told(*photographer(seed, options), samples) for seed in range(options.seeds)]
    show("  mean over seeds, uniform less centered", np.mean([u - c for c, u in seeds], 0), None)


def photographer(seed: int, options: argparse.Namespace) -> tuple[Classifier, str]:
    return network("world-photographer", seed, options.weights), f"learned from centered places, seed {seed}"


def told(classifier: Classifier, what: str, samples: Mapping[str, list[Sample]]) -> tuple[Any, Any]:
    """Print what typicality finds of a network on centered and uniform images; of each image its changes on both."""
    rows = {placement: observed(Typicality(), classifier, some) for placement, some in samples.items()}
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
    samples = drawn(options.images, "uniform")
    for suffix in ("", "+blur4"):
        measured(load(f"cuescope/world-congruent{suffix}", device="cpu"), samples)
    found: dict[str, list[dict[str, Any]]] = {"blur": [], "none": []}
    for seed in range(options.seeds):
        for key, size in (("blur", 4), ("none", 1)):
            found[key].append(measured(network("world-blur", seed, options.weights, filter_size=size), samples))
        for name in found["blur"][seed]:
            show(f"  seed {seed}, blurred less not: {name}", found["blur"][seed][name], found["none"][seed][name])
    for name in found["blur"][0]:
        blurred, plain = (np.mean([one[name] for one in found[key]], 0) for key in ("blur", "none"))
        print(f"mean over seeds, {name}: blurred {blurred.mean():.4f}, not {plain.mean():.4f}")
        show("  blurred less not", blurred, plain)


def measured(classifier: Classifier, samples: list[Sample]) -> dict[str, Any]:
    """Of each image: how much it changes moved to its eight neighbors, and in enlarged windows; whether it is right."""
    windows = observed(WINDOWS, classifier, samples[:ENLARGED])
    names = {"P(top-1 change), enlarged": "change", "MAC, enlarged": "mac", "accuracy, enlarged": "right"}
    found = moved(classifier, samples)
    found |= {name: windows[column].cast(pl.Float64).to_numpy() for name, column in names.items()}
    print(classifier.name)
    for name, values in found.items():
        show(f"  {name}", values, None)
    return found


def moved(classifier: Classifier, samples: list[Sample]) -> dict[str, Any]:
    """What `typicality` does to an image, and besides how far the answer's probability moves (MAC)."""
    parts = []
    for start in range(0, len(samples), BATCH):
        some = samples[start : start + BATCH]
        batch = classifier.see(some, [sample.label or 0 for sample in some])
        views = torch.stack([classifier.logits(view) for view in neighbors(batch.pixels)])
        p, answers = batch.logits.softmax(1).max(1)
        change = (views.argmax(2) != answers).double().mean(0)
        away = views.softmax(2).gather(2, answers.expand(len(views), -1)[..., None])[..., 0]
        parts.append(torch.stack([change, (answers == batch.labels).double(), (away - p).abs().double().mean(0)]))
    numbers = torch.cat(parts, 1).numpy()
    return dict(zip(("P(top-1 change)", "accuracy", "MAC"), numbers, strict=True))


def network(recipe: str, seed: int, folder: Path, **settings: Any) -> Classifier:
    """A network of a recipe, from its file or trained now."""
    suffix = "".join(f"-{key}{value}" for key, value in settings.items())
    path = folder / f"{recipe}{suffix}-{seed}.safetensors"
    fits = f"world-congruent+blur{settings['filter_size']}" if settings else "world-congruent"
    model = f"cuescope/{fits}@{path}"
    if not path.is_file():
        model = train(recipe, path, settings=settings, seed=seed).model
    return load(model, device="cpu")


def drawn(count: int, placement: Placement) -> list[Sample]:
    images = WorldImages("congruent", placement=placement, count=count, seed=SEED)
    return [images.read(i) for i in range(count)]


def observed(tool: Instrument, classifier: Classifier, samples: list[Sample]) -> pl.DataFrame:
    parts = []
    for start in range(0, len(samples), BATCH):
        some = samples[start : start + BATCH]
        parts.append(tool.observe(classifier, classifier.see(some, [sample.label or 0 for sample in some])))
    return pl.concat(parts)


def show(what: str, values: Any, less: Any) -> None:
    """A mean, or the difference of two over the same images, with its 95 % interval over images."""
    value, interval, n = stats.paired_difference(values, np.zeros(len(values)) if less is None else less)
    low, high = interval or (value, value)
    print(f"{what}: {value:.5f} ({low:.5f} to {high:.5f}; {n} images)", flush=True)


if __name__ == "__main__":
    main()
