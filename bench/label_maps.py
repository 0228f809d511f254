"""How small is a file of label maps, how near are its targets, and how fast is it read?

Maps of 15 x 15 positions, the 5 highest of 1,000 classes: smooth fields of logits with noise, and where weights are
given those that MobileNetV2 finds in photographs. Beside it the published layout: a .pt file of float32 for each image.
Near is the total variation of the pooled targets of random crops from those of unquantized maps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from ratios import Given, Row, Taken, now, turns
from torchvision.transforms import v2

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.classes import imagenet_1k
from cuescope.data.images import ImageSet
from cuescope.data.label_maps import Header, open_label_maps, write_label_maps
from cuescope.data.label_maps.pooling import LabelPooling
from cuescope.data.preprocessing import Preprocessing, frame
from cuescope.data.readers import read_folder

CLASSES, TOP, SIDE, AGAIN = 1000, 5, 15, 20
"""AGAIN: ours are read so many times, since they take so little."""
Maps = dict[str, tuple[np.ndarray, np.ndarray]]


def made_up(count: int) -> Maps:
    """Logits that vary smoothly over the image: bumps of 12 classes, and noise."""
    generator, grid = np.random.default_rng(0), np.arange(SIDE)
    maps = {}
    for number in range(count):
        full = generator.normal(0, 1, (CLASSES, SIDE, SIDE)).astype(np.float32)
        for k in generator.choice(CLASSES, 12, replace=False):
            (y, x), width = generator.uniform(0, SIDE, 2), generator.uniform(2, 6)
            bump = np.exp(-((grid[:, None] - y) ** 2 + (grid - x) ** 2) / (2 * width**2))
            full[k] += generator.uniform(4, 16) * bump
        top = torch.from_numpy(full).topk(TOP, 0)
        maps[f"n{number % CLASSES:08d}/{number}.jpg"] = top.values.numpy(), top.indices.numpy()
    return maps


def annotated(images: ImageSet, classifier: Classifier) -> Maps:
    """The label maps of photographs by an annotator: 480 px are 15 x 15 positions."""
    how, maps = Preprocessing((480, 480), 480, keep_aspect=False), {}
    for index in range(len(images)):
        pixels = frame([images.read(index)], how).float() / 255
        top = classifier.dense_logits(pixels)[0].topk(TOP, 0)
        maps[images.id(index)] = top.values.numpy(), top.indices.numpy()
    return maps


def crops_of(count: int) -> np.ndarray:
    """Random resized crops as training takes them, of images of 375 x 500."""
    torch.manual_seed(0)
    image = torch.empty(1, 375, 500)
    boxes = [v2.RandomResizedCrop(224).make_params([image]) for _ in range(count)]
    return np.array([(b["top"] / 375, b["left"] / 500, b["height"] / 375, b["width"] / 500) for b in boxes])


def pooled(maps: Maps, crops: np.ndarray) -> torch.Tensor:
    scores, ids = (np.stack(part) for part in zip(*maps.values(), strict=True))
    return LabelPooling(CLASSES)(ids, scores, crops)


def read_all(read: Callable[[str], object], names: list[str]) -> Taken:
    """What it takes to read each once, in random order."""
    order, started = np.random.default_rng(1).permutation(names), now()
    for name in order:
        read(str(name))
    return now() - started


def rows(given: Given) -> Iterator[Row]:
    sets = {"made-up": made_up(given.take(1000, 50))}
    if given.weights:
        photographs = read_folder(given.photographs(), limit=given.take(200, 4))
        sets["MobileNetV2's"] = annotated(photographs, load(given.model("mobilenet_v2"), device="cpu"))
    for name, maps in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            yield from stored(f"{len(maps):,} {name} label maps", maps, Path(folder), given.rounds)


def stored(what: str, maps: Maps, folder: Path, rounds: int) -> Iterator[Row]:
    crops, names = crops_of(len(maps)), list(maps)
    files = {name: folder / f"{number}.pt" for number, name in enumerate(names)}
    for name, (scores, classes) in maps.items():
        torch.save(torch.from_numpy(np.stack([scores, classes.astype(np.float32)])), files[name])
    plain, exact = sum(scores.nbytes * 2 for scores, _ in maps.values()), pooled(maps, crops)
    made = {
        bits: write_label_maps(
            folder / f"{bits}.safetensors",
            Header(imagenet_1k(), TOP, bits),
            ((name, scores, ids) for name, (scores, ids) in maps.items()),
        )
        for bits in (8, 16)
    }
    ours = {bits: open_label_maps(path) for bits, path in made.items()}
    for bits, path in made.items():
        gap = float(((pooled({n: ours[bits][n] for n in names}, crops) - exact).abs().sum(1) / 2).max())
        size, bar = path.stat().st_size / plain, bits == 8
        asked = ("at most 45 % of the published layout's bytes", "within .005 total variation") if bar else ("", "")
        yield Row(f"bytes of {what}, {bits} bits / published", asked[0], [size], most=0.45 if bar else None)
        yield Row("the farthest pooled target", asked[1], [gap], most=0.005 if bar else None, unit="")
    ways = {
        "published": lambda: read_all(lambda name: torch.load(files[name], weights_only=True), names),
        "ours": lambda: read_all(ours[8].__getitem__, names * AGAIN),
    }
    found = turns(ways, rounds)
    yield found.row("reading them at random: published / ours, 8 bits", "published", "ours", "", AGAIN)
    walls, processors = (
        [AGAIN * len(maps) / seconds for seconds in clock] for clock in zip(*found.taken["ours"], strict=True)
    )
    yield Row("maps read a second", "10,000 or more", walls, processors, least=10_000, unit="")
