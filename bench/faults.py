"""Is anything lost or changed on a bad day? Work is disturbed, gone on with, and compared with undisturbed work.

    python bench/faults.py [--count 100] [--seed 0] [--only KIND,...] [--work DIR] [--write docs/faults.md]

Audits (two classifiers, two instruments, chunks of 8 images), each maker, a training and a report on small images,
in processes that are forked from one that has imported everything. After each fault three things must hold: what was
finished is as it was (`lost`), the same command ends well (`stuck`), and what it leaves is bit for bit that of the
undisturbed work (`changed`). Nothing is left beside it, no process either (`leftovers`), and what is said is no
traceback and no silence: of a damaged file nothing other is read without an error (`wrongly told`). Full disks are file
systems in memory, which need the rights to mount; without them a fault of writing stands for them. Faults of engines
are slow, since their processes import all anew: they come in every third round. The same command goes on where it was
stopped; runs with one --work and other seeds add up.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import importlib
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import polars as pl
import safetensors.numpy
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import forked, write_between

import cuescope.api.audit
import cuescope.cli.audit
import cuescope.cli.report
from cuescope import report
from cuescope.api import make as making
from cuescope.classifier.classifier import Classifier
from cuescope.cli import main as command
from cuescope.core import files
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import read_folder
from cuescope.makers import label_maps
from cuescope.runs import reader, task
from cuescope.runs.cell import Cell
from cuescope.runs.store import Run
from cuescope.training.fit import fit_network
from cuescope.training.recipes.imagenet import NetworkSettings

BEGIN, END = "<!-- measured by bench/faults.py -->", "<!-- end of bench/faults.py -->"
WAIT, ENDS_S = 300.0, 300.0
"""Seconds after which a process hangs, and after which those that it has started are left over."""
PHOTOGRAPHS = 16
SLOW = 3
"""Faults of engines come in each so many rounds."""
NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


def network(name: str) -> Classifier:
    """Equal weights each time; of two layers, so that label maps can be made with it."""
    torch.manual_seed(len(name))
    net = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    how = Preprocessing((16, 16), 16, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "toy")
    classes = ClassSpace("mine", ("blue", "green", "red"), ("blue", "green", "red"))
    return Classifier(net, classes=classes, preprocessing=how, name=name)


def small() -> None:
    """Small parts, so that there is much to stop in a second."""
    task.CHUNK, task.BATCH, reader.KEEP_S, label_maps.SHARD = 8, 4, 0.0, 8


def toy() -> Classifier:
    """For audits, whose other processes know a classifier by its name: they do small parts too."""
    small()
    return network("toy")


def other() -> Classifier:
    return network("other")


def photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(PHOTOGRAPHS):
        pixels = rng.integers(0, 120, (20, 20, 3), np.uint8)
        pixels[..., i % 3] += 100
        path = folder / ("red", "green", "blue")[i % 3] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class Job:
    """Work that can be stopped and gone on with. `made` is what has to be equal, by name."""

    name: str
    do: Callable[..., object]
    """The work in a folder on images, with options: how many threads decode, what engine reads."""
    made: Callable[[Path], dict[str, bytes]]
    finished: Callable[[Path], dict[str, bytes]]
    """Of work under way, the files that must not be lost."""


def audit(out: Path, images: Path, **how: Any) -> None:
    few = {"occlusion.stride_share": 0.4, "occlusion.followed": 1}
    only = ["accuracy", "occlusion"]
    cuescope.audit("faults:toy", "faults:other", images=images, only=only, settings=few, out=out / "run", **how)


def of_audit(out: Path) -> dict[str, bytes]:
    names = ("comparisons.json", "pairs.json", "classes.json", "skipped.csv")
    run = out / "run"
    cells = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.glob("cells/**/*") if path.is_file()}
    return cells | {name: (run / name).read_bytes() for name in names}


def chunks(out: Path) -> dict[str, bytes]:
    return _read(out.glob("run/cells/*/rows/*.parquet"))


def report_again(out: Path, images: Path, **_: Any) -> None:
    report.write([images.parent / "reference" / "audit" / "out" / "run"], out / "page.html")


def of_report(out: Path) -> dict[str, bytes]:
    return {"page.html": (out / "page.html").read_bytes().replace(str(out).encode(), b"")}


def maker(name: str, **settings: Any) -> Job:
    def do(out: Path, images: Path, **how: Any) -> None:
        with mock.patch.object(making, "load", return_value=network("toy")):
            making.make(name, images, out / "made", **how, **settings)

    def made(out: Path) -> dict[str, bytes]:
        found = _read(path for path in (out / "made").rglob("*") if path.is_file())
        manifest = json.loads(found.pop(str(out / "made" / "manifest.json")))
        kept = {key: manifest[key] for key in ("recipe", "images")}
        whole = {Path(path).relative_to(out).as_posix(): data for path, data in found.items()}
        return whole | {"manifest.json": json.dumps(kept).encode()}

    return Job(f"make {name}", do, made, finished_files)


def finished_files(out: Path) -> dict[str, bytes]:
    """What a maker's folder says to be finished."""
    entries = []
    for path in (out / "made" / "manifest.json", *(out / "made" / ".cuescope").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            entries += json.loads(path.read_bytes())["images"]
    # Parts of label maps become one file at the end.
    paths = (out / "made" / entry["file"] for entry in entries)
    return _read(path for path in paths if path.is_file() and path.suffix == ".png")


def by_command(out: Path, images: Path, **how: Any) -> None:
    audited = ["audit", "cuescope/world-shape@random", "--images", str(images), "--only", "shift_stability"]
    options = (word for key, value in how.items() for word in (f"--{key.replace('_', '-')}", str(value)))
    command([*audited, "--out", str(out / "run"), *options])


def train(out: Path, images: Path, **_: Any) -> None:
    (images.parent / "net.py").write_text(NET)
    how = NetworkSettings(
        model=f"{images.parent / 'net.py'}:make", epochs=4, batch=8, size_px=16, device="cpu", learning_rate=0.05
    )
    fit_network(how, read_folder(images), out=out / "trained", every_s=0)


def of_training(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "trained").rglob("*.safetensors"))}


