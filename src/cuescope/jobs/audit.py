"""The main job: classifiers and a folder of images in, a run folder with every finding and a report out."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from cuescope import instrument as instruments
from cuescope.classes import align
from cuescope.classifier import Classifier
from cuescope.comparisons.paired import verdicts
from cuescope.errors import CueError
from cuescope.findings import Finding
from cuescope.images import ImageSet
from cuescope.instrument import Instrument, name_of
from cuescope.jobs.images import find_conflict, find_images
from cuescope.runner import BATCH, Progress, Task, run
from cuescope.sources import load
from cuescope.store import SCHEMA, Cell, Run, write_json

CUES = frozenset({"shape", "texture"})


@dataclass
class Audit:
    """A finished audit: its run folder, and whether anything was left to do."""

    run: Run
    fresh: bool
    failed: list[Cell]


def audit(
    *models: Any,
    images: str | Path | ImageSet,
    cue_conflict: str | Path | ImageSet | None = None,
    only: Sequence[str] = (),
    out: str | Path = "run",
    labels: str | Path | None = None,
    real: str | Path | None = None,
    classes: Any = None,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = BATCH,
    compile: bool = False,
    workers: int = 2,
    command: str = "",
    progress: Progress | None = None,
) -> Run:
    """What cues do these classifiers use? Every instrument on every classifier, into the run folder `out`.

    `models` are names ("timm/resnet50.a1_in1k"), nn.Modules or Classifiers; `images` and `cue_conflict` are
    folders or image sets; `only` names instruments (all by default), `also` adds instruments from files;
    `settings` sets parameters by "instrument.parameter". A run that was stopped goes on where it was; one that
    is finished is only read. Writes `report.html` beside the findings.

    Raises CueError for anything the user can mend, before the first batch where that is possible.

    >>> run = audit(my_module, images="photos/")      # doctest: +SKIP
    >>> run.finding("accuracy")["top1"].interval      # doctest: +SKIP
    """
    return perform(**locals()).run


def perform(
    models: Sequence[Any],
    images: Any,
    cue_conflict: Any,
    only: Sequence[str],
    out: str | Path,
    labels: Any,
    real: Any,
    classes: Any,
    limit: int | None,
    settings: Mapping[str, Any] | None,
    also: Sequence[str],
    device: str,
    precision: str,
    batch_size: int,
    compile: bool,
    workers: int,
    command: str,
    progress: Progress | None,
) -> Audit:
    """`audit` with all its arguments, telling also whether it had anything to do and what failed."""
    if not models:
        raise CueError("no classifier was given", wanted="at least one model", do="see `cuescope list models`")
    if limit is not None and limit < 1:
        raise CueError(f"limit is {limit}", wanted="at least 1 image", do="correct --limit")
    asked = _instruments(only, also, settings or {})
    photographs = find_images(images, labels=labels, real=real, limit=limit)
    conflict = find_conflict(cue_conflict, limit=limit) if cue_conflict is not None else None
    folder = Run.create(out)
    classifiers = _classifiers(models, classes, device, precision, batch_size, compile)
    plan = _plan(asked, classifiers, photographs, conflict, strict=bool(only), labels_given=labels is not None)
    _write_unmet(plan, folder)
    cells = [folder.cell(task.identity) for task in plan.tasks]
    before = {cell.folder for cell in cells if (cell.folder / "finding.json").is_file()}
    fresh = len(before) < len(cells) or not (folder.path / "report.html").is_file()
    previous = Run.open(out).manifest if (folder.path / "manifest.json").is_file() else {}
    if not fresh and _same(previous, plan, folder):
        return Audit(Run.open(out), False, [])
    started = time.perf_counter()
    folder.manifest = _manifest(plan, command, previous)
    try:
        done = run(plan.tasks, folder, workers=workers, progress=progress)
    except KeyboardInterrupt:
        _finish(folder, plan, cells, started, finished=False)
        raise CueError(
            "interrupted",
            wanted="nothing: every finished chunk is kept",
            do="run the same command again, it goes on where it stopped",
        ) from None
    _finish(folder, plan, done, started, finished=True)
    return Audit(Run.open(out), True, [cell for cell in done if cell.status == "failed"])


@dataclass(frozen=True)
class _Plan:
    tasks: list[Task]
    unmet: list[tuple[Task, str]]
    unasked: list[dict[str, str]]
    classifiers: list[Classifier]
    sets: list[tuple[str, ImageSet]]


def _instruments(only: Sequence[str], also: Sequence[str], settings: Mapping[str, Any]) -> list[Instrument]:
    """The instruments asked for, their parameters set. Raises CueError for unknown names and parameters."""
    chosen = list(dict.fromkeys([*(only or instruments.names()), *also]))
    names = [Path(name).stem if name.endswith(".py") else name for name in chosen]
    for name in chosen:
        instruments.find(name)
    grouped: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings.items():
        name, _, parameter = key.partition(".")
        if not parameter:
            raise CueError(f"setting '{key}'", wanted="instrument.parameter=value", do="as in occlusion.images=4")
        if name not in grouped:
            raise instruments.unknown("instrument", name, grouped)
        grouped[name][parameter] = value
    return [instruments.build(spec, grouped[name]) for spec, name in zip(chosen, names, strict=True)]


def _classifiers(
    models: Sequence[Any], classes: Any, device: str, precision: str, batch_size: int, compile: bool
) -> list[Classifier]:
    made: list[Classifier] = []
    for model in models:
        classifier = load(
            model, classes=classes, device=device, precision=precision, batch_size=batch_size, compile=compile
        )
        if any(classifier.name == other.name for other in made):
            raise CueError(f"'{classifier.name}' is given twice", wanted="different models", do="name each once")
        made.append(classifier)
    return made


def _plan(
    asked: list[Instrument],
    classifiers: list[Classifier],
    photographs: ImageSet,
    conflict: ImageSet | None,
    *,
    strict: bool,
    labels_given: bool,
) -> _Plan:
    """Which instrument goes with which classifier and images; what cannot be asked, and why."""
    tasks, unmet, unasked = [], [], []
    for instrument in asked:
        wants_cues = bool(instrument.needs & CUES)
        images = conflict if wants_cues and conflict is not None else photographs
        if wants_cues and not images.knows >= CUES:
            why = "it needs cue-conflict images: give --cue-conflict DIR"
            if strict:
                raise CueError(f"{name_of(instrument)} cannot be measured", wanted="cue-conflict images", do=why)
            unasked.append({"instrument": name_of(instrument), "question": instrument.question, "why": why})
            continue
        for classifier in classifiers:
            place, why = _place(images, classifier, labels_given)
            task = Task(classifier, images, instrument, place)
            if "label" in instrument.needs and images.knows >= {"label"} and why:
                unmet.append((task, why))
            elif reason := instruments.unmet(instrument, classifier, images):
                unmet.append((task, reason))
            else:
                tasks.append(task)
    if not tasks:
        reasons = sorted({why for _, why in unmet} | {u["why"] for u in unasked})
        raise CueError(
            "none of the instruments asked for applies here: " + "; ".join(reasons),
            wanted="at least one that does",
            do="see `cuescope list instruments` for what each needs",
        )
    used = {id(task.images) for task in tasks} | {id(task.images) for task, _ in unmet}
    sets = [("images", photographs)] + ([("cue-conflict", conflict)] if conflict is not None else [])
    return _Plan(tasks, unmet, unasked, classifiers, [(role, s) for role, s in sets if id(s) in used])


def _place(images: ImageSet, classifier: Classifier, labels_given: bool) -> tuple[tuple[int, ...], str]:
    """The classifier's logit for each label, or why the labels say nothing about this classifier."""
    if images.classes is None:
        return (), ""
    try:
        return align(images.classes, classifier.classes), ""
    except CueError as error:
        if labels_given:
            raise
        # Folders may be albums, not classes: then the images are unlabeled, which is said and not an error.
        return (), error.found


