"""What a step learns from: batches as a function of the step, made ahead of the loop in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from torch import Tensor

from cuescope.core.errors import CueError

AHEAD = 3
"""Batches that are ready before they are asked for, at most."""
Parts = tuple[Tensor, ...]
"""What the loss takes: images (B, 3, H, W) uint8 and labels (B,), say."""


class Data(Protocol):
    """Batches that can be asked for in any order, so that a training that was stopped goes on with the same ones."""

    steps: int
    """Of an epoch."""

    def batch(self, step: int, part: slice) -> Parts:
        """The images of a step, counted from 0 over all epochs, at these places of its batch."""
        ...


class Feed:
    """The batches of the steps from `first` on, and how long the loop waited for them.

    Those of `Data` are made ahead, in a thread: decoders and resizes release the interpreter lock. Those of an iterable
    come as they are asked for. What making them raises is raised where they are asked for.
    """

    def __init__(self, data: Data | Iterable[Parts], first: int, last: int, part: slice) -> None:
        self.waited_s = 0.0
        self._ahead: queue.Queue[Parts | BaseException] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._stream: Iterator[Parts] | None = None
        self._thread: threading.Thread | None = None
        self._steps = last
        if isinstance(data, Iterable):
            self._stream = iter(data)
            return

        def make() -> None:
            for step in range(first, last):
                try:
                    made: Parts | BaseException = data.batch(step, part)
                except BaseException as error:
                    made = error
                while not self._stop.is_set():
                    try:
                        self._ahead.put(made, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if self._stop.is_set() or isinstance(made, BaseException):
                    return

        self._thread = threading.Thread(target=make, name="batches", daemon=True)
        self._thread.start()

    def next(self, step: int) -> Parts:
        """The next batch. Raises CueError where a stream has ended."""
        since = time.perf_counter()
        if self._stream is not None:
            found = next(self._stream, None)
            if found is None:
                raise CueError(f"the training images ended after {step} steps", wanted=f"{self._steps} batches")
        else:
            found = self._ahead.get()
            if isinstance(found, BaseException):
                raise found
        self.waited_s += time.perf_counter() - since
        return found

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