def _read(paths: Any) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(paths) if not files.is_leftover(path.name)}


JOBS = [
    Job("audit", audit, of_audit, chunks),
    maker("patch-shuffle"),
    maker("distorted", kinds="contrast"),
    maker("texturized", steps=2, size_px=32),
    maker("cues", size_px=32),
    maker("label-maps", model="toy", k=2),
    Job("audit, by command", by_command, of_audit, chunks),
    Job("train", train, of_training, lambda _: {}),
    Job("report", report_again, of_report, lambda _: {}),
]


class Process:
    """A job at work in a process of its own, in a session that stays."""

    def __init__(self, work: Callable[[], object], folder: Path) -> None:
        self.log = Path(tempfile.mkstemp(dir=folder, prefix="said-")[1])
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Until it can be taken for what it is.
        self.pid = forked(lambda: self._run(work))
        signal.signal(signal.SIGINT, before)
        self.status: int | None = None

    def _run(self, work: Callable[[], object]) -> None:
        with self.log.open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.simplefilter("ignore")
        try:
            work()
        except CueError as error:
            print(f"CueError: {error.found}; {error.do}", flush=True)
            os._exit(2)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))

    def alive(self) -> bool:
        if self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if done else None
        return self.status is None

    def send(self, number: int) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status; -9 for one that was killed, -1 for one that hangs."""
        until = time.monotonic() + WAIT
        while self.alive():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return -1
            time.sleep(0.01)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Case:
    """One fault of one job."""

    job: Job
    rng: random.Random
    folder: Path
    images: Path
    takes: float
    """Seconds of the undisturbed work."""
    kept: dict[str, bytes] | None = None
    """What was finished when the fault was over."""
    told: str = ""
    left: list[str] = field(default_factory=list)
    """Processes that were still there."""
    rounds: bool = False
    """Whether networks may round otherwise than in the undisturbed work."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(
        self, within: Callable[[], contextlib.AbstractContextManager[object]] | None = None, **how: Any
    ) -> Process:
        def work() -> None:
            with within() if within else contextlib.nullcontext():
                self.job.do(self.out, self.images, **{"workers": 2, **how})

        return Process(work, self.folder)

    def moment(self) -> None:
        """Until some time in the work."""
        time.sleep(self.rng.random() * self.takes)

    def remember(self) -> None:
        self.kept = self.job.finished(self.out)


class Fault(NamedTuple):
    act: Callable[[Case], None]
    of: Callable[[Job], bool]
    slow: bool