def _write_unmet(plan: _Plan, folder: Run) -> None:
    for task, why in plan.unmet:
        name = name_of(task.instrument)
        folder.cell(task.identity).write_finding(
            Finding(
                name,
                task.instrument.version,
                asdict(cast(Any, task.instrument)),
                task.classifier.name,
                task.images.name,
                sentence=f"Does not apply: {why}.",
                references=(task.instrument.reference,),
                why=why,
            )
        )


def _same(previous: Mapping[str, Any], plan: _Plan, folder: Run) -> bool:
    """Whether the manifest already tells of exactly these cells, all concluded."""
    told = {cell["folder"] for cell in previous.get("cells", ()) if cell["status"] in ("done", "not applicable")}
    wanted = {f"cells/{folder.cell(t.identity).folder.name}" for t in [*plan.tasks, *(t for t, _ in plan.unmet)]}
    return told == wanted and bool(previous.get("finished"))


def _manifest(plan: _Plan, command: str, previous: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema": SCHEMA,
        "cuescope": _version("cuescope"),
        "command": command or "cuescope.audit(" + ", ".join(repr(c.name) for c in plan.classifiers) + ", ...)",
        "created": previous.get("created", now),
        "finished": None,
        "seconds": float(previous.get("seconds", 0.0)),
        "environment": _environment(plan.classifiers[0]),
        "image_sets": [_describe_set(role, images) for role, images in plan.sets],
        "classifiers": [_describe(classifier) for classifier in plan.classifiers],
        "cells": [],
        "unasked": plan.unasked,
        "questions": {name_of(t.instrument): t.instrument.question for t in [*plan.tasks, *(t for t, _ in plan.unmet)]},
    }


