"""The training loop, read from top to bottom: batches of images in, a trained model out."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.training.settings import Settings

M = TypeVar("M", bound=nn.Module)

Loss = Callable[..., tuple[Tensor, Callable[[], str]]]
"""From the parts of a batch to a scalar to go down on, and what to say of it, which is asked now and then only."""


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
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


@torch.no_grad()
def limit_filters(model: nn.Module, radius: float, std: Sequence[float]) -> None:
    """Rescale each filter of a convolution whose root mean square exceeds `radius` to just that, in place.

    Zeiler and Fergus 2014, section 3, where the radius is .1 and the network reads pixels of 0 to 255 less their mean.
    To do the same, what reads pixels in [0, 1] divided by `std` needs filters 255 * std times as large: the first
    convolution with a weight for each channel is measured in the paper's units, so that .1 means the same whatever the
    normalization. The other convolutions read no pixels.

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
    mean, std = (torch.tensor(v, device=settings.device)[:, None, None] for v in (settings.mean, settings.std))
    pixels = images.to(settings.device).to(memory_format=torch.channels_last).float() / 255
    return (pixels - mean) / std


def classification(model: nn.Module, settings: Settings) -> Loss:
    """Cross-entropy of (B, 3, H, W) uint8 images with (B,) int64 labels, or with soft targets (B, K)."""
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, Callable[[], str]]:
        logits = model(normalized(images, settings)).float()
        value = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)

        def describe() -> str:
            labels = targets if targets.ndim == 1 else targets.argmax(1)
            accuracy = float((logits.argmax(1) == labels).float().mean())
            return f"loss {float(value.detach()):.3f}, accuracy {accuracy:.2f}"

        return value, describe

    return loss


def train(
    model: M,
    batches: Iterable[tuple[Tensor, ...]],
    settings: Settings,
    progress: Progress = quiet,
    *,
    loss: Loss | None = None,
    rate_at: Callable[[int, Settings], float] = learning_rate_at,
    longest_gradient: float | None = None,
    every: int = 25,
) -> M:
    """Train a model in place on `settings.steps` batches and return it on the CPU, in evaluation mode.

    The loss is that of a classifier unless another is given. A gradient above the norm `longest_gradient` is shortened
    to it. `progress` is called each `every` steps, with numbers of images. The same model, batches and settings give
    the same weights bit for bit on the same machine with the same number of threads (torch.set_num_threads); the global
    random generator is left as it was. Raises CueError where the batches run out or the loss is no longer finite.
    """
    model = model.to(settings.device).train()
    loss = loss or classification(model, settings)
    optimizer = make_optimizer(model, settings)
    stream = iter(batches)
    device_type = torch.device(settings.device).type
    with torch.random.fork_rng(devices=[] if device_type == "cpu" else None):
        torch.manual_seed(settings.seed)
        for step in range(settings.steps):
            batch = next(stream, None)
            if batch is None:
                raise CueError(f"the training images ended after {step} steps", wanted=f"{settings.steps} batches")
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, settings)

            with torch.autocast(device_type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                value, describe = loss(*(part.to(settings.device) for part in batch))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if longest_gradient is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), longest_gradient)
            optimizer.step()
            if settings.filter_rms is not None:
                limit_filters(model, settings.filter_rms, settings.std)

            if not math.isfinite(float(value.detach())):
                raise CueError(f"the loss became {float(value.detach())} at step {step}", do="lower the learning rate")
            done = step + 1
            if done % every == 0 or done == settings.steps:
                progress(done * settings.batch, settings.steps * settings.batch, f"training ({describe()})")
    return model.to("cpu", memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]
