"""What does the training loop cost beside a bare one, and do batches come as fast as they can be decoded?

    python bench/train.py PHOTOS [--rounds 5] [--only loop,loader,resnet50]

PHOTOS is a folder of JPEGs. The sides of a comparison take turns in one process; ratios are of one turn, medians of
all. On a busy machine set OMP_NUM_THREADS=1 and go by the time of the processors, which others do not lengthen.

- loop: `train` beside forward, backward and step written out, a step of the one after a step of the other, on the same
  batch. Bar: at most 1.05 times the bare one.
- loader: batches of `TrainingImages` beside torchcodec's decoder and torchvision's random resized crop and flip in as
  many threads, on the same files, batch by batch. Bar: at least .9 of the images a second.
- resnet50: trainings of a few steps with images of 224 px beside timm's train script: its `create_loader` and
  `create_optimizer_v2` with the same crops, and what its `train_one_epoch` does in each step. Bar: at least as fast.

On 2 busy cores, OMP_NUM_THREADS=1, by the time of the processors: the loop .98 and 1.00 times the bare one; a
photograph 1.01 to 1.06 times decoder and crop; a step of ResNet-50 .83 times timm's, .88 times timm's in channels last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.loader import create_loader
from timm.optim._optim_factory import create_optimizer_v2
from timm.utils.metrics import AverageMeter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchcodec.decoders import decode_jpeg  # pyright: ignore[reportPrivateImportUsage]
from torchvision.transforms import v2

from cuescope.data.images import cores
from cuescope.data.readers import read_folder
from cuescope.data.readers.decode import sniff
from cuescope.data.readers.files import FileSet
from cuescope.training.images import RandomResizedCrop, TrainingImages
from cuescope.training.loop import normalized, train
from cuescope.training.settings import Settings
from cuescope.world.images import WorldImages
from cuescope.world.models import build_world

SIZE_PX, CLASSES = 224, 1000
WARM = 3
"""Steps that are not counted."""


class Taken(NamedTuple):
    """Seconds of the clock, and of the processors."""

    wall: float
    cpu: float


def now() -> Taken:
    """Of this process and of its children that have ended."""
    times = os.times()
    return Taken(time.perf_counter(), times.user + times.system + times.children_user + times.children_system)


def precisely() -> Taken:
    """Of this process, to the microsecond."""
    return Taken(time.perf_counter(), time.process_time())


def taken(work: Callable[[], object], count: int, clock: Callable[[], Taken] = now) -> Taken:
    """Seconds of one of the `count` things that are done."""
    before = clock()
    work()
    return Taken(*((b - a) / count for a, b in zip(before, clock(), strict=True)))


def bare(model: nn.Module, batch: tuple[Tensor, Tensor], settings: Settings) -> Callable[[], None]:
    """Forward, backward, step."""
    model = model.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9, weight_decay=1e-4)
    images, labels = batch

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(normalized(images, settings)), labels).backward()
        optimizer.step()

    return step


def loop(rounds: int) -> None:
    networks = {
        "the world's network, 64 images of 64 px": (lambda: build_world("world-congruent"), 64, 64),
        "ResNet-18, 8 images of 112 px": (lambda: timm.create_model("resnet18", num_classes=16), 8, 112),
    }
    for name, (make, count, side) in networks.items():
        pixels, labels = WorldImages().render(range(count))
        batch = (F.interpolate(pixels, (side, side)) if side != 64 else pixels), labels
        settings = Settings(steps=WARM + 10 * rounds, batch=count, learning_rate=0.01)
        found: dict[str, list[Taken]] = {"bare": [], "cuescope": []}
        batches = in_turn(batch, settings.steps, bare(make(), batch, settings), found)
        train(make(), batches, settings)
        say(f"loop, {name}", {key: steps[WARM:] for key, steps in found.items()}, "bare")


def in_turn(
    batch: tuple[Tensor, Tensor], steps: int, other: Callable[[], None], found: dict[str, list[Taken]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch for each step; after each a step of the other way."""
    for _ in range(steps):
        before = precisely()
        yield batch
        between = precisely()
        other()
        for name, start, end in (("cuescope", before, between), ("bare", between, precisely())):
            found[name].append(Taken(*(b - a for a, b in zip(start, end, strict=True))))