FAULTS: dict[str, Fault] = {}
AUDITS = ("audit", "audit, by command")


def is_maker(job: Job) -> bool:
    return job.name.startswith("make ")


def fault(
    name: str, of: Callable[[Job], bool] = lambda _: True, *, slow: bool = False
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    def decorate(function: Callable[[Case], None]) -> Callable[[Case], None]:
        FAULTS[name] = Fault(function, of, slow)
        return function

    return decorate


@fault("killed at a random moment")
def killed(case: Case) -> None:
    process = case.start()
    case.moment()
    process.send(signal.SIGKILL)
    process.wait()
    case.remember()


@fault("killed again while it goes on")
def killed_again(case: Case) -> None:
    for _ in range(case.rng.choice((2, 3))):
        process = case.start()
        case.moment()
        process.send(signal.SIGKILL)
        process.wait()
    case.remember()


@fault("Ctrl-C, one to three times")
def interrupted(case: Case) -> None:
    process = case.start()
    case.moment()
    for _ in range(case.rng.choice((1, 2, 3))):
        process.send(signal.SIGINT)
        time.sleep(case.rng.choice((0.0, 0.01, 0.1)))
    status = process.wait()
    if status == -1:
        case.told = "it hangs after Ctrl-C"
    if case.job.name == "audit, by command" and (status not in (0, 130) or "Traceback" in process.said):
        case.told = f"status {status} after Ctrl-C: {process.said[-600:]}"
    case.remember()


def mounted(folder: Path, kilobytes: int) -> bool:
    """A file system in memory of this size in place of a folder, or of another size."""
    how = f"size={kilobytes}k" + (",remount" if os.path.ismount(folder) else "")
    folder.mkdir(exist_ok=True)
    call = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
    return subprocess.run(call, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def full_after(writes: int) -> Iterator[None]:
    """Each write fails after so many."""
    whole, count = files.os.fsync, [0]

    def fsync(number: int) -> None:
        count[0] += 1
        if count[0] > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(number)

    with mock.patch.object(files.os, "fsync", fsync):
        yield


@fault("the disk is full")
def full(case: Case) -> None:
    if mounted(case.out, case.rng.choice((8, 16, 32, 64, 128, 256))):
        process = case.start()
        process.wait()
        case.remember()
        mounted(case.out, 1 << 16)
    else:
        writes = case.rng.randrange(12)
        process = case.start(lambda: full_after(writes))
        process.wait()
        case.remember()
    if "Traceback" in process.said:
        case.told = f"a traceback for a full disk: {process.said[-300:]}"


@contextlib.contextmanager
def bad_reads(seed: int, share: float) -> Iterator[None]:
    """Reading images fails at times, or takes a while and fails."""
    rng, whole = random.Random(seed), Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.suffix == ".png" and "photos" in path.parts and rng.random() < share:
            code = rng.choice((errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ENOENT, errno.EHOSTUNREACH))
            time.sleep(0.02 if code == errno.ETIMEDOUT else 0)
            raise OSError(code, os.strerror(code), str(path))
        return whole(path)

    with mock.patch.object(Path, "read_bytes", read_bytes):
        yield


@fault("reads fail and time out", lambda job: job.name not in ("report", "train"))
def unread(case: Case) -> None:
    seed, share = case.rng.randrange(10**6), case.rng.choice((0.05, 0.3, 1.0))
    case.start(lambda: bad_reads(seed, share)).wait()


def some_files(case: Case) -> list[Path]:
    kinds = (".parquet", ".json", ".npy", ".csv")
    return sorted(path for path in case.out.rglob("*") if path.is_file() and path.suffix in kinds)


def damaged(path: Path, rng: random.Random, others: list[Path]) -> None:
    data, how = bytearray(path.read_bytes()), rng.randrange(5)
    if how == 0 and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 1:
        data = data[: rng.randrange(len(data) + 1)]
    elif how == 2 and len(data) > 16:
        at = rng.randrange(len(data) - 8)
        data[at : at + 8] = rng.randbytes(8)
    elif how == 3:
        data += rng.randbytes(9)
    else:
        data = bytearray(rng.choice(others).read_bytes())
    path.write_bytes(data)


def one_damaged(case: Case) -> Path | None:
    """A file of the case's folder that is another now; None where there is none."""
    paths = some_files(case)
    if not paths:
        return None
    path = case.rng.choice(paths)
    damaged(path, case.rng, [other for other in paths if other.suffix == path.suffix])
    return path


def damage(case: Case) -> None:
    """A file is damaged; what can be read is right, or an error says which file to remove."""
    audits = case.job.name == "audit"
    before = read(case) if audits else {}
    if (path := one_damaged(case)) is None:
        return
    silent = wrong(before, read(case)) if audits else ""
    process = case.start()
    if process.wait() == 2:
        # It says what it cannot read, and what to do: the user removes that.
        if path.name not in process.said:
            case.told = f"{path.name} is damaged, and it says: {process.said[-300:]}"
        if "remove that folder" in process.said or "is that of no maker" in process.said:
            shutil.rmtree(path.parent)
        else:
            path.unlink()
    elif "Traceback" in process.said:
        case.told = f"{path.name} is damaged: {process.said[-400:]}"
    if silent:
        case.told = f"{path.name} is damaged: {silent}"


def read(case: Case) -> dict[str, str]:
    """What a run says to its readers: hashes of its findings, rows and page; the error where one is refused."""

    def of(run: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
        yield "the page", lambda: report.write([run], case.folder / "page.html").read_bytes()
        for cell in Run.open(run).cells:
            yield f"finding of {cell.folder.name}", lambda cell=cell: json.dumps(found_in(cell)).encode()
            yield f"rows of {cell.folder.name}", lambda cell=cell: cell.rows().serialize()

    def work() -> None:
        said: dict[str, str] = {}
        try:
            for name, value in of(case.out / "run"):
                try:
                    said[name] = hashlib.sha256(value()).hexdigest()
                except CueError as error:
                    said[name] = f"refused: {error.found}"
        except CueError as error:
            said["the run"] = f"refused: {error.found}"
        (case.folder / "read.json").write_text(json.dumps(said))

    # In another process: threads of what reads tables are lost when this one forks.
    (case.folder / "read.json").unlink(missing_ok=True)
    process = Process(work, case.folder)
    if process.wait():
        return {"the run": process.said[-400:]}
    return json.loads((case.folder / "read.json").read_text())


def found_in(cell: Cell) -> Any:
    return cell.finding and cell.finding.to_json()


def wrong(before: dict[str, str], after: dict[str, str]) -> str:
    """What is read otherwise than before without an error, or ""."""
    for name, said in after.items():
        if "Traceback" in said:
            return said
        if not said.startswith("refused") and said != before.get(name):
            return f"another {name} in silence"
    return ""


@fault("a file of finished work is damaged", lambda job: job.name == "audit" or is_maker(job))
def damaged_after(case: Case) -> None:
    case.start().wait()
    damage(case)


@fault("a file of stopped work is damaged", lambda job: job.name == "audit" or is_maker(job))
def damaged_within(case: Case) -> None:
    process = case.start()
    case.moment()
    process.send(signal.SIGKILL)
    process.wait()
    damage(case)


@fault("a file of what is reported is damaged", lambda job: job.name == "report")
def damaged_for_report(case: Case) -> None:
    shutil.copytree(case.images.parent / "reference" / "audit" / "out" / "run", case.out / "run")
    before = read(case)
    path = one_damaged(case)
    if path and (silent := wrong(before, read(case))):
        case.told = f"{path.name} is damaged: {silent}"


@fault("two at once in one folder", lambda job: job.name != "report")
def two(case: Case) -> None:
    first = case.start()
    time.sleep(case.rng.choice((0.0, 0.0, case.rng.random() * case.takes)))
    processes = (first, case.start(workers=case.rng.choice((1, 4))))
    for process in processes:
        process.wait()
    tracebacks = [process.said for process in processes if "Traceback" in process.said]
    if tracebacks:
        case.told = f"a traceback: {tracebacks[0][-400:]}"
    case.remember()


@contextlib.contextmanager
def wild_clock(seed: int) -> Iterator[None]:
    """A clock that is set forth and back by weeks."""
    rng, whole = random.Random(seed), time.time

    def shifted() -> float:
        return whole() + rng.uniform(-3e6, 3e6)

    with mock.patch.object(time, "time", shifted), mock.patch.object(time, "monotonic", shifted):
        yield


@fault("the clock is set forth and back", lambda job: job.name != "report")
def clock(case: Case) -> None:
    seed = case.rng.randrange(10**6)
    process = case.start(lambda: wild_clock(seed))
    if case.rng.random() < 0.5:
        case.moment()
        process.send(signal.SIGKILL)
    process.wait()
    for path in case.out.rglob("*"):
        at = time.time() + case.rng.uniform(-3e6, 3e6)
        os.utime(path, (at, at))
    case.remember()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    torch.set_num_threads(count)
    yield


def stopped(case: Case, *ways: dict[str, Any], always: bool = True) -> None:
    """The work is begun in each of these ways, and killed, or at times let go on."""
    for way in ways:
        process = case.start(**way)
        if always or case.rng.random() < 0.5:
            case.moment()
            process.send(signal.SIGKILL)
        process.wait()
    case.remember()


@fault("gone on with other numbers of threads", lambda job: job.name != "report")
def other_threads(case: Case) -> None:
    case.rounds = case.job.name == "train"
    counts = case.rng.sample((1, 2, 3), 2)
    numbers = zip(case.rng.sample((1, 2, 3, 8), 2), counts, strict=True)
    stopped(case, *({"workers": n, "within": lambda count=count: threads(count)} for n, count in numbers))


@fault("gone on with another batch size", lambda job: job.name in AUDITS)
def other_batches(case: Case) -> None:
    case.rounds = True
    stopped(case, *({"batch_size": size} for size in case.rng.sample((1, 2, 3, 5, 64), 2)))


@fault("gone on in other numbers of shards", lambda job: job.name in AUDITS or is_maker(job))
def other_shards(case: Case) -> None:
    shards = [f"{i + 1}/{n}" for n in case.rng.sample((2, 3, 4), 2) for i in case.rng.sample(range(n), 2)]
    stopped(case, *({"shard": shard} for shard in shards), always=False)


class Started(NamedTuple):
    """A process: its number, and when it began, since another may get its number."""

    pid: int
    at: str

    @property
    def command(self) -> str:
        """What it is called now; "" where it has ended."""
        with contextlib.suppress(OSError, IndexError):
            if _stat(self.pid)[19] == self.at:
                return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""


def _stat(pid: int) -> list[str]:
    """What follows the name: the state, the parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def below(pid: int) -> set[Started]:
    """The processes that a process has started, and those that these have."""
    known: list[tuple[int, Started]] = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = _stat(int(path.name))
            known.append((int(told[1]), Started(int(path.name), told[19])))
    found, last = set[Started](), {pid}
    while some := {one for parent, one in known if parent in last}:
        found |= some
        last = {one.pid for one in some}
    return found


def one_ended(case: Case, process: Process, victims: tuple[str, ...], beside: str = "") -> None:
    """When some chunks are there, and a process `beside`, one of the audit's processes of the names of `victims` is
    killed: then all of them end.
    """
    chunks, until = case.rng.randrange(5), time.monotonic() + WAIT
    named: list[Started] = []
    while process.alive() and time.monotonic() < until:
        started = below(process.pid)
        named = [one for one in sorted(started) if any(name in one.command for name in victims)]
        ready = any(beside in one.command for one in started)
        if named and ready and len(case.job.finished(case.out)) >= chunks:
            break
        time.sleep(0.05)
    else:
        case.told = f"none of {victims} was there to be killed: {process.said[-300:]}"
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(case.rng.choice(named).pid, signal.SIGKILL)
    started |= below(process.pid)
    if process.wait() == -1:
        case.told = f"it hangs when one of {', '.join(victims)} is killed"
    elif "Traceback" in process.said:
        case.told = f"a traceback when one of {', '.join(victims)} is killed: {process.said[-400:]}"
    case.remember()
    until = time.monotonic() + ENDS_S
    while True:
        case.left = [command for one in started if (command := one.command)]
        if not case.left or time.monotonic() > until:
            return
        time.sleep(0.1)


@contextlib.contextmanager
def a_cluster() -> Iterator[None]:
    """Ray on this machine, and no other that is there already."""
    import ray

    few = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 2**27, "log_to_driver": False}
    ray.init(address="local", **few, _system_config={"gcs_rpc_server_reconnect_timeout_s": 5})
    try:
        yield
    finally:
        ray.shutdown()


@fault("gone on by another engine", lambda job: job.name == "audit", slow=True)
def other_engine(case: Case) -> None:
    stopped(case, {})
    engine = case.rng.choice(("local", "ray"))
    process = case.start(a_cluster if engine == "ray" else None, engine=engine, processes=2)
    if status := process.wait():
        case.told = f"goes on by {engine} with {status}: {process.said[-400:]}"


@fault("a process of the local engine is killed", lambda job: job.name == "audit", slow=True)
def local_killed(case: Case) -> None:
    one_ended(case, case.start(engine="local", processes=2), ("engines.local",))


@fault("a worker of Ray is killed", lambda job: job.name == "audit", slow=True)
def worker_killed(case: Case) -> None:
    one_ended(case, case.start(a_cluster, engine="ray", processes=2), ("ray::MapWorker",))


@fault("the head of Ray is killed", lambda job: job.name == "audit", slow=True)
def head_killed(case: Case) -> None:
    # Not while it starts, which is the bench's own doing.
    one_ended(case, case.start(a_cluster, engine="ray", processes=2), ("gcs_server", "raylet/raylet"), "ray::MapWorker")


def held(name: str, data: bytes) -> Any:
    """What is in a file."""
    if name.endswith(".parquet"):
        return pl.read_parquet(io.BytesIO(data)).to_dict(as_series=False)
    if name.endswith(".safetensors"):
        return {key: value.tolist() for key, value in safetensors.numpy.load(data).items()}
    return np.load(io.BytesIO(data)).tolist() if name.endswith(".npy") else json.loads(data)


def near(one: Any, two: Any) -> bool:
    """Whether these are equal but for checksums, and for numbers that differ by no more than rounding."""
    if isinstance(one, dict) and isinstance(two, dict):
        keys = one.keys() - {"checksum", "chunks"}
        return one.keys() == two.keys() and all(near(one[key], two[key]) for key in keys)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(near, one, two))
    return one == two or (isinstance(one, float) and isinstance(two, float) and math.isclose(one, two, abs_tol=1e-4))


def are_rounded(case: Case, names: list[str], one: dict[str, bytes], two: dict[str, bytes]) -> bool:
    """Whether the files of these names are near. In another process, as reading tables is."""

    def work() -> None:
        sys.exit(not all(near(held(name, one[name]), held(name, two[name])) for name in names))

    return one.keys() == two.keys() and not Process(work, case.folder).wait()


def judged(case: Case, reference: dict[str, bytes], act: Callable[[Case], None]) -> dict[str, Any]:
    """What came of a fault: counts of lost, stuck and changed, and what was told."""
    case.out.mkdir(parents=True, exist_ok=True)
    act(case)
    kept = (
        {} if case.kept is None else {path: (data, Path(path).stat().st_mtime_ns) for path, data in case.kept.items()}
    )
    process = case.start()
    status = process.wait()
    found = case.job.made(case.out) if not status else {}
    lost = [
        p
        for p, (data, at) in kept.items()
        if not Path(p).is_file() or Path(p).read_bytes() != data or Path(p).stat().st_mtime_ns != at
    ]
    changed = sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))
    if case.rounds and changed and are_rounded(case, changed, reference, found):
        changed = []
    told = case.told or (f"goes on with {status}: {process.said[-400:]}" if status else "")
    if not status and changed:
        told = told or f"changed: {', '.join(changed[:4])}"
    if not status and lost:
        told = told or f"lost: {', '.join(lost[:3])}"
    left = [path.name for path in case.out.rglob("*") if files.is_leftover(path.name)]
    if case.left:
        told = told or f"left: {case.left}"
    return {
        "lost": bool(lost),
        "stuck": bool(status),
        "changed": bool(changed and not status),
        "told": told,
        "left": bool(left and not status) or bool(case.left),
    }


def disturbed(
    job: Job, name: str, number: int, seed: int, work: Path, takes: float, reference: dict[str, bytes]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        case = Case(job, random.Random(f"{seed}/{name}/{job.name}/{number}"), Path(folder), work / "photos", takes)
        try:
            return judged(case, reference, FAULTS[name].act)
        except Exception:
            return {"lost": False, "stuck": True, "changed": False, "left": False, "told": traceback.format_exc()}
        finally:
            if os.path.ismount(case.out):
                subprocess.run(["umount", str(case.out)], check=False)


def references(work: Path, jobs: Iterable[Job]) -> dict[str, tuple[float, dict[str, bytes]]]:
    """How long each job takes undisturbed, and what it makes: twice, or it could not be told."""
    found = {}
    for job in jobs:
        times, made = [], []
        for place in ("reference", "again"):
            out = work / place / job.name.replace("make ", "") / "out"
            shutil.rmtree(out.parent, ignore_errors=True)
            out.mkdir(parents=True)
            case = Case(job, random.Random(0), out.parent, work / "photos", 0.0)
            started, process = time.monotonic(), case.start(noting_imports(out.parent))
            if process.wait():
                raise SystemExit(f"{job.name} fails undisturbed: {process.said[-2000:]}")
            times.append(time.monotonic() - started)
            made.append(job.made(out))
            import_noted(out.parent)
        if made[0] != made[1]:
            other = [name for name in made[0] if made[0][name] != made[1].get(name)]
            raise SystemExit(f"{job.name} is not the same twice: {other[:5]}")
        found[job.name] = min(times), made[0]
        print(f"{job.name}: {min(times):.2f} s, {len(made[0])} files", flush=True)
    return found


def noting_imports(folder: Path) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Note what the work imports on its way, for `import_noted`."""

    @contextlib.contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        finally:
            names = [name for name in sys.modules if name.partition(".")[0] in ("cuescope", "faults", "PIL")]
            (folder / "imports.json").write_text(json.dumps(names))

    return noting


def import_noted(folder: Path) -> None:
    """Import it here: each process that is forked has it then."""
    for name in json.loads((folder / "imports.json").read_text()):
        importlib.import_module(name)
    gc.freeze()  # What is never looked at is never copied.


COLUMNS = ("lost", "stuck", "changed", "left", "told")


def logged(work: Path) -> list[dict[str, Any]]:
    """What came of the faults so far."""
    path = work / "faults.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(work: Path) -> str:
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    jobs: dict[str, set[str]] = defaultdict(set)
    for found in logged(work):
        totals[found["fault"]].update({"faults": 1, **{key: int(bool(found[key])) for key in COLUMNS}})
        jobs[found["fault"]].add(found["job"].removeprefix("make "))
    head = "| fault | of | faults | lost | stuck | changed | leftovers | wrongly told |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    order = [job.name.removeprefix("make ") for job in JOBS]
    for name, found in totals.items():
        of = ", ".join(sorted(jobs[name], key=order.index))
        lines.append(
            f"| {name} | {of} | {found['faults']:,} | " + " | ".join(str(found[key]) for key in COLUMNS) + " |"
        )
    whole = sum(totals.values(), Counter())
    lines.append(f"| **all** | | {whole['faults']:,} | " + " | ".join(str(whole[key]) for key in COLUMNS) + " |")
    return "\n".join(lines)


def drawn(pairs: list[tuple[str, Job]]) -> Iterator[tuple[str, Job, int]]:
    """Faults, each with what is disturbed and the number of its round, without end."""
    for number in itertools.count():
        yield from ((name, job, number) for name, job in pairs if not (FAULTS[name].slow and number % SLOW))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/cuescope-faults"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "photos").is_dir():
        photographs(given.work / "photos")
    small()
    pairs = [(name, job) for name, fault in FAULTS.items() for job in JOBS if fault.of(job)]
    pairs = [(name, job) for name, job in pairs if any(part in f"{name} {job.name}" for part in given.only.split(","))]
    asked = {job.name for _, job in pairs} | {"audit"}  # It is what is reported.
    known = references(given.work, (job for job in JOBS if job.name in asked))
    before = {(one["fault"], one["job"], one["number"]) for one in logged(given.work) if one["seed"] == given.seed}
    for name, job, number in itertools.islice(drawn(pairs), given.count):
        if (name, job.name, number) in before:
            continue
        takes, reference = known[job.name]
        found = disturbed(job, name, number, given.seed, given.work, takes, reference)
        with (given.work / "faults.jsonl").open("a") as log:
            log.write(
                json.dumps({"fault": name, "job": job.name, "number": number, "seed": given.seed, **found}) + "\n"
            )
        if any(found[key] for key in COLUMNS):
            print(f"{name}, {job.name}, {number}: {found}", flush=True)
    print(table(given.work))
    if given.write:
        write_between(given.write, BEGIN, END, table(given.work))


if __name__ == "__main__":
    main()
