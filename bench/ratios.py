"""Ratios of two ways of one work, which take turns; what was asked of them; how cost grows; what processes take."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cuescope.core.provenance import versions

PACKAGES = ("torch", "torchvision", "timm", "captum", "antialiased-cnns", "scikit-learn", "numpy", "ray")
PEERS = {"antialiased_cnns": "antialiased-cnns", "sklearn": "scikit-learn"}
"""Packages that are imported by another name."""
TICKS = os.sysconf("SC_CLK_TCK")


class Taken(NamedTuple):
    """Seconds of the clock, and of the processors."""

    wall: float
    processor: float

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall - other.wall, self.processor - other.processor)

    def over(self, other: Taken) -> Taken:
        return Taken(self.wall / other.wall, self.processor / other.processor)


def now() -> Taken:
    """Of this process, and of its children that have ended."""
    children = os.times()
    return Taken(time.perf_counter(), time.process_time() + children.children_user + children.children_system)


@dataclass(frozen=True)
class Row:
    """A number of each round, beside what was asked."""

    what: str
    asked: str
    rounds: Sequence[float]
    """By the clock, where it is of seconds."""
    processor: Sequence[float] = ()
    """The same by the time of the processors, which others on the machine do not lengthen."""
    most: float | None = None
    least: float | None = None
    unit: str = "times"

    def by(self, clock: str) -> Sequence[float]:
        return self.processor if clock == "processor" and self.processor else self.rounds

    def held(self, clock: str) -> bool | None:
        """Whether the median is as asked; None where nothing was."""
        if self.most is None and self.least is None:
            return None
        found = median(self.by(clock))
        return (self.most is None or found <= self.most) and (self.least is None or found >= self.least)

    def cells(self, clock: str) -> list[str]:
        """What, what was asked, the median with the least and the most, that of the other clock, whether it held."""
        own = self.by(clock)
        spread = f" ({told(min(own))} to {told(max(own))})" if len(own) > 1 else ""
        beside = told(median(self.rounds if clock == "processor" else self.processor)) if self.processor else ""
        held = {None: "", True: "yes", False: "**no**"}[self.held(clock)]
        return [self.what, self.asked, f"{told(median(own))} {self.unit}".strip() + spread, beside, held]


@dataclass
class Turns:
    """What each way took in each round, and gave in the last."""

    taken: dict[str, list[Taken]]
    given: dict[str, Any] = field(default_factory=dict)

    def row(self, what: str, one: str, other: str, asked: str, scale: float = 1, **bar: Any) -> Row:
        """How many times as long the one takes as the other, in each round. `scale`: the one does so much less work."""
        pairs = [a.over(b) for a, b in zip(self.taken[one], self.taken[other], strict=True)]
        walls, processors = ([scale * part for part in clock] for clock in zip(*pairs, strict=True))
        return Row(what, asked, walls, processors, **bar)

    def seconds(self, way: str) -> float:
        """The median by the clock."""
        return median(taken.wall for taken in self.taken[way])


def turns(ways: dict[str, Callable[[], Any]], rounds: int, warm: bool = True) -> Turns:
    """Each way in turn, so many rounds, if `warm` after one that is not counted. Who gives Taken has timed itself."""
    found = Turns({name: [] for name in ways})
    for counted in [*([False] if warm else []), *([True] * rounds)]:
        for name, way in ways.items():
            start = now()
            given = way()
            took = given if isinstance(given, Taken) else now() - start
            found.given[name] = given
            if counted:
                found.taken[name].append(took)
    return found


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The b of cost = a size^b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


@dataclass(frozen=True)
class Given:
    """What the command was called with."""

    work: Path
    photos: Path | None = None
    cue_conflict: Path | None = None
    weights: Path | None = None
    rounds: int = 3
    quick: bool = False
    largest: int = 100_000
    clock: str = "wall"

    def take(self, whole: int, few: int) -> int:
        return few if self.quick else whole

    def model(self, name: str) -> str:
        """One of torchvision's networks, with random weights where none are given."""
        return f"torchvision/{name}@{self.weights / f'{name}.safetensors' if self.weights else 'random'}"

    def photographs(self, count: int = 500) -> Path:
        """The folder of photographs, or one of made-up JPEGs of common size."""
        ids = ("n01440764", "n02123045", "n04146614", "n07742313")
        names = [f"{ids[i % len(ids)]}/{i:03d}.jpg" for i in range(count)]
        return self.photos or drawn(self.work / f"photographs-{count}", names, (500, 375))

    def conflict(self, count: int = 400) -> Path:
        """The folder of cue-conflict images, or one of made-up images with such names."""
        kinds = ("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "clock")
        names = [f"{kinds[i % 10]}{i}-{kinds[(i + 1 + i // 10 % 9) % 10]}{i}.png" for i in range(count)]
        return self.cue_conflict or drawn(self.work / f"conflict-{count}", names, (224, 224))


def drawn(folder: Path, names: Sequence[str], size: tuple[int, int]) -> Path:
    """A folder of images of smooth noise at two scales, about as heavy as photographs."""
    chance = np.random.default_rng(0)
    for name in names:
        path = folder / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            layers = [
                np.asarray(Image.fromarray(chance.integers(0, 256, (n, n, 3), np.uint8)).resize(size), np.float32)
                for n in (6, 120)
            ]
            Image.fromarray((0.7 * layers[0] + 0.3 * layers[1]).astype(np.uint8)).save(path, quality=92)
    return folder


class Spent(NamedTuple):
    taken: Taken
    peak_mb: int
    """Of the largest process."""


def measured(*commands: Sequence[str]) -> Spent:
    """What commands take that run at the same time, with all that they start."""
    started, found, peak = time.monotonic(), {}, 0
    # Ray starts its workers as nice as can be: on a busy machine they would hardly run.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    running = [subprocess.Popen(c, env=environment, stdout=subprocess.DEVNULL) for c in commands]
    known = {one.pid for one in running}
    while any(one.poll() is None for one in running):
        found |= _family(known)
        peak = max(peak, *map(peak_mb, known))
        time.sleep(0.1)
    for one in running:
        if one.returncode:
            raise subprocess.CalledProcessError(one.returncode, one.args)
    return Spent(Taken(time.monotonic() - started, sum(found.values())), peak)


def peak_mb(process: int | str = "self") -> int:
    """The most memory that a process has held."""
    try:
        return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
    except (OSError, IndexError):
        return 0


def _family(known: set[int]) -> dict[int, float]:
    """Processor seconds of the known processes and of all that they have started, which become known."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return {pid: seconds[pid] for pid in known & seconds.keys()}


def measure(name: str, given: Given) -> tuple[str, list[Row]]:
    """What a part is measured on, and what it finds, told as it comes."""
    found = []
    for row in import_module(name).rows(given):
        print(" | ".join([name, *row.cells(given.clock)]), flush=True)
        found.append(row)
    return machine(), found


def machine() -> str:
    """Cores, memory and versions."""
    import torch  # The command that waits for parts needs none.

    try:
        named = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].strip("\t :")
    except OSError:
        named = platform.processor()
    packages = ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())
    return (
        f"{os.cpu_count()} cores of {named or platform.machine()}, {memory:.0f} GiB, OMP_NUM_THREADS={threads}; Python "
        f"{platform.python_version()}, {packages}"
    )


def told(value: float) -> str:
    """Counts whole, all else in three digits, with an exponent only where it is needed."""
    if isinstance(value, int):
        return f"{value:,}"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value) or 1))}f}"
