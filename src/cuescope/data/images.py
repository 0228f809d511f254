"""What an image is: pixels, and what is known of it. A finite, ordered, lazily decoded set of them."""

from __future__ import annotations

import functools
import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from cuescope.core.classes import ClassSpace

Framing = Literal["photograph", "stimulus"]
"""A photograph is resized and center-cropped as the classifier's own evaluation does; a stimulus was made to
be seen whole, so it is only resized to the classifier's input (nothing happens where it already fits)."""


class Box(NamedTuple):
    """A rectangle in pixels of the decoded image: x to the right, y down, far edges excluded."""

    x0: float
    y0: float
    x1: float
    y1: float
    name: str = ""


class Answer(NamedTuple):
    """What somebody else answered to an image: `kind` is "human" or "network"; no category: not in time."""

    who: str
    kind: str
    category: str | None


class Condition(NamedTuple):
    """What was done to an image: a distortion, its level in the distortion's own unit, and the image it was done to."""

    distortion: str
    level: float
    source: str
    """The same for all versions of one image."""


class Decoded:
    """The pixels of an image, for all samples of it: until they are let go, from then on decoded when asked for."""

    def __init__(self, pixels: Tensor | None, again: Callable[[], Tensor]) -> None:
        self.pixels, self._again = pixels, again

    def __call__(self) -> Tensor:
        held = self.pixels  # another thread may let it go meanwhile
        return self._again() if held is None else held

    def let_go(self) -> None:
        self.pixels = None


class Pixels:
    """The field `Sample.pixels`: a tensor, or a function that gives it (`Decoded`) each time it is asked for."""

    def __get__(self, sample: Sample | None, owner: object = None) -> Tensor:
        if sample is None:
            # Without a value of the class the field has no default.
            raise AttributeError("pixels")
        held = vars(sample)["pixels"]
        return held if isinstance(held, Tensor) else held()

    def __set__(self, sample: Sample, value: Tensor | Callable[[], Tensor]) -> None:
        vars(sample)["pixels"] = value