def _finish(folder: Run, plan: _Plan, cells: list[Cell], started: float, *, finished: bool) -> None:
    """Write the manifest, the list of skipped images, the comparisons and, at the end, the report."""
    unmet = [replace(folder.cell(t.identity), status="not applicable", why=why) for t, why in plan.unmet]
    manifest = folder.manifest
    manifest["cells"] = [cell.summary() for cell in [*cells, *unmet]]
    manifest["seconds"] = round(manifest["seconds"] + time.perf_counter() - started, 2)
    lost = folder.write_skipped({images.name: (images.digest, images.skipped) for _, images in plan.sets})
    for told in manifest["image_sets"]:
        told["skipped"] = lost[told["name"]]
    if finished:
        manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    folder.write_manifest()
    write_json(folder.path / "comparisons.json", {"comparisons": verdicts([folder])})
    if finished:
        from cuescope.report import write

        write([folder.path], folder.path / "report.html")


def _describe(classifier: Classifier) -> dict[str, Any]:
    return {
        "name": classifier.name,
        "title": classifier.name.partition("@")[0].rpartition("/")[2],
        "classes": len(classifier.classes),
        "space": classifier.classes.name,
        "capabilities": sorted(classifier.capabilities),
        "preprocessing": asdict(classifier.preprocessing),
        "device": str(classifier.device),
        "precision": classifier.precision,
        "batch_size": classifier.batch_size,
        "notes": list(classifier.notes),
        "digest": classifier.digest,
        "parameters": classifier.parameters,
    }


def _describe_set(role: str, images: ImageSet) -> dict[str, Any]:
    return {
        "name": images.name,
        "role": role,
        "source": getattr(images, "source", images.name),
        "count": len(images),
        "skipped": 0,
        "knows": sorted(images.knows),
        "notes": list(images.notes),
        "digest": images.digest,
    }


def _environment(classifier: Classifier) -> dict[str, Any]:
    import os

    packages = ("torch", "torchvision", "timm")
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "device": str(classifier.device),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def command_line(arguments: Sequence[str]) -> str:
    """The command as a user can paste it into a shell.

    >>> command_line(["audit", "my model.onnx"])
    "cuescope audit 'my model.onnx'"
    """
    return shlex.join(["cuescope", *arguments])
