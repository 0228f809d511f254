"""What the rule and the resizing do to shape bias, and whose decisions networks share (docs/shape_bias.md).

    python scripts/measure_shape_bias.py DATA [--logits FOLDER]

DATA holds cue-conflict/, human/ and weights/. One pass over the stimuli for each network and resizing, half a minute
on one core; the logits are kept in FOLDER, and everything else is counted from them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cuescope import load
from cuescope.core import draws, stats
from cuescope.core.classes import AGGREGATIONS, SIXTEEN, category_members, category_scores, imagenet_1k
from cuescope.core.error_consistency import kappa_table
from cuescope.data.readers import read_cue_conflict, read_human_data

MODELS = ("squeezenet1_1", "squeezenet1_0", "mobilenet_v2")
RESIZINGS = {"native": "stimulus", "resized": "photograph"}
"""224 px as they are, or the shorter side to 256 px and the middle 224 px of that."""
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--logits", type=Path, default=Path("shape-bias-logits"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = read_cue_conflict(options.data / "cue-conflict")
    cues = [images.read(i).cues for i in range(len(images))]
    shape, texture = (np.array([c[key] for c in cues]) for key in ("shape", "texture"))
    decided = decisions(images, options)
    rules(decided, shape, texture)
    agreement(decided, read_human_data(options.data / "human").trials, images, shape, texture)


def decisions(images: Any, options: argparse.Namespace) -> dict[tuple[str, str, str], Any]:
    """The category of each image by (network, resizing, aggregation)."""
    members = category_members(imagenet_1k(), list(SIXTEEN))
    names, found = np.array(list(members)), {}
    for model in MODELS:
        for resizing in RESIZINGS:
            logits = passed(model, resizing, images, options)
            for how in AGGREGATIONS:
                found[model, resizing, how] = names[category_scores(logits, members, how).argmax(1).numpy()]
    return found


def passed(model: str, resizing: str, images: Any, options: argparse.Namespace) -> torch.Tensor:
    """Logits of all images, from the file or computed now."""
    path = options.logits / f"{model}-{resizing}.npy"
    if not path.is_file():
        classifier = load(f"torchvision/{model}@{options.data}/weights/{model}.safetensors", device="cpu")
        parts = []
        for samples, _ in images.stream([range(i, min(i + 32, len(images))) for i in range(0, len(images), 32)]):
            framed = [replace(sample, framing=RESIZINGS[resizing]) for _, sample in samples]
            parts.append(classifier.see(framed).logits)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, torch.cat(parts).numpy())
    return torch.from_numpy(np.load(path))


def rules(decided: dict[tuple[str, str, str], Any], shape: Any, texture: Any) -> None:
    conflict = shape != texture
    print(f"\nShape bias, {conflict.sum()} images with a conflict: value (interval), shape / texture / neither")
    sides = {
        key: np.where(d == shape, 1.0, np.where(d == texture, 0.0, np.nan))[conflict] for key, d in decided.items()
    }
    for key, side in sides.items():
        s, t = int((side == 1).sum()), int((side == 0).sum())
        low, high = stats.wilson(s, s + t)
        print(f"  {' '.join(key):30} {s / (s + t):.3f} ({low:.3f} to {high:.3f})  {s} / {t} / {len(side) - s - t}")
    print("\nDifferences over the same images")
    for model in MODELS:
        for how in AGGREGATIONS[1:]:
            for resizing in RESIZINGS:
                shown = f"{model} {resizing}: {how} less mean"
                difference(shown, sides[model, resizing, how], sides[model, resizing, "mean"])
        for how in AGGREGATIONS:
            shown = f"{model} {how}: resized less native"
            difference(shown, sides[model, "resized", how], sides[model, "native", how])
    print("\nDecisions for dog or bird, of all images, and the same decision as by the mean")
    for key, d in decided.items():
        many, same = np.isin(d, ["dog", "bird"]).mean(), (d == decided[key[0], key[1], "mean"]).mean()
        print(f"  {' '.join(key):30} {many:.3f}  {same:.3f}")
    for title, cue in (("the shapes", shape), ("the textures", texture)):
        print(f"  {title:30} {np.isin(cue, ['dog', 'bird']).mean():.3f}")


def difference(what: str, a: Any, b: Any) -> None:
    value, interval, _ = stats.paired_difference(a, b)
    low, high = interval or (value, value)
    print(f"  {what:40} {value:+.3f} ({low:+.3f} to {high:+.3f})")


def agreement(decided: Any, trials: pl.DataFrame, images: Any, shape: Any, texture: Any) -> None:
    """Kappa and equal decisions of our networks with each of the authors', and with people."""
    answers = pl.DataFrame({"image": [Path(images.id(i)).name for i in range(len(images))]}).join(
        trials.pivot("subject", index="image", values="response"), on="image", how="left", maintain_order="left"
    )
    kinds = {kind: sorted(set(trials.filter(kind=kind)["subject"])) for kind in ("human", "network")}
    people, networks = ({who: answers[who].to_numpy() for who in kinds[kind]} for kind in ("human", "network"))
    ours = {model: decided[model, "native", "mean"] for model in MODELS}
    ones = np.ones((1, len(images)))
    drawn = np.concatenate([ones, *draws.Draws(np.zeros(len(images)), resamples=RESAMPLES)])

    def compared(one: dict[str, Any], other: dict[str, Any]) -> str:
        """Kappa and the share of equal decisions, on average over all pairs of different ones."""
        right = [np.stack([d == shape for d in side.values()], 1).astype(float) for side in (one, other)]
        table = kappa_table(right[0], right[1], drawn)
        pairs = [(i, k) for i, a in enumerate(one) for k, b in enumerate(other) if a != b]
        values = np.mean([table[:, i, k] for i, k in pairs], 0)
        low, high = draws.interval_of(values[1:]) or (np.nan, np.nan)
        a, b = list(one.values()), list(other.values())
        equal = np.mean([(a[i] == b[k]).mean() for i, k in pairs])
        return f"{values[0]:.3f} ({low:.3f} to {high:.3f}) {equal:.3f}"

    def some(kind: str) -> dict[str, Any]:
        return {who: d for who, d in networks.items() if ("(SIN)" in who) == (kind == "SIN") and "Open" not in who}

    print(f"\nOf {len(images)} images: kappa (right is the shape) and the share of equal decisions with")
    print(f"  {'':30} " + " ".join(f"{model:>30}" for model in ours))
    groups = {who: {who: d} for who, d in networks.items()}
    groups |= {"ImageNet networks (mean)": some("ImageNet"), "SIN networks (mean)": some("SIN")}
    groups |= {who: {who: d} for who, d in ours.items()} | {"people (mean)": people}
    for title, group in groups.items():
        cells = ("" if title == m else compared({m: d}, group) for m, d in ours.items())
        print(f"  {title:30} " + " ".join(f"{cell:>30}" for cell in cells))
    print("Among themselves, and with people")
    for title, group in {"ImageNet networks": some("ImageNet"), "SIN networks": some("SIN"), "people": people}.items():
        print(f"  {title:30} {compared(group, group)}   {compared(group, people)}")
    print("Shape bias of the trials on these images")
    conflict = shape != texture
    for who, d in networks.items():
        s, t = int((d == shape)[conflict].sum()), int((d == texture)[conflict].sum())
        low, high = stats.wilson(s, s + t)
        print(f"  {who:30} {s / (s + t):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
