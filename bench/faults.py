"""Is anything lost or changed on a bad day? Work is disturbed, gone on with, and compared with undisturbed work.

    python bench/faults.py [--count 100] [--seed 0] [--only KIND,...] [--work DIR] [--write docs/faults.md]

Audits (two classifiers, two instruments, chunks of 8 images), each maker, a training and a report on small images,
in processes that are forked from one that has imported everything. After each fault three things must hold: what was
finished is as it was (`lost`), the same command ends well (`stuck`), and what it leaves is bit for bit that of the
undisturbed work (`changed`). Nothing is left beside it (`leftovers`), and what is said is no traceback and no silence:
of a damaged file nothing other is read without an error (`wrongly told`). Full disks are file systems in memory, which
need the rights to mount; without them a fault of writing stands for them. Several runs with one --work add up.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
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
from cuescope.core import files, provenance
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.data.readers import read_folder
from cuescope.makers import label_maps
from cuescope.runs import reader, task
from cuescope.runs.store import Run
from cuescope.training.fit import fit_network
from cuescope.training.recipes.imagenet import NetworkSettings

BEGIN, END = "<!-- measured by bench/faults.py -->", "<!-- end of bench/faults.py -->"
WAIT = 300.0
PHOTOGRAPHS = 16
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
    do: Callable[[Path, Path, int], object]
    """The work in a folder on images, with so many threads that decode."""
    made: Callable[[Path], dict[str, bytes]]
    finished: Callable[[Path], dict[str, bytes]]
    """Of work under way, the files that must not be lost."""


ONLY = ["accuracy", "occlusion"]


def audit(out: Path, images: Path, workers: int) -> None:
    made = [network("toy"), network("other")]
    cuescope.audit(*made, images=images, only=ONLY, out=out / "run", workers=workers)


def of_audit(out: Path) -> dict[str, bytes]:
    names = ("comparisons.json", "pairs.json", "classes.json", "skipped.csv")
    run = out / "run"
    cells = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.glob("cells/**/*") if path.is_file()}
    return cells | {name: (run / name).read_bytes() for name in names}


def chunks(out: Path) -> dict[str, bytes]:
    return _read(out.glob("run/cells/*/rows/*.parquet"))


def report_again(out: Path, images: Path, workers: int) -> None:
    report.write([images.parent / "reference" / "audit" / "out" / "run"], out / "page.html")


def of_report(out: Path) -> dict[str, bytes]:
    return {"page.html": (out / "page.html").read_bytes().replace(str(out).encode(), b"")}


def maker(name: str, **settings: Any) -> Job:
    def do(out: Path, images: Path, workers: int) -> None:
        with mock.patch.object(making, "load", return_value=network("toy")):
            making.make(name, images, out / "made", workers=workers, **settings)

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


def by_command(out: Path, images: Path, workers: int) -> None:
    audited = ["audit", "cuescope/world-shape@random", "--images", str(images), "--only", "shift_stability"]
    command([*audited, "--workers", str(workers), "--out", str(out / "run")])


def train(out: Path, images: Path, workers: int) -> None:
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
    maker("cues"),
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
            print(f"CueError: {error.found}", flush=True)
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
            time.sleep(0.005)
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

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(
        self, workers: int = 2, within: Callable[[], contextlib.AbstractContextManager[object]] | None = None
    ) -> Process:
        def work() -> None:
            with within() if within else contextlib.nullcontext():
                self.job.do(self.out, self.images, workers)

        return Process(work, self.folder)

    def moment(self) -> None:
        """Until some time in the work."""
        time.sleep(self.rng.random() * self.takes)

    def remember(self) -> None:
        self.kept = self.job.finished(self.out)


FAULTS: dict[str, tuple[Callable[[Case], None], Callable[[Job], bool]]] = {}


def fault(
    name: str, of: Callable[[Job], bool] = lambda _: True
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    def decorate(function: Callable[[Case], None]) -> Callable[[Case], None]:
        FAULTS[name] = function, of
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
        process = case.start(within=lambda: full_after(case.rng.randrange(12)))
        process.wait()
        case.remember()
    if "Traceback" in process.said:
        case.told = f"a traceback for a full disk: {process.said[-300:]}"


@contextlib.contextmanager
def bad_reads(seed: int, share: float, stops: bool) -> Iterator[None]:
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
    case.start(within=lambda: bad_reads(seed, share, stops=False)).wait()


def some_files(case: Case) -> list[Path]:
    found = [
        path for path in case.out.rglob("*") if path.is_file() and path.suffix in (".parquet", ".json", ".npy", ".csv")
    ]
    return sorted(path for path in found if path.name not in ("labels.parquet",))


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


def damage(case: Case, process: Process) -> None:
    """A file is damaged; what can be read is right, or an error says which file to remove."""
    process.wait()
    paths = some_files(case)
    if not paths:
        return
    path = case.rng.choice(paths)
    damaged(path, case.rng, [other for other in paths if other.suffix == path.suffix])
    if case.job.name == "audit":
        reference = case.images.parent / "reference" / "audit" / "out" / "run"
        # In another process: threads of what reads tables are lost when this one forks.
        reading = Process(lambda: print(silent(case.out / "run", reference), end="", flush=True), case.folder)
        reading.wait()
        case.told = reading.said
    process = case.start()
    if process.wait() == 2:
        # It says what it cannot read, and what to do: the user removes that.
        name = path.name
        if name not in process.said and "manifest" not in process.said:
            case.told = f"{path.name} is damaged, and it says: {process.said[-300:]}"
        path.unlink()
    elif "Traceback" in process.said:
        case.told = f"{path.name} is damaged: {process.said[-400:]}"


def silent(run: Path, reference: Path) -> str:
    """What is read of a damaged run without an error and is other than that of the undisturbed one, or ""."""
    whole = {cell.folder.name: cell for cell in Run.open(reference).cells}
    with contextlib.suppress(CueError):
        for cell in Run.open(run).cells:
            other = whole.get(cell.folder.name)
            with contextlib.suppress(CueError):
                finding = cell.finding
                if other and finding and finding.to_json() != (other.finding and other.finding.to_json()):
                    return f"another finding of {cell.instrument} in silence"
            with contextlib.suppress(CueError):
                rows = cell.rows()
                if other and cell.concluded and not rows.equals(other.rows()):
                    return f"other rows of {cell.instrument} in silence"
    return ""


@fault("a file of finished work is damaged", lambda job: job.name == "audit" or job.name.startswith("make"))
def damaged_after(case: Case) -> None:
    damage(case, case.start())


@fault("a file of stopped work is damaged", lambda job: job.name == "audit" or job.name.startswith("make"))
def damaged_within(case: Case) -> None:
    process = case.start()
    case.moment()
    process.send(signal.SIGKILL)
    damage(case, process)


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
    """A clock that is set forth and back by days."""
    rng, whole, now = random.Random(seed), time.time, provenance.now

    def shifted() -> float:
        return whole() + rng.uniform(-3e6, 3e6)

    with mock.patch.object(time, "time", shifted), mock.patch.object(time, "monotonic", shifted):
        yield
    assert provenance.now is now


@fault(
    "the clock is set forth and back",
    lambda job: job.name in ("audit", "audit, by command", "train", "make patch-shuffle"),
)
def clock(case: Case) -> None:
    seed = case.rng.randrange(10**6)
    process = case.start(within=lambda: wild_clock(seed))
    if case.rng.random() < 0.5:
        case.moment()
        process.send(signal.SIGKILL)
    process.wait()
    case.remember()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    torch.set_num_threads(count)
    yield


@fault("gone on with other numbers of threads", lambda job: job.name != "report")
def other_threads(case: Case) -> None:
    for workers in case.rng.sample((1, 2, 3, 8), 2):
        count = case.rng.choice((1, 2, 3))
        process = case.start(workers, lambda count=count: threads(count))
        case.moment()
        process.send(signal.SIGKILL)
        process.wait()
    case.remember()


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
    told = case.told or (f"goes on with {status}: {process.said[-400:]}" if status else "")
    if not status and changed:
        told = told or f"changed: {', '.join(changed[:4])}"
    if not status and lost:
        told = told or f"lost: {', '.join(lost[:3])}"
    left = [path.name for path in case.out.rglob("*") if files.is_leftover(path.name)]
    return {
        "lost": bool(lost),
        "stuck": bool(status),
        "changed": bool(changed and not status),
        "told": told,
        "left": bool(left and not status),
    }


def disturbed(
    job: Job, name: str, number: int, seed: int, work: Path, takes: float, reference: dict[str, bytes]
) -> dict[str, Any]:
    act, _ = FAULTS[name]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        case = Case(job, random.Random(f"{seed}/{name}/{job.name}/{number}"), Path(folder), work / "photos", takes)
        try:
            return judged(case, reference, act)
        except Exception:
            return {"lost": False, "stuck": True, "changed": False, "left": False, "told": traceback.format_exc()}
        finally:
            if os.path.ismount(case.out):
                subprocess.run(["umount", str(case.out)], check=False)


def references(work: Path) -> dict[str, tuple[float, dict[str, bytes]]]:
    """How long each job takes undisturbed, and what it makes: twice, or it could not be told."""
    found = {}
    for job in JOBS:
        times, made = [], []
        for place in ("reference", "again"):
            out = work / place / job.name.replace("make ", "") / "out"
            shutil.rmtree(out.parent, ignore_errors=True)
            out.mkdir(parents=True)
            case = Case(job, random.Random(0), out.parent, work / "photos", 0.0)
            started, process = time.monotonic(), case.start()
            if process.wait():
                raise SystemExit(f"{job.name} fails undisturbed: {process.said[-2000:]}")
            times.append(time.monotonic() - started)
            made.append(job.made(out))
        if made[0] != made[1]:
            other = [name for name in made[0] if made[0][name] != made[1].get(name)]
            raise SystemExit(f"{job.name} is not the same twice: {other[:5]}")
        found[job.name] = min(times), made[0]
        print(f"{job.name}: {min(times):.2f} s, {len(made[0])} files", flush=True)
    return found


COLUMNS = ("lost", "stuck", "changed", "left", "told")


def table(work: Path) -> str:
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    jobs: dict[str, set[str]] = defaultdict(set)
    for line in (work / "faults.jsonl").read_text().splitlines():
        found = json.loads(line)
        totals[found["fault"]].update({"faults": 1, **{key: bool(found[key]) for key in COLUMNS}})
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
    # Small parts, so that there is much to stop in a second.
    task.CHUNK, task.BATCH, reader.KEEP_S, label_maps.SHARD = 8, 4, 0.0, 8
    known = references(given.work)
    pairs = [(name, job) for name, (_, of) in FAULTS.items() for job in JOBS if of(job)]
    pairs = [
        (name, job)
        for name, job in pairs
        if not given.only or any(part in f"{name} {job.name}" for part in given.only.split(","))
    ]
    for number in range(given.count):
        name, job = pairs[number % len(pairs)]
        takes, reference = known[job.name]
        found = disturbed(job, name, number // len(pairs), given.seed, given.work, takes, reference)
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
