"""Does every instrument run on every family of architectures, or say truly why it does not apply?

    python bench/sweep.py OUT [--jobs 2] [--models timm/resnet10t,...] [--seconds 300] [--write docs/sweep.md]

Each model gets random weights and the world's 16 classes, and all instruments of the standard preset and those of
ALSO on two to four of the world's images: a sweep asks whether an instrument runs, not what it finds. A model is swept
in a process of its own, with a limit in seconds, and leaves a line in OUT/models.jsonl; a sweep that was stopped goes
on. `--write` makes the table of all lines. The exit status is 1 where an instrument failed or logits are not the
library's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import multiprocessing
import shutil
import sys
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sweep_models import Model, models
from sweep_table import summary, table

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.core.errors import CueError
from cuescope.data.ops.convert import to_image
from cuescope.instruments import presets
from cuescope.runs.cell import Cell
from cuescope.world.images import CLASSES, WorldImages

ALSO = ("label_map", "shift_map", "invariance", "top_patches", "deconvnet")
"""Asked besides the standard preset: what depends most on how a network is built."""
SETTINGS: dict[str, Any] = {
    **{"accuracy.pairs": 2, "cue_suppression.levels": "named", "cue_suppression.images": 2, "occlusion.images": 1},
    **{"occlusion.size_share": 0.5, "occlusion.stride_share": 0.25, "occlusion.followed": 1, "interaction.images": 1},
    **{"interaction.sizes": "largest", "human_agreement.resamples": 100, "crop_supervision.crops": 4},
    **{"correspondence.images": 3, "correspondence.draws": 1, "evidence.images": 2, "label_map.images": 2},
    **{"shift_map.images": 1, "shift_map.range_px": 4, "invariance.images": 2, "invariance.translation_step_px": 30},
    **{"invariance.scale_step": 0.4, "invariance.rotation_step": 120.0, "deconvnet.images": 2, "deconvnet.units": 1},
    **{"typicality.images": 2},
}
COUNT = 4
AWAY = 1e-4
"""Of the largest logit: farther from the library's own than this is a failure."""


def prepare(out: Path) -> None:
    """The inputs that lie in folders: distorted, stylized and texturized images and the answers of people."""
    if (out / "inputs").is_dir():
        return
    inputs, images = out / "inputs.part", WorldImages("several", count=COUNT)
    shutil.rmtree(inputs, ignore_errors=True)
    for sample in map(images.read, range(COUNT)):
        pixels, label = sample.pixels, CLASSES.names[sample.label or 0]
        for kind, shown in (
            ("stylized", pixels.flip(0)),
            ("texturized", pixels.roll(32, 2)),
            (f"plain/{label}", pixels),
        ):
            (inputs / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(to_image(shown)).save(inputs / kind / f"{sample.id}.png")
    make("distorted", inputs / "plain", inputs / "distorted", kinds="contrast", levels="0.3")
    conflict = WorldImages("conflict", count=COUNT)
    (inputs / "people").mkdir()
    with (inputs / "people" / "subject-01.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename"])
        for i, sample in enumerate(map(conflict.read, range(COUNT))):
            rows.writerow(["subject-01", 1, i, 1, sample.cues["shape"], sample.cues["shape"], 0, sample.id])
    inputs.rename(out / "inputs")


