"""Does any reader of files that a user gives break on damaged ones? Valid files are made, damaged and read.

    python bench/fuzz.py [--count 100000] [--seed 0] [--only NAME,...] [--work DIR] [--write docs/security.md]

What a reader does with each input is either a value, or the error that it documents: a CueError mostly. Anything else
is a crash: another exception, a process that dies, more than SECONDS of processor time, more than MEGABYTES of memory
beyond what was held before. Each reader works in a process of its own, which is ended where it hangs. `--count` are the
inputs of all readers together, shared out by what one costs; equal seeds give equal inputs. Crashes are kept in --work,
one file of each kind. Several runs (--seed 0, 1, ...) with one --work add up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_readers import READERS, Reader

from cuescope.core.errors import CueError

SECONDS, HANGS = 5.0, 30.0
"""Of the processor, and by the clock: other work may share the machine."""
MEGABYTES, ALL = 512, 3 << 29
BEGIN, END = "<!-- measured by bench/fuzz.py -->", "<!-- end of bench/fuzz.py -->"


def peak_kb() -> int:
    """The most memory that the process has held since `forget_peak`."""
    text = Path("/proc/self/status").read_text()
    return int(text[text.index("VmHWM:") + 6 :].split(None, 1)[0])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def where(error: BaseException) -> str:
    """The exception and the last line of ours that it came through: what makes crashes one kind."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/cuescope/" in frame.filename]
    place = ours[-1] if ours else frames[-1]
    return f"{type(error).__name__} at {place.filename.rpartition('/cuescope/')[2]}:{place.lineno}"


def outcome(reader: Reader, data: bytes, folder: Path) -> str:
    """ "value", "error" (the documented one), or the kind of the crash."""
    forget_peak()
    before, started = peak_kb(), time.process_time()
    try:
        reader.read(data, folder)
        found = "value"
    except (CueError, *reader.errors):
        found = "error"
    except BaseException as error:  # Panics of libraries in Rust are none but that.
        return where(error)
    spent, grown = time.process_time() - started, (peak_kb() - before) / 1024
    if spent > SECONDS:
        return f"over {SECONDS:g} s"
    return f"over {MEGABYTES} MB" if grown > MEGABYTES else found


