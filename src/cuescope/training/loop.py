"""The training loop, read from top to bottom: batches of images in, a trained model out.

Accelerate puts the network on its device, or on several, and averages gradients between processes, which `torchrun` or
`accelerate launch` start. The order of the images and what is drawn for each are functions of the seed and the step
(order.py), so that a training that was stopped goes on as if it had not been, with another number of processes too.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, Whole, quiet
from cuescope.training.data import Data, Feed, Parts
from cuescope.training.optimizer import Average, learning_rate_at, limit_filters, make_optimizer
from cuescope.training.order import seed_of
from cuescope.training.settings import Settings

M = TypeVar("M", bound=nn.Module)
SHOWN_S = 2.0
"""Seconds after which progress is shown again where steps are long."""

Loss = Callable[..., tuple[Tensor, Callable[[], str]]]
"""From the network as it is run and the parts of a batch to a scalar to go down on, and what to say of it, which is
asked now and then only."""


class State(NamedTuple):
    """A training after so many steps: what a keeper may look at, and keep."""

    done: int
    network: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    loss: float
    rate: float
    images_per_s: float
    waited: float
    """The share of the time in which the loop waited for images, since progress was told last."""
    waited_in_all: float
    """The same since the training was begun, or went on."""
    told: bool
    """Whether progress was told after this step."""
    main: bool
    """Whether this is the process that writes."""
    stop: bool
    """Whether this is the last step for now, as somebody asked for."""

    @property
    def evaluated(self) -> nn.Module:
        """The network to try: that of averaged weights where there are any."""
        return self.average.network if self.average is not None else self.network


class Keeper(Protocol):
    """Restores a training before its first step, and keeps what it wants of it after each."""

    @property
    def stop(self) -> bool:
        """Whether somebody asks to stop: all processes do, after the same step, and `after` raises."""
        ...

    @property
    def advice(self) -> str:
        """What else to do than to lower the learning rate, and what is kept, where the loss is no longer finite."""
        ...

    def restore(self, network: nn.Module, average: Average | None, optimizer: torch.optim.Optimizer) -> int:
        """The number of steps that are done."""
        ...

    def after(self, state: State, accelerator: Accelerator) -> None: ...


def accelerate(settings: Settings) -> Accelerator:
    """The processes and the device of a training; what an earlier one in this process has set does not hold."""
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "bf16" if settings.precision == "bfloat16" else "no"
    return Accelerator(cpu=settings.device == "cpu", mixed_precision=precision)


def normalized(images: Tensor, settings: Settings, device: str | torch.device = "") -> Tensor:
    """(B, 3, H, W) uint8 to float32 in network units, channels last, on the device, by default the settings'."""
    device = device or settings.device
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (settings.mean, settings.std))
    pixels = images.to(device).to(memory_format=torch.channels_last).float() / 255
    return (pixels - mean) / std


def classification(settings: Settings) -> Loss:
    """Cross-entropy of (B, 3, H, W) uint8 images with (B,) int64 labels, or with soft targets (B, K)."""

    def loss(network: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Callable[[], str]]:
        output = network(normalized(images, settings, images.device))
        # Heads that only training uses, of GoogLeNet and Inception, are not trained.
        logits = (output if isinstance(output, Tensor) else output[0]).float()
        value = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)

        def describe() -> str:
            labels = targets if targets.ndim == 1 else targets.argmax(1)
            accuracy = float((logits.argmax(1) == labels).float().mean())
            return f"loss {float(value.detach()):.3f}, accuracy {accuracy:.2f}"

        return value, describe

    return loss