def loader(folder: Path, rounds: int) -> None:
    images, batch = photographs(folder), 50
    at = np.arange(len(images))
    crop = v2.Compose([v2.RandomResizedCrop(SIZE_PX, antialias=True), v2.RandomHorizontalFlip()])
    data = TrainingImages(images, at, np.zeros_like(at), RandomResizedCrop(SIZE_PX), batch, 0)
    pool = ThreadPoolExecutor(cores())

    def decoded(place: int) -> Tensor:
        found = decode_jpeg(torch.from_numpy(np.fromfile(images.root / images.id(place), np.uint8)), mode="RGB")
        assert isinstance(found, Tensor)
        return found

    def plain(make: Callable[[int], Tensor], step: int) -> None:
        for _ in pool.map(make, data.order.places(step)):
            pass

    works: dict[str, Callable[[int], object]] = {
        "decoder alone": lambda step: plain(decoded, step),
        "decoder and crop": lambda step: plain(lambda place: crop(decoded(place)), step),
        "cuescope": lambda step: data.batch(step, slice(0, batch)),
    }
    found: dict[str, list[Taken]] = {name: [] for name in works}
    for step in range(WARM + 10 * rounds):
        for name, work in works.items():
            found[name].append(taken(partial(work, step), batch, precisely))
    say("loader, a photograph", {name: own[WARM:] for name, own in found.items()}, "decoder and crop")


class Labeled(Dataset[tuple[Any, int]]):
    """Photographs as timm's datasets give them: read by Pillow, then transformed."""

    def __init__(self, images: FileSet) -> None:
        self.images, self.transform = images, None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.open(self.images.root / self.images.id(index)).convert("RGB")
        assert self.transform is not None
        return self.transform(image), index % CLASSES


def resnet50(folder: Path, rounds: int, batch: int, steps: int) -> None:
    images = photographs(folder, batch * steps)
    at = np.arange(len(images))

    def by_timm(channels_last: bool) -> Taken:
        torch.manual_seed(0)
        model = timm.create_model("resnet50", num_classes=CLASSES)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = create_optimizer_v2(model, opt="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
        return taken(lambda: epoch_of_timm(model, optimizer, images, batch, channels_last), steps)

    def by_cuescope() -> Taken:
        torch.manual_seed(0)
        model = timm.create_model("resnet50", num_classes=CLASSES)
        settings = Settings(steps=steps, batch=batch, learning_rate=0.01)
        data = TrainingImages(images, at, at, RandomResizedCrop(SIZE_PX), batch, 0)
        return taken(lambda: train(model, data, settings), steps)

    ways = {"timm": lambda: by_timm(False), "timm, channels last": lambda: by_timm(True), "cuescope": by_cuescope}
    found = turns(ways, rounds)
    for beside in ("timm", "timm, channels last"):
        say(f"ResNet-50, a step of {batch} images of {SIZE_PX} px", found, beside)


def epoch_of_timm(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: FileSet, batch: int, channels_last: bool
) -> None:
    """As `train_one_epoch` of timm's train script, with its loader."""
    batches = create_loader(
        cast(Any, Labeled(images)),
        input_size=(3, SIZE_PX, SIZE_PX),
        batch_size=batch,
        is_training=True,
        color_jitter=0.0,
        num_workers=cores(),
        device=torch.device("cpu"),
        persistent_workers=False,
    )
    loss_of, losses = nn.CrossEntropyLoss(), AverageMeter()
    model.train()
    optimizer.zero_grad()
    for pixels, labels in batches:
        if channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        loss = loss_of(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.update(loss.item(), len(pixels))


def turns(ways: dict[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """What each way takes, in turn; before the first round each is done once."""
    found: dict[str, list[Taken]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            one = way()
            if number:
                found[name].append(one)
    return found


def photographs(folder: Path, limit: int | None = None) -> FileSet:
    """The JPEGs of a folder."""
    images = read_folder(folder)
    at = [i for i in range(len(images)) if sniff((images.root / images.id(i)).read_bytes()[:32]) == "JPEG"]
    return FileSet(images.root, images.names.take(at[:limit]), name=images.name)


def say(what: str, found: dict[str, list[Taken]], beside: str) -> None:
    """Medians of the times, and of the ratios of each turn."""
    print(what)
    for name, own in found.items():
        wall, cpu = (statistics.median(one[k] for one in own) * 1e3 for k in (0, 1))
        pairs = list(zip(own, found[beside], strict=True))
        by_wall, by_cpu = ([one[k] / other[k] for one, other in pairs] for k in (0, 1))
        least, most = min(by_cpu), max(by_cpu)
        print(
            f"  {name:20s} {wall:8.2f} ms ({statistics.median(by_wall):.3f} times {beside}), {cpu:8.2f} ms of "
            f"processors ({statistics.median(by_cpu):.3f} times, {least:.3f} to {most:.3f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="loop,loader,resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    if "loop" in options.only:
        loop(options.rounds)
    if "loader" in options.only:
        loader(options.photos, options.rounds)
    if "resnet50" in options.only:
        resnet50(options.photos, options.rounds, options.batch, options.steps)


if __name__ == "__main__":
    main()
