"""What does the training loop cost beside a bare one, and do batches come as fast as they can be decoded?

- `train` beside forward, backward and step written out, a step of the one after a step of the other, on the same batch.
- Batches of `TrainingImages` beside torchcodec's decoder and torchvision's random resized crop and flip in as many
  threads, on the same files, batch by batch.
- Trainings of a few steps with images of 224 px beside timm's train script: its `create_loader` and
  `create_optimizer_v2` with the same crops, and what its `train_one_epoch` does in each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from PIL import Image
from ratios import Given, Row, Taken, Turns, now, turns
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


def loop(steps: int) -> Iterator[Row]:
    networks = {
        "the world's network, 64 images of 64 px": (lambda: build_world("world-congruent"), 64, 64),
        "ResNet-18, 8 images of 112 px": (lambda: timm.create_model("resnet18", num_classes=16), 8, 112),
    }
    for name, (make, count, side) in networks.items():
        pixels, labels = WorldImages().render(range(count))
        batch = (F.interpolate(pixels, (side, side)) if side != 64 else pixels), labels
        settings = Settings(steps=WARM + steps, batch=count, learning_rate=0.01)
        found = Turns({"bare": [], "train": []})
        train(make(), in_turn(batch, settings.steps, bare(make(), batch, settings), found), settings)
        counted = Turns({way: taken[WARM:] for way, taken in found.taken.items()})
        what, asked = f"a step of training {name}: `train` / bare", "at most 5 % over a bare forward, backward, step"
        yield counted.row(what, "train", "bare", asked, most=1.05)


def in_turn(
    batch: tuple[Tensor, Tensor], steps: int, other: Callable[[], None], found: Turns
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch for each step; after each a step of the other way."""
    for _ in range(steps):
        before = now()
        yield batch
        between = now()
        other()
        found.taken["train"].append(between - before)
        found.taken["bare"].append(now() - between)


def loader(folder: Path, steps: int, batch: int) -> Iterator[Row]:
    images = photographs(folder)
    at = np.arange(len(images))
    crop = v2.Compose([v2.RandomResizedCrop(SIZE_PX, antialias=True), v2.RandomHorizontalFlip()])
    data = TrainingImages(images, at, np.zeros_like(at), RandomResizedCrop(SIZE_PX), batch, 0)
    pool, step = ThreadPoolExecutor(cores()), {"plain": 0, "ours": 0}

    def made(place: int) -> Tensor:
        found = decode_jpeg(torch.from_numpy(np.fromfile(images.root / images.id(place), np.uint8)), mode="RGB")
        assert isinstance(found, Tensor)
        return crop(found)

    def plain() -> None:
        step["plain"] += 1
        list(pool.map(made, data.order.places(step["plain"])))

    def ours() -> None:
        step["ours"] += 1
        data.batch(step["ours"], slice(0, batch))

    what, asked = (
        f"a batch of {batch} photographs: decoder and crop / `TrainingImages`",
        "at least .9 of the throughput",
    )
    yield turns({"plain": plain, "ours": ours}, steps).row(what, "plain", "ours", asked, least=0.9)


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


def resnet50(folder: Path, rounds: int, batch: int, steps: int) -> Iterator[Row]:
    images = photographs(folder, batch * steps)
    at = np.arange(len(images))

    def model() -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model("resnet50", num_classes=CLASSES)

    def by_timm(layout: torch.memory_format) -> Taken:
        network = model().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        optimizer = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
        start = now()
        epoch_of_timm(network, optimizer, images, batch, layout)
        return now() - start

    def by_us() -> Taken:
        network, settings = model(), Settings(steps=steps, batch=batch, learning_rate=0.01)
        data, start = TrainingImages(images, at, at, RandomResizedCrop(SIZE_PX), batch, 0), now()
        train(network, data, settings)
        return now() - start

    layouts = {"as it is": torch.contiguous_format, "channels last": torch.channels_last}
    found = turns({**{name: partial(by_timm, layout) for name, layout in layouts.items()}, "ours": by_us}, rounds)
    for name in layouts:
        what = f"{steps} steps of ResNet-50, {batch} images of {SIZE_PX} px: timm's train script, {name} / `train`"
        yield found.row(what, name, "ours", "at least as fast", least=1)


def epoch_of_timm(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: FileSet, batch: int, layout: torch.memory_format
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
        loss = loss_of(model(pixels.contiguous(memory_format=layout)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.update(loss.item(), len(pixels))


def photographs(folder: Path, limit: int | None = None) -> FileSet:
    """The JPEGs of a folder."""
    images = read_folder(folder)
    at = [i for i in range(len(images)) if sniff((images.root / images.id(i)).read_bytes()[:32]) == "JPEG"]
    return FileSet(images.root, images.names.take(at[:limit]), name=images.name)


def rows(given: Given) -> Iterator[Row]:
    folder, steps = given.photographs(), given.take(10, 3) * given.rounds
    yield from loop(steps)
    yield from loader(folder, steps, given.take(50, 8))
    yield from resnet50(folder, given.rounds, given.take(8, 2), given.take(5, 1))