def train(
    model: M,
    data: Data | Iterable[Parts],
    settings: Settings,
    progress: Progress = quiet,
    *,
    loss: Loss | None = None,
    rate_at: Callable[[int, Settings], float] = learning_rate_at,
    longest_gradient: float | None = None,
    every: int = 25,
    keeper: Keeper | None = None,
) -> M:
    """Train a model in place on `settings.steps` batches and return it on the CPU, in evaluation mode.

    The loss is that of a classifier unless another is given. A gradient above the norm `longest_gradient` is shortened
    to it. `progress` is called each `every` steps, after each epoch, and where steps are long each `SHOWN_S` seconds,
    with numbers of images. The same model, data and settings give the same weights bit for bit on the same machine with
    the same number of threads (torch.set_num_threads); the global random generator is left as it was. Where weights are
    averaged, the model has the averages in the end. Raises CueError where the batches run out, the loss is no longer
    finite, or the model cannot be compiled.
    """
    ours = accelerate(settings)
    ranks, rank, device = ours.num_processes, ours.process_index, ours.device
    if settings.batch % ranks:
        wanted = f"a batch that {ranks} processes can share equally"
        raise CueError(f"batch={settings.batch}", wanted=wanted, do=f"choose a multiple of {ranks}")
    share, main = settings.batch // ranks, ours.is_main_process
    model = model.to(device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    loss = loss or classification(settings)
    optimizer = make_optimizer(model, settings)
    average = Average(model, settings.average) if settings.average else None
    first = keeper.restore(model, average, optimizer) if keeper else 0
    run: Any = ours.prepare_model(model) if ranks > 1 else model
    run = torch.compile(run) if settings.compile else run
    feed = Feed(data, first, settings.steps, slice(rank * share, (rank + 1) * share))
    each = 0 if isinstance(data, Iterable) else data.steps
    began = since = shown = time.perf_counter()
    waited, seen, kept = 0.0, 0, 0.0
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else None):
            for step in range(first, settings.steps):
                batch = tuple(part.to(device, non_blocking=True) for part in feed.next(step))
                rate = rate_at(step, settings)
                for group in optimizer.param_groups:
                    group["lr"] = rate

                optimizer.zero_grad(set_to_none=True)
                total, count, describe = 0.0, len(batch[0]), str
                grains = [batch]
                if 0 < settings.grain < count:
                    grains = list(zip(*(part.split(settings.grain) for part in batch), strict=True))
                for number, grain in enumerate(grains):
                    # What the network draws, for dropout, is a function of the step too.
                    torch.manual_seed(seed_of(settings.seed, step, rank * len(grains) + number))
                    last = number == len(grains) - 1
                    with contextlib.nullcontext() if last or ranks == 1 else run.no_sync():
                        with ours.autocast():
                            value, describe = loss(run, *grain)
                        weight = len(grain[0]) / count
                        (value * weight if weight < 1 else value).backward()
                    total += float(value.detach()) * weight
                if longest_gradient is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), longest_gradient)
                optimizer.step()
                if settings.filter_rms is not None:
                    limit_filters(model, settings.filter_rms, settings.std)
                if average is not None:
                    average.update(model, step)

                done, seen = step + 1, seen + settings.batch
                stop = keeper is not None and keeper.stop and done < settings.steps
                if ranks > 1:
                    told_all = ours.reduce(torch.tensor([total, float(stop)], device=device), "mean").tolist()  # pyright: ignore[reportAttributeAccessIssue]
                    total, stop = told_all[0], told_all[1] > 0
                if not math.isfinite(total):
                    do = "lower the learning rate" + (keeper.advice if keeper else "")
                    raise CueError(f"the loss became {total} at step {done:,}", do=do)
                now = time.perf_counter()
                spent = max(now - since, 1e-9)
                speed, waiting = seen / spent, (feed.waited_s - waited) / spent
                ends = done == settings.steps or (each > 0 and done % each == 0)
                told = done % every == 0 or ends
                if told or now - shown > SHOWN_S:
                    at = f"epoch {step // each + 1} of {math.ceil(settings.steps / each)}" if each else "training"
                    what = f"{at} ({describe()}, {speed:,.0f} images/s, {waiting:.0%} waiting)"
                    step_s, all_ = (now - began) / (done - first), settings.steps
                    whole = Whole(done / all_, min(1.0, (done + 1) / all_), step_s, (all_ - done) * step_s)
                    progress(done * settings.batch, all_ * settings.batch, what, whole)
                    shown = now
                if keeper is not None:
                    in_all = feed.waited_s / max(now - began - kept, 1e-9)
                    speeds = speed, waiting, in_all
                    keeper.after(State(done, model, average, optimizer, total, rate, *speeds, told, main, stop), ours)
                    pause = time.perf_counter() - now
                    since, kept = since + pause, kept + pause
                if told:
                    since, waited, seen = time.perf_counter(), feed.waited_s, 0
    except Exception as error:
        # Asked by name: importing the compiler to catch what it raises takes a second.
        if settings.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise _not_compiled(error) from error
        raise
    finally:
        feed.close()
    if average is not None:
        model.load_state_dict(average.network.state_dict())
    return model.to("cpu", memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]


def _not_compiled(error: Exception) -> CueError:
    reason = str(error).strip().partition("\n")[0]
    do = "leave compile out, or install a C++ compiler (on a GPU Triton too)"
    return CueError(f"the network cannot be compiled: {reason}", wanted="what torch.compile needs", do=do)