def sweep(model: Model, out: Path) -> dict[str, Any]:
    """What came of one model: "status" and "why" of each instrument, and how far its logits are from the library's."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started, found = time.perf_counter(), {"model": model.name, "library": model.library, "size": model.size}
    network = model.make().eval()
    how = Preprocessing((model.size, model.size), model.size)
    with torch.no_grad():
        for tensor in network.parameters():  # what a recipe sets to zero would hide what it does
            tensor.add_(torch.randn_like(tensor), alpha=0.02)
    classifiers = [Classifier(network, classes=CLASSES, preprocessing=how, name=f"{model.name}@{i}") for i in (1, 2)]
    classifier, pixels = classifiers[1], torch.rand(2, 3, model.size, model.size)
    with torch.no_grad():
        own = network(classifier.executor.normalize(pixels).contiguous())
    own = getattr(own, "logits", own)
    found["gap"] = float((classifier.logits(pixels) - own).abs().max() / own.abs().max())
    inputs, run = out / "inputs", out / "runs" / model.name.replace("/", "-")
    asked = [*presets.asked("standard"), *ALSO]
    given: dict[str, Any] = {"images": WorldImages("several", count=COUNT), "cues": "world:1"}
    given |= {"cue_conflict": WorldImages("conflict", count=COUNT), "human_data": inputs / "people"}
    given |= {kind: inputs / kind for kind in ("stylized", "texturized")} | {"distortions": inputs / "distorted"}
    shutil.rmtree(run, ignore_errors=True)
    first = [name for name in asked if name != "evolution"]
    cells = list(_cells(classifier, first, given, run))
    try:
        cells += _cells(classifiers, ["evolution"], {"images": given["images"]}, run.with_name(f"{run.name}-evolution"))
        cells = [cell for cell in cells if cell.classifier != classifiers[0].name]
        reason = ""
    except CueError as error:  # it does not apply, and nothing else was asked
        reason = error.found.partition(": ")[2]
    found["instruments"] = {cell.instrument: [cell.status, _why(cell)] for cell in cells}
    if reason:
        found["instruments"]["evolution"] = ["not applicable", reason]
    shutil.rmtree(run, ignore_errors=True)
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def _cells(asked: Any, only: list[str], given: dict[str, Any], run: Path) -> tuple[Cell, ...]:
    settings = {key: value for key, value in SETTINGS.items() if key.partition(".")[0] in only}
    classifiers = asked if isinstance(asked, list) else [asked]
    return tuple(audit(*classifiers, out=run, only=only, settings=settings, workers=1, **given).cells)


def _why(cell: Cell) -> str:
    return cell.error if cell.status == "failed" else cell.why


def _swept(model: Model, out: Path, line: Path) -> None:
    try:
        found = sweep(model, out)
    except Exception:
        found = {"model": model.name, "library": model.library, "error": traceback.format_exc()}
    line.write_text(json.dumps(found) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--models", default="")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    chosen = given.models.split(",") if given.models else [model.name for model in models()]
    if unknown := set(chosen) - {model.name for model in models()}:
        parser.error(f"no such models: {', '.join(sorted(unknown))}")
    given.out.mkdir(parents=True, exist_ok=True)
    prepare(given.out)
    kept = given.out / "models.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {line["model"] for line in lines}
    wanted = [m for m in models() if m.name in chosen]
    missing = {m.library for m in wanted if importlib.util.find_spec(m.library) is None}
    lines += [{"model": m.name, "skipped": f"{m.library} is not installed"} for m in wanted if m.library in missing]
    waiting, running = [m for m in wanted if m.name not in known and m.library not in missing], {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cuescope.api.audit", "timm", "torchvision"])

    def started(model: Model) -> tuple[BaseProcess, float, Path]:
        line = given.out / f"{model.name.replace('/', '-')}.line"
        process = context.Process(target=_swept, args=(model, given.out, line))
        process.start()
        return process, time.monotonic(), line

    while waiting or running:
        while waiting and len(running) < given.jobs:
            model = waiting.pop(0)
            running[model] = started(model)
        time.sleep(0.1)
        for model, (process, since, line) in list(running.items()):
            late = time.monotonic() - since > given.seconds
            if process.is_alive() and not late:
                continue
            process.kill() if late else process.join()
            found: dict[str, Any] = {"model": model.name, "library": model.library, "error": "no answer in time"}
            if line.exists():
                found = json.loads(line.read_text())
                line.unlink()
            elif not late:
                found["error"] = f"its process ended with {process.exitcode}"
            lines.append(found)
            with kept.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(told(found), flush=True)
            del running[model]
    order = {model.name: i for i, model in enumerate(models())}
    lines = sorted((line for line in lines if line["model"] in order), key=lambda line: order[line["model"]])
    if given.write:
        given.write.write_text(table(lines))
    return int(any(failed(line) for line in lines))


def failed(line: dict[str, Any]) -> list[str]:
    """The instruments that failed on a model; the model itself where it could not be swept."""
    states = line.get("instruments", {})
    found = [name for name, (status, _) in states.items() if status == "failed"]
    return found + ["all"] * ("error" in line) + ["logits"] * (line.get("gap", 0) > AWAY)


def told(line: dict[str, Any]) -> str:
    """One line on a model."""
    if "skipped" in line:
        return f"{line['model']}: skipped, {line['skipped']}"
    if "error" in line:
        return f"{line['model']}: {summary(line['error'])}"
    counts = [status for status, _ in line["instruments"].values()]
    said = ", ".join(f"{counts.count(status)} {status}" for status in dict.fromkeys(counts))
    wrong = "".join(f"\n    {n}: {summary(line['instruments'][n][1])}" for n in failed(line) if n != "logits")
    return f"{line['model']}: {said}; logits {line['gap']:.0e} away; {line['seconds']} s{wrong}"


if __name__ == "__main__":
    sys.exit(main())
