"""How a network is run: the private copy, its layout and precision, and batches that fit the memory.

On one core (AVX-512 with bfloat16) ResNet-50 takes 231 ms an image as torch runs it, 127 here, 64 in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import tensor_of

CPU_BATCH, SMALL_BATCH, SMALL_PX = 8, 16, 112 * 112
"""The most images that go through a network at once on a CPU: more no longer fit its cache and take 4/3 of the time.

Of images of so few pixels twice as many fit. At 64 px the built-in world's three networks take .86, .85 and .62 of the
time, and more again with 32 images.
"""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Function = Callable[[Tensor], Any]
T = TypeVar("T")


@dataclass
class Executor:
    """Normalized images in, the network's tensors out; keeps no state but the batch sizes that fit."""

    run: Function
    device: torch.device
    batch_size: int
    """The most images in one pass without gradients."""
    mean: Tensor
    std: Tensor
    reverse: bool = False
    """The network takes blue, green, red."""
    network: nn.Module | None = None
    """None for a black box, which is only the function `run`."""
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    fixed_batch: bool = False
    """Every pass gets exactly `batch_size` images: a compiled network is compiled for one size."""
    folded: frozenset[str] = frozenset()
    """Convolutions that also do what the batch norm after them did: their own output no longer exists."""
    assumed: list[str] = field(default_factory=list)
    """How its input and its output were taken, where that is not certain."""
    notes: list[str] = field(default_factory=list)
    """What was done to run it."""
    gradient_batch_size: int = 1 << 30
    """The most in one pass whose maps are held for a way back: no limit before memory has set one."""
    answers: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    """Its logits of the `probes`: what tells it from another whose weights and code look the same."""

    @classmethod
    def of(cls, run: Function, how: Preprocessing, device: torch.device, batch_size: int) -> Executor:
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (how.mean, how.std))
        if device.type == "cpu":
            batch_size = min(batch_size, SMALL_BATCH if how.size[0] * how.size[1] <= SMALL_PX else CPU_BATCH)
        return cls(run, device, batch_size, mean, std, how.channels == "BGR")

    def upload(self, pixels: Tensor) -> Tensor:
        """Pixels on the device; a GPU fetches them itself, from pinned memory, while the CPU goes on."""
        if self.device.type == "cuda" and pixels.device.type == "cpu":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the network takes them."""
        x = pixels.to(self.device, torch.float32)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = ((x - self.mean) / self.std).to(self.dtype)
        return x.flip(1) if self.reverse else x

    def once(self, pixels: Tensor, run: Function | None = None) -> Tensor:
        """One pass, in evaluation mode, under whatever gradient mode the caller has."""
        with hooks.evaluating(self.network):
            return tensor_of((run or self.run)(self.normalize(pixels)))

    def batches(self, pixels: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`run` over all images in batches that fit: float32 on the CPU, joined along the first axis."""

        def once(start: int, stop: int) -> tuple[Tensor, ...]:
            part = pixels[start:stop]
            missing = self.batch_size - len(part) if self.fixed_batch else 0
            full = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part
            with torch.inference_mode():
                return self._downloaded([tensor[: len(part)].float() for tensor in run(full)])

        return self.parts(len(pixels), once)

    def parts(
        self, count: int, run: Callable[[int, int], tuple[Tensor, ...]], most: int = 1 << 30, gradients: bool = False
    ) -> tuple[Tensor, ...]:
        """`run(start, stop)` for so many images, at `most` so many at once, its tensors joined along the first axis."""
        found: list[tuple[Tensor, ...]] = []
        done = 0
        while done < count:
            size = min(most, count - done)
            part, size = self.fitted(lambda n, start=done: run(start, start + n), size, gradients)
            found.append(part)
            done += size
        # Joined outside of inference mode, so that what a caller gets is a tensor like any other.
        return tuple(torch.cat(columns) for columns in zip(*found, strict=True))

    def fitted(self, run: Callable[[int], T], most: int, gradients: bool = False) -> tuple[T, int]:
        """`run(n)` and n, the largest of at most `most` for which the memory suffices; halved where it does not.

        Passes with `gradients`, which hold all maps, have a limit of their own. Raises CueError where 1 is too much.
        """
        limit = "gradient_batch_size" if gradients else "batch_size"
        while True:
            size = min(most, getattr(self, limit))
            try:
                return run(size), size
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            # Here, past the except clause, what the failed pass held is free.
            if size == 1:
                raise self.starved()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            setattr(self, limit, size // 2)
            self.notes.append(f"out of memory: batches of {size // 2} from then on" + " for gradients" * gradients)

    def starved(self) -> CueError:
        """The error where the memory does not suffice for one image."""
        do = "choose --precision bfloat16, another device or a smaller input"
        return CueError(f"out of memory on {self.device} with one image", wanted="memory for one image", do=do)

    def _downloaded(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """On the CPU, and all of them waited for at once."""
        if self.device.type != "cuda":
            return tuple(tensor.cpu() for tensor in tensors)
        found = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors)
        torch.cuda.current_stream(self.device).synchronize()
        return found


def find_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one. Raises CueError where it is not there.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):
        options = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        do = "choose one of: " + ", ".join(options)
        raise CueError(f"no device '{device}' on this machine", wanted="a device of torch", do=do) from None
    return found


def trial(how: Preprocessing, count: int = 1) -> Tensor:
    """Random images of the input size to try a network on, from a generator of their own."""
    return torch.rand(count, 3, *how.size, generator=torch.Generator().manual_seed(0))


def probes(how: Preprocessing) -> Tensor:
    """(2, 3, H, W) in [0, 1]: noise, and soft patches of color, which more of a network responds to."""
    height, width = how.size
    soft = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    soft = nn.functional.interpolate(soft, (height, width), mode="bilinear", align_corners=False)
    return torch.cat([trial(how), soft])


def out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """How many threads there are, while torch itself uses one: whole images side by side lose no time waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