def drawn(reader: Reader, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The input of this number."""
    rng = random.Random(f"{seed}/{reader.name}/{number}")
    return reader.damage(rng.choice(seeds), rng, seeds)


def child(reader: Reader, seed: int, numbers: range, at: mmap.mmap, work: Path, folder: Path) -> None:
    """Read inputs until all are read; what came of them is in `at`: the number at work, and counts of three kinds."""
    with (folder / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (ALL + _mapped(), limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    seeds = [path.read_bytes() for path in sorted((work / "seeds" / reader.slug).iterdir())]
    counts = list(struct.unpack_from("<3q", at, 8))
    with (work / "crashes.jsonl").open("a") as log:
        for number in numbers:
            struct.pack_into("<4q", at, 0, number, *counts)
            data = drawn(reader, seeds, seed, number)
            kind = outcome(reader, data, folder)
            counts[("value", "error").index(kind) if kind in ("value", "error") else 2] += 1
            if kind not in ("value", "error"):
                log.write(json.dumps({"reader": reader.name, "kind": kind, "seed": seed, "number": number}) + "\n")
                log.flush()
                _keep(work, reader, kind, data)
    struct.pack_into("<4q", at, 0, numbers.stop, *counts)


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


def _keep(work: Path, reader: Reader, kind: str, data: bytes) -> None:
    path = work / "crashes" / reader.slug / re.sub(r"[^\w.-]+", "-", kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(data)


def forked(work: Any) -> int:
    """Do something in a process of its own; its id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(3)


def seeds_of(reader: Reader, work: Path) -> None:
    """Write the inputs to be damaged: some are read, others refused for what they hold, and none is a crash."""
    folder = work / "seeds" / reader.slug
    if folder.is_dir():
        return

    def make() -> None:
        made, place = folder.with_suffix(".part"), work / "place" / reader.slug
        place.mkdir(parents=True, exist_ok=True)
        made.mkdir(parents=True, exist_ok=True)
        warnings.simplefilter("ignore")
        whole = 0
        for i, data in enumerate(reader.seeds(place)):
            with contextlib.suppress(CueError, *reader.errors):
                reader.read(data, place)
                whole += 1
            (made / f"{i:03d}").write_bytes(data)
        if not whole:
            raise SystemExit("none of them is read")
        made.rename(folder)

    if os.waitpid(forked(make), 0)[1]:
        raise SystemExit(f"no seeds for {reader.name}")


def fuzz(reader: Reader, seed: int, count: int, work: Path) -> dict[str, int]:
    """Counts of "value", "error" and "crash" over so many inputs."""
    seeds_of(reader, work)
    folder = work / "place" / reader.slug
    at = mmap.mmap(-1, 32)
    first = 0
    while first < count:
        numbers = range(first, count)
        struct.pack_into("<q", at, 0, first)
        pid = forked(lambda numbers=numbers: child(reader, seed, numbers, at, work, folder))
        status, killed = _watched(pid, at)
        stopped = struct.unpack_from("<q", at)[0]
        if status == 0:
            break
        if os.WIFEXITED(status):
            raise SystemExit(f"bench/fuzz.py itself failed at {reader.name} {stopped}: {(folder / 'said').read_text()}")
        kind = f"over {HANGS:g} s" if killed else f"died of {signal.Signals(os.WTERMSIG(status)).name}"
        seeds = [path.read_bytes() for path in sorted((work / "seeds" / reader.slug).iterdir())]
        _keep(work, reader, kind, drawn(reader, seeds, seed, stopped))
        with (work / "crashes.jsonl").open("a") as log:
            log.write(json.dumps({"reader": reader.name, "kind": kind, "seed": seed, "number": stopped}) + "\n")
        crashes = struct.unpack_from("<q", at, 24)[0]
        struct.pack_into("<q", at, 24, crashes + 1)
        first = stopped + 1
    return dict(zip(("value", "error", "crash"), struct.unpack_from("<3q", at, 8), strict=True))


def _watched(pid: int, at: mmap.mmap) -> tuple[int, bool]:
    """Wait for a process, and end it where it stays too long at one input: its status, and whether it was ended."""
    last, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, False
        number = struct.unpack_from("<q", at)[0]
        if number != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > HANGS:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1], True
        time.sleep(0.02)


def _spent() -> float:
    """Seconds of the processor that the readers have taken."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def shares(readers: list[Reader], count: int) -> dict[str, int]:
    """How many of the inputs each reader gets."""
    whole = sum(reader.share for reader in readers)
    return {reader.name: max(1, round(count * reader.share / whole)) for reader in readers}


def table(work: Path) -> str:
    """All runs that were written into this folder, a line a reader."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for line in (work / "counts.jsonl").read_text().splitlines():
        found = json.loads(line)
        totals[found.pop("reader")].update({key: found[key] for key in ("value", "error", "crash")})
    names = [reader.name for reader in READERS if reader.name in totals]
    lines = ["| reader | inputs | read | refused | crashes |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in names:
        found = totals[name]
        lines.append(f"| {name} | {found.total():,} | {found['value']:,} | {found['error']:,} | {found['crash']:,} |")
    whole = sum((totals[name] for name in names), Counter())
    last = f"{whole.total():,} | {whole['value']:,} | {whole['error']:,} | {whole['crash']:,}"
    return "\n".join([*lines, f"| **all** | {last} |"])


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put a table between its markers in a page of the docs."""
    before, found, rest = page.read_text().partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{page} lacks {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--work", type=Path, default=Path("/tmp/cuescope-fuzz"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    chosen = [reader for reader in READERS if not given.only or reader.slug in given.only.split(",")]
    for name, count in shares(chosen, given.count).items():
        reader, started = next(r for r in READERS if r.name == name), _spent()
        found = fuzz(reader, given.seed, count, given.work)
        with (given.work / "counts.jsonl").open("a") as log:
            log.write(json.dumps({"reader": name, "seed": given.seed, **found}) + "\n")
        print(f"{reader.slug:24} {found} {(_spent() - started) / count * 1000:.2f} ms each", flush=True)
    print(table(given.work))
    if given.write:
        write_between(given.write, BEGIN, END, table(given.work))


if __name__ == "__main__":
    main()