@dataclass(frozen=True, eq=False)
class Sample:
    """One decoded image and what is known of it.

    `pixels` is (3, H, W) uint8 RGB as decoded, any size; of large images it may be decoded when asked for. `label`
    indexes the class space of the image set; `labels` are all the labels that are right, where these are known, from
    `labels_from` (ReaL, boxes, label maps). `cues` names what each cue shows, as in {"shape": "cat", "texture":
    "elephant"}. `boxes` (those of the label's class first), `mask` ((H, W) bool, True on the object) and `parts` are in
    pixels of the decoded image. `label_map` gives soft targets (n, K) of crops (n, 4) - top, left, height, width in
    shares of the image. `versions` are the same image rendered anew, as in {"texturized": (3, h, w) uint8}, already
    framed as a classifier sees it; of a cue-conflict image they are the originals that it was made of, by "object" and
    "texture_image". `another` is another image of the set, for instruments that need it.
    """

    id: str
    pixels: Pixels = Pixels()
    label: int | None = None
    labels: tuple[int, ...] = ()
    labels_from: str = ""
    cues: Mapping[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    mask: Tensor | None = None
    parts: Mapping[str, Box] = field(default_factory=dict)
    label_map: Callable[[Any], Tensor] | None = None
    versions: Mapping[str, Tensor] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    condition: Condition | None = None
    another: Sample | None = None
    framing: Framing = "photograph"

    @property
    def held_bytes(self) -> int:
        """Of its pixels that are in memory: 0 where they are decoded when asked for."""
        held = vars(self)["pixels"]
        held = held.pixels if isinstance(held, Decoded) else held
        return held.nbytes if isinstance(held, Tensor) else 0

    def but(self, **changes: Any) -> Sample:
        """The same image with other fields. Unlike `dataclasses.replace` it asks for no pixels."""
        return Sample(**{**vars(self), **changes})


class Lock:
    """A lock of what is sent to other processes: there it is a new one.

    >>> import pickle
    >>> with pickle.loads(pickle.dumps(Lock())):
    ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


AHEAD = 4
"""Groups that are fetched from afar while one is decoded."""
HELD_BYTES = 1 << 30
"""Of decoded pixels that wait for their use; beyond it they are decoded again."""
LARGE_BYTES = 1 << 23
"""An image of more is let go when its group was used, whoever keeps the sample: it is decoded again when asked for."""


class UnreadableError(Exception):
    """One image that cannot be used; the message is the reason. The run records it and goes on."""


class OutOfReachError(UnreadableError):
    """The file was there when the set was listed and is not now: it may be again, so nothing is finished without it."""


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    id: str
    why: str
    again: bool = False
    """Whether it is only out of reach, and to be read again by a later run."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Images as one classifier sees them, with the clean logits that all instruments share.

    `pixels` is (B, 3, H, W) float32 in [0, 1] on the classifier's device, `logits` (B, K) float32 on the CPU, `labels`
    (B,) int64 in the classifier's own class space, -1 where none is known; `all_labels` are all those that are right,
    in that space, where these are known, else none. `peers` are other Classifiers of the run with the same classes, for
    instruments that ask for them. `watched` is what was kept of some layers during the clean pass (see
    `Classifier.watch`).
    """

    samples: tuple[Sample, ...]
    pixels: Tensor
    logits: Tensor
    labels: Tensor
    all_labels: tuple[tuple[int, ...], ...] = ()
    peers: tuple[Any, ...] = ()
    watched: Mapping[Any, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def ids(self) -> list[str]:
        return [sample.id for sample in self.samples]

    def select(self, positions: Sequence[int]) -> Batch:
        """The part of the batch at these positions, in their order."""
        keep = torch.as_tensor(list(positions), dtype=torch.long)
        return replace(
            self,
            samples=tuple(self.samples[i] for i in positions),
            pixels=self.pixels[keep.to(self.pixels.device)],
            logits=self.logits[keep],
            labels=self.labels[keep],
            all_labels=tuple(self.all_labels[i] for i in positions) if self.all_labels else (),
            watched={key: kept[keep] for key, kept in self.watched.items()},
        )

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """The images of several batches of one classifier as one, with what all of them have watched."""
        if len(parts) == 1:
            return parts[0]
        watched = [key for key in parts[0].watched if all(key in part.watched for part in parts)]
        return Batch(
            tuple(sample for part in parts for sample in part.samples),
            torch.cat([part.pixels for part in parts]),
            torch.cat([part.logits for part in parts]),
            torch.cat([part.labels for part in parts]),
            tuple(labels for part in parts for labels in part.all_labels),
            parts[0].peers,
            {key: torch.cat([part.watched[key] for part in parts]) for key in watched},
        )


class ImageSet(ABC):
    """A finite, ordered set of images that are decoded when asked for.

    `knows` says what its samples carry: any of "label", "labels" (all that are right), "shape", "texture", "boxes",
    "mask", "parts", "regions" (what is where: boxes or label maps), "answers", "shown" (which cue alone an image
    shows), "originals" (what cue-conflict images were made of), "distortion", "category" (labels among the 16
    categories), and the names of its versions. `classes` is the space that labels index, or None without labels.
    `notes` are statements about how the set was read that belong in the report. `source` is the folder that its ids are
    paths in, where its images are files of one. `skipped` lists what could be left out
    before any decoding.
    """

    name: str
    source: str = ""
    classes: ClassSpace | None = None
    knows: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def id(self, index: int) -> str:
        """The name of an image, unique in the set and stable between runs."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Decode one image. Raises UnreadableError with the reason where it cannot."""

    def label(self, index: int) -> int | None:
        """The label of an image, without decoding it where that can be. Raises UnreadableError as `read` does."""
        return self.read(index).label

    def ahead(self, indices: Sequence[int]) -> None:  # noqa: B027 - what lies near has nothing to do
        """These images are read next, in this order: what is far away is fetched. None: nothing is, after all."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash that changes when any image, label or the order changes."""

    def stream(
        self, groups: Sequence[Sequence[int]], workers: int | None = None, held_bytes: int = HELD_BYTES
    ) -> Iterator[tuple[list[tuple[int, Sample]], list[Skipped]]]:
        """Decode groups of indices ahead of the reader: for each, its readable samples and the skipped.

        Threads (`workers`, by default one a core and at most 8), not processes: the decoders and the resize release
        the interpreter lock. While one group is used the next is decoded, no more. Of both, decoded pixels of at most
        `held_bytes` are kept; samples beyond that are decoded again when asked, and large ones of groups before.
        """
        held: dict[int, list[Decoded]] = {}
        sizes: dict[int, int] = {}
        lock = threading.Lock()

        def decode(group: int, index: int) -> Sample | Skipped:
            try:
                sample = self.read(index)
            except UnreadableError as error:
                return Skipped(self.id(index), str(error), isinstance(error, OutOfReachError))
            pixels = sample.pixels
            decoded, size = Decoded(pixels, lambda: self.read(index).pixels), pixels.nbytes
            with lock:
                if sum(sizes.values()) + size > held_bytes:
                    decoded.let_go()
                else:
                    sizes[group] += size
                    held[group] += [decoded] if size > LARGE_BYTES else []
            return sample.but(pixels=decoded)

        def let_go(group: int) -> None:
            sizes.pop(group, None)
            for decoded in held.pop(group, ()):
                decoded.let_go()

        waiting: deque[list[tuple[int, Future[Sample | Skipped]]]] = deque()

        def collect() -> tuple[list[tuple[int, Sample]], list[Skipped]]:
            results = [(index, future.result()) for index, future in waiting.popleft()]
            samples = [(index, r) for index, r in results if isinstance(r, Sample)]
            return samples, [r for _, r in results if isinstance(r, Skipped)]

        pool = ThreadPoolExecutor(max(1, workers or cores()), thread_name_prefix="decode")
        try:
            for number, group in enumerate(groups):
                for coming in groups[number + AHEAD - 1 if number else 0 : number + AHEAD]:
                    self.ahead(coming)
                with lock:
                    # The reader is done with the group before the last one.
                    let_go(number - 2)
                    held[number], sizes[number] = [], 0
                waiting.append([(index, pool.submit(decode, number, index)) for index in group])
                if len(waiting) > 1:
                    yield collect()
            while waiting:
                yield collect()
        finally:
            self.ahead(())
            pool.shutdown(wait=True, cancel_futures=True)
            for group in [*held]:
                let_go(group)


def cores(most: int = 8) -> int:
    """The cores that this process may use, at most so many."""
    return min(most, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="images")


if hasattr(os, "register_at_fork"):
    # A forked process has the pools of its parent, but none of their threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def each(make: Callable[[int], None], count: int, least: int = 1) -> None:
    """Call `make` with 0 to `count` - 1, side by side in as many threads as torch has, at least so many in each."""
    threads = min(torch.get_num_threads(), count // least)
    list(_pool(threads).map(make, range(count)) if threads > 1 else map(make, range(count)))
