"""How small is a file of label maps, how near are its targets, and how fast is it read?

    python bench/label_maps.py [MAPS] [MODEL FOLDER [SIDE_PX]]

Maps of 15 x 15 positions, the 5 highest of 1,000 classes: smooth fields of logits with noise, or those of an annotator
for the images of a folder, squashed to SIDE_PX. Beside it the published layout: a .pt file of float32 for each image.
Prints bytes, the total variation of the pooled targets of random crops from those of unquantized maps, and maps read a
second in random order, each with its ratio to the published layout. The bars: 45 % of the bytes, .005, 10,000 a second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import v2

from cuescope.core.classes import imagenet_1k
from cuescope.data.label_maps import Header, open_label_maps, write_label_maps
from cuescope.data.label_maps.pooling import LabelPooling

CLASSES, TOP, SIDE = 1000, 5, 15
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


def annotated(count: int, model: str, folder: str, side: int) -> Maps:
    """The label maps of images by an annotator."""
    from cuescope.classifier.sources import load
    from cuescope.data.preprocessing import Preprocessing, frame
    from cuescope.data.readers import read_folder

    classifier, images = load(model), read_folder(folder, limit=count)
    how, maps = Preprocessing((side, side), side, keep_aspect=False), {}
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


def per_second(read: object, names: list[str], rounds: int) -> float:
    order = np.random.default_rng(1).permutation(len(names) * rounds) % len(names)
    started = time.perf_counter()
    for at in order:
        read(names[at])  # type: ignore[operator]
    return len(order) / (time.perf_counter() - started)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if len(sys.argv) > 3:
        maps = annotated(count, sys.argv[2], sys.argv[3], int((*sys.argv[4:], 475)[0]))
    else:
        maps = made_up(count)
    crops, folder, names = crops_of(len(maps)), Path(tempfile.mkdtemp()), list(maps)
    shape = maps[names[0]][0].shape
    for number, (scores, classes) in enumerate(maps.values()):
        torch.save(torch.from_numpy(np.stack([scores, classes.astype(np.float32)])), folder / f"{number}.pt")
    files = {name: folder / f"{number}.pt" for number, name in enumerate(names)}
    plain = sum(scores.nbytes * 2 for scores, _ in maps.values())
    on_disk = sum(file.stat().st_size for file in files.values())
    slow = per_second(lambda name: torch.load(files[name], weights_only=True), names, 1)
    print(
        f"{len(maps):,} maps of {shape}; published: {plain:,} bytes of numbers, {on_disk:,} on disk, {slow:,.0f} maps/s"
    )
    exact = pooled(maps, crops)
    for bits in (8, 16):
        path = write_label_maps(
            folder / f"{bits}.safetensors",
            Header(imagenet_1k(), TOP, bits),
            ((name, scores, ids) for name, (scores, ids) in maps.items()),
        )
        stored = open_label_maps(path)
        gap = (pooled({name: stored[name] for name in names}, crops) - exact).abs().sum(1) / 2
        fast = per_second(stored.__getitem__, names, max(1, 20_000 // len(names)))
        size = path.stat().st_size
        print(
            f"{bits:2d} bits: {size:,} bytes, {size / plain:.1%} of the numbers, {size / on_disk:.1%} of the files; "
            f"total variation mean {gap.mean():.5f}, largest {gap.max():.5f}; "
            f"{fast:,.0f} maps/s, {fast / slow:.0f} times"
        )


if __name__ == "__main__":
    main()
