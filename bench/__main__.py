"""Every ratio that was asked for, measured: ours beside the plain way, or beside the packages that others use.

    python bench [--only NAME,...] [--photos DIR] [--cue-conflict DIR] [--weights DIR] [--rounds 3] [--quick]
                 [--largest 100000] [--clock wall|processor] [--work DIR] [--write docs/benchmarks.md]

A part is a file of this folder, and runs in a process of its own. What it found is kept in DIR, so that a command that
was stopped goes on with the next part, and `--write` makes the table of all that is there. Parts whose package is not
installed are passed over, and say so. Without folders of photographs, cue-conflict images and torchvision's weights
(NAME.safetensors), made-up images and random weights serve. `--quick` tries whether all runs: its numbers mean little.
Bars are held to the clock, on a busy machine better to the time of the processors, with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ratios import PEERS, Given, Row, measure

from cuescope.core.provenance import now

PARTS = (
    *("start", "audit", "presets", "memory", "megapixels", "growth", "engines", "decode", "display", "occlusion"),
    *("shift", "shift_map", "antialiased", "top_units", "transfer", "stylize", "label_maps", "label_pooling", "train"),
)
BEGIN, END = "<!-- measured by python bench -->", "<!-- end of python bench -->"


def part(name: str, given: Given) -> dict[str, Any] | None:
    """What is kept of a part; None where it failed."""
    how = {key: str(value) for key, value in asdict(given).items() if key not in ("work", "clock")}
    path = given.work / f"{name}.json"
    if path.is_file() and (known := json.loads(path.read_text()))["how"] == how:
        return known
    found: dict[str, Any] = {"how": how, "date": now(), "rows": []}
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found["machine"], measured = pool.submit(measure, name, given).result()
    except ModuleNotFoundError as error:
        found["skipped"] = f"{PEERS.get(error.name or '', error.name)} is not installed"
        print(f"{name}: {found['skipped']}", flush=True)
        return found
    except Exception:
        traceback.print_exc()
        return None
    found |= {"rows": [asdict(row) for row in measured], "load": os.getloadavg()[2]}
    path.write_text(json.dumps(found, indent=1))
    return found


def table(parts: dict[str, dict[str, Any]], clock: str) -> str:
    """All parts, and what they were measured on."""
    measured = [found for found in parts.values() if found["rows"]]
    on = sorted({found["machine"] for found in measured})
    dates, loads = sorted(f["date"][:10] for f in measured), sorted(f["load"] for f in measured)
    lines = [f"On {one}." for one in on]
    if measured:
        lines.append(f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, at a load of {loads[0]:.1f} to")
        lines[-1] += f" {loads[-1]:.1f} (of this command and all others)."
    given = sorted({key for found in measured for key in ("photos", "weights") if found["how"][key] != "None"})
    lines.append(f"Other than made-up images and random weights: {', '.join(given) or 'nothing'}.")
    if any(found["how"]["quick"] == "True" for found in measured):
        lines.append("Some were measured with `--quick`: their numbers mean little.")
    clocks = ("the clock", "the processors")[:: -1 if clock == "processor" else 1]
    lines += ["", f"| part | what | asked | by {clocks[0]} | by {clocks[1]} | held |", "| --- " * 6 + "|"]
    for name, found in parts.items():
        for row in found["rows"]:
            lines.append("| " + " | ".join([name, *Row(**row).cells(clock)]) + " |")
        if "skipped" in found:
            lines.append(f"| {name} | not measured: {found['skipped']} | | | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    for name in ("photos", "cue-conflict", "weights", "work", "write"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--largest", type=int, default=100_000, help="The most images of a part that asks how it grows."
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    options = vars(parser.parse_args())
    only, page = options.pop("only").split(","), options.pop("write")
    if unknown := set(only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        given = Given(**{**options, "work": options["work"] or Path(folder)})
        given.work.mkdir(parents=True, exist_ok=True)
        found = {name: part(name, given) for name in PARTS if name in only}
        if page:
            from fuzz import write_between  # With all that it damages.

            kept = {
                name: json.loads(path.read_text()) for name in PARTS if (path := given.work / f"{name}.json").is_file()
            }
            whole = {name: found.get(name) or kept.get(name) for name in PARTS}
            write_between(page, BEGIN, END, table({name: one for name, one in whole.items() if one}, given.clock))
    raise SystemExit(1 if None in found.values() else 0)


if __name__ == "__main__":
    main()
