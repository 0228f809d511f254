"""The main job: classifiers and a folder of images in, a run folder with every finding and a report out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.files import write_json
from cuescope.core.findings import Finding
from cuescope.data.images import ImageSet
from cuescope.instruments.base import Compares
from cuescope.instruments.registry import name_of
from cuescope.report import notebook  # noqa: F401  what an audit returns shows itself
from cuescope.runs.comparisons import pairs, stored
from cuescope.runs.comparisons.paired import verdicts
from cuescope.runs.inputs import open_inputs
from cuescope.runs.options import AuditOptions, with_options
from cuescope.runs.plan import Plan, find_classifiers, find_instruments, make_plan
from cuescope.runs.runner import Progress, run
from cuescope.runs.store import SCHEMA, Cell, Run


@dataclass
class Audit:
    """A finished audit: its run folder, and whether anything was left to do."""

    run: Run
    fresh: bool
    failed: list[Cell]


@with_options(lambda name, kind, meaning: Any)
def audit(*models: Any, command: str = "", progress: Progress | None = None, **options: Any) -> Run:
    """What cues do these classifiers use? Every instrument on every classifier, into the run folder `out`.

    `models` are names ("timm/resnet50.a1_in1k"), nn.Modules or Classifiers; the options are those of `cuescope audit`,
    which its --help describes, dashes written as underscores. `images` must be given; it and the other inputs that are
    images may be image sets too. `only` (names) and `also` (files) are sequences of instruments; `settings` sets
    parameters by "instrument.parameter". A run that was stopped goes on where it was; one that is finished is only
    read. Writes `report.html` beside the findings.

    Raises CueError for anything the user can mend, before the first batch where that is possible.

    >>> run = audit(my_module, images="photos/")      # doctest: +SKIP
    >>> run.finding("accuracy")["top1"].interval      # doctest: +SKIP
    """
    chosen = AuditOptions.of(**options)
    chosen.check(models)
    return perform(models, chosen, command, progress).run


def perform(models: Sequence[Any], options: AuditOptions, command: str = "", progress: Progress | None = None) -> Audit:
    """`audit` with options that were checked; the result also has what failed and whether anything was to be done."""
    asked = find_instruments(options.only, options.also, options.settings or {})
    sets = open_inputs(options.inputs, options.limit)
    out = options.out
    folder = Run.create(out)
    classifiers = find_classifiers(models, options)
    plan = make_plan(asked, classifiers, sets, strict=bool(options.only), labels_given="labels" in options.inputs)
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
        done = run(plan.tasks, folder, workers=options.workers, progress=progress)
    except KeyboardInterrupt:
        _finish(folder, plan, cells, started, finished=False, progress=progress)
        raise CueError(
            "interrupted",
            wanted="nothing: every finished chunk is kept",
            do="run the same command again, it goes on where it stopped",
        ) from None
    _finish(folder, plan, done, started, finished=True, progress=progress)
    return Audit(Run.open(out), True, [cell for cell in done if cell.status == "failed"])


def _write_unmet(plan: Plan, folder: Run) -> None:
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


def _same(previous: Mapping[str, Any], plan: Plan, folder: Run) -> bool:
    """Whether the manifest already tells of exactly these cells, all concluded."""
    concluded = {cell["folder"] for cell in previous.get("cells", ()) if cell["status"] in ("done", "not applicable")}
    wanted = {f"cells/{folder.cell(t.identity).folder.name}" for t in [*plan.tasks, *(t for t, _ in plan.unmet)]}
    return concluded == wanted and bool(previous.get("finished"))


def _manifest(plan: Plan, command: str, previous: Mapping[str, Any]) -> dict[str, Any]:
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


def _finish(
    folder: Run, plan: Plan, cells: list[Cell], started: float, *, finished: bool, progress: Progress | None
) -> None:
    """Write the manifest, the list of skipped images, the comparisons and, at the end, the report."""
    unmet = [replace(folder.cell(t.identity), status="not applicable", why=why) for t, why in plan.unmet]
    manifest = folder.manifest
    manifest["cells"] = [cell.summary() for cell in [*cells, *unmet]]
    manifest["seconds"] = round(manifest["seconds"] + time.perf_counter() - started, 2)
    lost = folder.write_skipped({images.name: (images.digest, images.skipped) for _, images in plan.sets})
    for described_set in manifest["image_sets"]:
        described_set["skipped"] = lost[described_set["name"]]
    if finished:
        manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    folder.write_manifest()
    folder.write_classes({classifier.classes.name: classifier.classes.names for classifier in plan.classifiers})
    write_json(folder.path / "comparisons.json", {"comparisons": verdicts([folder])})
    if finished:
        asked = [task.instrument for task in plan.tasks]
        found = pairs.findings([folder], asked=asked, progress=progress)
        stored.write(folder, found, [name_of(tool) for tool in asked if isinstance(tool, Compares)])
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
