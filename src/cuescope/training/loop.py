"""The training loop, read from top to bottom: batches of images in, a trained model out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.errors import CueError

Told = Callable[[int, int, str], None]
"""Called with how many images are done, of how many, and what is being done."""


@dataclass(frozen=True)
class Settings:
    """How a model is trained. The learning rate rises linearly, then falls to zero along a half cosine."""

    steps: int
    batch: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    warmup_steps: int = 0
    momentum: float = 0.9
    """Of SGD; AdamW uses its own betas."""
    weight_decay: float = 1e-4
    """Not applied to biases and batch norms, which have one dimension."""
    label_smoothing: float = 0.0
    filter_rms: float | None = None
    """The most root mean square that a convolution's filter may have (see `limit_filters`); None for no limit."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 by autocast: weights and their updates stay in float32."""
    device: str = "cpu"
    seed: int = 0
    """Of whatever the model itself draws while training, such as dropout."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step: loss and accuracy are of that one batch."""

    step: int
    steps: int
    loss: float
    accuracy: float
    learning_rate: float


def now_and_then(show: Told | None, settings: Settings, steps: int = 25) -> Callable[[Progress], None] | None:
    """A callback for `train` that tells `show` of every so many steps, counted in images.

    >>> now_and_then(print, Settings(steps=25, batch=2))(Progress(25, 25, 0.5, 1.0, 0.1))
    50 50 training (loss 0.500, accuracy 1.00)
    """
    if show is None:
        return None

    def told(progress: Progress) -> None:
        if progress.step % steps == 0 or progress.step == progress.steps:
            what = f"training (loss {progress.loss:.3f}, accuracy {progress.accuracy:.2f})"
            show(progress.step * settings.batch, progress.steps * settings.batch, what)

    return told


def learning_rate_at(step: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0.

    >>> s = Settings(steps=10, learning_rate=1.0, warmup_steps=2)
    >>> [round(learning_rate_at(k, s), 2) for k in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


@torch.no_grad()
def limit_filters(model: nn.Module, radius: float, std: Sequence[float]) -> None:
    """Rescale each filter of a convolution whose root mean square exceeds `radius` to just that, in place.

    Zeiler and Fergus 2014, section 3, where the radius is .1 and the network reads pixels of 0 to 255 less their
    mean; they call it crucial for layer 1, where else a few filters dominate. To do the same, what reads pixels in
    [0, 1] divided by `std` needs filters 255 * std times as large: the first convolution of the model with a weight
    for each of three channels is measured in the paper's units, so that .1 means the same whatever the normalization
    (5.8 of the filters as they are, for ImageNet's std). The other convolutions read no pixels.

    >>> conv = nn.Conv2d(3, 2, 5)
    >>> conv.weight.data[0], conv.weight.data[1] = 7.0, 0.05
    >>> limit_filters(conv, 0.1, std=(1 / 255, 1 / 255, 1 / 255))
    >>> conv.weight.data.mean((1, 2, 3))
    tensor([0.1000, 0.0500])
    """
    reads_pixels = True
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        units = torch.ones((), device=conv.weight.device)
        if reads_pixels and conv.weight.shape[1] == len(std):
            units, reads_pixels = 255 * torch.tensor(std, device=conv.weight.device)[:, None, None], False
        rms = (conv.weight / units).square().mean((1, 2, 3), keepdim=True).sqrt()
        conv.weight.mul_((radius / rms).clamp(max=1))


def normalized(images: Tensor, settings: Settings) -> Tensor:
    """(B, 3, H, W) uint8 to float32 in network units, channels last, on the settings' device."""
    mean = torch.tensor(settings.mean, device=settings.device)[:, None, None]
    std = torch.tensor(settings.std, device=settings.device)[:, None, None]
    pixels = images.to(settings.device).to(memory_format=torch.channels_last).float() / 255
    return (pixels - mean) / std


def train(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    settings: Settings,
    progress: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Train a model in place on `settings.steps` batches and return it on the CPU, in evaluation mode.

    `batches` yields (B, 3, H, W) uint8 images with (B,) int64 labels, or with soft targets (B, K). The same model,
    batches and settings give the same weights bit for bit on the same machine with the same number of threads
    (torch.set_num_threads); the global random generator is left as it was. Raises CueError where the batches run out or
    the loss is no longer finite.
    """
    model = model.to(settings.device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = make_optimizer(model, settings)
    stream = iter(batches)
    device_type = torch.device(settings.device).type
    with torch.random.fork_rng(devices=[] if device_type == "cpu" else None):
        torch.manual_seed(settings.seed)
        for step in range(settings.steps):
            batch = next(stream, None)
            if batch is None:
                raise CueError(f"the training images ended after {step} steps", wanted=f"{settings.steps} batches")
            images, labels = batch[0], batch[1].to(settings.device)

            rate = learning_rate_at(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate

            with torch.autocast(device_type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                logits = model(normalized(images, settings)).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if settings.filter_rms is not None:
                limit_filters(model, settings.filter_rms, settings.std)

            value = float(loss.detach())
            if not math.isfinite(value):
                raise CueError(f"the loss became {value} at step {step}", do="lower the learning rate")
            if progress is not None:
                said = labels if labels.ndim == 1 else labels.argmax(1)
                accuracy = float((logits.argmax(1) == said).float().mean())
                progress(Progress(step + 1, settings.steps, value, accuracy, rate))
    return model.to("cpu", memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]
